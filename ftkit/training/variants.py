"""A recipe under other strategies, all else being equal: what `ftkit compare --strategies` runs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ftkit.errors import UserError
from ftkit.recipe.blocks import STRATEGY_CLASSES
from ftkit.recipe.load import load_recipe, load_values
from ftkit.recipe.schema import Recipe
from ftkit.recipe.tasks import STRATEGY_NAMES
from ftkit.run import resolved_values

# Where the recipe sets none for a strategy: a rate is made for one strategy, and adapters bear ten times that of full.
LEARNING_RATES = {"full": 5e-5, "transfer": 1e-3, "lora": 5e-4, "qlora": 5e-4}
ADAPTERS = ("lora", "qlora")  # strategies whose keys and rates are the same
TARGETS = "all-linear"  # where the recipe names no target_modules: peft knows the layers of some models only


def strategy_recipes(path: Path, strategies: Sequence[str], overrides: Sequence[str]) -> dict[str, Recipe]:
    """The recipe once a strategy, in the order named.

    A strategy keeps its own keys of the recipe, LoRA's being QLoRA's too; overrides of `strategy` go to those that have
    the key. The recipe's learning rate stays with its strategy, one given as an override holds for all.

    Raises:
        UserError: a strategy is unknown, or cannot be with the recipe's task.
        RecipeError: the recipe, or what becomes of it under a strategy, has mistakes.
    """
    require_strategies(strategies)
    common = [override for override in overrides if not override.startswith("strategy")]
    own = [override for override in overrides if override.startswith("strategy")]
    require_homes(own, strategies)
    recipe = load_recipe(path, common)
    if impossible := next((name for name in strategies if name not in recipe.spec.strategies), None):
        hint = f"possible are {', '.join(recipe.spec.strategies)}"
        raise UserError(f"strategy {impossible} cannot be with task {recipe.task}", hint, "--strategies")
    for_all = any(override.partition("=")[0].strip() == "training.learning_rate" for override in common)
    return {name: under(recipe, name, own, same_rate=for_all) for name in strategies}


def require_strategies(strategies: Sequence[str]) -> None:
    """Raises UserError where there are none, one is unknown, or one is named twice."""
    known = ", ".join(STRATEGY_NAMES)
    if unknown := [name for name in strategies if name not in STRATEGY_NAMES]:
        raise UserError(f"no strategy '{unknown[0]}'", f"there are {known}, with commas between them", "--strategies")
    if len(set(strategies)) < len(strategies):
        raise UserError("a strategy is named twice", "name each once", "--strategies")


def require_homes(overrides: Sequence[str], strategies: Sequence[str]) -> None:
    """Raises UserError where an override is of a key that none of the strategies has."""
    for override in overrides:
        key = key_of(override)
        if key in ("", "name"):
            raise UserError("the strategies are named by --strategies", "leave it out", override)
        if not any(key in STRATEGY_CLASSES[name].model_fields for name in strategies):
            raise UserError(f"'strategy.{key}' has no effect with {', '.join(strategies)}", "leave it out", override)


def key_of(override: str) -> str:
    """The key in the block of the strategy."""
    return override.partition("=")[0].strip().removeprefix("strategy").removeprefix(".").partition(".")[0]


def under(recipe: Recipe, name: str, overrides: Sequence[str], *, same_rate: bool) -> Recipe:
    """The recipe with another strategy, or its own."""
    values = resolved_values(recipe)
    fields = STRATEGY_CLASSES[name].model_fields
    kept = {key: value for key, value in values["strategy"].items() if key in fields and key != "name"}
    own = recipe.strategy.name in (name, "auto") or {name, recipe.strategy.name} <= set(ADAPTERS)
    values["strategy"] = block = {"name": name, **(kept if own else {})}
    if name in ADAPTERS:
        block.setdefault("target_modules", TARGETS)
    if not same_rate and not (own and "learning_rate" in recipe.training.model_fields_set):
        training: dict[str, Any] = values["training"]
        training["learning_rate"] = LEARNING_RATES[name]
    return load_values(values, f"{recipe.source} under {name}", [o for o in overrides if key_of(o) in fields])
