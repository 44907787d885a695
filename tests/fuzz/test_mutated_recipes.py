"""The kind: a recipe that the loader takes and a library does not, which ends in a traceback. `mutated.py` has thousands."""

import ast
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSequenceClassification
from transformers.training_args import trainer_log_levels

from ftkit.errors import RecipeError, UserError
from ftkit.models.strategies.lora import LoraStrategy
from ftkit.recipe.fields import LOG_LEVELS, OWNED_LORA, OWNED_TRAINING, library_fields
from ftkit.recipe.load import load_recipe, load_values
from ftkit.recipe.schema import Recipe
from ftkit.training.arguments import training_arguments
from tests.fuzz.mutated import cases
from tests.fuzz.mutations import Fiend, sound_recipes

ROOT = Path(__file__).parents[2]


def test_mutated_files_are_loaded_or_refused_by_words(tmp_path: Path) -> None:
    """Whatever stands in the file, the loader has a line for each mistake."""
    recipes, refused = sound_recipes(tmp_path), 0
    for number, data in cases(recipes, 11, "check", tmp_path, None, 150):
        (tmp_path / "r.yaml").write_bytes(data)
        try:
            load_recipe(tmp_path / "r.yaml")
        except UserError as error:
            refused += 1
            assert str(error).strip(), number  # noqa: PT017 some are sound
    assert 50 < refused < 150


def test_a_case_follows_from_its_number_alone(tmp_path: Path) -> None:
    recipes = sound_recipes(tmp_path)
    in_turn = dict(cases(recipes, 3, "check", tmp_path, None, 40))
    assert len(set(in_turn.values())) > 30
    assert all(dict(cases(recipes, 3, "check", tmp_path, number, 0)) == {number: in_turn[number]} for number in (0, 7, 39))


def drawn(block: str, key: str, folder: Path, count: int) -> list[Any]:
    """Values that fit the key's type, each once."""
    found = [Fiend(seed, folder).fitting((block, key)) for seed in range(count)]
    return [value for place, value in enumerate(found) if repr(value) not in map(repr, found[:place])]


@pytest.mark.parametrize("key", [key for key in library_fields()["training"] if key not in OWNED_TRAINING])
def test_the_arguments_are_made_or_refused_by_the_key(key: str, recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    values = recipe().model_dump(exclude_unset=True)
    for value in drawn("training", key, tmp_path, 8):
        try:
            made = load_values(values | {"training": values["training"] | {key: value}})
            training_arguments(made.training, tmp_path / "o", made.spec.metrics)
        except RecipeError:
            continue
        except UserError as error:
            assert error.key == f"training.{key}", value  # noqa: PT017 some are sound


@pytest.fixture(scope="module")
def model_of(stand_in: Callable[[str], Path]) -> Callable[[], Any]:
    def make() -> Any:
        torch.manual_seed(0)
        return AutoModelForSequenceClassification.from_pretrained(stand_in("distilbert"))

    return make


@pytest.mark.parametrize("key", [key for key in library_fields()["lora"] if key not in OWNED_LORA])
def test_an_adapter_is_made_or_refused_by_the_key(
    key: str, recipe: Callable[..., Recipe], model_of: Callable[[], Any], tmp_path: Path
) -> None:
    values = recipe("lora").model_dump(exclude_unset=True)
    for value in drawn("strategy", key, tmp_path, 8):
        try:
            made = load_values(values | {"strategy": values["strategy"] | {key: value}})
            LoraStrategy().apply(
                model_of(), made.strategy, ("pre_classifier", "classifier"), AutoModelForSequenceClassification
            )
        except RecipeError:
            continue
        except UserError as error:
            assert error.key in (f"strategy.{key}", "strategy"), value  # noqa: PT017 some are sound


def test_log_levels_are_those_of_the_library() -> None:
    assert set(LOG_LEVELS) == set(trainer_log_levels)


@pytest.mark.slow
@pytest.mark.parametrize(("command", "count"), [("check", 100), ("train", 15)])
def test_mutated_recipes_end_in_words(command: str, count: int) -> None:
    """Whole commands, forked from a process that has run no other test; `python -m tests.fuzz.mutated` runs more."""
    words = ["-m", "tests.fuzz.mutated", "--command", command, "--cases", str(count), "--seed", "1"]
    done = subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = ast.literal_eval(done.stdout[done.stdout.index("{") : done.stdout.index("}") + 1])
    assert sum(found.values()) == count
    assert found["refused"] > count // 5
    assert found["sound"] > 0
