"""The trial of levers: one that is wrong in the slightest is refused, on rows that have what the data have."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset

from ftkit import Recipe, train
from ftkit.evaluation.target import resolve_target
from ftkit.training import dispatcher, dropout, in_precision, levers, unpadded
from ftkit.training.dispatcher import build
from ftkit.training.supervised_loss import Head
from ftkit.training.trainer import Trainer
from ftkit.training.trial import left_as_it_was
from ftkit.training.trial_rows import bounds_of, chosen, labels_of_rows, shortened, trial_rows, uneven

RecipeMaker = Callable[..., Recipe]
# Of each lever a model that it holds for.
MODELS: dict[str, tuple[str, str, str]] = {
    "supervised_logits": ("full", "instruction", "llama"),
    "unpadded": ("full", "text-classification", "bert"),
    "micro_batches": ("full", "text-classification", "distilbert"),
    "fast_dropout": ("full", "text-classification", "bert"),
    "fused_gelu": ("full", "instruction", "gpt2"),
    "embedding_rows": ("full", "text-classification", "distilbert"),
    "fused_adapters": ("lora", "instruction", "llama"),
    "frozen_bfloat16": ("lora", "text-classification", "distilbert"),
}


class Fault(torch.autograd.Function):
    """Values a thousandth larger (in bfloat16 a hundredth, or a tenth), or no gradient for the first row."""

    @staticmethod
    def forward(ctx: Any, values: torch.Tensor, kind: str) -> torch.Tensor:
        factor = 1.001 if not torch.is_autocast_enabled("cpu") else 1.01
        ctx.factor = {"scale": factor, "coarse scale": 1.1}.get(kind, 0.0)
        return values * ctx.factor if ctx.factor else values.clone()

    @staticmethod
    def backward(ctx: Any, *given: torch.Tensor) -> tuple[torch.Tensor, None]:
        (gradient,) = given
        if ctx.factor:
            return gradient * ctx.factor, None
        gradient = gradient.clone()
        gradient[0] = 0
        return gradient, None


class SpoiltList:
    """What a head is given, with the fault."""

    def __init__(self, own: list[torch.Tensor], kind: str) -> None:
        self.own, self.kind = own, kind

    def __getitem__(self, index: int) -> torch.Tensor:
        return spoil(self.own[index], self.kind)


def spoil(tensor: torch.Tensor, kind: str) -> torch.Tensor:
    return Fault.apply(tensor, kind)


@contextmanager
def spoiled(model: Any, kind: str) -> Iterator[None]:
    """Inside the block what the layer of the logits is given has the fault."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    layer = base.get_output_embeddings() or base.classifier
    handle = layer.register_forward_pre_hook(lambda _module, given: (spoil(given[0], kind),))
    try:
        yield
    finally:
        handle.remove()


def around(own: Any, kind: str) -> Any:
    """A lever's own context, with the fault in it."""

    @contextmanager
    def context(model: Any, *given: Any, **named: Any) -> Iterator[Any]:
        with own(model, *given, **named) as found, spoiled(model, kind):
            yield found

    return context


def break_lever(monkeypatch: pytest.MonkeyPatch, key: str, kind: str) -> None:
    if key == "supervised_logits":
        kept = Head.kept

        @contextmanager
        def keep(self: Head) -> Iterator[Any]:
            with kept(self) as hidden:
                yield SpoiltList(hidden, kind)

        monkeypatch.setattr(Head, "kept", keep)
    elif key == "micro_batches":
        parts = Trainer.parts

        def cut(self: Trainer, inputs: dict[str, Any]) -> Any:
            found = parts(self, inputs)
            factor = 1.001 if kind == "scale" else 0.0
            return found if len(found) < 2 else [found[0]._replace(share=found[0].share * factor), *found[1:]]

        monkeypatch.setattr(Trainer, "parts", cut)
    elif key == "unpadded":
        monkeypatch.setattr(unpadded, "attend", spoiled_attention(unpadded.attend, kind))
    elif key == "frozen_bfloat16":
        resting = in_precision.RestingBase
        monkeypatch.setattr(resting, "at_rest", around_method(resting.at_rest, kind))
    else:
        name, place = {
            "fast_dropout": ("dropping", dropout), "fused_gelu": ("fusing_gelu", levers),
            "embedding_rows": ("adding_rows", levers), "fused_adapters": ("fusing_adapters", "ftkit.training.fused_adapters"),
        }[key]  # fmt: skip
        if isinstance(place, str):
            import ftkit.training.fused_adapters as place  # type: ignore[no-redef]
        monkeypatch.setattr(place, name, around(getattr(place, name), kind))


def spoiled_attention(own: Any, kind: str) -> Any:
    def attend(*given: Any, **named: Any) -> Any:
        output, nothing = own(*given, **named)
        return (spoil(output, kind) if unpadded.UnpaddedModel.of_batch() else output), nothing

    return attend


