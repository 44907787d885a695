"""Adapters that are computed with their layers: the loss and gradients that peft gives, on every kind of layer."""

import json
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM, BitsAndBytesConfig

from ftkit import Recipe, train
from ftkit.compat import keep_4bit_weights
from ftkit.training import in_precision
from ftkit.training.dispatcher import build
from ftkit.training.fused_adapters import (
    PRODUCTS,
    AdaptedProduct,
    DenseLinear,
    fusing_adapters,
    plain_adapters,
    try_adapters,
)
from ftkit.training.trial import COARSE, Trial, own_loss
from ftkit.training.ways import Settled

RecipeMaker = Callable[..., Recipe]
LLAMA = {
    "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1,
    "vocab_size": 61, "pad_token_id": 0,
}  # fmt: skip
GPT2 = {
    "n_embd": 32, "n_layer": 2, "n_head": 2, "vocab_size": 61, "n_positions": 64, "bos_token_id": 1, "eos_token_id": 1,
    "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0,
}  # fmt: skip
TARGETS = {"llama": ["q_proj", "v_proj", "down_proj"], "gpt2": ["c_attn", "c_proj"]}
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU"))]


def fuses_well(
    model: Any, row: dict[str, torch.Tensor], products: Any = PRODUCTS, autocast: torch.dtype | None = None
) -> bool:
    """Whether the trial on a row lets adapters be fused, in the precision of training where one is named."""
    trial = Trial(model, lambda: own_loss(model, row, None, shift=True), autocast, COARSE if autocast else None)
    with trial.prepared():
        return not try_adapters(model, trial, products)


def adapted(base: Any, kind: str, **values: Any) -> PeftModel:
    """B is drawn too: beside zeros nothing would show."""
    given = {"r": 4, "lora_alpha": 12, "target_modules": TARGETS[kind], "fan_in_fan_out": kind == "gpt2"} | values
    model = get_peft_model(base, LoraConfig(task_type="CAUSAL_LM", init_lora_weights=False, **given))
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    return model.train()


def decoder(kind: str = "llama", dtype: torch.dtype = torch.float32, **values: Any) -> PeftModel:
    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, **(GPT2 if kind == "gpt2" else LLAMA))
    return adapted(AutoModelForCausalLM.from_config(config, dtype=dtype), kind, **values)


def four_bit(folder: Path, device: str) -> PeftModel:
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(AutoConfig.for_model("llama", **LLAMA)).save_pretrained(folder)
    quantization = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=torch.bfloat16
    )
    base = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, quantization_config=quantization, device_map={"": device}
    )
    keep_4bit_weights(base)
    return adapted(base, "llama")


def step(model: Any, *, fused: bool, autocast: bool = False) -> tuple[float, dict[str, torch.Tensor]]:
    """The loss of some tokens, and the gradients."""
    torch.manual_seed(1)
    device = next(model.parameters()).device
    ids = torch.randint(2, 60, (3, 12)).to(device)
    model.zero_grad()
    with fusing_adapters(model) if fused else nullcontext():
        with torch.autocast(device.type, torch.bfloat16, enabled=autocast):
            loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
    return float(loss.detach()), {name: w.grad.clone() for name, w in model.named_parameters() if w.grad is not None}


def assert_alike(model: Any, *, autocast: bool = False, tolerance: float = 1e-5) -> None:
    (own, gradients), (ours, fused) = (step(model, fused=fused, autocast=autocast) for fused in (False, True))
    assert ours == pytest.approx(own, rel=tolerance)
    assert fused.keys() == gradients.keys()
    assert any(gradient.abs().max() > 1e-4 for gradient in gradients.values())
    for name, gradient in gradients.items():
        torch.testing.assert_close(fused[name], gradient, rtol=0, atol=tolerance * float(gradient.abs().max()))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("kind", ["llama", "gpt2"])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_gradients_are_those_of_peft(kind: str, device: str, dropout: float) -> None:
    model = decoder(kind, lora_dropout=dropout).to(device)
    assert len(plain_adapters(model)) == 6
    assert_alike(model, tolerance=1e-5 if device == "cpu" else 1e-3)  # TF32 on a GPU


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_under_autocast_they_are_alike_up_to_bfloat16(kind: str, device: str) -> None:
    """8 bits of mantissa; a gradient is the sum of dozens of such products."""
    assert_alike(decoder(kind, torch.bfloat16).to(device), autocast=True, tolerance=5e-2)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("autocast", [False, True])
def test_four_bit_layers_are_fused_too(tmp_path: Path, device: str, autocast: bool) -> None:
    model = four_bit(tmp_path / "base", device)
    assert len(plain_adapters(model)) == 6
    assert_alike(model, autocast=autocast, tolerance=8e-2 if autocast else 1e-2)


def test_activation_checkpointing_goes_through_it_twice() -> None:
    model = decoder()
    model.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
    assert_alike(model)


