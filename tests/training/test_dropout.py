"""Dropout's masks drawn by fours, and GELU in one operation."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.activations import FastGELUActivation, NewGELUActivation

from ftkit import Recipe
from ftkit.training.dispatcher import build
from ftkit.training.dropout import drop, dropout_layers, dropping
from ftkit.training.fused_gelu import fusing_gelu, written_out

RecipeMaker = Callable[..., Recipe]


@pytest.mark.parametrize("share", [0.05, 0.1, 0.5, 0.9])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_share_is_dropped_and_the_rest_made_up_for(share: float, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    ones = torch.ones(1000, 1001, dtype=dtype)
    found = drop(ones, share)
    assert found.dtype == dtype
    dropped = (found == 0).float()
    assert float(dropped.mean()) == pytest.approx(share, abs=4 * (share * (1 - share) / ones.numel()) ** 0.5 + 1e-5)
    left = found[found != 0].float()
    torch.testing.assert_close(left, torch.full_like(left, 1 / (1 - share)), rtol=1e-2, atol=0)
    for lag in (1, 2, 3, 4):  # four come from one draw
        pairs = (dropped[:, lag:] * dropped[:, :-lag]).mean()
        assert float(pairs) == pytest.approx(share * share, abs=5 * share / ones.numel() ** 0.5)


def test_gradients_fall_where_values_do() -> None:
    torch.manual_seed(0)
    inputs = torch.randn(33, 7, requires_grad=True)
    found = drop(inputs, 0.5)
    found.sum().backward()
    assert inputs.grad is not None
    torch.testing.assert_close(inputs.grad * inputs.detach(), found.detach())


def test_draws_come_from_the_seed() -> None:
    found = []
    for _ in range(2):
        torch.manual_seed(3)
        found.append(drop(torch.ones(100), 0.3))
    assert torch.equal(*found)
    assert not torch.equal(found[0], drop(torch.ones(100), 0.3))


@pytest.mark.parametrize("share", [0.0, 1.0, 1e-7])
def test_shares_at_the_ends_are_torchs(share: float) -> None:
    assert torch.equal(drop(torch.ones(50), share), nn.functional.dropout(torch.ones(50), share))


def test_layers_draw_so_while_they_learn_and_only_inside() -> None:
    model = nn.Sequential(nn.Dropout(0.5), nn.Dropout(0.0), nn.Dropout(0.5, inplace=True), nn.AlphaDropout(0.5))
    assert dropout_layers(model) == [model[0]]
    torch.manual_seed(0)
    own = model[0](torch.ones(64))
    with dropping(model):
        torch.manual_seed(0)
        assert not torch.equal(model[0](torch.ones(64)), own)
        assert torch.equal(model.eval()[0](torch.ones(64)), torch.ones(64))
    torch.manual_seed(0)
    assert torch.equal(model.train()[0](torch.ones(64)), own)
    assert "forward" not in vars(model[0])


@pytest.mark.parametrize("kind", [NewGELUActivation, FastGELUActivation])
def test_gelu_is_the_same_in_one_operation(kind: Any) -> None:
    torch.manual_seed(0)
    model, inputs = nn.Sequential(kind()), torch.randn(9, 50, requires_grad=True)
    own = model(inputs)
    (gradient,) = torch.autograd.grad(own.sum(), inputs)
    with fusing_gelu(model):
        ours = model(inputs)
        (fused,) = torch.autograd.grad(ours.sum(), inputs)
    torch.testing.assert_close(ours, own, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(fused, gradient, rtol=1e-4, atol=1e-6)
    assert "forward" not in vars(model[0])


def test_gpt2_writes_its_gelu_out() -> None:
    config = AutoConfig.for_model("gpt2", n_embd=16, n_layer=2, n_head=2, vocab_size=11)
    assert len(written_out(AutoModelForCausalLM.from_config(config))) == 2


def test_each_is_on_and_can_be_switched_off(recipe: RecipeMaker, tmp_path: Path) -> None:
    def built(kind: str, strategy: Any = "full", **speed: Any) -> Any:
        return build(recipe(strategy, task="instruction", kind=kind, speed=speed), tmp_path, []).trainer

    dropping_adapters = {"name": "lora", "lora_dropout": 0.1}
    assert built("llama", dropping_adapters).drops
    assert not built("llama", dropping_adapters, fast_dropout=False).drops
    assert not built("llama").drops
    assert built("gpt2").gelu
    assert not built("gpt2", fused_gelu=False).gelu
