"""What is said of a value of the wrong kind: one line in a person's words, for every key of the schema.

Kind: names from the inside of the library that checks (`evaluation.general_text.str`, `literal[False]`, "Input should be").
"""

import copy
import math
import re
from typing import Any

import pytest

from ftkit.errors import RecipeError
from ftkit.recipe.blocks import BLOCKS, INNER_BLOCKS, STRATEGY_CLASSES
from ftkit.recipe.load import load_values
from ftkit.recipe.schema import Recipe

BASE: dict[str, Any] = {
    "task": "text-classification",
    "model": {"name": "m"},
    "strategy": {"name": "lora"},
    "data": {"train": {"path": "a.csv"}},
}
VALUES: list[Any] = [True, -7, 1.5, "word", "", None, [], [1], ["a"], [{"a": 1}], {}, {"a": 1}, {1: 2}, {"a": [1]}, math.nan]
KEYS = [
    *((name,) for name in Recipe.model_fields),
    *((block, name) for block, model in BLOCKS.items() for name in model.model_fields),
    *((*block, name) for block, model in INNER_BLOCKS.items() for name in model.model_fields),
]
STRATEGIES = [(strategy, name) for strategy, model in STRATEGY_CLASSES.items() for name in model.model_fields]
INNER = re.compile(
    r"Input|should|valid (boolean|string|integer|number)|literal|pydantic|validator|\b[a-z]+_type\b|greater than"
)
PLACE = re.compile(r"\.(str|int|float|bool|list|dict|none|nullable|tagged-union|union|function[-\w]*)\b|\[")


def mistakes_of(values: dict[str, Any]) -> list[Any]:
    try:
        load_values(values)
    except RecipeError as error:
        return error.mistakes
    return []


def with_value(path: tuple[Any, ...], value: Any, strategy: str = "lora") -> dict[str, Any]:
    values = copy.deepcopy(BASE) | {"strategy": {"name": strategy}}
    block = values
    for part in path[:-1]:
        block = block.setdefault(part, {})
    block[path[-1]] = value
    return values


def test_no_wrong_value_of_any_key_is_explained_in_the_librarys_words() -> None:
    recipes = [with_value(path, value) for path in KEYS for value in VALUES]
    recipes += [with_value(("strategy", name), value, strategy) for strategy, name in STRATEGIES for value in VALUES]
    refused = 0
    for values in recipes:
        for mistake in mistakes_of(values):
            refused += 1
            rule, _, got = mistake.message.partition(", not ")  # what was got is the user's own
            assert not INNER.search(rule.partition(": ")[2] or rule), (mistake, values)
            assert not PLACE.search(rule.partition(": ")[0]), (mistake, values)
            assert "\n" not in mistake.message
            assert rule.strip(), (mistake, values)
            assert not got or len(got) < 120
    assert refused > 2000


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (("evaluation", "general_text"), 3, "evaluation.general_text: must be text or false, not 3"),
        (("evaluation", "general_text"), True, "evaluation.general_text: must be text or false, not true"),
        (("evaluation", "general_text"), ["a"], "evaluation.general_text: must be text or false, not ['a']"),
        (("data", "eval_size"), "many", "data.eval_size: must be a number, not 'many'"),
        (("training", "num_train_epochs"), "three", "training.num_train_epochs: must be a number, not 'three'"),
        (("data", "clean", "min_characters"), 0, "data.clean.min_characters: must be at least 1, not 0"),
        (("data", "train", "separator"), "tab", "data.train.separator: must have no more characters than 1, not 'tab'"),
    ],
)
def test_a_value_of_several_kinds_is_explained_in_one_line(path: tuple[str, ...], value: Any, said: str) -> None:
    assert said in [str(mistake).removeprefix("recipe: ") for mistake in mistakes_of(with_value(path, value))]
