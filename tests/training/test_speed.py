"""What makes steps fast changes neither losses nor gradients."""

import json
from collections.abc import Callable
from contextlib import nullcontext
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoModelForSequenceClassification

from ftkit import Recipe, evaluate, train
from ftkit.data.encode import IGNORED
from ftkit.recipe.schema import Speed, Training
from ftkit.tasks.language import token_loss_sums
from ftkit.training import supervised_loss
from ftkit.training.dispatcher import build
from ftkit.training.embedding_gradient import adding_rows, learning_embeddings, leaves_gradients
from ftkit.training.levers import speed_up
from ftkit.training.micro_batches import MOST_PARTS, best_cuts, cut_by_length, later_part, part_cost
from ftkit.training.supervised_loss import ChunkedCrossEntropy, Finish, Head, find_head
from ftkit.training.trial import Trial
from ftkit.training.ways import Ways, wanted_ways

RecipeMaker = Callable[..., Recipe]
SMALL = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 2,
    "vocab_size": 61, "head_dim": 16, "pad_token_id": 0, "max_position_embeddings": 64,
}  # fmt: skip
GPT2 = {"n_embd": 32, "n_layer": 2, "n_head": 2, "vocab_size": 61, "n_positions": 64, "bos_token_id": 1, "eos_token_id": 1}
NO_DROPOUT = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}


def decoder(kind: str = "llama", **values: Any) -> Any:
    torch.manual_seed(0)
    given = GPT2 | NO_DROPOUT if kind == "gpt2" else SMALL
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **(given | values)))
    for parameter in model.parameters():  # logits of a size that a factor or a cap would show in
        parameter.data.mul_(3)
    return model.train()


def plain_head(model: Any, rows: dict[str, torch.Tensor]) -> Head | str:
    """The head that the trial on these rows lets a decoder have, or why it has none."""
    trial = Trial.on_rows(model, rows, shift=True)
    with trial.prepared():
        return find_head(model, trial, rows, None)


def encoder() -> Any:
    torch.manual_seed(0)
    values = {"dim": 32, "hidden_dim": 48, "n_layers": 2, "n_heads": 2, "vocab_size": 61, "dropout": 0.0}
    config = AutoConfig.for_model("distilbert", **values, attention_dropout=0.0, seq_classif_dropout=0.0)
    return AutoModelForSequenceClassification.from_config(config).train()


def rows_of(lengths: list[int], *, left: bool = False, prompt: int = 2) -> dict[str, torch.Tensor]:
    """Padded rows whose first tokens are not supervised."""
    draw = torch.Generator().manual_seed(1)
    width = max(lengths)
    ids = torch.zeros(len(lengths), width, dtype=torch.long)
    mask, labels = torch.zeros_like(ids), torch.full_like(ids, IGNORED)
    for row, length in enumerate(lengths):
        start = width - length if left else 0
        ids[row, start : start + length] = torch.randint(2, 60, (length,), generator=draw)
        mask[row, start : start + length] = 1
        labels[row, start + min(prompt, length) : start + length] = ids[row, start + min(prompt, length) : start + length]
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def gradients(model: Any) -> dict[str, torch.Tensor]:
    found = {name: parameter.grad.clone() for name, parameter in model.named_parameters() if parameter.grad is not None}
    model.zero_grad()
    return found


def assert_alike(ours: dict[str, torch.Tensor], own: dict[str, torch.Tensor]) -> None:
    assert ours.keys() == own.keys()
    largest = max(float(gradient.abs().max()) for gradient in own.values())
    for name, gradient in own.items():
        torch.testing.assert_close(ours[name], gradient, rtol=1e-4, atol=1e-6 * largest)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("chunk", [1, 7, 1000])
