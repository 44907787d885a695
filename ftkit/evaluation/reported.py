"""The losses that a run reports, held against what plain transformers says of the same rows by the saved model."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from transformers import EvalPrediction

from ftkit.evaluation.measure import Outputs, load_outputs, scores_of
from ftkit.models.load import load_config
from ftkit.reading import read_object
from ftkit.recipe.schema import Recipe
from ftkit.run import METRICS, Run
from ftkit.tasks.base import Task
from ftkit.tasks.table import TASKS

# How far a reported loss may be from plain transformers', as a share of the loss, or of 1 where that is less. In float32
# only the order of sums differs; where the one or the other was computed in half precision or TF32, a row's logits keep 2
# to 3 digits, an expert may be another, and what the rows differ by is averaged out over them.
TOLERANCE = 1e-4
COARSE_ROW_TOLERANCE, COARSE_TOLERANCE = 1 / 8, 1 / 32
PADDING_FACTOR = 4  # a row is measured beside longer ones than the padding that was tried
CLOSE = 1e-6  # of metrics.json and the arrays that it was computed from, relative


@dataclass(frozen=True)
class Measured:
    """What a run measured of the tuned model: outputs/tuned.npz, from which the figures of its report follow.

    Attributes:
        rows: which of the eval rows each entry of the prediction is of.
    """

    task: Task
    prediction: EvalPrediction
    rows: list[int]

    def losses(self, entries: list[int]) -> tuple[np.ndarray, float]:
        """The loss of each of these eval rows, shape (rows,), and over them, each as the report's follows from all rows.

        Raises:
            IndexError: it holds fewer rows.
        """
        some = EvalPrediction(self.prediction.predictions[entries], self.prediction.label_ids[entries])
        loss = self.task.resamplers(self.task.as_saved(some))[self.task.own_loss]
        return loss.compute(np.eye(loss.rows)), loss.value()

    def units(self, entries: list[int], losses: np.ndarray) -> np.ndarray:
        """What rounding is a share of, for the loss of each of these rows: the loss, or 1 where that is less.

        A squared error changes by twice the error times what the prediction, however large, is rounded by.
        """
        units = np.maximum(1.0, np.abs(losses))
        if self.prediction.label_ids.ndim > 1 or self.prediction.predictions.shape[1:] != (1,):
            return units
        sizes = np.abs(self.task.as_saved(self.prediction).predictions[entries, 0].astype(np.float64))
        return np.maximum(units, 2 * sizes * np.sqrt(np.abs(losses)))


def read_measured(run: Run, recipe: Recipe) -> Measured | None:
    """What a finished run measured; None where outputs/ is gone.

    Raises:
        UserError: the file cannot be read, or the config of the model.
    """
    file, task = run.outputs / "tuned.npz", TASKS[recipe.task](recipe.data)
    if not file.is_file():
        return None
    task.recall(load_config(recipe.model.model_copy(update={"name": str(run.model), "revision": None}), {}))
    return as_measured(task, load_outputs(file))


def as_measured(task: Task, outputs: Outputs) -> Measured:
    return Measured(task, outputs.prediction, outputs.rows)


def figure_failures(run: Run, recipe: Recipe, measured: Measured) -> list[str]:
    """Whether the figures in metrics.json are those of outputs/tuned.npz; a metric of the user's may have their names."""
    if recipe.evaluation.metric_file is not None:
        return []
    shown = read_object(run.metrics_file, METRICS, METRICS)["tuned"]
    found = scores_of(measured.task, measured.task.merge(measured.prediction, measured.rows)[0])
    return [
        f"{run.metrics_file} reports {name} {shown[name]:.6g}, {run.outputs / 'tuned.npz'} has {value:.6g}: one of them was "
        "changed since the run"
        for name, value in found.items()
        if isinstance(shown.get(name), int | float) and not math.isclose(shown[name], value, rel_tol=CLOSE, abs_tol=CLOSE)
    ]


