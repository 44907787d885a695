"""What decides the memory of a step: figures of the data, and the setup that a remedy may change."""

import hashlib
import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ftkit.training.measuring import Measuring
from ftkit.training.prepare import Data

LONGEST = 8  # rows whose supervised tokens stand for those of the longest batch
EVEN = 0.9  # share of entries of one length from which they count as alike


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

    @property
    def uneven(self) -> bool:
        """Whether entries differ in length; the last block of a text is shorter than the others, and does not count."""
        return float(np.mean(self.lengths == self.longest)) < EVEN

    @property
    def digest(self) -> str:
        """Two with the same are the same."""
        arrays = (self.lengths, self.supervised, self.measured_lengths, self.measured_supervised)
        found = hashlib.sha256(f"{self.entries} {self.tokens} {self.target}".encode())
        for array in arrays:
            found.update(f" {array.dtype} {len(array)} ".encode() + array.tobytes())
        return found.hexdigest()


@dataclass(frozen=True)
class Setup:
    """What decides the memory of a step, and what a remedy may change.

    Attributes:
        lengths: those of the training entries that batches are drawn from.
        uneven: whether training entries differ in length.
    """

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
    uneven: bool = True


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
