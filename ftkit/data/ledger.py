"""The ledger: what became of every input row, from the file it was read from to its place in a split."""

import itertools
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset

from ftkit.data.places import Places
from ftkit.data.tables import number_column

ROW = "_row"  # the column that carries a row's number in the ledger through mapping, cleaning and splitting
UNREAD = "unread"
SHOWN_RANGES = 8
STREAMED = 1 << 40  # each streamed source has so many numbers for its rows, more than there can be in memory
REMEMBERED = 100  # rows of a stream that are named by number for each fate


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
    NO_NUMBER = 8
    LOST_TEXT = 9

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
    Outcome.NO_NUMBER: "dropped, label is no number", Outcome.LOST_TEXT: "dropped, a field leaves no token",
}  # fmt: skip


@dataclass(frozen=True)
class SourceRows:
    """A source, which part of the data it is for, the ledger's numbers of its rows, and where they stand."""

    path: str
    part: str
    first: int
    count: int
    places: Places | None = None

    def locate(self, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """For each of its rows' numbers the place of the file, and the row in it, counted from 0."""
        positions = numbers - self.first
        return self.places.locate(positions) if self.places else (np.zeros(len(positions), np.int64), positions)

    @property
    def names(self) -> list[str]:
        """Its files by their whole names, or itself."""
        return self.places.names if self.places else [self.path]

    @property
    def short_names(self) -> list[str]:
        return self.places.short_names if self.places else [Path(self.path).name]

    @property
    def is_streamed(self) -> bool:
        """Whether its rows are counted as they go by; `count` is then how many it has room for."""
        return self.first >= STREAMED


@dataclass
class Stretch:
    """Rows of one file of a source, as ranges counted from 1; `first` is the first one's position in the file."""

    source: SourceRows
    file: int
    first: int
    parts: list[str] = field(default_factory=list)

    def words(self, lines: bool) -> str:
        """As `rows 3-7, 9, …`; with the line of the first one where that is asked for and is another number."""
        parts = [part.replace(" copy", ", copy") for part in self.parts] if len(self.parts) == 1 else self.parts
        more = ", …" if len(parts) > SHOWN_RANGES else ""
        one = len(parts) == 1 and "-" not in parts[0]
        line = self.source.places.line(self.file, self.first) if lines and self.source.places else None
        place = f", {'' if one else 'from '}line {line}" if line not in (None, self.first + 1) else ""
        return f"{'row' if one else 'rows'} {', '.join(parts[:SHOWN_RANGES])}{more}{place}"


@dataclass
class Counts:
    """Streamed rows by fate. What is held does not grow with the rows: of each fate only the first are known by number."""

    fates: Counter[str] = field(default_factory=Counter)
    first: dict[str, list[int]] = field(default_factory=dict)
    by_source: Counter[int] = field(default_factory=Counter)

    @property
    def read(self) -> int:
        """Rows of all sources."""
        return self.by_source.total()

    def enter(self, numbers: np.ndarray) -> None:
        """Count rows as read from the sources that their numbers belong to."""
        for source, count in zip(*np.unique(numbers // STREAMED * STREAMED, return_counts=True), strict=True):
            self.by_source[int(source)] += int(count)

    def mark(self, numbers: np.ndarray, fate: str) -> None:
        """Say what became of rows."""
        if len(numbers):
            self.fates[fate] += len(numbers)
            known = self.first.setdefault(fate, [])
            known += numbers[: REMEMBERED - len(known)].tolist()


class Ledger:
    """Every row that was read or made has a number, counted from 0 over all sources, and exactly one fate.

    Rows of a stream have their source's place and their own place in it as their number, and are counted in `streamed`.
    """

    def __init__(self) -> None:
        self.sources: list[SourceRows] = []
        self.streamed = Counts()
        self._fates = np.zeros(0, np.int16)
        self._words = [UNREAD]
        self._copies = np.zeros(0, np.int64)  # numbers of copies, ascending
        self._origins = np.zeros((0, 2), np.int64)  # of each copy the number of its row, and the how-manieth copy it is

    def __len__(self) -> int:
        return len(self._fates) + self.streamed.read

    def enter(self, path: str, part: str, count: int, places: Places | None = None) -> np.ndarray:
        """Enter a source's rows, and return their numbers."""
        first = len(self._fates)
        self.sources.append(SourceRows(path, part, first, count, places))
        self._fates = np.concatenate([self._fates, np.zeros(count, np.int16)])
        return np.arange(first, first + count)

    def enter_copies(self, origins: np.ndarray) -> np.ndarray:
        """Enter a copy of each of these rows, and return the copies' numbers; a row may stand several times."""
        order = np.argsort(origins, kind="stable")
        grouped, counted = origins[order], np.empty_like(origins)
        counted[order] = np.arange(len(origins)) - np.searchsorted(grouped, grouped) + 1
        numbers = np.arange(len(origins)) + len(self._fates)
        self._fates = np.concatenate([self._fates, np.zeros(len(origins), np.int16)])
        self._copies = np.concatenate([self._copies, numbers])
        self._origins = np.concatenate([self._origins, np.stack([origins, counted], axis=1)])
        return numbers

    @property
    def copies(self) -> int:
        """How many of the rows were not read but made of others."""
        return len(self._copies)

    def enter_stream(self, path: str, part: str, places: Places | None = None) -> int:
        """Enter a source whose rows are read as they are needed, and return the number of its first."""
        first = STREAMED * (1 + sum(source.is_streamed for source in self.sources))
        self.sources.append(SourceRows(path, part, first, STREAMED, places))
        return first

    def mark(self, rows: np.ndarray | Sequence[int], fate: str) -> None:
        """Say what became of rows; the last word counts."""
        if fate not in self._words:
            self._words.append(fate)
        self._fates[np.asarray(rows, dtype=np.int64)] = self._words.index(fate)

    def counts(self) -> dict[str, int]:
        """Rows by fate, in the order in which the fates were first met; the sum is that of all rows."""
        found = np.bincount(self._fates, minlength=len(self._words))
        kept = {word: int(count) for word, count in zip(self._words, found, strict=True) if count}
        return dict(Counter(kept) + self.streamed.fates)

    def rows_of(self, fate: str) -> np.ndarray:
        """Their numbers, ascending; of streamed rows only the first few."""
        kept = np.flatnonzero(self._fates == self._words.index(fate)) if fate in self._words else np.zeros(0, np.int64)
        return np.concatenate([kept, np.array(sorted(self.streamed.first.get(fate, [])), np.int64)])

    def by_source(self, rows: np.ndarray) -> dict[str, str]:
        """Rows as ranges under the file that they come from, counted from 1 within it: `{"a.csv": "3-7,9,12 copy 1"}`."""
        found: dict[str, list[str]] = {}
        for stretch in self._by_file(rows):
            found.setdefault(stretch.source.names[stretch.file], []).extend(stretch.parts)
        return {name: ",".join(parts) for name, parts in found.items()}

    def name(self, rows: np.ndarray | Sequence[int], *, lines: bool = False) -> str:
        """The first of the rows in words, as `a.csv rows 3-7, 9, …` or `a.csv row 12, copy 1`.

        Args:
            lines: also say in which line of its file the first one begins, where that is another number; it reads the file.
        """
        stretches = self._by_file(np.asarray(rows, dtype=np.int64))
        short = self._short_names() if stretches else {}
        words = [f"{short[stretch.source][stretch.file]} {stretch.words(lines)}" for stretch in stretches[:SHOWN_RANGES]]
        return "; ".join(words) + ("; …" if len(stretches) > SHOWN_RANGES else "")

    def names(self, rows: np.ndarray) -> list[str]:
        """Each of many rows in words, as `a.csv row 3`."""
        found, short = [""] * len(rows), None
        for source in self.sources:
            inside = np.flatnonzero((rows >= source.first) & (rows < source.first + source.count))
            files, positions = source.locate(rows[inside])
            short = short or self._short_names()
            for index, file, position in zip(inside.tolist(), files.tolist(), positions.tolist(), strict=True):
                found[index] = f"{short[source][file]} row {position + 1}"
        return found

    def files(self, rows: np.ndarray) -> list[str]:
        """The source of each of many rows, called by its file's name, or its whole path where two are called so."""
        places = np.searchsorted([source.first for source in self.sources], rows, side="right") - 1
        files = [Path(source.path).name for source in self.sources]
        short = [file if files.count(file) == 1 else source.path for file, source in zip(files, self.sources, strict=True)]
        return [short[place] for place in places]

    def _by_file(self, rows: np.ndarray) -> list["Stretch"]:
        """The rows by the file that they come from."""
        copied = np.isin(rows, self._copies)
        origins, counted = self._origins[np.searchsorted(self._copies, rows[copied])].T
        kinds = [(rows[~copied], ""), *((origins[counted == copy], f" copy {copy}") for copy in np.unique(counted))]
        found: dict[tuple[int, int], Stretch] = {}
        for numbers, suffix in kinds:
            for place, source in enumerate(self.sources):
                inside = np.sort(numbers[(numbers >= source.first) & (numbers < source.first + source.count)])
                files, positions = source.locate(inside) if len(inside) else (inside, inside)
                for file in np.unique(files).tolist():
                    within = positions[files == file]
                    stretch = found.setdefault((place, file), Stretch(source, file, int(within[0])))
                    stretch.parts.extend(f"{part}{suffix}" for part in ranges(within + 1))
        return [found[key] for key in sorted(found)]

    def _short_names(self) -> dict[SourceRows, list[str]]:
        """Of each source its files by their short names, or by the whole ones where two are called so."""
        count = Counter(itertools.chain.from_iterable(source.short_names for source in self.sources))
        return {
            source: [
                name if count[name] == 1 else whole for name, whole in zip(source.short_names, source.names, strict=True)
            ]
            for source in self.sources
        }

    def report(self) -> dict[str, Any]:
        """For data_report.json: the sources, how many rows met which fate, and which rows those are but for whole ones."""
        counts = self.counts()
        return {
            "rows": len(self),
            **({"of_these_copies": self.copies} if self.copies else {}),
            "sources": [self._describe(source) for source in self.sources],
            "fates": counts,
            "sum_of_fates": sum(counts.values()),
            "row_ids": {fate: self.by_source(self.rows_of(fate)) for fate in counts if not fate.endswith(": kept whole")},
        }

    def _describe(self, source: SourceRows) -> dict[str, Any]:
        if source.is_streamed:
            count = self.streamed.by_source[source.first]
            return {"path": source.path, "part": source.part, "streamed": True, "count": count}
        return {"path": source.path, "part": source.part, "first": source.first + 1, "count": source.count}


def row_numbers(rows: Dataset) -> np.ndarray:
    """The ledger's numbers of rows that carry them, shape (rows,)."""
    return number_column(rows, ROW)


def ranges(numbers: Iterable[int]) -> list[str]:
    """Ascending numbers as ranges: 3, 4, 5, 9 become 3-5 and 9."""
    found: list[list[int]] = []
    for number in numbers:
        if found and number == found[-1][1] + 1:
            found[-1][1] = int(number)
        else:
            found.append([int(number), int(number)])
    return [str(first) if first == last else f"{first}-{last}" for first, last in found]
