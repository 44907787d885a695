"""Frozen layers in bfloat16 while training: the same losses, and afterwards the weights that were there before."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM

from ftkit import Recipe, train
from ftkit.models.resting import RestingBase, checkpoint_tensors, own_name, resting_layers, stored_layers, tensors_at_hand
from ftkit.recipe.schema import Model
from ftkit.training.dispatcher import build

RecipeMaker = Callable[..., Recipe]
KINDS = [("distilbert", "text-classification"), ("gpt2", "instruction"), ("llama", "instruction")]


def adapted(folder: Path, **values: Any) -> Any:
    torch.manual_seed(0)
    config = AutoConfig.for_model("gpt2", n_embd=16, n_layer=2, n_head=2, vocab_size=31, n_positions=16)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return get_peft_model(model, LoraConfig(target_modules=["c_attn"], fan_in_fan_out=True, **values))


@pytest.mark.parametrize(("kind", "task"), KINDS)
@pytest.mark.slow
def test_losses_and_metrics_are_the_same_to_the_last_bit(recipe: RecipeMaker, tmp_path: Path, kind: str, task: str) -> None:
    curves, results = [], []
    for on in (True, False):
        made = recipe(
            "lora", task=task, kind=kind, speed={"frozen_bfloat16": on, "fused_adapters": False},
            training={"max_steps": 6, "bf16": True, "eval_strategy": "steps", "eval_steps": 3, "save_strategy": "no"},
        )  # fmt: skip
        result = train(made, output_dir=tmp_path / str(on))
        lines = [json.loads(line) for line in (result.folder / "log.jsonl").read_text().splitlines()]
        curves.append([(line.get("loss"), line.get("eval_loss")) for line in lines])
        results.append(result)
    assert [result.record["speed"]["frozen_bfloat16"] for result in results] == [True, False]
    assert curves[0] == curves[1]
    assert results[0].metrics["tuned"] == results[1].metrics["tuned"]
    assert json.loads((results[0].folder / "run.json").read_text())["state"] == "finished"


@pytest.mark.parametrize(("kind", "task"), KINDS)
def test_weights_rest_and_wake_as_they_were(recipe: RecipeMaker, tmp_path: Path, kind: str, task: str) -> None:
    parts = build(recipe("lora", task=task, kind=kind, training={"bf16": True}), tmp_path / "out", [])
    resting = parts.trainer.resting
    assert resting is not None
    assert set(resting.layers) == {name.removeprefix("base_model.model.").replace(".base_layer", "")
                                   for name in resting_layers(parts.model)}  # fmt: skip
    before = {name: weight.detach().clone() for name, weight in parts.model.named_parameters()}
    with resting.at_rest():
        weights = [weight for layer in resting.layers.values() for weight in layer.parameters()]
        assert {weight.dtype for weight in weights} == {torch.bfloat16}
        assert {weight.dtype for weight in parts.model.parameters() if weight.requires_grad} == {torch.float32}
    for name, weight in parts.model.named_parameters():
        assert torch.equal(weight, before[name]), name


def test_what_is_no_plain_product_does_not_rest(tmp_path: Path) -> None:
    names = set(resting_layers(adapted(tmp_path / "plain")))
    assert any("c_fc" in name for name in names)
    assert any("c_attn" in name for name in names)
    assert not any("lm_head" in name or "lora" in name or "ln_" in name for name in names)  # lm_head is the embedding too
    varied = resting_layers(adapted(tmp_path / "dora", use_dora=True))
    assert not any("c_attn" in name for name in varied)


def test_an_init_that_changes_the_base_keeps_it(recipe: RecipeMaker, tmp_path: Path) -> None:
    made = recipe("lora", training={"bf16": True})
    changed = made.model_copy(update={"strategy": made.strategy.model_copy(update={"init_lora_weights": "olora"})})
    assert build(changed, tmp_path / "out", []).trainer.resting is None


def test_a_checkpoint_that_is_gone_leaves_rounded_weights(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "base"
    model = adapted(folder)
    resting = RestingBase(model, folder)
    before = {
        name: weight.detach().clone() for name, weight in resting.layers["transformer.h.0.mlp.c_fc"].named_parameters()
    }
    with resting.at_rest():
        next(folder.glob("*.safetensors")).unlink()
    assert "stay rounded to bfloat16" in capsys.readouterr().err
    for name, weight in resting.layers["transformer.h.0.mlp.c_fc"].named_parameters():
        assert torch.equal(weight, before[name].bfloat16().float())


def test_an_error_while_training_leaves_the_weights_as_they_were(tmp_path: Path) -> None:
    model = adapted(tmp_path / "base")
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    with pytest.raises(KeyboardInterrupt), RestingBase(model, tmp_path / "base").at_rest():
        raise KeyboardInterrupt
    assert all(torch.equal(weight, before[name]) for name, weight in model.named_parameters())


def test_only_the_very_weights_are_rounded(tmp_path: Path) -> None:
    model = adapted(tmp_path / "base")
    other = model.get_base_model().transformer.h[0].mlp.c_fc
    other.weight.data += 1e-6  # rounds to the same, and is not what the checkpoint has
    names = set(RestingBase(model, tmp_path / "base").layers)
    assert "transformer.h.1.mlp.c_fc" in names
    assert "transformer.h.0.mlp.c_fc" not in names


def test_a_checkpoint_is_asked_by_name_and_shape(tmp_path: Path) -> None:
    model = adapted(tmp_path / "base")
    file, lacking = tmp_path / "base/model.safetensors", "transformer.h.0.mlp.c_fc.weight"
    layers, known = resting_layers(model), tensors_at_hand(Model(name=str(tmp_path / "base")))
    assert known is not None
    assert stored_layers(layers, known).keys() == layers.keys()
    tensors = load_file(file)
    for held in ({lacking: tensors[lacking].T.contiguous()}, {}):
        save_file({name: tensor for name, tensor in tensors.items() if name != lacking} | held, file)
        known = checkpoint_tensors(tmp_path / "base")
        found = {own_name(name) for name in stored_layers(layers, known)}
        assert (
            found
            == set(RestingBase(model, tmp_path / "base").layers)
            == {own_name(name) for name in layers} - {lacking[:-7]}
        )


def test_weights_that_are_not_all_there_are_not_at_hand(tmp_path: Path) -> None:
    adapted(tmp_path)
    block = Model(name=str(tmp_path))
    file = tmp_path / "model.safetensors"
    index = {"weight_map": dict.fromkeys(load_file(file), "model-00001-of-00002.safetensors")}
    file.unlink()
    assert tensors_at_hand(block) is None
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert tensors_at_hand(block) is None
    (tmp_path / "model.safetensors.index.json").unlink()
    (tmp_path / "pytorch_model.bin").touch()
    assert tensors_at_hand(block) == {}


def test_a_model_that_does_not_bear_it_trains_without(
    recipe: RecipeMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def without_autocast(layer: Any, inputs: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", enabled=False):
            return torch.nn.functional.linear(inputs.float(), layer.weight, layer.bias)

    monkeypatch.setattr("torch.nn.Linear.forward", without_autocast)
    parts = build(recipe("lora", training={"bf16": True}), tmp_path / "out", [])
    assert parts.trainer.resting is None
    assert {weight.dtype for weight in parts.model.parameters()} == {torch.float32}
