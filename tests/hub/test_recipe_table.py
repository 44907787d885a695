"""The table of the packaged recipes on a hub: a new recipe cannot be forgotten, and none is known to be wrong."""

import csv
from pathlib import Path

import pytest

from ftkit.hub.names import hub_names
from ftkit.recipe.load import load_recipe
from ftkit.recipe.packaged import packaged_recipes
from tests.hub.packaged import MODELS
from tests.hub.packaged_rows import data_sets
from tests.hub.recipes import STATES

TABLE = Path(__file__).with_name("recipes.csv")
KNOWN = {"model": [*MODELS], "dataset": [*data_sets(6), "leondz/wnut_17"]}


def test_every_recipe_is_right_in_every_state() -> None:
    rows = {(row["recipe"], row["state"]): row["result"] for row in csv.DictReader(TABLE.open())}
    assert rows == {(name, state): "right" for name in packaged_recipes() for state in STATES}


@pytest.mark.parametrize("path", packaged_recipes().values(), ids=list(packaged_recipes()))
def test_all_that_a_recipe_names_is_published(path: Path) -> None:
    assert all(repository.name in KNOWN[repository.kind] for repository in hub_names(load_recipe(path)))
