"""Rows to be predicted from any file that training reads: row by row where that can be, else by the reader of training."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ftkit.data.ledger import Ledger
from ftkit.data.paths import KINDS, OF_FILES, SAMPLE_PREFIX, ending_of
from ftkit.data.sources import places_of, read_source
from ftkit.errors import UserError
from ftkit.prediction.fields import fields_under_roles
from ftkit.prediction.rows import BAD_ROW, FORMATS, STDIN, InputRow, Source, opened
from ftkit.recipe.schema import Recipe
from ftkit.recipe.schema import Source as DataSource

NAMED = 1000  # rows at a time
KEY = "FILE"


@contextmanager
def opened_rows(source: Source, recipe: Recipe) -> Iterator[Iterator[InputRow]]:
    """The rows of a source, those of plain files each read when it is asked for.

    Args:
        recipe: that of the run; files like those of its data are read as those.
    """
    found = as_in_training(source, recipe)
    if is_plain(source) and not (found.header or found.field or found.quoting is not None or begins_a_list(source)):
        with opened(source) as rows:
            yield rows
        return
    yield whole_rows(found, recipe)


def require_first_row(source: Source, recipe: Recipe, *, skip_bad: bool) -> None:
    """Raises UserError where a file cannot be read as rows of the run's kind, before torch or a model is loaded for it.

    Args:
        skip_bad: the row itself may be bad, as the others may.
    """
    if source.path == STDIN:  # which can be read but once
        return
    with opened_rows(source, recipe) as rows:
        row = next(rows, None)
    if row is None or skip_bad:
        return
    if row.problem:
        raise UserError(row.problem, BAD_ROW, row.place)
    try:
        fields_under_roles(row.fields, recipe)
    except UserError as error:
        raise UserError(error.message, error.hint, row.place) from None


def is_plain(source: Source) -> bool:
    """Whether the rows come one after another from standard input, or a file of lines or csv."""
    named = Path(source.path).is_file() and Path(source.path).suffix.lower() in FORMATS
    return source.path == STDIN or source.format is not None or named


def begins_a_list(source: Source) -> bool:
    """Whether a .json file is a list, which cannot be read line by line."""
    if Path(source.path).suffix.lower() != ".json" or source.format is not None:
        return False
    with Path(source.path).open("rb") as stream:
        return stream.read(1000).removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"["


def as_in_training(source: Source, recipe: Recipe) -> DataSource:
    """The source as the recipe would name it, read as that one of the recipe's sources whose files are of the same kind."""
    kind = KINDS.get(ending_of(source.path))
    alike = [own for own in [*recipe.data.train, *(recipe.data.eval or [])] if not own.path.startswith(SAMPLE_PREFIX)]
    same = next((own for own in alike if KINDS.get(ending_of(own.path)) == kind), None)
    keys: dict[str, Any] = {name: getattr(same, name) for name in OF_FILES if name != "label_from"} if same else {}
    keys["encoding"] = same.encoding if same and source.encoding == "utf-8" else source.encoding
    keys |= {"separator": source.separator} if source.separator else {}
    return DataSource.model_validate({"path": source.path, **keys})


def whole_rows(source: DataSource, recipe: Recipe) -> Iterator[InputRow]:
    """The rows of files as training reads them, each with its place.

    Raises:
        UserError: they cannot be read.
    """
    try:
        rows = read_source(source, split="eval", sample_by=recipe.spec.sample_by, seed=0, key=KEY)
    except UserError as error:
        raise UserError(error.message, error.hint, error.place) from None
    ledger = Ledger()
    numbers = ledger.enter(source.path, "", len(rows), places_of(source, recipe.spec.sample_by, KEY))
    for start in range(0, len(rows), NAMED):
        names = ledger.names(numbers[np.arange(start, min(start + NAMED, len(rows)))])
        for index, (name, fields) in enumerate(
            zip(names, rows.select(range(start, start + len(names))), strict=True), start
        ):
            yield InputRow(index, name, dict(fields))
