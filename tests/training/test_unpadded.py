"""Blocks without padding: the loss and gradients of the padded batch, on each kind of model, and left where that is not so."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
)

from ftkit import Recipe, train
from ftkit.models.precision import has_bf16
from ftkit.training import unpadded
from ftkit.training.trial import Trial
from ftkit.training.unpadded import (
    SHORT,
    Group,
    Layout,
    UnpaddedModel,
    attend_in_steps,
    lacks_unpadding,
    rounded_up,
    try_unpadded,
)

RecipeMaker = Callable[..., Recipe]
ENCODER = {"vocab_size": 61, "pad_token_id": 0, "max_position_embeddings": 256}
SMALL = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 2}
NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
DISTILBERT = {
    "dim": 32, "hidden_dim": 64, "n_layers": 2, "n_heads": 2, "dropout": 0.0, "attention_dropout": 0.0,
    "seq_classif_dropout": 0.0,
}  # fmt: skip
GPT2 = {
    "n_embd": 32, "n_layer": 2, "n_head": 2, "vocab_size": 61, "n_positions": 256, "bos_token_id": 1, "eos_token_id": 1,
    "pad_token_id": 0, "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0,
}  # fmt: skip
LLAMA = ENCODER | SMALL | {"num_key_value_heads": 1}
MODELS: dict[str, tuple[Any, str, dict[str, Any]]] = {
    "bert": (AutoModelForSequenceClassification, "bert", ENCODER | SMALL | NO_DROPOUT),
    "bert tokens": (AutoModelForTokenClassification, "bert", ENCODER | SMALL | NO_DROPOUT),
    "roberta": (AutoModelForSequenceClassification, "roberta", ENCODER | SMALL | NO_DROPOUT | {"pad_token_id": 1}),
    "distilbert": (AutoModelForSequenceClassification, "distilbert", ENCODER | DISTILBERT),
    "albert": (
        AutoModelForSequenceClassification,
        "albert",
        ENCODER | SMALL | NO_DROPOUT | {"embedding_size": 16, "classifier_dropout_prob": 0.0},
    ),
    "gpt2": (AutoModelForCausalLM, "gpt2", GPT2),
    "llama": (AutoModelForCausalLM, "llama", LLAMA),
    "mistral, a window of 5": (AutoModelForCausalLM, "mistral", LLAMA | {"sliding_window": 5}),
}
LENGTHS = (3, 17, 9, 11, 2, 30, 8, 5, 16)


def model_of(name: str, **values: Any) -> Any:
    torch.manual_seed(0)
    auto_class, kind, given = MODELS[name]
    return auto_class.from_config(AutoConfig.for_model(kind, **(given | values))).train()


def rows_for(model: Any, lengths: tuple[int, ...] = LENGTHS) -> dict[str, torch.Tensor]:
    """A padded batch with labels."""
    torch.manual_seed(1)
    pad = model.config.pad_token_id
    mask = (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).long()
    ids = torch.where(mask.bool(), torch.randint(2, 60, mask.shape), pad)
    labels = torch.arange(len(lengths)) % 2
    if "SequenceClassification" not in type(model).__name__:
        classes = 2 if "Token" in type(model).__name__ else 60
        labels = torch.where(mask.bool(), ids % classes, -100)
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def unpads_well(model: Any, rows: dict[str, torch.Tensor], autocast: torch.dtype | None = None) -> UnpaddedModel | None:
    """The model without padding, where its trial on these rows lets it."""
    trial = Trial.on_rows(
        model, rows, autocast, shift="CausalLM" in type(model).__name__ or "LMHead" in type(model).__name__
    )
    if lacks_unpadding(model):
        return None
    with trial.prepared():
        return None if try_unpadded(model, trial, rows["attention_mask"]) else UnpaddedModel(model)


def loss_and_gradients(model: Any, rows: dict[str, torch.Tensor]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    model.zero_grad()
    loss = model(**rows).loss
    loss.backward()
    return loss.detach(), {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def assert_as_padded(
    model: Any, rows: dict[str, torch.Tensor], padded: tuple[torch.Tensor, dict[str, torch.Tensor]]
) -> None:
    """A step without padding gives the loss and the gradients of the padded one."""
    found = unpads_well(model, rows_for(model), None)
    assert found is not None
    with found.in_place():
        loss, gradients = loss_and_gradients(model, rows)
        assert found.layout is not None
    torch.testing.assert_close(loss, padded[0], rtol=1e-5, atol=1e-5)
    assert gradients.keys() == padded[1].keys()
    for key, gradient in padded[1].items():
        torch.testing.assert_close(
            gradients[key], gradient, rtol=1e-3, atol=1e-5, msg=lambda text, key=key: f"{key}: {text}"
        )


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("lengths", [LENGTHS, (40, 3), (SHORT + 12, 9), (7,), (6, 6, 6)])
def test_loss_and_gradients_are_those_of_the_padded_batch(name: str, lengths: tuple[int, ...]) -> None:
    model = model_of(name)
    rows = rows_for(model, lengths)
    padded = loss_and_gradients(model, rows)
    assert_as_padded(model, rows, padded)
    assert model.config._attn_implementation == "sdpa"
    torch.testing.assert_close(model(**rows).loss.detach(), padded[0])


@pytest.mark.parametrize("width", [40, 64, 72])
def test_a_batch_may_be_wider_than_its_rows(width: int) -> None:
    """As its parts are after memory ran out: here the tokens, rounded up, are as many as the columns, or nearly."""
    model = model_of("bert")
    rows = rows_for(model, (40, 22))
    wide = {name: nn.functional.pad(value, (0, width - 40)) if value.dim() == 2 else value for name, value in rows.items()}
    assert_as_padded(model, wide, loss_and_gradients(model, wide))


def test_measuring_inside_is_as_outside() -> None:
    model = model_of("llama").eval()
    rows = rows_for(model)
    found = unpads_well(model, rows, None)
    assert found is not None
    with torch.no_grad():
        own = model(**rows).logits
        with found.in_place():
            torch.testing.assert_close(model(**rows).logits, own, rtol=0, atol=0)


def test_padding_on_the_left_is_left_out_too() -> None:
    model = model_of("llama")
    rows = rows_for(model, (5, 9, 12))
    flipped = {
        name: torch.stack([torch.cat([row[length:], row[:length]]) for row, length in zip(value, (5, 9, 12), strict=True)])
        for name, value in rows.items()
    }
    flipped["position_ids"] = (flipped["attention_mask"].cumsum(1) - 1).clamp(min=0)
    assert_as_padded(model, flipped, loss_and_gradients(model, flipped))


@pytest.mark.parametrize("reentrant", [True, False])
def test_activation_checkpointing_goes_through_it_twice(reentrant: bool) -> None:
    model = model_of("llama")
    rows = rows_for(model)
    padded = loss_and_gradients(model, rows)
    model.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": reentrant})
    model.enable_input_require_grads()
    assert_as_padded(model, rows, padded)


def test_no_block_sees_padding() -> None:
    model = model_of("distilbert")
    seen: list[tuple[int, ...]] = []
    layer = model.distilbert.transformer.layer[0].ffn.lin1
    layer.register_forward_hook(lambda _module, inputs, _output: seen.append(tuple(inputs[0].shape[:2])))
    found = unpads_well(model, rows_for(model), None)
    assert found is not None
    with found.in_place():
        model(**rows_for(model))
    assert seen[-1] == (1, rounded_up(sum(LENGTHS)))
    assert rounded_up(sum(LENGTHS)) < len(LENGTHS) * max(LENGTHS) / 2


class Leaking(nn.Module):
    """A block whose tokens see those behind them in other ways than attention."""

    def __init__(self, block: nn.Module, weight: float = 1.0) -> None:
        super().__init__()
        self.block, self.weight = block, weight

    def forward(self, hidden: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        found: torch.Tensor = self.block(hidden, *args, **kwargs)
        return found + self.weight * found.roll(1, dims=1)


def test_a_model_whose_tokens_meet_outside_attention_is_left_as_it_is() -> None:
    model = model_of("distilbert")
    assert unpads_well(model, rows_for(model), None) is not None
    blocks = model.distilbert.transformer.layer
    blocks[0] = Leaking(blocks[0])
    assert unpads_well(model, rows_for(model), None) is None
    assert model.config._attn_implementation == "sdpa"
    assert not model._forward_pre_hooks


def test_a_leak_shows_in_the_shortest_row() -> None:
    """A short row behind a long one gets the long one's last token, which one norm over all tokens would hide."""
    model = model_of("bert tokens")
    blocks = model.bert.encoder.layer
    blocks[0] = Leaking(blocks[0], weight=0.3)
    assert unpads_well(model, rows_for(model, (200, 3)), torch.bfloat16) is None