@dataclass(frozen=True)
class Pair:
    """A loss by plain transformers, and as the run reports it.

    Attributes:
        unit: what rounding is a share of.
    """

    plain: float
    reported: float
    unit: float

    @property
    def share(self) -> float:
        """Their difference, as a share of the unit; infinite where one is no number."""
        found = abs(self.plain - self.reported) / self.unit
        return found if math.isfinite(found) else math.inf


@dataclass(frozen=True)
class LossCheck:
    """The reported loss of some eval rows beside that of the saved model in plain transformers.

    Attributes:
        over_rows: as the report's loss follows from all rows.
        of_row: of the row whose two losses differ most; `row` says which of the eval rows that is, counted from 1.
        padding: by what share padding alone changes a row's loss in plain transformers.
        coarse: not all of it was computed in float32.
    """

    rows: int
    over_rows: Pair
    of_row: Pair
    row: int
    padding: float
    coarse: bool

    def words(self) -> str:
        """What was found, where it is good."""
        padded = f"; padding alone changes a row's loss by {self.padding:.1g} in this model" if self._pads else ""
        shares = f"as reported to {self.over_rows.share:.1g}, row by row to {self.of_row.share:.1g}"
        return f"{self.over_rows.plain:.4f} over {self.rows} rows by plain transformers, {shares}{padded}"

    @property
    def _pads(self) -> bool:
        return self.padding > (COARSE_ROW_TOLERANCE if self.coarse else TOLERANCE)

    def failures(self) -> list[str]:
        """What speaks against the reported loss, in one line; none where nothing does."""
        spread = PADDING_FACTOR * self.padding  # the run measured its rows in batches
        of_row, over_rows = (COARSE_ROW_TOLERANCE, COARSE_TOLERANCE) if self.coarse else (TOLERANCE, TOLERANCE)
        for pair, where, allowed in (
            (self.over_rows, f"over {self.rows} rows", over_rows + spread),
            (self.of_row, f"of eval row {self.row}", of_row + spread),
        ):
            if not pair.share <= allowed:
                return [
                    f"the reported eval loss is not the saved model's: {pair.reported:.6g} {where}, where plain "
                    f"transformers has {pair.plain:.6g} and rounding explains {allowed * pair.unit:.2g}; "
                    "what was measured is wrong, or of another model"
                ]
        return []


def check_losses(measured: Measured, facts: dict[str, Any], answer: dict[str, Any], *, coarse: bool) -> LossCheck | str:
    """Hold the reported losses against the new process's answer; or why that cannot be done, in one line.

    Args:
        facts: which `entries` of the eval rows were looked at, and of those the places of the `padded` ones.
        coarse: not all of it was computed in float32.
    """
    plain, counts, entries = np.array(answer["losses"]), np.array(answer["counts"]), facts["entries"]
    try:
        reported, over_rows = measured.losses(entries)
    except IndexError:
        return f"outputs/tuned.npz lacks eval row {max(entries) + 1}, it holds {len(measured.prediction.label_ids)}"
    plain = np.where(counts > 0, plain, reported)  # without a label that counts there is no loss
    units = measured.units(entries, plain)
    pairs = [Pair(*map(float, row)) for row in zip(plain, reported, units, strict=True)]
    worst = max(range(len(pairs)), key=lambda place: pairs[place].share)
    whole = Pair(weighted(plain, counts), over_rows, weighted(units, counts))
    padded = [
        Pair(pairs[place].plain, loss, pairs[place].unit).share
        for place, loss in zip(facts["padded"], answer["padded_losses"], strict=True)
        if math.isfinite(loss)  # what is no number explains none
    ]
    return LossCheck(len(pairs), whole, pairs[worst], measured.rows[entries[worst]] + 1, max(padded, default=0.0), coarse)


def weighted(values: np.ndarray, counts: np.ndarray) -> float:
    """The mean over all labels of what is a mean over each row's."""
    return float((values * counts).sum() / max(counts.sum(), 1))