def around_method(own: Any, kind: str) -> Any:
    @contextmanager
    def context(self: Any) -> Iterator[None]:
        with own(self), spoiled(self.model, kind):
            yield

    return context


def built(recipe: RecipeMaker, folder: Path, key: str, **more: Any) -> Trainer:
    strategy, task, kind = MODELS[key]
    speed = {"unpadded": False} if key == "micro_batches" else {}
    training = {"bf16": True} if key == "frozen_bfloat16" else {"bf16": False}
    parts = build(recipe(strategy, task=task, kind=kind, speed=speed, training=training, **more), folder, [])
    return parts.trainer


@pytest.fixture
def dropping_bert(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand-ins have no dropout; here their layers drop."""
    own = dispatcher.build_model

    def with_dropout(*given: Any) -> Any:
        model = own(*given)
        for module in model.modules():
            if type(module) is torch.nn.Dropout:
                module.p = 0.1
        return model

    monkeypatch.setattr(dispatcher, "build_model", with_dropout)


@pytest.mark.parametrize("key", MODELS)
def test_a_lever_that_is_right_is_on(recipe: RecipeMaker, tmp_path: Path, key: str, dropping_bert: None) -> None:
    trainer = built(recipe, tmp_path, key)
    assert levers.speed_facts(trainer)[key], trainer.off[key]
    assert all(reason != "not settled" for reason in levers.speed_reasons(trainer).values())
    assert all(parameter.grad is None for parameter in trainer.model.parameters())


@pytest.mark.parametrize("kind", ["scale", "drop"])
@pytest.mark.parametrize("key", MODELS)
def test_a_lever_that_is_wrong_is_refused(
    recipe: RecipeMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str, kind: str, dropping_bert: None
) -> None:
    """Logits larger by a thousandth, or one row without its gradient: what each lever could do wrong at its least."""
    break_lever(monkeypatch, key, kind)
    trainer = built(recipe, tmp_path, key)
    assert not levers.speed_facts(trainer)[key]
    assert "differs by" in trainer.off[key]


@pytest.mark.parametrize("fault", ["share", "scale", "gradient"])
def test_dropout_that_draws_otherwise_is_refused(monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    layer, inputs = torch.nn.Dropout(0.3).train(), torch.randn(64, 256)
    model = torch.nn.Sequential(layer)

    def words() -> str:
        with dropout.dropping(model):
            return dropout.layer_words(layer, inputs)

    assert words() == ""
    own = dropout.drop

    def drop(values: torch.Tensor, p: float) -> torch.Tensor:
        if fault == "share":
            return own(values, p + 0.05)
        found = own(values, p)
        return found * 1.001 if fault == "scale" else found.detach() + 0 * values

    monkeypatch.setattr(dropout, "drop", drop)
    assert words() != ""


def test_a_trial_that_raises_is_said_in_the_runs_record(
    recipe: RecipeMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever ends a trial has its name in run.json, and the run goes on without the lever."""

    @contextmanager
    def broken(*_: Any, **__: Any) -> Iterator[None]:
        raise RuntimeError("view size is not compatible")
        yield

    monkeypatch.setattr(levers, "adding_rows", broken)
    result = train(recipe("full", training={"max_steps": 1}), output_dir=tmp_path / "run")
    record = json.loads((result.folder / "run.json").read_text())
    assert record["speed"]["embedding_rows"] is False
    assert record["speed_off"]["embedding_rows"] == "its trial ends in RuntimeError: view size is not compatible"
    assert {key for key, on in record["speed"].items() if not on} == record["speed_off"].keys()


def test_rows_are_of_unlike_lengths_and_labels() -> None:
    lengths, labels = np.array([9, 4, 30, 12, 4, 800]), [0, 0, 0, 0, 1, 0]
    assert chosen(lengths, 100, labels) == [1, 0, 2, 4]  # the row of 800 tokens does not fit
    assert chosen(lengths, 1000, labels)[2] == 5
    assert chosen(np.array([500, 400]), 100, [0, 1]) == [1, 0]
    assert chosen(np.array([5, 0]), 100, [0, 1]) == [0]
    assert labels_of_rows(Dataset.from_dict({"labels": [[1, 2], [3]]})) == [None, None]


def test_lengths_from_which_a_model_does_something_else_are_read_off_its_config() -> None:
    """In nested parts too; a switch or a share of that name is none."""
    values = {
        "sliding_window": 32, "use_sliding_window": True, "vocab_size": 61, "text_config": {"attention_chunk_size": 48},
        "rope_parameters": {"original_max_position_embeddings": 4096, "factor": 2.0}, "local_attention": None,
        "attention_window": [16, 24],
    }  # fmt: skip
    assert sorted(bounds_of(values)) == [16, 24, 32, 48, 4096]


def test_rows_of_a_trial_go_beyond_a_window(recipe: RecipeMaker, tmp_path: Path) -> None:
    trainer = build(recipe("full"), tmp_path, []).trainer
    rows = Dataset.from_dict({"input_ids": [[5] * count for count in (4, 30, 90, 100)], "labels": [0, 1, 0, 1]})
    assert sorted(len(row["input_ids"]) for row in trial_rows(trainer, rows, target=False)) == [4, 30]
    trainer.model.config.sliding_window = 40
    assert sorted(len(row["input_ids"]) for row in trial_rows(trainer, rows, target=False)) == [4, 30, 90, 100]
    trainer.model.config.sliding_window = 400  # no row is so long
    assert sorted(len(row["input_ids"]) for row in trial_rows(trainer, rows, target=False)) == [4, 30]


def test_a_row_that_is_too_long_keeps_its_last_token_and_something_to_learn() -> None:
    row = {"input_ids": list(range(10)), "labels": [-100] * 5 + [5, 6, 7, 8, 9]}
    assert shortened(row, 4, target=False) == {"input_ids": [0, 1, 2, 9], "labels": [-100, -100, -100, 9]}
    unlearnt = {"input_ids": list(range(10)), "labels": [-100] * 8 + [8, -100]}
    assert shortened(unlearnt, 4, target=False)["labels"] == [0, 1, 2, 9]
    assert shortened(row, 4, target=True)["labels"] == row["labels"]
    assert shortened({"input_ids": [1, 2, 3], "labels": 1}, 2, target=False) == {"input_ids": [1, 3], "labels": 1}


def test_rows_of_one_length_are_made_uneven() -> None:
    rows = [{"input_ids": [1, 2, 3, 4], "labels": 0}] * 2
    assert [len(row["input_ids"]) for row in uneven(rows, target=False)] == [2, 4]
    assert [len(row["input_ids"]) for row in uneven(rows[:1], target=False)] == [2, 4]
    assert uneven([{"input_ids": [1], "labels": 0}, {"input_ids": [1, 2], "labels": 0}], target=False)[0]["input_ids"] == [1]


def test_a_model_that_is_measured_only_has_its_head(recipe: RecipeMaker, tmp_path: Path) -> None:
    """`ftkit eval` of an adapter, in which nothing learns, makes logits where they count as well."""
    result = train(recipe("lora", task="instruction", kind="llama", training={"max_steps": 1}), output_dir=tmp_path / "run")
    target = resolve_target(str(result.folder), recipe=None, task=None, data=None, split="eval")
    trainer = dispatcher.build_for_evaluation(target, tmp_path / "out").trainer
    assert isinstance(trainer.head, Head), trainer.off
    assert all(parameter.grad is None for parameter in trainer.model.parameters())


def test_tags_of_an_encoder_decoder_are_shortened_with_its_words() -> None:
    row = {"input_ids": list(range(100)), "labels": [1] * 100}
    assert {len(value) for value in shortened(row, 64, target=False).values()} == {64}


class Switches(torch.nn.Module):
    """Takes another way for good once it has seen few tokens, as BigBird its attention."""

    def __init__(self) -> None:
        super().__init__()
        self.way, self.part = "sparse", torch.nn.Linear(2, 2)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        if len(tokens) < 4:
            self.way, self.part = "whole", torch.nn.Linear(2, 2)
        found: torch.Tensor = self.part(tokens)
        return found


def test_a_model_that_changes_by_what_it_sees_is_put_back() -> None:
    model = Switches().train()
    part = model.part
    with left_as_it_was(model):
        model.eval()(torch.zeros(2, 2))
        assert model.way == "whole"
    assert (model.way, model.training) == ("sparse", True)
    assert model.part is part


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("kind", ["scale", "drop"])
def test_levers_that_are_right_alone_and_wrong_together_go_until_a_step_holds(
    recipe: RecipeMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, half: bool, dropping_bert: None
) -> None:
    """The fault shows only where adapters are fused while padding is left out, which no lever's own trial looks at."""
    own = Trainer.computing

    @contextmanager
    def computing(self: Trainer) -> Iterator[None]:
        both = self.fuses and self.unpadded is not None
        fault = f"coarse {kind}" if half and kind == "scale" else kind  # what shows beside its rounding
        with own(self), spoiled(self.model, fault) if both else nullcontext():
            yield

    monkeypatch.setattr(Trainer, "computing", computing)
    strategy, task, model = MODELS["fused_adapters"]
    found = build(recipe(strategy, task=task, kind=model, training={"bf16": half}), tmp_path, []).trainer
    assert not found.fuses
    assert found.off["fused_adapters"].startswith("with all levers together")
    assert found.unpadded is not None
    assert found.head is not None