def test_a_window_that_the_mask_alone_says_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    model, own = model_of("mistral, a window of 5"), unpadded.attend
    assert unpads_well(model, rows_for(model, (14, 3)), None) is not None
    monkeypatch.setattr(unpadded, "attend", lambda *arguments, sliding_window=None, **named: own(*arguments, **named))
    assert unpads_well(model, rows_for(model, (14, 3)), None) is None


def test_another_model_may_be_active_inside() -> None:
    outer, inner = (unpads_well(model, rows_for(model), None) for model in (model_of("bert"), model_of("gpt2")))
    assert outer is not None
    assert inner is not None
    with outer.in_place():
        with inner.in_place():
            assert UnpaddedModel.active is inner
        assert UnpaddedModel.active is outer
    assert UnpaddedModel.active is None


def test_an_attention_that_was_asked_for_stays() -> None:
    model = model_of("bert")
    model.set_attn_implementation("eager")
    assert unpads_well(model, rows_for(model), None) is None


def test_encoder_decoders_stay_as_they_are() -> None:
    from transformers import AutoModelForSeq2SeqLM

    config = AutoConfig.for_model(
        "bart", vocab_size=61, d_model=32, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=32, decoder_ffn_dim=32, pad_token_id=0,
    )  # fmt: skip
    assert unpads_well(AutoModelForSeq2SeqLM.from_config(config), {}, None) is None


