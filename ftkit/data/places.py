"""Where the rows of a source stand: the file or member of an archive, the row in it, and the line at which that begins."""

import csv
import os
from collections.abc import Callable, Iterator
from functools import cached_property
from itertools import islice
from pathlib import Path

import numpy as np

from ftkit.data.archives import GLOB_SIGN, LIBRARY_ERRORS, DataFile
from ftkit.data.conll import sentences
from ftkit.data.files import count_rows, kind_of, separator_of, shape_of, true_encoding
from ftkit.data.paths import archive_of
from ftkit.errors import UserError
from ftkit.recipe.schema import Source

MOST_READ = 1_000_000  # rows of a file that are read again to find a line


class Places:
    """The files of a source; they are looked at when a row is to be named.

    Args:
        files: gives them in the order in which their rows were read; none where there are no files.
    """

    def __init__(self, source: Source, files: Callable[[], list[DataFile]], sample_by: str) -> None:
        self.source, self.sample_by, self._find = source, sample_by, files

    @cached_property
    def files(self) -> list[DataFile]:
        """The files, or none where they cannot be had any more."""
        try:
            return self._find()
        except (UserError, *LIBRARY_ERRORS):
            return []

    @property
    def names(self) -> list[str]:
        """The files by their whole names; of what is no file, the source."""
        return [file.name for file in self.files] or [self.source.path]

    @property
    def short_names(self) -> list[str]:
        """The files as their owner calls them: from the folder that the source lies in."""
        archive = archive_of(self.source.path)
        folder = archive[0].parent if archive else Path(GLOB_SIGN.split(self.source.path)[0] + "x").parent
        return [os.path.relpath(name, folder) for name in self.names]

    def locate(self, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """For each position among the source's rows, counted from 0, the place of its file, and its row, counted from 0."""
        if len(self.files) < 2 or not len(positions):
            return np.zeros(len(positions), np.int64), positions
        if self._ends is None or positions.max() >= self._ends[-1]:
            self.files = []  # rows are then named by the source alone
            return np.zeros(len(positions), np.int64), positions
        found = np.searchsorted(self._ends, positions, side="right")
        return found, positions - np.concatenate([[0], self._ends])[found]

    @property
    def parts(self) -> list["Places"]:
        """Each file by itself."""
        return [Places(self.source, lambda file=file: [file], self.sample_by) for file in self.files]  # type: ignore[misc]

    def line(self, file: int, row: int) -> int | None:
        """The line at which a row of a file begins, counted from 1; None where it has none, or it would take long."""
        if not self.files or row >= MOST_READ:
            return None
        try:
            return next(islice(starts_of_rows(self.source, self.files[file], self.sample_by), row, None), None)
        except (UserError, *LIBRARY_ERRORS):
            return None

    @cached_property
    def _ends(self) -> np.ndarray | None:
        """For each file how many rows there are up to its end; nothing where they cannot be counted."""
        try:
            return np.cumsum(count_rows(self.source, self.files, self.sample_by))
        except (UserError, *LIBRARY_ERRORS):
            return None


def starts_of_rows(source: Source, file: DataFile, sample_by: str) -> Iterator[int]:
    """The line at which each row of a file begins."""
    kind, encoding = kind_of(source, [file]), true_encoding(source)
    if kind in ("csv", "tsv"):
        quoting = csv.QUOTE_NONE if source.quoting is False else csv.QUOTE_MINIMAL
        return _csv_lines(file, encoding, separator_of(source, [file]), quoting, bool(source.header))
    if kind == "conll":
        return (line for line, _ in sentences(file, encoding))
    lined = kind == "json" and shape_of(file, encoding, source.field) == "lines"
    if lined or (kind == "text" and (source.sample_by or sample_by) == "line"):
        return _filled_lines(file, encoding)
    return iter(())


def _csv_lines(file: DataFile, encoding: str, separator: str, quoting: int, headless: bool) -> Iterator[int]:
    with file.path.open(encoding=encoding, newline="") as stream:
        reader = csv.reader(stream, delimiter=separator, quoting=quoting)  # type: ignore[arg-type]
        named, before = headless, 0
        for row in reader:
            if row and named:
                yield before + 1
            named, before = named or bool(row), reader.line_num


def _filled_lines(file: DataFile, encoding: str) -> Iterator[int]:
    with file.path.open(encoding=encoding) as stream:
        for number, line in enumerate(stream, 1):
            if line.strip():
                yield number
