"""A user's own metric: a Python file, in the interface of the `evaluate` package.

The file has a function `compute(predictions, references)` that returns a mapping of names to numbers, or a class of
`evaluate.Metric` whose method of that name does. Predictions and references are texts where the task generates (references
are lists of texts where rows have several), label ids in classification, numbers in regression.
"""

import importlib.util
import inspect
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ftkit.errors import UserError
from ftkit.metrics.resampling import Resampler

KEY = "evaluation.metric_file"
PATIENCE = 0.02  # seconds a computation may take for a thousand of them to be worth an interval


class CustomMetric:
    """The metric of a file.

    Raises:
        UserError: the file cannot be read or has no metric.
    """

    def __init__(self, file: Path) -> None:
        self.file = file = file.expanduser()
        self._compute = find_compute(file)
        self._seconds = 0.0

    def compute(self, predictions: list[Any], references: list[Any]) -> dict[str, float]:
        """The file's figures.

        Raises:
            UserError: the file's code fails, or returns something else than numbers by name.
        """
        started = time.perf_counter()
        try:
            found = self._compute(predictions=predictions, references=references)
            scores = {str(name): float(value) for name, value in found.items()}
        except Exception as error:
            message = f"{self.file} fails: {type(error).__name__}: {error}"
            raise UserError(message, "it should return numbers by name, as {'score': 0.5}", key=KEY) from error
        self._seconds = time.perf_counter() - started
        return scores

    def resamplers(self, predictions: list[Any], references: list[Any]) -> dict[str, Resampler]:
        """The figures for any weights of the rows; none where the file is too slow to be called a thousand times."""
        names = self.compute(predictions, references)
        if self._seconds > PATIENCE:
            return {}

        def values(name: str) -> Callable[[np.ndarray], np.ndarray]:
            def compute(weights: np.ndarray) -> np.ndarray:
                return np.array([self._drawn(line, predictions, references)[name] for line in weights])

            return compute

        return {name: Resampler(len(references), values(name)) for name in names}

    def _drawn(self, weights: np.ndarray, predictions: list[Any], references: list[Any]) -> dict[str, float]:
        chosen = np.repeat(np.arange(len(weights)), weights.astype(int))
        return self.compute([predictions[row] for row in chosen], [references[row] for row in chosen])


def find_compute(file: Path) -> Callable[..., Any]:
    """The `compute` of a file: a function of that name, or the method of its `evaluate.Metric`.

    Raises:
        UserError: there is no such file, it cannot be imported, or it has neither.
    """
    if not file.is_file():
        raise UserError(f"there is no file {file}", "name a Python file with a function compute", key=KEY)
    spec = importlib.util.spec_from_file_location(f"ftkit_metric_{file.stem}", file)
    if spec is None or spec.loader is None:
        raise UserError(f"{file} is no Python file", "its name ends with .py", key=KEY)
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise UserError(f"{file} cannot be imported: {type(error).__name__}: {error}", key=KEY) from error
    for name, found in vars(module).items():
        if name == "compute" and callable(found):
            return found  # type: ignore[no-any-return]
        if inspect.isclass(found) and found.__module__ == module.__name__ and hasattr(found, "_compute"):
            made: Any = found()
            return made.compute  # type: ignore[no-any-return]
    message = f"{file} has no function compute(predictions, references) and no evaluate.Metric"
    raise UserError(message, "write one; it returns numbers by name", key=KEY)