def test_tokens_lie_behind_one_another_and_back_again() -> None:
    mask = torch.tensor([[1, 1, 0, 0], [1, 1, 1, 1], [0, 1, 1, 1]]).bool()
    layout = Layout(mask)
    values = torch.arange(12.0).view(3, 4, 1)
    flat = layout.flat(values)
    assert flat[0, :9, 0].tolist() == [4, 5, 6, 7, 9, 10, 11, 0, 1]
    assert flat.shape == (1, 16, 1)
    torch.testing.assert_close(layout.padded(flat), values * mask[..., None])
    assert layout.flat((values, None, "word"))[1:] == (None, "word")
    assert layout.flat(torch.zeros(3, 2, 4, 4)).shape == (3, 2, 4, 4)


def test_windows_are_as_those_of_the_padded_batch() -> None:
    seen = Group(torch.tensor([6, 4]), 0).seen(causal=False, window=2)
    assert seen is not None
    assert seen[1, 0, 3].tolist() == [False, False, True, True, False, False, False, False]
    causal = Group(torch.tensor([6, 4]), 0).seen(causal=True, window=2)
    assert causal is not None
    assert causal[0, 0, 3].tolist() == [False, False, True, True, False, False, False, False]


def test_attention_in_steps_is_torchs() -> None:
    torch.manual_seed(0)
    query, key, value = (torch.randn(2, 3, 8, 4) for _ in range(3))
    fused = nn.functional.scaled_dot_product_attention
    torch.testing.assert_close(
        attend_in_steps(query, key, value, None, 0.5, None), fused(query, key, value, is_causal=True, scale=0.5)
    )
    seen = torch.rand(2, 1, 8, 8) > 0.3
    seen[..., 0] = True
    torch.testing.assert_close(
        attend_in_steps(query, key, value, seen, 0.5, None), fused(query, key, value, attn_mask=seen, scale=0.5)
    )


def test_sizes_are_few() -> None:
    sizes = [rounded_up(count) for count in range(1, 4000)]
    assert all(size >= count for count, size in enumerate(sizes, 1))
    assert all(size <= max(count + 7, count * 17 / 16) for count, size in enumerate(sizes, 1))
    assert len({size for size in sizes if 500 < size <= 1000}) <= 24


@pytest.mark.parametrize(("kind", "task"), [("distilbert", "text-classification"), ("llama", "instruction")])
@pytest.mark.parametrize("strategy", ["full", "lora"])
def test_a_training_is_the_same_without_padding(
    recipe: RecipeMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, task: str, strategy: str
) -> None:
    monkeypatch.setattr("torch.nn.functional.dropout", lambda tensor, *rest, **named: tensor)
    curves, records = [], []
    for on in (True, False):
        made = recipe(
            strategy, task=task, kind=kind, speed={"unpadded": on, "micro_batches": None if on else False, "fast_dropout": False},
            training={"max_steps": 6, "logging_steps": 1, "bf16": False, "eval_strategy": "no", "save_strategy": "no"},
            evaluation={"baseline": False, "general_text": False},
        )  # fmt: skip
        result = train(made, output_dir=tmp_path / str(on))
        lines = map(json.loads, (result.folder / "log.jsonl").read_text().splitlines())
        curves.append([line["loss"] for line in lines if "loss" in line])
        records.append(result.record["speed"])
    assert [record["unpadded"] for record in records] == [True, False]
    assert not records[0]["micro_batches"]
    assert curves[0] == pytest.approx(curves[1], abs=1e-4)


@pytest.mark.skipif(not has_bf16(), reason="this processor has no bfloat16")
def test_it_is_tried_in_the_precision_of_training() -> None:
    model = model_of("bert")
    assert unpads_well(model, rows_for(model), torch.bfloat16) is not None
