"""Our metrics in the interface of the `evaluate` package; its own `evaluate.load` by name needs the network.

    metric = ftkit.load_metric("f1")
    metric.compute(predictions=[0, 1, 1], references=[0, 1, 0])     # {"f1": 0.6666666666666666}

The figures are those of runs, by the same functions. This module is imported on first use, since importing `evaluate` takes
seconds.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import evaluate
import numpy as np
from datasets import Features, List, Value

from ftkit.data.encode import IGNORED
from ftkit.errors import UserError
from ftkit.metrics.classification import classification_metrics, label_metrics, label_set_metrics, multi_label_metrics
from ftkit.metrics.regression import regression_metrics
from ftkit.metrics.text import text_metric
from ftkit.metrics.tokens import token_metrics
from ftkit.recipe.hints import metric_hint
from ftkit.recipe.tasks import TASK_SPECS, TEXT_METRICS

NUMBER, WORDS = Value("float64"), Value("string")
BY_SCORE = ("roc_auc", "calibration_error", "loss")


@dataclass(frozen=True)
class Kind:
    """Metrics that take the same predictions.

    Attributes:
        takes: what is to be given, for the help.
        formats: types of predictions and references, the first that fits is taken.
        compute: the figures by name, from a metric's name, predictions, references and the caller's further arguments.
    """

    takes: str
    formats: tuple[tuple[Any, Any], ...]
    compute: Callable[..., dict[str, float]]


class RunMetric(evaluate.Metric):
    """One metric of a run.

    Args:
        name: as in a recipe's evaluation.metrics.
    """

    def __init__(self, name: str, kind: Kind) -> None:
        self.name_of_figure, self.kind = name, kind
        super().__init__(keep_in_memory=True)  # else what is compared would be written to the disk

    def _info(self) -> evaluate.MetricInfo:
        formats = [Features({"predictions": given, "references": wanted}) for given, wanted in self.kind.formats]
        return evaluate.MetricInfo(
            description=f"{self.name_of_figure}, as runs report it",
            citation="",
            inputs_description=self.kind.takes,
            features=formats if len(formats) > 1 else formats[0],
        )

    def _compute(self, predictions: list[Any], references: list[Any], **options: Any) -> dict[str, float]:
        """The figure by its name, NaN where it cannot be had, as the area where a label is absent."""
        found = self.kind.compute(self.name_of_figure, predictions, references, **options)
        return {self.name_of_figure: found.get(self.name_of_figure, math.nan)}


def load_metric(name: str, task: str | None = None) -> RunMetric:
    """A metric of runs as an `evaluate.Metric`: compute(predictions=…, references=…) gives its figure by its name.

    What it takes depends on the task, by default the first of `metric_names` that has it:

    - text-classification: label ids, or of several labels a row lists of 0 and 1. F1, precision and recall are those of
      label 1 where there are two labels, or of compute(pos_label=0), else the mean over the labels that occur; how many
      there are follows from the largest id, or is said by compute(num_labels=5).
      roc_auc, calibration_error and loss take the logits of a row's labels; the logarithms of probabilities are such.
    - text-regression: numbers.
    - token-classification: a row's tags as a list of words, such as B-person.
    - summarization, instruction: texts; references may be lists of several a row.

    Raises:
        UserError: there is no such metric, or the task has not.
    """
    if task is not None and task not in METRICS:
        raise UserError(f"no metrics of the task '{task}'", f"there are those of {', '.join(METRICS)}", "task")
    tables = [METRICS[task]] if task is not None else METRICS.values()
    for kinds in tables:
        if name in kinds:
            return RunMetric(name, kinds[name])
    known = list(dict.fromkeys(known for kinds in tables for known in kinds))
    raise UserError(f"no metric '{name}'", f"{metric_hint(name, known)}there are {', '.join(known)}", "name")


def metric_names() -> dict[str, list[str]]:
    """The names that `load_metric` knows, by task."""
    return {task: list(kinds) for task, kinds in METRICS.items()}


def of_labels(
    name: str, predictions: list[Any], references: list[Any], num_labels: int = 0, pos_label: int = 1
) -> dict[str, float]:
    given, wanted = whole_numbers(predictions, "predictions"), whole_numbers(references, "references")
    if wanted.ndim == 2:
        return label_set_metrics(given, wanted)
    count = max(num_labels, 2, 1 + int(max(given.max(), wanted.max())))
    if count == 2 and pos_label not in (0, 1):
        raise UserError(f"{pos_label} is none of two labels", "say 0 or 1", "pos_label")
    return label_metrics(given, wanted, count, pos_label)


def of_logits(name: str, predictions: list[Any], references: list[Any]) -> dict[str, float]:
    logits, wanted = np.array(predictions), whole_numbers(references, "references")
    if wanted.ndim == 2:
        return multi_label_metrics(logits, wanted)
    if wanted.max() >= logits.shape[1]:
        message = f"a reference is label {wanted.max()}, and a row has {logits.shape[1]} logits"
        raise UserError(message, "give one for each label; the first is label 0", "predictions")
    return classification_metrics(logits, wanted)


def of_numbers(name: str, predictions: list[float], references: list[float]) -> dict[str, float]:
    return regression_metrics(np.array(predictions), np.array(references))


def of_texts(name: str, predictions: list[str], references: list[Any]) -> dict[str, float]:
    return {name: text_metric(name, predictions, references)}


def of_tags(name: str, predictions: list[list[str]], references: list[list[str]]) -> dict[str, float]:
    for row, (tags, wanted) in enumerate(zip(predictions, references, strict=True)):
        if len(tags) != len(wanted):
            message = f"row {row + 1} has {len(tags)} predicted tags and {len(wanted)} references"
            raise UserError(message, "each word needs one of both", "predictions")
    names = sorted({tag for tags in [*predictions, *references] for tag in tags})
    found, labels = (tag_ids(rows, names) for rows in (predictions, references))
    return token_metrics(np.stack([found, np.zeros_like(found)], axis=-1), labels, names)


def tag_ids(rows: list[list[str]], names: list[str]) -> np.ndarray:
    """The places of the tags among the names, shape (rows, tags of the longest row), -100 beyond a row's end."""
    places = {name: place for place, name in enumerate(names)}
    ids = np.full((len(rows), max(map(len, rows))), IGNORED)
    for line, tags in zip(ids, rows, strict=True):
        line[: len(tags)] = [places[tag] for tag in tags]
    return ids


