"""Which type a stand-in has: said by the recipe, or read off the model's name; for every recipe that comes with ftkit."""

from pathlib import Path

import pytest
from transformers import AutoConfig
from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

from ftkit import load_recipe, train
from ftkit.errors import UserError
from ftkit.models.standins import architecture_of, make_tokenizer, require_type
from ftkit.recipe.packaged import packaged_recipes
from ftkit.training.smoke import smoke_recipe

SIZES = ("small", "great", "señor", "tiny")
THINGS = ("fox", "house", "lamp")
WITHOUT_TYPE = "owner/some-words-42M-instruct"


@pytest.mark.parametrize("path", packaged_recipes().values(), ids=list(packaged_recipes()))
def test_a_packaged_recipe_tells_its_stand_in(path: Path) -> None:
    model = load_recipe(path).model
    assert (model.stand_in or architecture_of(model.name)) in CONFIG_MAPPING_NAMES


@pytest.mark.parametrize(
    ("kind", "hint"), [("lama", "did you mean llama?"), ("deberta-v3", "deberta-v2"), ("§", "model_type")]
)
def test_a_type_that_there_is_not_is_refused(kind: str, hint: str) -> None:
    with pytest.raises(UserError, match="no model of type") as refused:
        require_type(kind)
    assert hint in str(refused.value)


def test_the_recipe_decides_where_the_name_tells_none(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"model\.stand_in: llama"):
        architecture_of(WITHOUT_TYPE)
    recipe = load_recipe(packaged_recipes()["gpt2_domain"], [f"model.name={WITHOUT_TYPE}", "model.stand_in=lama"])
    with pytest.raises(UserError):  # an override of the name has no effect under --smoke
        smoke_recipe(recipe, train)
    named = load_recipe(packaged_recipes()["gpt2_domain"], ["model.stand_in=lama"])
    with pytest.raises(UserError, match="'lama'"):
        smoke_recipe(named, train)


# What a run draws from a hash or a clock is another run the next time: the demo's figures would not come again.
@pytest.mark.parametrize("kind", ["bert", "modernbert", "gpt2", "llama", "t5"])
def test_the_same_texts_make_the_same_tokenizer(kind: str) -> None:
    texts = [f"{size} {thing}s, über-{thing} of {size}{thing} 中文" for size in SIZES for thing in THINGS]
    made = [make_tokenizer(kind, AutoConfig.for_model(kind), texts)[0].backend_tokenizer.to_str() for _ in range(6)]
    assert len(set(made)) == 1
