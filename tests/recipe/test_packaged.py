"""Every recipe that comes with ftkit is sound and says how it is run."""

from pathlib import Path

import pytest

from ftkit.errors import UserError
from ftkit.recipe.load import load_recipe
from ftkit.recipe.packaged import find_packaged, packaged_recipes, summary

RECIPES = sorted((Path(__file__).parent.parent.parent / "recipes").glob("*.yaml"))


def test_there_are_recipes() -> None:
    assert {path.stem for path in RECIPES} == set(packaged_recipes())
    assert len(RECIPES) >= 9


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_is_sound_and_opens_with_how_to_run_it(path: Path) -> None:
    load_recipe(path)
    assert f"ftkit train recipes/{path.name} --smoke" in path.read_text()
    assert 20 < len(summary(path)) < 120


def test_an_unknown_recipe_names_the_nearest() -> None:
    with pytest.raises(UserError, match="did you mean lora_distilbert"):
        find_packaged("lora_distillbert")
