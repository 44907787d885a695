"""`per_device_train_batch_size: auto`: which batches there can be, the largest of them that fits, and the recipe with it."""

from collections.abc import Callable
from dataclasses import dataclass

from ftkit.errors import UserError
from ftkit.recipe.schema import Recipe
from ftkit.run import FINISHED, Run, resolved_values

EFFECTIVE = 32  # rows of a step where the recipe says none


@dataclass(frozen=True)
class BatchSize:
    """A batch that was found: rows of a step on all devices, rows that a device takes at a time, and how often."""

    effective: int
    rows: int
    accumulation: int

    def applied(self, recipe: Recipe) -> Recipe:
        """The recipe with these numbers in place of `auto`."""
        numbers = {
            "per_device_train_batch_size": self.rows, "gradient_accumulation_steps": self.accumulation,
            "effective_batch_size": None,
        }  # fmt: skip
        return recipe.model_copy(update={"training": recipe.training.model_copy(update=numbers)})


def effective_batch(recipe: Recipe) -> int:
    """Rows of a step as the recipe has them."""
    return int(recipe.training.effective_batch_size or EFFECTIVE)


def batch_sizes(effective: int, devices: int = 1) -> list[BatchSize]:
    """Every batch that gives a step so many rows, the largest first.

    Raises:
        UserError: the devices cannot share the rows of a step.
    """
    if effective % devices:
        message = f"{devices} devices cannot share {effective} rows of a step"
        raise UserError(message, f"take a multiple of {devices}", key="training.effective_batch_size")
    share = effective // devices
    return [BatchSize(effective, rows, share // rows) for rows in range(share, 0, -1) if share % rows == 0]


def row_by_row(recipe: Recipe) -> Recipe:
    """The recipe with the smallest batch where the batch is to be found, to build with; else as it is."""
    return batch_sizes(effective_batch(recipe))[-1].applied(recipe) if recipe.training.finds_batch else recipe


def in_one(recipe: Recipe) -> Recipe:
    """The recipe with the rows of a step in one batch where the batch is to be found; else as it is."""
    return batch_sizes(effective_batch(recipe))[0].applied(recipe) if recipe.training.finds_batch else recipe


def largest_fitting(sizes: list[BatchSize], fits: Callable[[BatchSize], bool]) -> BatchSize:
    """The first that fits, each asked in turn.

    Raises:
        UserError: not even the last does.
    """
    for size in sizes:
        if fits(size):
            return size
    raise UserError(
        "not even one row at a time fits into memory", "`ftkit plan RECIPE --vram GIB` says what would make it fit",
        key="training.per_device_train_batch_size",
    )  # fmt: skip


def known_batch(recipe: Recipe, run: Run, *, resume: bool) -> BatchSize | None:
    """What a run in the folder has found for this recipe: a run that goes on keeps it, one that replaces it too.

    None where the recipe is another one, or the batch was never trained with to the end and nothing is resumed.
    """
    found = run.record.get("batch_size")
    if not recipe.training.finds_batch or found is None:
        return None
    size = BatchSize(**found)
    if resume:
        return size if size.effective == effective_batch(recipe) else None
    same = resolved_values(run.read_recipe()) == resolved_values(size.applied(recipe))
    return size if same and run.state == FINISHED else None
