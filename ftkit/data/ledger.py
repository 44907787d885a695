"""The ledger: what became of every input row, from the file it was read from to its place in a split."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset

ROW = "_row"  # the column that carries a row's number in the ledger through mapping, cleaning and splitting
UNREAD = "unread"
SHOWN_RANGES = 8


class Outcome(IntEnum):
    """What encoding made of a row; those from TOO_LONG on are not trained or measured on."""

    KEPT = 0
    CUT_TEXT = 1
    CUT_PROMPT = 2
    CUT_ANSWER = 3
    TOO_LONG = 4
    EMPTY = 5
    UNKNOWN_LABEL = 6
    UNSUPERVISED = 7

    @property
    def words(self) -> str:
        """As it is called in the report."""
        return _WORDS[self]

    @property
    def is_kept(self) -> bool:
        return self < Outcome.TOO_LONG


_WORDS = {
    Outcome.KEPT: "kept whole", Outcome.CUT_TEXT: "kept, end of the text cut", Outcome.CUT_PROMPT: "kept, prompt cut",
    Outcome.CUT_ANSWER: "kept, answer cut", Outcome.TOO_LONG: "dropped, too long", Outcome.EMPTY: "dropped, empty field",
    Outcome.UNKNOWN_LABEL: "dropped, unknown label", Outcome.UNSUPERVISED: "dropped, no supervised token",
}  # fmt: skip


@dataclass(frozen=True)
class SourceRows:
    """A source, which part of the data it is for, and the ledger's numbers of its rows."""

    path: str
    part: str
    first: int
    count: int


class Ledger:
    """Every row that was read has a number, counted from 0 over all sources, and exactly one fate."""

    def __init__(self) -> None:
        self.sources: list[SourceRows] = []
        self._fates = np.zeros(0, np.int16)
        self._words = [UNREAD]

    def __len__(self) -> int:
        return len(self._fates)

    def enter(self, path: str, part: str, count: int) -> np.ndarray:
        """Enter a source's rows, and return their numbers."""
        first = len(self._fates)
        self.sources.append(SourceRows(path, part, first, count))
        self._fates = np.concatenate([self._fates, np.zeros(count, np.int16)])
        return np.arange(first, first + count)

    def mark(self, rows: np.ndarray | Sequence[int], fate: str) -> None:
        """Say what became of rows; the last word counts."""
        if fate not in self._words:
            self._words.append(fate)
        self._fates[np.asarray(rows, dtype=np.int64)] = self._words.index(fate)

    def counts(self) -> dict[str, int]:
        """Rows by fate, in the order in which the fates were first met; the sum is that of all rows."""
        found = np.bincount(self._fates, minlength=len(self._words))
        return {word: int(count) for word, count in zip(self._words, found, strict=True) if count}

    def rows_of(self, fate: str) -> np.ndarray:
        return np.flatnonzero(self._fates == self._words.index(fate)) if fate in self._words else np.zeros(0, np.int64)

    def by_source(self, rows: np.ndarray) -> dict[str, str]:
        """Rows as ranges under the source that they come from, counted from 1 within it: `{"a.csv": "3-7,9"}`."""
        found: dict[str, str] = {}
        for source in self.sources:
            inside = rows[(rows >= source.first) & (rows < source.first + source.count)] - source.first + 1
            if len(inside):
                found[source.path] = ",".join(filter(None, [found.get(source.path), *ranges(np.sort(inside))]))
        return found

    def name(self, rows: np.ndarray | Sequence[int]) -> str:
        """The first of the rows in words, as `a.csv rows 3-7, 9, …`."""
        words, names = [], [Path(source.path).name for source in self.sources]
        for path, numbers in self.by_source(np.asarray(rows, dtype=np.int64)).items():
            parts = numbers.split(",")
            more = ", …" if len(parts) > SHOWN_RANGES else ""
            plural = "row" if len(parts) == 1 and "-" not in parts[0] else "rows"
            short = Path(path).name if names.count(Path(path).name) == 1 else path
            words.append(f"{short} {plural} {', '.join(parts[:SHOWN_RANGES])}{more}")
        return "; ".join(words)

    def report(self) -> dict[str, Any]:
        """For data_report.json: the sources, how many rows met which fate, and which rows those are but for whole ones."""
        counts = self.counts()
        return {
            "rows": len(self),
            "sources": [vars(source) | {"first": source.first + 1} for source in self.sources],
            "fates": counts,
            "sum_of_fates": sum(counts.values()),
            "row_ids": {fate: self.by_source(self.rows_of(fate)) for fate in counts if not fate.endswith(": kept whole")},
        }


def row_numbers(rows: Dataset) -> np.ndarray:
    """The ledger's numbers of rows that carry them, shape (rows,)."""
    table = rows.select_columns(ROW).with_format("arrow")[:]
    numbers: np.ndarray = table.column(ROW).to_numpy()
    return numbers


def ranges(numbers: Iterable[int]) -> list[str]:
    """Ascending numbers as ranges: 3, 4, 5, 9 become 3-5 and 9."""
    found: list[list[int]] = []
    for number in numbers:
        if found and number == found[-1][1] + 1:
            found[-1][1] = int(number)
        else:
            found.append([int(number), int(number)])
    return [str(first) if first == last else f"{first}-{last}" for first, last in found]
