"""Attention over rows of any length: what each token sees is what the model's own mask lets it see."""

from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification

from ftkit import Recipe
from ftkit.data.packing import PackedCollator, measure_isolation, require_isolation
from ftkit.training import dispatcher
from ftkit.training.dispatcher import build
from ftkit.training.kernels import attending, refuses_attention, sees_rows
from ftkit.training.varlen_attention import VARLEN, has_varlen, register_varlen

pytestmark = pytest.mark.skipif(not has_varlen(), reason="this torch has none")
LLAMA = {
    "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "vocab_size": 61, "pad_token_id": 0, "max_position_embeddings": 128,
}  # fmt: skip
BERT = {
    "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 61,
    "attention_probs_dropout_prob": 0.0, "hidden_dropout_prob": 0.0,
}  # fmt: skip
GPU = pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU"))


def slowly(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, begins: torch.Tensor, _: torch.Tensor, longest: int, __: int,
    *, scale: float | None = None, window_size: tuple[int, int] = (-1, -1), enable_gqa: bool = False,
) -> torch.Tensor:  # fmt: skip
    """What the kernel computes, a row after the other, for machines that do not have it."""
    borders, found = begins.tolist(), []
    assert borders[0] == 0
    assert borders[-1] == len(query)
    for start, end in pairwise(borders):
        assert end - start <= longest
        parts = [part[start:end].transpose(0, 1) for part in (query, key, value)]
        places = torch.arange(end - start)
        distance = places[:, None] - places[None, :]
        left, right = (size if size >= 0 else end for size in window_size)
        seen = (distance <= left) & (distance >= -right)
        found.append(
            torch.nn.functional.scaled_dot_product_attention(*parts, attn_mask=seen, scale=scale, enable_gqa=enable_gqa)
        )
    return torch.cat(found, 1).transpose(0, 1)


@pytest.fixture(autouse=True)
def registered() -> None:
    register_varlen()


@pytest.fixture(params=["cpu", GPU])
def device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """On a CPU the kernel's place is taken; on a GPU it is the kernel's own."""
    if request.param == "cpu":
        monkeypatch.setattr("torch.nn.attention.varlen.varlen_attn", slowly)
    return str(request.param)


@pytest.fixture
def dtype(device: str) -> torch.dtype:
    return torch.float32 if device == "cpu" else torch.bfloat16


def make(kind: str, device: str, dtype: torch.dtype, **values: Any) -> Any:
    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, **((BERT if kind == "bert" else LLAMA) | values))
    auto_class = AutoModelForSequenceClassification if kind == "bert" else AutoModelForCausalLM
    model = auto_class.from_config(config, dtype=dtype).to(device).eval()
    for parameter in model.parameters():
        parameter.data.mul_(2)  # so that it counts what is seen
    return model


def padded(kind: str, device: str, *, left: bool = False) -> dict[str, torch.Tensor]:
    lengths = (5, 17, 1, 11)
    ids, mask = (torch.zeros(len(lengths), max(lengths), dtype=torch.long) for _ in range(2))
    for row, length in enumerate(lengths):  # what padding foretells, a row's first token, counts for nothing
        tokens = slice(max(lengths) - length, None) if left else slice(0, length)
        ids[row, tokens], mask[row, tokens] = torch.randint(2, 60, (length,)), 1
    labels = torch.tensor([0, 1, 0, 1]) if kind == "bert" else ids.masked_fill((mask == 0) | (mask.cumsum(1) == 1), -100)
    return {name: value.to(device) for name, value in (("input_ids", ids), ("attention_mask", mask), ("labels", labels))}


def loss_and_gradients(model: Any, batch: dict[str, Any]) -> tuple[torch.Tensor, list[torch.Tensor]]:
    model.zero_grad()
    loss = model(**batch).loss
    loss.backward()
    return loss.detach(), [weight.grad.clone() for weight in model.parameters() if weight.grad is not None]


@pytest.mark.parametrize(
    ("kind", "values", "left"),
    [
        ("llama", {}, False),
        ("llama", {}, True),
        ("llama", {"num_key_value_heads": 4}, False),
        ("mistral", {"sliding_window": 6}, True),
        ("bert", {}, False),  # which takes its first token, so that no row of it is padded on the left
    ],
)
def test_padded_rows_see_what_the_mask_lets_them_see(
    kind: str, values: dict[str, Any], left: bool, device: str, dtype: torch.dtype
) -> None:
    model, batch = make(kind, device, dtype, **values), padded(kind, device, left=left)
    own, gradients = loss_and_gradients(model, batch)
    with attending(model, VARLEN):
        ours, found = loss_and_gradients(model, batch)
    close = {"rtol": 1e-5, "atol": 1e-6} if device == "cpu" else {"rtol": 3e-2, "atol": 3e-2}
    torch.testing.assert_close(ours, own, **close)
    largest = max(float(gradient.abs().max()) for gradient in gradients)
    for gradient, expected in zip(found, gradients, strict=True):
        torch.testing.assert_close(gradient / largest, expected / largest, rtol=0, atol=5 * close["atol"])
    assert not refuses_attention(model, VARLEN, batch)