def whole_numbers(values: list[Any], argument: str) -> np.ndarray:
    """Label ids, shape (rows,), or 0 and 1 of each label, shape (rows, labels).

    Raises:
        UserError: they are others; a cast would make a 0 of each probability.
    """
    numbers = np.array(values)
    if (numbers != numbers.astype(np.int64)).any() or (numbers < 0).any():
        wrong = numbers[(numbers != numbers.astype(np.int64)) | (numbers < 0)].flat[0]
        message = f"{wrong:g} is no label id"
        raise UserError(message, f"give whole numbers from 0; logits are for {', '.join(BY_SCORE)}", argument)
    return numbers.astype(np.int64)


LABELS = Kind(
    "Label ids, or of several labels a row lists of 0 and 1.", ((NUMBER, NUMBER), (List(NUMBER), List(NUMBER))), of_labels
)
LOGITS = Kind(
    "Predictions: a row's logits. References: its label id, or of several labels a list of 0 and 1.",
    ((List(NUMBER), NUMBER), (List(NUMBER), List(NUMBER))),
    of_logits,
)
NUMBERS = Kind("Numbers.", ((NUMBER, NUMBER),), of_numbers)
TAGS = Kind("A row's tags as a list of words.", ((List(WORDS), List(WORDS)),), of_tags)
TEXTS = Kind("Texts; of several references a row a list.", ((WORDS, WORDS), (WORDS, List(WORDS))), of_texts)

METRICS: dict[str, dict[str, Kind]] = {
    "text-classification": {
        name: LOGITS if name in BY_SCORE else LABELS for name in TASK_SPECS["text-classification"].metrics
    },
    "text-regression": dict.fromkeys(TASK_SPECS["text-regression"].metrics, NUMBERS),
    "token-classification": {name: TAGS for name in TASK_SPECS["token-classification"].metrics if name != "loss"},
    "summarization": dict.fromkeys(TEXT_METRICS, TEXTS),
    "instruction": dict.fromkeys(TEXT_METRICS, TEXTS),
}