def test_less_is_kept_for_the_backward_pass() -> None:
    """Of each layer's input one copy, where peft keeps one for itself; with dropout there is no other way."""

    def kept(model: Any, *, fused: bool) -> int:
        found: dict[int, int] = {}

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            found[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            step(model, fused=fused, autocast=True)
        return sum(found.values())

    model = decoder("llama", torch.bfloat16, target_modules=["q_proj", "k_proj", "v_proj"])
    assert kept(model, fused=True) < kept(model, fused=False)


@pytest.mark.parametrize("values", [{"use_dora": True}, {"lora_bias": True}, {"bias": "all"}])
def test_other_kinds_of_adapters_stay_as_they_are(values: dict[str, Any]) -> None:
    base = LLAMA | {"attention_bias": True, "mlp_bias": True}
    config = AutoConfig.for_model("llama", **base)
    model = adapted(AutoModelForCausalLM.from_config(config), "llama", **values)
    assert plain_adapters(model) == []
    assert not fuses_well(model, {"input_ids": torch.tensor([[3, 4]]), "labels": torch.tensor([[3, 4]])})


def test_outside_the_block_and_without_adapters_peft_computes() -> None:
    model, ids = decoder(), torch.tensor([[3, 4, 5]])
    before = model(input_ids=ids).logits
    layers = plain_adapters(model)
    with fusing_adapters(model):
        assert all("forward" in vars(layer) for layer in layers)
        assert plain_adapters(model) == []  # not twice
        with model.disable_adapter():
            bare = model(input_ids=ids).logits
    assert not any("forward" in vars(layer) for layer in layers)
    with model.disable_adapter():
        assert torch.equal(bare, model(input_ids=ids).logits)
    assert not torch.allclose(bare, before)
    assert torch.equal(before, model(input_ids=ids).logits)


class Doubled(DenseLinear):
    """Twice what the layer gives."""

    def forward(self, layer: Any, inputs: torch.Tensor) -> torch.Tensor:
        return super().forward(layer, inputs) * 2


class Without(DenseLinear):
    """A layer that computes in no precision that is asked for."""

    def computes_in(self, layer: Any, dtype: torch.dtype) -> bool:
        return False


def test_what_changes_the_loss_or_is_never_taken_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    model, row = decoder(), {"input_ids": torch.tensor([[3, 4, 5]]), "labels": torch.tensor([[3, 4, 5]])}
    for parameter in model.parameters():
        parameter.data.mul_(6)  # so that it counts what the layers give
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    assert fuses_well(model, row)
    assert not fuses_well(model, row, {"Linear": Doubled()})
    assert not fuses_well(model, row, {"Linear": Without()})
    for layer in plain_adapters(model):
        layer.scaling["default"] *= 3  # the adapter's own part: nothing of it would show while B is zero
    apart = AdaptedProduct.apply

    def scaled(*given: Any) -> torch.Tensor:
        return apart(*given[:4], given[4] * 1.5, *given[5:])

    monkeypatch.setattr(AdaptedProduct, "apply", scaled)
    assert not fuses_well(model, row)
    assert all(torch.equal(weight, before[name]) for name, weight in model.named_parameters())
    assert model.training


def test_without_autocast_adapters_of_a_half_base_stay_in_float32() -> None:
    """As peft has it: weights that learn are float32, and only autocast lowers that."""
    model, row = decoder("llama", torch.bfloat16), {"input_ids": torch.tensor([[3, 4]]), "labels": torch.tensor([[3, 4]])}
    assert plain_adapters(model)
    assert not fuses_well(model, row)
    assert fuses_well(model, row, autocast=torch.bfloat16)


@pytest.mark.parametrize(("kind", "task"), [("distilbert", "text-classification"), ("llama", "instruction")])
@pytest.mark.parametrize("strategy", ["lora", "qlora"])
@pytest.mark.slow
def test_the_loss_curve_is_that_of_peft(recipe: RecipeMaker, tmp_path: Path, kind: str, task: str, strategy: str) -> None:
    curves, facts = [], []
    for on in (True, False):
        made = recipe(
            strategy, task=task, kind=kind, speed={"fused_adapters": on},
            training={"max_steps": 6, "bf16": False, "eval_strategy": "no", "save_strategy": "no"},
            evaluation={"baseline": False, "general_text": False},
        )  # fmt: skip
        result = train(made, output_dir=tmp_path / str(on))
        lines = [json.loads(line) for line in (result.folder / "log.jsonl").read_text().splitlines()]
        curves.append([line["loss"] for line in lines if "loss" in line])
        facts.append(result.record["speed"]["fused_adapters"])
    assert facts == [True, False]
    assert len(curves[0]) == 6
    assert curves[0] == pytest.approx(curves[1], rel=1e-4 if strategy == "lora" else 1e-2)


def test_adapters_are_tried_on_a_base_at_rest(recipe: RecipeMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under autocast a float32 base is cast by it, and only one at rest is fused."""

    def built(strategy: str, **speed: bool) -> Any:
        made = recipe(strategy, task="instruction", kind="llama", training={"bf16": True}, speed=speed)
        return build(made, tmp_path / "out", []).trainer

    resting = built("lora")
    assert resting.resting is not None
    assert resting.fuses
    assert resting.settled == Settled(rests=True, fuses=True, liger=False, unpads=True, supervised=True, cuts=False)
    assert not built("lora", frozen_bfloat16=False).fuses
    assert not built("lora", fused_adapters=False).fuses
    assert not built("full").fuses
    monkeypatch.setattr(in_precision, "try_adapters", lambda *_: "they differ")
    refused = built("lora")
    assert not refused.fuses
    assert refused.off["fused_adapters"] == "they differ"