@pytest.mark.parametrize(("kind", "values"), [("llama", {}), ("mistral", {"sliding_window": 6})])
def test_packed_examples_are_kept_apart(kind: str, values: dict[str, Any], device: str, dtype: torch.dtype) -> None:
    model = make(kind, device, dtype, **values)
    with attending(model, VARLEN), torch.no_grad():
        require_isolation(model)
        ours = measure_isolation(model, PackedCollator(0, flatten=True))
    assert ours.leak == ours.rounding == 0


def test_borders_left_out_are_a_leak_that_is_seen(device: str, dtype: torch.dtype) -> None:
    """A collator of today without what it says of the borders: the test of isolation must not pass."""

    class Forgetful(PackedCollator):
        def __call__(self, blocks: Any) -> dict[str, Any]:
            return {
                name: value for name, value in super().__call__(blocks).items() if "length" not in name and "cu_" not in name
            }

    model = make("llama", device, dtype)
    with attending(model, VARLEN), torch.no_grad():
        assert measure_isolation(model, Forgetful(0, flatten=True)).leak > 1e-3


def test_dropout_is_refused_before_the_first_step(device: str, dtype: torch.dtype) -> None:
    model = make("llama", device, dtype, attention_dropout=0.1)
    batch = padded("llama", device)
    assert refuses_attention(model, VARLEN, batch)
    assert model.config._attn_implementation == "sdpa"


@pytest.mark.parametrize(
    ("kind", "values"),
    [("t5", {"d_model": 32, "num_layers": 1, "num_heads": 2, "d_ff": 32, "d_kv": 16}), ("llama4_text", {})],
)
def test_what_sees_more_than_its_own_rows_or_less_is_left(kind: str, values: dict[str, Any]) -> None:
    """An encoder's rows beside the decoder's, or a row in chunks."""
    config = AutoConfig.for_model(kind, **values)
    base = type("Base", (), {"config": config, "_supports_flash_attn": True})()
    assert not sees_rows(base)
    assert sees_rows(type("Base", (), {"config": AutoConfig.for_model("llama"), "_supports_flash_attn": True})())
    assert not sees_rows(type("Base", (), {"config": AutoConfig.for_model("llama"), "_supports_flash_attn": False})())


def test_trying_it_draws_nothing(device: str, dtype: torch.dtype) -> None:
    model, batch = make("bert", device, dtype, hidden_dropout_prob=0.1), padded("bert", device)
    before = torch.random.get_rng_state()
    assert not refuses_attention(model.train(), VARLEN, batch)
    assert model.training
    assert torch.equal(before, torch.random.get_rng_state())


def test_packed_training_is_that_of_the_models_own_attention_and_a_step_without_memory_is_done_again(
    recipe: Callable[..., Recipe], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: str
) -> None:
    """The losses of six steps; in the second of the last training memory runs out."""
    curves, told = [], []
    for number, choices in enumerate(((), (VARLEN,), (VARLEN,))):
        monkeypatch.setattr(dispatcher, "choose_attention", lambda *_, choices=choices, **__: choices)
        made = recipe(
            "lora", task="instruction", kind="llama", data={"packing": True},
            training={
                "max_steps": 6, "per_device_train_batch_size": 4, "eval_strategy": "no", "save_strategy": "no",
                "bf16": device == "cuda",
            },
        )  # fmt: skip
        parts = build(made, tmp_path / str(number), [])
        assert parts.trainer.attention == (choices[0] if choices else None)
        parts.trainer.tell = told.append
        if number == 2:
            calls = iter(range(10**6))

            def fail(*_: Any, calls: Iterator[int] = calls) -> None:
                if next(calls) == 1:
                    raise torch.OutOfMemoryError("CUDA out of memory.")

            parts.model.register_forward_pre_hook(fail)
        parts.trainer.train()
        curves.append([entry["loss"] for entry in parts.trainer.state.log_history if "loss" in entry])
    assert len(told) == 1
    assert told[0]["step"] == 2
    assert told[0]["rows"] > 1  # where all blocks are one row
    tolerance = 1e-4 if device == "cpu" else 2e-2
    assert curves[1] == pytest.approx(curves[0], rel=tolerance)
    assert curves[2] == pytest.approx(curves[0], rel=tolerance)
