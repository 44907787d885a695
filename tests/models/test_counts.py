"""Published numbers of parameters, computed from the recipes without weights."""

from pathlib import Path

import pytest
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification

from ftkit.models.counts import count_from_config, count_parameters
from ftkit.recipe.load import load_recipe
from ftkit.training.dispatcher import build

RECIPES = Path(__file__).parent.parent.parent / "recipes"
# The library's default configs of these types are those of distilbert-base-uncased, Llama-2-7b and gpt2.
CONFIGS = {"distilbert": "distilbert", "llama2": "llama", "gpt2": "gpt2"}


def counts_of(name: str):
    recipe = load_recipe(RECIPES / f"{name}.yaml")
    kind = next(kind for word, kind in CONFIGS.items() if word in name)
    new_head = recipe.task == "text-classification"
    auto_class = AutoModelForSequenceClassification if new_head else AutoModelForCausalLM
    return count_from_config(auto_class, AutoConfig.for_model(kind), recipe.strategy, new_head=new_head)


def test_lora_distilbert_is_the_published_run() -> None:
    counts = counts_of("lora_distilbert")
    assert (counts.trainable, counts.total) == (628_994, 67_584_004)
    assert round(counts.trainable_percent, 4) == 0.9307


def test_qlora_llama2_is_the_published_run() -> None:
    counts = counts_of("qlora_llama2_summarization")
    assert (counts.trainable, counts.stored, counts.total) == (16_777_216, 3_517_190_144, 6_755_192_832)


@pytest.mark.parametrize(
    ("name", "trainable", "total"),
    [
        ("lora_llama2_summarization", 16_777_216, 6_755_192_832),
        ("full_distilbert", 66_955_010, 66_955_010),
        ("transfer_distilbert", 592_130, 66_955_010),
        ("gpt2_instruction", 124_439_808, 124_439_808),
        ("lora_gpt2_instruction", 2_359_296, 126_799_104),
    ],
)
def test_the_other_recipes(name: str, trainable: int, total: int) -> None:
    counts = counts_of(name)
    assert (counts.trainable, counts.total, counts.stored) == (trainable, total, total)


@pytest.mark.parametrize("strategy", ["full", "transfer", "lora", "qlora"])
def test_counts_without_weights_are_those_of_the_loaded_model(recipe, tmp_path: Path, strategy: str) -> None:
    made = recipe(strategy)
    parts = build(made, tmp_path / "out", [])
    config = AutoConfig.from_pretrained(made.model.name, **parts.task.config_values())
    assert count_from_config(AutoModelForSequenceClassification, config, made.strategy, new_head=True) == count_parameters(
        parts.model
    )
