"""Every recipe in recipes/ runs end to end on a stand-in, and its closing table shows learning."""

import json
from pathlib import Path
from typing import Any

import pytest

from ftkit import load_recipe, train

RECIPES = sorted((Path(__file__).parent.parent.parent / "recipes").glob("*.yaml"))
# What the tuned stand-in reaches at least (a loss: at most), being better than before.
LEARNT = {
    "text-classification": ("accuracy", 0.6),  # a coin: 0.5
    "text-regression": ("pearson", 0.5),
    "token-classification": ("f1", 0.5),
    "summarization": ("rouge1", 0.5),
    "instruction": ("rougeL", 0.45),
    "language-modeling": ("loss", 3.0),
}


FAST = ("lora_distilbert",)  # `make test-slow` runs the others
# Of models of other types, on code that those above go through to the end: fewer steps, all slow, and what they reach.
SHORT = {
    "lora_smollm2_chat": ("loss", 3.0),
    "qlora_qwen3_instruction": ("loss", 3.0),
    "full_modernbert": ("accuracy", 0.6),
    "full_deberta_v3_pairs": ("accuracy", 0.6),
    "full_flan_t5_summarization": ("rouge1", 0.25),
    "lora_xlm_roberta_languages": ("accuracy", 0.6),
}


def marked(path: Path) -> Any:
    return pytest.param(path, marks=pytest.mark.slow if path.stem not in FAST else (), id=path.stem)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("path", [marked(path) for path in RECIPES])
def test_a_recipe_smoke_runs_and_learns(path: Path, tmp_path: Path) -> None:
    recipe = load_recipe(path, ["training.max_steps=80"] if path.stem in SHORT else [])
    result = train(recipe, output_dir=tmp_path / "run", smoke=True)
    metric, level = SHORT.get(path.stem, LEARNT[recipe.task])
    before, after = result.metrics["baseline"][metric], result.metrics["tuned"][metric]
    assert after < min(before, level) if metric == "loss" else after > max(before, level)
    assert load_recipe(result.folder / "recipe.yaml").strategy.name == recipe.strategy.name
    if recipe.task == "instruction" and path.stem not in SHORT:
        rows = [json.loads(line) for line in (result.folder / "predictions.jsonl").read_text().splitlines()]
        generated = [row for row in rows if row["tuned"].get("generated") is not None]
        passive = [row for row in generated if "passive" in row["prompt"] and " by " in row["target"]]
        ends = {row["target"].rpartition(" by ")[2] for row in passive}
        for model, learnt in (("baseline", False), ("tuned", True)):
            said = [row[model]["generated"].partition(" by ")[2] in ends for row in passive]
            assert (sum(said) > len(passive) / 2) is learnt, model