def test_chunked_cross_entropy_is_cross_entropy(monkeypatch: pytest.MonkeyPatch, bias: bool, chunk: int) -> None:
    monkeypatch.setattr(supervised_loss, "CHUNK", chunk)
    torch.manual_seed(0)
    inputs = [torch.randn(23, 8), torch.randn(31, 8), *([torch.randn(31)] if bias else [])]
    targets = torch.randint(31, (23,))
    whole, parts = ([value.clone().requires_grad_() for value in inputs] for _ in range(2))
    (torch.nn.functional.cross_entropy(torch.nn.functional.linear(*whole), targets, reduction="sum") / 5).backward()
    total, losses = ChunkedCrossEntropy.apply(*(parts if bias else [*parts, None]), targets)
    (total / 5).backward()
    assert float(total) == pytest.approx(float(losses.sum()), rel=1e-6)
    for ours, own in zip(parts, whole, strict=True):
        torch.testing.assert_close(ours.grad, own.grad, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("left", [False, True])
@pytest.mark.parametrize("items", [None, 50])
@pytest.mark.parametrize("kind", ["llama", "gpt2", "mistral", "qwen2", "gpt_neox", "opt"])
def test_a_head_on_supervised_positions_has_the_models_own_loss_and_gradients(
    kind: str, items: int | None, left: bool
) -> None:
    values = {"word_embed_proj_dim": 32, "ffn_dim": 48, "dropout": 0.0} if kind == "opt" else {}
    model, rows = decoder(kind, **values), rows_of([9, 4, 7, 3], left=left)
    head = plain_head(model, rows)
    assert isinstance(head, Head)
    own = model(**rows, **({} if items is None else {"num_items_in_batch": items})).loss
    own.backward()
    wanted = gradients(model)
    ours = head.loss(model, rows, items)
    ours.backward()
    assert float(ours) == pytest.approx(float(own), rel=1e-5)
    assert_alike(gradients(model), wanted)
    sums = token_loss_sums(model.eval()(**rows).logits, rows["labels"], shift=True)
    torch.testing.assert_close(head.row_sums(model, rows), sums.detach(), rtol=1e-4, atol=1e-4)
    assert model(**rows).logits.shape == (4, 9, 61)  # the model is as it was


@pytest.mark.parametrize(
    ("kind", "values", "finish"),
    [
        ("gemma2", {"final_logit_softcapping": 5.0}, Finish(1.0, 5.0)),
        ("gemma2", {"final_logit_softcapping": 30.0}, Finish(1.0, 30.0)),
        ("cohere", {"logit_scale": 0.0625}, Finish(0.0625)),
        ("granite", {"logits_scaling": 8.0}, Finish(0.125)),
    ],
)
def test_what_a_model_does_to_its_logits_is_done_by_its_head(kind: str, values: dict[str, Any], finish: Finish) -> None:
    """A factor and a cap are read off the logits, on new models too, whose logits are so small that neither shows."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **(SMALL | values))).train()
    rows = rows_of([9, 4])
    head = plain_head(model, rows)
    assert isinstance(head, Head)
    assert head.finish == pytest.approx(finish, rel=1e-5)
    for parameter in model.parameters():
        parameter.data.mul_(5)
    own = model(**rows).loss
    own.backward()
    wanted = gradients(model)
    ours = head.loss(model, rows, None)
    ours.backward()
    assert float(ours) == pytest.approx(float(own), rel=1e-5)
    assert_alike(gradients(model), wanted)


@pytest.mark.parametrize("kind", ["mixtral", "qwen3_moe"])
def test_a_loss_with_that_of_a_router_is_the_models_own(kind: str) -> None:
    """However small its coefficient, and whatever says that it is on."""
    values = {
        "num_local_experts": 4,
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 32,
        "router_aux_loss_coef": 1e-3,
    }
    model = decoder(kind, **values, output_router_logits=True)
    assert "router" in str(plain_head(model, rows_of([9, 4])))
    model.config.output_router_logits, own = False, model.forward
    assert isinstance(plain_head(model, rows_of([9, 4])), Head)
    model.forward = lambda *given, **named: own(*given, **named | {"output_router_logits": True})
    assert "more than that of its logits" in str(plain_head(model, rows_of([9, 4])))


def test_a_head_with_an_adapter_keeps_its_own_loss() -> None:
    for values in (
        {"target_modules": ["q_proj", "lm_head"]},
        {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]},
    ):
        model = get_peft_model(decoder(), LoraConfig(task_type="CAUSAL_LM", **values))
        assert "no plain linear layer" in str(plain_head(model, rows_of([9, 4])))


def test_an_adapter_elsewhere_gets_the_same_gradients() -> None:
    model = get_peft_model(decoder(), LoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj"], init_lora_weights=False))
    rows = rows_of([9, 4])
    head = plain_head(model, rows)
    assert isinstance(head, Head)
    model(**rows).loss.backward()
    wanted = gradients(model)
    head.loss(model, rows, None).backward()
    assert_alike(gradients(model), wanted)


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize(("kind", "tied"), [("gpt2", True), ("llama", False), ("distilbert", False)])
def test_embeddings_that_add_rows_get_the_same_gradients(kind: str, tied: bool, checkpointing: bool) -> None:
    """Twice, so that the second batch finds gradients; llama and distilbert have a padding entry that learns nothing."""
    rows, model = rows_of([9, 4, 7, 3]), encoder() if kind == "distilbert" else decoder(kind)
    rows["input_ids"][0, 3] = 0  # padding's entry where it is attended to
    if kind == "distilbert":
        rows["labels"] = torch.tensor([0, 1, 1, 0])
    if checkpointing:
        model.activation_checkpointing_enable()
    embeddings, found = learning_embeddings(model), []
    classes = [type(module) for module in embeddings]
    for way in (adding_rows(model, keep=True), nullcontext()):
        with way:
            for _ in range(2):
                model(**rows).loss.backward()
        found.append(gradients(model))
    assert_alike(*found)
    assert len(embeddings) == (1 if kind == "llama" else 2)
    assert (embeddings[0].weight is getattr(model.get_output_embeddings(), "weight", None)) is tied
    assert [type(module) for module in embeddings] == classes
    assert not any("kept_gradient" in vars(module) for module in embeddings)


def test_a_kept_gradient_begins_with_zeros_each_step() -> None:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Embedding(9, 4), torch.nn.Linear(4, 2))
    found = []
    with adding_rows(model, keep=True):
        for ids in ([1, 2, 2], [3, 1], [4]):
            model.zero_grad()
            model(torch.tensor(ids)).sum().backward()
            assert model[0].weight.grad is not None
            found.append(model[0].weight.grad)
            assert model[0].weight.grad.abs().sum(1).nonzero().flatten().tolist() == sorted(set(ids))
    assert found[0] is found[2]
    assert leaves_gradients("adamw_torch_fused")
    assert not leaves_gradients("schedule_free_adamw")  # it divides them, and adds weight decay


def test_frozen_and_sparse_embeddings_stay_as_they_are() -> None:
    model = decoder()
    embedding = model.get_input_embeddings()
    embedding.sparse = True
    assert learning_embeddings(model) == []
    embedding.sparse = False
    embedding.weight.requires_grad = False
    assert learning_embeddings(model) == []
    with torch.no_grad(), adding_rows(model, keep=True):
        assert not model(**rows_of([4])).loss.requires_grad


@given(st.lists(st.integers(1, 40), min_size=2, max_size=9), st.integers(0, 60))
def test_batches_are_cut_where_it_costs_least(lengths: list[int], cost: int) -> None:
    lengths = sorted(lengths, reverse=True)
    bounds = best_cuts(np.array(lengths), cost)
    rows = len(lengths)

    def total(inner: tuple[int, ...]) -> int:
        ends = [0, *inner, rows]
        return sum((end - start) * lengths[start] + cost for start, end in pairwise(ends))

    every = [inner for parts in range(MOST_PARTS) for inner in combinations(range(1, rows), parts)]
    assert bounds[0] == 0
    assert bounds[-1] == rows
    assert total(tuple(bounds[1:-1])) == min(map(total, every))


def test_a_small_model_is_not_worth_cutting() -> None:
    assert len(cut_by_length(rows_of([40, 3, 2, 2]), part_cost(600_000, quantized=False))) == 1
    assert len(cut_by_length(rows_of([400, 3, 2, 2]), part_cost(66_000_000, quantized=False))) == 2
    assert len(cut_by_length(rows_of([100, 3, 2, 2]), part_cost(66_000_000, quantized=False))) == 2
    assert len(cut_by_length(rows_of([100, 3, 2, 2]), part_cost(66_000_000, quantized=True))) == 1


LENGTHS = [30, 4, 28, 3, 5, 12, 11]


def weighted(parts: Any, model: Any) -> float:
    """The parts' losses by their shares, with their gradients added up."""
    total = 0.0
    for part in parts:
        loss = model(**part.inputs).loss * part.share
        loss.backward()
        total += float(loss)
    return total


@pytest.mark.parametrize("case", ["classes", "labels", "number", "decoder", "decoder, padded left", "pairs"])
def test_the_parts_of_a_batch_have_its_loss_and_gradient(case: str) -> None:
    torch.manual_seed(0)
    rows = rows_of(LENGTHS, left="left" in case)
    if case.startswith("decoder"):
        model = decoder()
    elif case == "pairs":
        config = AutoConfig.for_model(
            "bart", vocab_size=61, d_model=32, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
            decoder_attention_heads=2, encoder_ffn_dim=32, decoder_ffn_dim=32, dropout=0.0, attention_dropout=0.0,
            max_position_embeddings=64, pad_token_id=0, decoder_start_token_id=2,
        )  # fmt: skip
        model = AutoModelForSeq2SeqLM.from_config(config)
        rows["labels"] = rows_of([3, 9, 4, 8, 2, 6, 7], prompt=0)["labels"]
        rows["decoder_input_ids"] = model.prepare_decoder_input_ids_from_labels(rows["labels"])
    else:
        labels, problem = {
            "classes": (torch.arange(7) % 3, "single_label_classification"),
            "labels": (torch.rand(7, 3).round(), "multi_label_classification"),
            "number": (torch.rand(7), "regression"),
        }[case]
        config = AutoConfig.for_model("bert", **SMALL, num_labels=1 if case == "number" else 3, problem_type=problem)
        model = AutoModelForSequenceClassification.from_config(config)
        rows["labels"] = labels
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    own = model(**rows).loss
    own.backward()
    wanted = gradients(model)
    parts = cut_by_length(rows, 10, shifted=case.startswith("decoder"), targets=case == "pairs")
    assert len(parts) > 1
    assert sum(len(part.inputs["input_ids"]) for part in parts) == len(LENGTHS)
    assert sum(part.inputs["input_ids"].numel() for part in parts) < rows["input_ids"].numel()
    assert weighted(parts, model) == pytest.approx(float(own), rel=1e-4)
    assert_alike(gradients(model), wanted)


def test_the_largest_part_comes_first_and_the_next_is_foretold() -> None:
    lengths = np.array([10] * 90 + [100] * 10)
    rows = rows_of([100, 100, *[10] * 14])
    sizes = [part.inputs["attention_mask"].shape for part in cut_by_length(rows, 10)]
    assert sizes == [(2, 100), (14, 10)]
    rows = rows_of([100, *[10] * 15])
    assert [part.inputs["attention_mask"].shape for part in cut_by_length(rows, 10)] == [(15, 10), (1, 100)]
    assert later_part(lengths, 16, 10) == (14, 10)  # of batches with two long rows; with one, the long row comes second
    assert later_part(lengths, 16, 1e9) == (0, 0)


CURVES = [
    ("full", "instruction", "gpt2", {}),
    ("lora", "instruction", "llama", {"gradient_accumulation_steps": 3}),
    ("lora", "text-classification", "distilbert", {"gradient_accumulation_steps": 2}),
    ("full", "summarization", "llama", {}),
]


@pytest.mark.parametrize(("strategy", "task", "kind", "training"), CURVES)
@pytest.mark.slow
def test_the_loss_curve_is_that_of_plain_steps(
    recipe: RecipeMaker, dialogues: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    strategy: str, task: str, kind: str, training: dict[str, Any],
) -> None:  # fmt: skip
    """In float32 and without dropout: each loss of 12 steps within 0.2 %, and so the metrics that are measured."""
    monkeypatch.setattr("ftkit.training.trainer.part_cost", lambda *_, **__: 8.0)
    monkeypatch.setattr("torch.nn.functional.dropout", lambda tensor, *rest, **named: tensor)
    data = {"train": str(dialogues), "columns": {"document": "dialogue"}} if task == "summarization" else {}
    curves, records = [], []
    for on in (True, False):
        made = recipe(
            strategy, task=task, kind=kind, data=data,
            speed={
                **dict.fromkeys(("supervised_logits", "micro_batches", "embedding_rows", "fused_gelu"), on),
                "unpadded": False, "fast_dropout": False,
            },
            training={"max_steps": 12, "bf16": False, "eval_strategy": "no", "save_strategy": "no"} | training,
            evaluation={"general_text": False, **({"generation": {"rows": 0}} if "class" not in task else {})},
        )  # fmt: skip
        result = train(made, output_dir=tmp_path / str(on))
        lines = [json.loads(line) for line in (result.folder / "log.jsonl").read_text().splitlines()]
        curves.append([line["loss"] for line in lines if "loss" in line])
        records.append(result)
    assert len(curves[0]) == 12
    assert curves[0] == pytest.approx(curves[1], rel=2e-3)
    for which in ("baseline", "tuned"):
        assert records[0].metrics[which] == pytest.approx(records[1].metrics[which], rel=5e-3, abs=1e-6)
    speed = json.loads((records[0].folder / "run.json").read_text())["speed"]
    assert speed["supervised_logits"] is (task != "text-classification")
    assert speed["micro_batches"] is True
    assert speed["embedding_rows"] is (strategy == "full")
    assert evaluate(records[0].folder).metrics["loss" if "class" not in task else "accuracy"] > 0


def test_parts_are_really_computed(recipe: RecipeMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ftkit.training.trainer.part_cost", lambda *_, **__: 8.0)
    parts = build(recipe("full", speed={"unpadded": False}), tmp_path / "out", [])
    trainer = parts.trainer
    widths: list[tuple[int, ...]] = []
    parts.model.register_forward_pre_hook(lambda _, __, named: widths.append(named["input_ids"].shape), with_kwargs=True)
    trainer.create_optimizer_and_scheduler(1)
    trainer.current_gradient_accumulation_steps = 1
    batch = next(iter(trainer.get_train_dataloader()))
    trainer.training_step(trainer.accelerator.prepare(parts.model), batch)
    assert len(widths) > 1
    assert sum(rows for rows, _ in widths) == len(batch["input_ids"])


def test_an_optimizer_that_steps_in_each_backward_pass_gets_whole_batches(recipe: RecipeMaker, tmp_path: Path) -> None:
    made = recipe("full", speed={"unpadded": False})
    trainer = build(made, tmp_path / "out", []).trainer
    assert (trainer.cuts, trainer.adds_rows, trainer.retries) == (True, True, True)
    trainer.args.optim = "galore_adamw_layerwise"
    trainer.cuts = trainer.adds_rows = False
    rows = trainer.data_collator([trainer.eval_dataset[0], trainer.eval_dataset[1]])
    speed_up(trainer, made.speed, rows, rows, decoder=False)
    assert (trainer.cuts, trainer.adds_rows, trainer.retries) == (False, False, False)


def test_logits_are_made_where_they_count(recipe: RecipeMaker, tmp_path: Path) -> None:
    parts = build(recipe("lora", task="instruction"), tmp_path / "out", [])
    assert isinstance(parts.trainer.head, Head)
    sizes: list[tuple[int, ...]] = []
    layer = parts.trainer.head.layer
    layer.register_forward_hook(lambda _, __, output: sizes.append(tuple(output.shape[1:])))
    parts.trainer.predict(parts.data.encoded["eval"].dataset)
    assert set(sizes) == {(1, 1)}


def test_ways_follow_recipe_and_device() -> None:
    def ways(device: str = "cpu", alone: bool = True, speed: dict[str, Any] | None = None, **training: Any) -> Ways:
        block = Training(**training)
        return wanted_ways(Speed(**(speed or {})), block, device, alone=alone)

    def on(*arguments: Any, **named: Any) -> set[str]:
        return {name for name, value in ways(*arguments, **named)._asdict().items() if value}

    anywhere = {"supervised_logits", "fused_adapters", "fused_gelu", "repeated"}
    assert on() == anywhere | {"micro_batches", "unpadded", "fast_dropout", "embedding_rows"}
    assert on("cuda") == anywhere
    assert on("cuda", speed={"micro_batches": True}) == anywhere | {"micro_batches"}
    assert on(speed={"micro_batches": True}) == on() - {"unpadded"}  # batches are cut where it is asked for
    assert on(alone=False) == on(optim="galore_adamw_layerwise") == set()
    compiled = on(torch_compile=True)
    assert compiled == {"supervised_logits", "micro_batches", "repeated"}
    assert not ways(torch_compile=True).embedding_rows
    assert not ways(torch_compile=True).fused_adapters
    assert not ways(speed={"fused_adapters": False}).fused_adapters
    assert not ways(torch_compile_mode="max-autotune").embedding_rows
    assert not ways(label_smoothing_factor=0.1).supervised_logits
    for name in ("supervised_logits", "embedding_rows", "unpadded", "fast_dropout", "fused_gelu"):
        assert on(speed={name: False}) == on() - {name}
