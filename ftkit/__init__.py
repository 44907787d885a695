"""ftkit: one YAML recipe, one command, one finished fine-tuning run.

    from ftkit import load_recipe, train, evaluate

    result = train(load_recipe("recipes/lora_distilbert.yaml", ["training.num_train_epochs=1"]))  # or a dictionary
    print(result.metrics["tuned"])           # or, as the command does: rich.print(result.table())

Names are imported when they are first used, so that checking a recipe loads neither torch nor transformers.
"""

import importlib
from typing import TYPE_CHECKING, Any

from ftkit.process import prepare_process

if TYPE_CHECKING:
    from ftkit.api import Result, benchmark, check, compare, evaluate, plan, predict, preview, rerun, train, verify
    from ftkit.errors import Diverged, FtkitError, Interrupted, NotReproduced, RecipeError, Unverified, UserError
    from ftkit.metrics.modules import load_metric, metric_names
    from ftkit.recipe.load import load_recipe
    from ftkit.recipe.schema import Recipe

prepare_process()

__version__ = "0.1.0"
__all__ = [
    "Diverged",
    "FtkitError",
    "Interrupted",
    "NotReproduced",
    "Recipe",
    "RecipeError",
    "Result",
    "Unverified",
    "UserError",
    "benchmark",
    "check",
    "compare",
    "evaluate",
    "load_metric",
    "load_recipe",
    "metric_names",
    "plan",
    "predict",
    "preview",
    "rerun",
    "train",
    "verify",
]
_HOMES = {
    "ftkit.api": (
        "Result",
        "benchmark",
        "check",
        "compare",
        "evaluate",
        "plan",
        "predict",
        "preview",
        "rerun",
        "train",
        "verify",
    ),
    "ftkit.errors": ("Diverged", "FtkitError", "Interrupted", "NotReproduced", "RecipeError", "Unverified", "UserError"),
    "ftkit.metrics.modules": ("load_metric", "metric_names"),
    "ftkit.recipe.load": ("load_recipe",),
    "ftkit.recipe.schema": ("Recipe",),
}


def __dir__() -> list[str]:
    return [*__all__, "__version__"]


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(module), name)
    raise AttributeError(f"module 'ftkit' has no attribute '{name}'")
