"""Which tensors each strategy moves, and which it leaves as they were, those under adapters included."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from ftkit.errors import UserError
from ftkit.models.precision import product_dtype
from ftkit.recipe.schema import Recipe
from ftkit.training.dispatcher import Parts, build

RecipeMaker = Callable[..., Recipe]


def snapshot(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items() if isinstance(tensor, torch.Tensor)}


def train_and_compare(recipe: Recipe, folder: Path) -> tuple[Parts, set[str], set[str]]:
    """Names of the tensors that moved, and of those that did not."""
    parts = build(recipe, folder / "out", [])
    before = snapshot(parts.model)
    parts.trainer.train()
    after = snapshot(parts.model)
    assert before.keys() == after.keys()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    return parts, moved, before.keys() - moved


def test_full_moves_every_weight(recipe: RecipeMaker, tmp_path: Path) -> None:
    _, moved, still = train_and_compare(recipe("full"), tmp_path)
    assert {name for name in still if not name.endswith("k_lin.bias")} == set()  # softmax cancels a key's bias
    assert len(moved) > 30


def test_transfer_moves_the_head_alone(recipe: RecipeMaker, tmp_path: Path) -> None:
    _, moved, still = train_and_compare(recipe("transfer"), tmp_path)
    assert moved == {"pre_classifier.weight", "pre_classifier.bias", "classifier.weight", "classifier.bias"}
    assert all(name.startswith("distilbert.") for name in still)


def test_transfer_keeps_the_body_in_eval_mode_while_the_head_trains(recipe: RecipeMaker, tmp_path: Path) -> None:
    parts = build(recipe("transfer"), tmp_path / "out", [])
    seen: list[tuple[bool, bool]] = []
    parts.model.classifier.register_forward_hook(
        lambda module, *_: seen.append((module.training, any(m.training for m in parts.model.distilbert.modules())))
    )
    parts.trainer.train()
    assert set(seen[:4]) == {(True, False)}


def test_transfer_can_unfreeze_the_last_blocks(recipe: RecipeMaker, tmp_path: Path) -> None:
    _, moved, _ = train_and_compare(recipe({"name": "transfer", "unfreeze_last": 1}), tmp_path)
    assert any(name.startswith("distilbert.transformer.layer.1.") for name in moved)
    assert all(not name.startswith(("distilbert.transformer.layer.0.", "distilbert.embeddings")) for name in moved)
    with pytest.raises(UserError, match="unfreeze_last 3 is more than the 2 blocks"):
        build(recipe({"name": "transfer", "unfreeze_last": 3}), tmp_path / "out", [])


@pytest.mark.parametrize("strategy", ["lora", "qlora"])
def test_adapters_and_head_move_and_the_base_under_them_does_not(recipe: RecipeMaker, tmp_path: Path, strategy: str) -> None:
    _, moved, still = train_and_compare(recipe(strategy), tmp_path)
    assert {name.split(".")[-3] for name in moved if "lora_" in name} == {"lora_A", "lora_B"}
    assert {name for name in moved if "lora_" not in name} == {
        f"base_model.model.{head}.modules_to_save.default.{part}"
        for head in ("pre_classifier", "classifier")
        for part in ("weight", "bias")
    }
    assert any("q_lin.base_layer.weight" in name for name in still)
    assert any("classifier.original_module.weight" in name for name in still)


def test_adapters_of_a_decoder_move_alone(recipe: RecipeMaker, tmp_path: Path) -> None:
    _, moved, still = train_and_compare(recipe("lora", task="instruction"), tmp_path)
    assert moved
    assert all("lora_" in name for name in moved)
    assert any("c_attn.base_layer.weight" in name for name in still)


@pytest.mark.parametrize("field", ["use_dora", "use_rslora"])
def test_variants_of_lora_train(recipe: RecipeMaker, tmp_path: Path, field: str) -> None:
    parts, moved, _ = train_and_compare(recipe({"name": "lora", field: True}), tmp_path)
    assert getattr(parts.model.peft_config["default"], field) is True
    assert any("lora_B" in name for name in moved)
    assert field != "use_dora" or any("lora_magnitude_vector" in name for name in moved)


def test_a_qlora_base_is_really_4_bit(recipe: RecipeMaker, tmp_path: Path) -> None:
    bnb = pytest.importorskip("bitsandbytes")
    model = build(recipe("qlora"), tmp_path / "out", []).model
    packed = [module for module in model.modules() if isinstance(module, bnb.nn.Linear4bit)]
    assert len(packed) == 12  # six linear layers in each of two blocks
    assert {module.weight.dtype for module in packed} == {torch.uint8}
    states = [module.weight.quant_state for module in packed]
    assert {state.quant_type for state in states} == {"nf4"}
    assert all(state.nested for state in states)
    assert {module.compute_dtype for module in packed} == {product_dtype()}


@pytest.mark.parametrize(("bf16", "dtype"), [(True, torch.bfloat16), (False, torch.float32)])
def test_4_bit_weights_are_multiplied_in_what_the_machine_has(
    recipe: RecipeMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bf16: bool, dtype: torch.dtype
) -> None:
    bnb = pytest.importorskip("bitsandbytes")
    monkeypatch.setattr("ftkit.models.precision.has_bf16", lambda: bf16)
    model = build(recipe("qlora"), tmp_path / "out", []).model
    assert {module.compute_dtype for module in model.modules() if isinstance(module, bnb.nn.Linear4bit)} == {dtype}


def test_lora_on_a_word_that_also_names_a_layer_of_the_head(recipe: RecipeMaker, tmp_path: Path) -> None:
    model = build(recipe({"name": "lora", "target_modules": ["dense"]}, kind="bert"), tmp_path / "out", []).model
    adapted = [name for name, _ in model.named_parameters() if "lora_A" in name]
    assert adapted
    assert not any("pooler" in name for name in adapted)
    assert any("pooler.modules_to_save" in name and p.requires_grad for name, p in model.named_parameters())


@pytest.mark.parametrize(
    "block", [{"name": "lora", "target_modules": None}, {"name": "lora", "init_lora_weights": "nonsense"}]
)
def test_what_peft_refuses_is_one_line(recipe: RecipeMaker, tmp_path: Path, block: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="peft:"):
        build(recipe(block), tmp_path / "out", [])


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"modules_to_save": ["clasifier"]}, "modules_to_save: 'clasifier' matches no module; did you mean classifier"),
        ({"exclude_modules": ["v_linn"]}, "exclude_modules: 'v_linn' matches no module; did you mean v_lin"),
        ({"exclude_modules": "("}, r"exclude_modules: '\(' is no pattern"),
        ({"rank_pattern": {"k_linn": 4}}, "rank_pattern: 'k_linn' matches no module; did you mean k_lin"),
        ({"trainable_token_indices": [999_999]}, "trainable_token_indices: 999999 is no token"),
    ],
)
def test_a_name_that_the_model_does_not_have_is_refused(
    recipe: RecipeMaker, tmp_path: Path, keys: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        build(recipe({"name": "lora", **keys}), tmp_path / "out", [])
