"""Merged and exported models are what was trained, and are refused where they are not."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from ftkit import Recipe, Unverified, UserError, evaluate, train
from ftkit.delivery.export import export
from ftkit.delivery.merge import merge

RecipeMaker = Callable[..., Recipe]
NO_TEXT = {"evaluation": {"generation": {"rows": 0}}}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "lora encoder": ("lora", {}),
    "lora gpt2": ("lora", {"task": "instruction", **NO_TEXT}),
    "qlora encoder": ("qlora", {}),
    "qlora gpt2": ("qlora", {"task": "instruction", **NO_TEXT}),
    "qlora llama": ("qlora", {"task": "instruction", "kind": "llama", **NO_TEXT}),
}
FASTER = {"training": {"learning_rate": 1e-2, "max_steps": 12}}

QUICK = ("lora encoder", "qlora gpt2")  # the others are slow together


@pytest.mark.parametrize("name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in CASES])
@pytest.mark.slow
def test_a_merged_model_is_adapter_and_base(verified_recipe: RecipeMaker, tmp_path: Path, name: str) -> None:
    strategy, blocks = CASES[name]
    folder = train(verified_recipe(strategy, **blocks, **FASTER), output_dir=tmp_path / "run").folder
    found = merge(folder, tmp_path / "merged")
    assert found.rows == 20
    assert found.change is not None
    assert found.change > 5 * found.largest
    assert found.agreement > 0.9
    if strategy == "lora":
        assert found.largest < 1e-4
        assert found.agreement == 1
    names = {path.name for path in (tmp_path / "merged").iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "README.md"} <= names
    assert ("prompt_template.json" in names) == ("task" in blocks)
    auto_class = AutoModelForCausalLM if "task" in blocks else AutoModelForSequenceClassification
    model, info = auto_class.from_pretrained(tmp_path / "merged", output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    assert model.dtype == (torch.bfloat16 if strategy == "qlora" else torch.float32)
    assert "quantization_config" not in json.loads((tmp_path / "merged/config.json").read_text(encoding="utf-8"))
    AutoTokenizer.from_pretrained(tmp_path / "merged")
    assert not list(tmp_path.glob(".merged*"))


@pytest.mark.slow
def test_a_merged_classifier_has_the_runs_figures(verified_recipe: RecipeMaker, tmp_path: Path) -> None:
    made = verified_recipe("lora", training={"bf16": False})
    result = train(made, output_dir=tmp_path / "run")
    merge(result.folder, tmp_path / "merged", dtype="float32")
    assert evaluate(tmp_path / "merged", recipe=result.folder / "recipe.yaml").metrics == result.metrics["tuned"]


@pytest.mark.slow
def test_an_adapter_that_changes_nothing_is_not_merged(verified_recipe: RecipeMaker, tmp_path: Path) -> None:
    folder = train(verified_recipe("lora", task="instruction", **NO_TEXT), output_dir=tmp_path / "run").folder
    file = folder / "model/adapter_model.safetensors"
    save_file({name: torch.zeros_like(tensor) for name, tensor in load_file(file).items()}, file, metadata={"format": "pt"})
    with pytest.raises(Unverified, match="no nearer to the trained model than the base is"):
        merge(folder, tmp_path / "merged")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run"]


@pytest.mark.slow
def test_what_cannot_be_merged_is_one_line(verified_recipe: RecipeMaker, tmp_path: Path) -> None:
    folder = train(verified_recipe("full"), output_dir=tmp_path / "run").folder
    with pytest.raises(UserError, match="the run has no adapter; its model is whole already"):
        merge(folder, tmp_path / "merged")
    with pytest.raises(UserError, match="no finished run"):
        merge(tmp_path / "none", tmp_path / "merged")
    with pytest.raises(UserError, match="exists"):
        export(folder, folder, kind="safetensors")
    with pytest.raises(UserError, match="no format 'pickle'"):
        export(folder, tmp_path / "out", kind="pickle")
    with pytest.raises(UserError, match=r"convert_hf_to_gguf.py .* from a checkout of llama.cpp"):
        export(folder, tmp_path / "out", kind="gguf")
    found = export(folder, tmp_path / "copy", kind="safetensors")
    assert found.largest == 0
    assert (tmp_path / "copy/README.md").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["full encoder", "lora bert", "lora gpt2", "full llama"])
def test_an_onnx_file_computes_as_the_model(verified_recipe: RecipeMaker, tmp_path: Path, name: str) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    strategy, blocks = {
        "full encoder": ("full", {}),
        "lora bert": ("lora", {"kind": "bert"}),
        "lora gpt2": ("lora", {"task": "instruction", **NO_TEXT}),
        "full llama": ("full", {"task": "instruction", "kind": "llama", **NO_TEXT}),
    }[name]
    folder = train(verified_recipe(strategy, **blocks), output_dir=tmp_path / "run").folder
    found = export(folder, tmp_path / "onnx", kind="onnx")
    assert found.rows == 20
    assert found.largest < 1e-4
    assert found.agreement == 1
    assert {"model.onnx", "config.json", "tokenizer.json", "README.md"} <= {p.name for p in (tmp_path / "onnx").iterdir()}
