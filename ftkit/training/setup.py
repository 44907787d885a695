"""What decides the memory of a step: figures of the data, and the setup that a remedy may change."""

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ftkit.training.measuring import Measuring
from ftkit.training.prepare import Data

LONGEST = 8  # rows whose supervised tokens stand for those of the longest batch


@dataclass(frozen=True)
class DataFigures:
    """Of the training entries: how many, their tokens, lengths and supervised tokens; `target`: of pairs the longest.

    `measured_lengths` and `measured_supervised` are those of the eval entries.
    """

    entries: int
    tokens: int
    lengths: np.ndarray
    target: int = 0
    supervised: np.ndarray = field(default_factory=lambda: np.zeros(0, int))
    measured_lengths: np.ndarray = field(default_factory=lambda: np.zeros(0, int))
    measured_supervised: np.ndarray = field(default_factory=lambda: np.zeros(0, int))

    @property
    def supervised_of_longest(self) -> float:
        """Supervised tokens of each of the longest rows, on average."""
        return supervised_of_longest(self.lengths, self.supervised)

    @property
    def longest(self) -> int:
        return int(self.lengths.max())

    @property
    def p99(self) -> int:
        return math.ceil(np.percentile(self.lengths, 99))


@dataclass(frozen=True)
class Setup:
    """What decides the memory of a step, and what a remedy may change; `lengths` are those of the training entries."""

    strategy: Any
    dtype: str
    rows: int
    accumulation: int
    length: int
    target: int
    checkpointing: dict[str, Any] | None
    supervised: float
    measuring: Measuring
    lengths: np.ndarray = field(default_factory=lambda: np.zeros(0, int), compare=False)


def supervised_of_longest(lengths: np.ndarray, supervised: np.ndarray) -> float:
    """Supervised tokens of each of the longest rows, on average."""
    return float(supervised[np.argsort(-lengths, kind="stable")[:LONGEST]].mean())


def figures_of(data: Data) -> DataFigures:
    """The figures of the training entries."""
    facts = data.facts["train"]
    lengths, target = facts.lengths, int(facts.supervised.max()) if facts.pairs else 0
    tokens = int(lengths.sum()) + (int(facts.supervised.sum()) if facts.pairs else 0)
    measured = data.facts["eval"]
    return DataFigures(len(lengths), tokens, lengths, target, facts.supervised, measured.lengths, measured.supervised)
