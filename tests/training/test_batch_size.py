"""The batch that is found, and memory that runs out: the same steps in smaller parts."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from ftkit import Recipe, api, train
from ftkit.data.packing import PackedCollator
from ftkit.errors import RecipeError, UserError
from ftkit.models.load import lacks_memory
from ftkit.recipe.load import load_recipe, load_values
from ftkit.run import resolved_values
from ftkit.training.batch_search import find_batch, tried
from ftkit.training.batch_size import BatchSize, batch_sizes, row_by_row
from ftkit.training.dispatcher import Parts, build
from ftkit.training.memory import container_free
from ftkit.training.micro_batches import Part, count_rows, cut_rows
from ftkit.training.plan import make_plan
from ftkit.training.planner import Planner
from ftkit.training.setup import figures_of

RecipeMaker = Callable[..., Recipe]
ON_CPU = "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes."
QUIET = {"bf16": False, "eval_strategy": "no", "save_strategy": "no"}


def auto(recipe: RecipeMaker, *arguments: Any, effective: int = 12, **named: Any) -> Recipe:
    training = {"per_device_train_batch_size": "auto", "effective_batch_size": effective, **QUIET}
    return recipe(*arguments, training=training | named.pop("training", {}), evaluation={"general_text": False}, **named)


def once(error: Exception, call: int) -> Callable[..., None]:
    """A hook that raises the error at its so manieth call."""
    calls = iter(range(1, 10**6))

    def hook(*_: Any) -> None:
        if next(calls) == call:
            raise error

    return hook


def test_a_batch_divides_its_step() -> None:
    found = batch_sizes(12)
    assert [size.rows for size in found] == [12, 6, 4, 3, 2, 1]
    assert {size.rows * size.accumulation for size in found} == {12}
    assert batch_sizes(12, devices=2)[0] == BatchSize(12, 6, 1)
    with pytest.raises(UserError, match="5 devices cannot share 12 rows"):
        batch_sizes(12, devices=5)


@pytest.mark.parametrize(
    ("training", "message"),
    [
        ({"per_device_train_batch_size": "automatic"}, "must be a whole number or auto"),
        ({"effective_batch_size": 8}, "cannot be without per_device_train_batch_size: auto"),
        (
            {"per_device_train_batch_size": "auto", "gradient_accumulation_steps": 2},
            "gradient_accumulation_steps' cannot be beside",
        ),
        ({"per_device_train_batch_size": "auto", "effective_batch_size": 0}, "effective_batch_size"),
        ({"per_device_eval_batch_size": "auto"}, "must be a whole number"),
    ],
)
def test_keys_that_do_not_fit_are_refused(recipe: RecipeMaker, training: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        recipe(training=training)


def test_a_recipe_with_auto_is_read_back_as_it_was(recipe: RecipeMaker) -> None:
    made = auto(recipe)
    values = resolved_values(made)
    assert values["training"]["per_device_train_batch_size"] == "auto"
    assert resolved_values(load_values(values)) == values


def test_a_containers_limits_are_known(tmp_path: Path) -> None:
    groups, root = tmp_path / "groups", tmp_path / "root"
    groups.write_text("4:memory:/a/b\n1:cpu,cpuacct:/\n0::/c\n")
    files = {
        "memory/a/b": {"memory.limit_in_bytes": 1000, "memory.usage_in_bytes": 600},
        "memory/a": {"memory.limit_in_bytes": 900, "memory.usage_in_bytes": 700},
        "c": {"memory.max": "max", "memory.current": 10},
        "": {"memory.max": 500, "memory.current": 499},
    }
    for folder, values in files.items():
        (root / folder).mkdir(parents=True, exist_ok=True)
        for name, value in (values | {"memory.stat": "anon 5\ninactive_file 50"}).items():
            (root / folder / name).write_text(str(value))
    assert sorted(container_free(groups, root)) == [51, 250, 450]
    assert container_free(tmp_path / "absent", root) == []


def needed(recipe: Recipe, parts: Parts, rows: int) -> int:
    planner = Planner(recipe, parts.task.auto_class(parts.config), parts.config, "cpu", new_head=parts.task.new_head)
    return planner.needed_with(BatchSize(96, rows, 96 // rows).applied(recipe), figures_of(parts.data))


@pytest.mark.slow
def test_on_a_cpu_the_batch_is_what_the_plan_says_fits(
    recipe: RecipeMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = auto(recipe, effective=96)
    parts = build(row_by_row(made), tmp_path / "out", [])
    for rows in (96, 24, 1):
        room = needed(made, parts, rows)
        monkeypatch.setattr("ftkit.training.batch_search.room_bytes", lambda room=room: room)
        assert find_batch(made, parts) == BatchSize(96, rows, 96 // rows)
        assert (parts.trainer.args.train_batch_size, parts.trainer.args.gradient_accumulation_steps) == (rows, 96 // rows)
        assert len(next(iter(parts.trainer.get_train_dataloader()))["labels"]) == rows
    monkeypatch.setattr("ftkit.training.batch_search.room_bytes", lambda: needed(made, parts, 1) - 1)
    with pytest.raises(UserError, match="not even one row"):
        find_batch(made, parts)


def test_a_batch_is_found_by_the_longest_rows(recipe: RecipeMaker, tmp_path: Path) -> None:
    """Not by those that are drawn: where a batch of the longest comes up, it has to fit."""
    made = recipe("full", training={"per_device_train_batch_size": 8})
    parts = build(made, tmp_path / "out", [])
    planner = Planner(made, parts.task.auto_class(parts.config), parts.config, "cpu", new_head=parts.task.new_head)
    figures = figures_of(parts.data)
    setup = planner.setup(figures)
    assert planner.computed_length(setup) < sorted(figures.lengths)[-8]
    assert planner.needed_with(made, figures) > planner.needed(planner.estimate(setup))


@pytest.mark.slow
def test_the_plan_finds_a_batch_too(recipe: RecipeMaker) -> None:
    made = auto(recipe)
    roomy = make_plan(made, "cpu", 64, measure=False)
    assert roomy.batch["rows"] == 12
    assert roomy.batch["accumulation"] == 1
    tight = make_plan(made, "cpu", 0.001, measure=False)
    assert tight.batch["rows"] == 1
    assert tight.run["steps"] == roomy.run["steps"]
    assert not tight.fits
    assert any("largest" in note for note in roomy.notes)
    assert not any("largest" in note for note in tight.notes)


def test_a_batch_is_tried_on_the_longest_rows(recipe: RecipeMaker, tmp_path: Path) -> None:
    """What a GPU does; here a hook says from how many rows on there is no memory."""
    parts = build(row_by_row(auto(recipe, training={"bf16": None})), tmp_path / "out", [])
    forward = parts.model.forward
    before = {name: value.clone() for name, value in parts.model.state_dict().items()}
    shapes: list[tuple[int, ...]] = []

    def refuse(module: Any, arguments: Any, named: dict[str, Any]) -> None:
        shapes.append(tuple(named["input_ids"].shape))
        if len(named["input_ids"]) > 4:
            raise torch.OutOfMemoryError

    hook = parts.model.register_forward_pre_hook(refuse, with_kwargs=True)
    assert tried(parts, batch_sizes(12)).rows == 4
    hook.remove()
    longest = int(parts.data.facts["train"].lengths.max())
    assert shapes == [(12, longest), (6, longest), (4, longest), (4, longest)]
    assert all(parameter.grad is None for parameter in parts.model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in parts.model.state_dict().items())
    assert parts.model.forward == forward


def losses(folder: Path) -> list[float]:
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if "loss" in line]


@pytest.mark.slow
def test_a_run_keeps_the_batch_that_it_found(recipe: RecipeMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = auto(recipe, training={"save_strategy": "steps", "save_steps": 2, "max_steps": 4})
    folder, rooms = tmp_path / "run", iter([10**15])
    monkeypatch.setattr("ftkit.training.batch_search.room_bytes", lambda: next(rooms))  # asked once, and never again
    with monkeypatch.context() as patched:
        patched.setattr("ftkit.api.build", hooked_build(lambda model: model.register_forward_pre_hook(after(made, 3))))
        with pytest.raises(RuntimeError, match="the machine stops"):
            train(made, output_dir=folder)
    resumed = train(made, output_dir=folder, resume=True)
    assert resumed.record["batch_size"] == {"effective": 12, "rows": 12, "accumulation": 1}
    saved = yaml.safe_load((folder / "recipe.yaml").read_text())["training"]
    assert (saved["per_device_train_batch_size"], saved["gradient_accumulation_steps"]) == (12, 1)
    assert "effective_batch_size" not in saved
    again = train(made, output_dir=folder, overwrite=True)
    assert again.record["batch_size"] == resumed.record["batch_size"]
    assert len(losses(folder)) == 4
    assert losses(folder) == losses(train(load_recipe(folder / "recipe.yaml"), output_dir=tmp_path / "second").folder)


def after(made: Recipe, steps: int) -> Callable[..., None]:
    """A hook that stops in the training step after so many."""
    calls = iter(range(10**6))

    def hook(module: torch.nn.Module, *_: Any) -> None:
        if module.training and next(calls) == steps:
            raise RuntimeError("the machine stops")

    return hook


def hooked_build(add: Callable[[Any], Any]) -> Callable[..., Parts]:
    def made(*arguments: Any) -> Parts:
        parts = build(*arguments)
        add(parts.model)
        return parts

    return made


@pytest.fixture
def no_dropout(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr("torch.nn.functional.dropout", lambda tensor, *rest, **named: tensor)
    return


CASES = [
    ("full", "text-classification", "distilbert", "forward"),
    ("full", "text-classification", "distilbert", "backward"),
    ("lora", "instruction", "llama", "forward"),
    ("full", "instruction", "gpt2", "backward"),
]


@pytest.mark.usefixtures("no_dropout")
@pytest.mark.parametrize("accumulation", [1, 3])
@pytest.mark.parametrize(("strategy", "task", "kind", "where"), CASES)
@pytest.mark.slow
def test_a_step_without_memory_is_done_again(
    recipe: RecipeMaker, tmp_path: Path, strategy: str, task: str, kind: str, where: str, accumulation: int
) -> None:
    """The losses of 8 steps, one of which failed: in forward, or in backward when half of the gradients were there."""
    training = {"max_steps": 8, "gradient_accumulation_steps": accumulation, **QUIET}
    curves, sizes = [], set()
    for fails in (False, True):
        parts = build(recipe(strategy, task=task, kind=kind, training=training), tmp_path / str(fails), [])
        told: list[dict[str, int]] = []
        parts.trainer.tell = told.append
        if fails:
            learning = [parameter for parameter in parts.model.parameters() if parameter.requires_grad]
            call = 2 * accumulation  # the last batch of the second step
            if where == "forward":
                parts.model.register_forward_pre_hook(once(torch.OutOfMemoryError("CUDA out of memory."), call))
            else:
                learning[len(learning) // 2].register_hook(once(RuntimeError(ON_CPU), call))
            parts.model.register_forward_pre_hook(
                lambda module, rest, named: sizes.add(len(named["input_ids"])), with_kwargs=True
            )
        parts.trainer.train()
        curves.append([entry["loss"] for entry in parts.trainer.state.log_history if "loss" in entry])
        assert told == ([{"step": 2, "rows": 4}] if fails else [])
    assert len(curves[0]) == 8
    assert curves[1][:5] == pytest.approx(curves[0][:5], abs=1e-5)  # the third has what the second step did
    assert curves[1] == pytest.approx(curves[0], abs=1e-3)  # Adam makes steps of a gradient that is rounding alone
    assert {4, 8} <= sizes


def test_parts_without_a_supervised_token_are_left_out() -> None:
    labels = torch.tensor([[5, 6], [-100, -100], [7, -100]])
    parts = list(cut_rows(Part({"labels": labels, "use_cache": False}, 0.5), 1))
    assert [part.inputs["labels"].tolist() for part in parts] == [[[5, 6]], [[7, -100]]]
    assert [part.share for part in parts] == pytest.approx([1 / 3, 1 / 6])
    assert parts[0].inputs["use_cache"] is False


def test_packed_blocks_behind_one_another_are_cut_between_examples() -> None:
    blocks = [
        {"input_ids": [5, 6, 7, 8, 9], "labels": [-100, 6, -100, 8, 9], "position_ids": [0, 1, 0, 1, 2]},
        {"input_ids": [3, 4], "labels": [-100, 4], "position_ids": [0, 1]},
    ]
    batch = PackedCollator(0, flatten=True)(blocks)
    assert count_rows(batch) == 3
    first, second = cut_rows(Part(batch, 1.0), 2, shifted=True)
    assert first.inputs["input_ids"].tolist() == [[5, 6, 7, 8, 9]]
    assert first.inputs["cu_seq_lens_q"].tolist() == [0, 2, 5]
    assert (first.inputs["max_length_q"], second.inputs["max_length_k"]) == (3, 2)
    assert second.inputs["labels"].tolist() == [[-100, 4]]
    assert second.inputs["cu_seq_lens_k"].tolist() == [0, 2]
    assert second.inputs["use_cache"] is False
    assert (first.share, second.share) == (3 / 4, 1 / 4)


def test_what_ran_out_of_memory_is_in_the_run(
    recipe: RecipeMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(module: Any, rest: Any, named: dict[str, Any]) -> None:
        if module.training and len(named["input_ids"]) > 2:
            raise torch.OutOfMemoryError

    add = lambda model: model.register_forward_pre_hook(refuse, with_kwargs=True)  # noqa: E731
    monkeypatch.setattr(api, "build", hooked_build(add))
    result = train(recipe(evaluation={"general_text": False}, training=QUIET), output_dir=tmp_path / "run")
    assert result.record["out_of_memory"] == [{"step": 1, "rows": 4}, {"step": 1, "rows": 2}]
    assert "memory ran out in step 1 with 8 rows at a time" in " ".join(capsys.readouterr().err.split())


def test_one_row_that_does_not_fit_is_said(recipe: RecipeMaker, tmp_path: Path) -> None:
    parts = build(recipe(training=QUIET), tmp_path / "out", [])

    def refuse(*_: Any) -> None:
        raise torch.OutOfMemoryError

    parts.model.register_forward_pre_hook(refuse)
    with pytest.raises(UserError, match="with one row at a time"):
        parts.trainer.train()


def test_other_errors_are_not_taken_for_it(recipe: RecipeMaker, tmp_path: Path) -> None:
    assert not lacks_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**55)  # more than any machine has
    assert lacks_memory(caught.value)
