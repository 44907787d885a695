"""A recipe on few of its rows, for a first try."""

from typing import Any

from ftkit.errors import UserError
from ftkit.recipe.schema import Recipe

LEAST = 4
MOST_HELD_OUT = 0.2


def require_limit(rows: int | None) -> None:
    """Raises UserError where so few rows cannot be trained on and measured."""
    if rows is not None and rows < LEAST:
        raise UserError(f"{rows} rows are too few to train on and to measure", f"give {LEAST} or more", "--limit")


def limited(recipe: Recipe, rows: int | None) -> Recipe:
    """The recipe with at most so many training rows, drawn with data.seed, and no more eval rows than that.

    Raises:
        UserError: these are too few to train on and to measure.
    """
    if rows is None:
        return recipe
    require_limit(rows)
    data, sources = recipe.data, recipe.data.train
    share = max(1, rows // len(sources))
    few = [source.model_copy(update={"rows": min(share, source.rows or share)}) for source in sources]
    changed: dict[str, Any] = {"train": few}
    for key in ("eval_size", "test_size"):
        size = getattr(data, key)
        if key in data.model_fields_set and size is not None and size >= 1 and size > MOST_HELD_OUT * rows:
            changed[key] = max(1, int(MOST_HELD_OUT * rows))
    measured = min(rows, recipe.evaluation.rows or rows)
    return recipe.model_copy(
        update={
            "data": data.model_copy(update=changed),
            "evaluation": recipe.evaluation.model_copy(update={"rows": measured}),
        }
    )
