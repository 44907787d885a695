"""The splits of a recipe's data: read, mapped to the task's columns, cleaned, split and counted, row by row."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field

import numpy as np
from datasets import Dataset, concatenate_datasets

from ftkit.data import tables
from ftkit.data.apart import LabelsOfRows, keep_apart
from ftkit.data.augment import augment
from ftkit.data.cells import match_texts
from ftkit.data.clean import clean_rows, thin_labels
from ftkit.data.columns import given_columns, given_rows, map_columns, read_columns, require_columns
from ftkit.data.duplicates import Overlap, overlap
from ftkit.data.encode import beside_cache, code, digest, is_empty
from ftkit.data.grouping import split_by_column, split_by_group
from ftkit.data.ledger import ROW, UNREAD, Ledger, row_numbers
from ftkit.data.paths import SAMPLE_PREFIX
from ftkit.data.sources import places_of, read_source
from ftkit.data.split import keep_in_train, split_rows
from ftkit.data.streams import StreamedRows
from ftkit.data.tables import column_values
from ftkit.data.unread import require_unmeaning
from ftkit.errors import UserError, rows_named
from ftkit.recipe.schema import Data, Source
from ftkit.recipe.tasks import BESIDE_CHATS, TaskSpec
from ftkit.run import write_json

MEASURED_PARTS = ("eval", "test")
HELD_OUT = "not read now"
STREAM_HEAD = 1000  # rows of a stream that are held, to be looked at and to learn the labels from


@dataclass
class Splits:
    """Rows by split under the task's column names, with their number in the ledger in the column `_row`.

    Attributes:
        stream: the training rows where they are streamed; `rows` then holds its first ones.
        slices: the columns of data.slice_by of each measured split, with the number of each row.
        unread: of each source the columns that are not read.
    """

    rows: dict[str, Dataset]
    ledger: Ledger
    changed: dict[str, int] = field(default_factory=dict)
    stream: StreamedRows | None = None
    slices: dict[str, Dataset] = field(default_factory=dict)
    unread: dict[str, list[str]] = field(default_factory=dict)

    def numbers(self, part: str) -> np.ndarray:
        """The ledger's numbers of a split's rows, shape (rows,)."""
        return row_numbers(self.rows[part])


def read_splits(
    data: Data,
    spec: TaskSpec,
    strata: Callable[[Dataset], np.ndarray | None],
    parts: tuple[str, ...] = ("train", "eval"),
    members: Callable[[Dataset], LabelsOfRows | None] = lambda _: None,
) -> Splits:
    """The wanted splits as the recipe says: from sources of their own, or split off the training rows.

    Args:
        strata: gives one label a row as a number for a stratified split, or None.
        parts: which of train, eval and test are wanted.
        members: gives which labels each row has, so that ftkit's own split leaves a row of every label to learn from.

    Raises:
        UserError: a source or column is missing, or there are too few rows.
    """
    ledger, changed, unread = Ledger(), dict[str, int](), dict[str, list[str]]()
    own = {"eval": data.eval, "test": data.test}
    rows = {
        part: _read(sources, part, data, spec, ledger, unread) for part, sources in own.items() if sources and part in parts
    }
    split_off = [part for part in own if own[part] is None and (part == "eval" or data.test_size or data.split_column)]
    stream = open_stream(data, spec, ledger) if data.streaming else None
    unread |= stream.unread if stream is not None else {}
    if stream is not None and "train" in parts:
        rows["train"] = _head(stream, data, held="eval" not in parts)
    elif "train" in parts or set(split_off) & set(parts):
        rows["train"] = _read(data.train, "train", data, spec, ledger, unread)
    for part in rows:
        if part != "train" or stream is None:  # the stream's first rows are cleaned already
            rows[part] = _clean(rows[part], part, data, spec, ledger, changed)
    if "train" in rows and split_off:
        whole = rows.pop("train")
        for part, positions in _split(whole, data, spec, strata, split_off, members).items():
            if part in parts:
                rows[part] = whole.select(positions)
            else:
                ledger.mark(row_numbers(whole)[positions], f"{part}: {HELD_OUT}")
    if stream is None:
        _thin_out(rows, data, ledger)
    slices = {
        part: rows[part].select_columns([*data.slice_by, ROW]) for part in MEASURED_PARTS if data.slice_by and part in rows
    }
    rows = {part: split.remove_columns(_helpers(data, spec, split)) for part, split in rows.items() if part in parts}
    rows = rows if stream is not None else _less_blank(rows)
    _require_same_columns(rows)
    held, unread = (
        {part: rows[part] for part in parts if part in rows},
        {path: names for path, names in unread.items() if names},
    )
    splits = Splits(held, ledger, changed=changed, stream=stream, slices=slices, unread=unread)
    if {"train", "eval"} <= set(splits.rows):
        if data.drop_overlap:
            _drop_overlap(splits, data.gate.similarity)
        if data.augment:
            splits.rows["train"] = _augmented(splits, data)
    return splits


def open_stream(data: Data, spec: TaskSpec, ledger: Ledger) -> StreamedRows:
    """The training rows as a stream.

    Raises:
        UserError: a source cannot be streamed or lacks a column.
    """
    return StreamedRows(data.train, data.columns, spec, data.seed, ledger, data.clean, data.ignore_columns, data.pattern)


def _read(
    sources: list[Source], part: str, data: Data, spec: TaskSpec, ledger: Ledger, unread: dict[str, list[str]]
) -> Dataset:
    """The rows of the sources under the task's column names, each entered in the ledger; the columns that are not read."""
    found = []
    for source in sources:
        whole = source if source.path.startswith(SAMPLE_PREFIX) else source.model_copy(update={"rows": None})
        rows = read_source(whole, split=part, sample_by=spec.sample_by, seed=data.seed, key=f"data.{part}")
        places = places_of(source, spec.sample_by, f"data.{part}")
        numbers = ledger.enter(source.path, part, len(rows), places)
        with rows_named(lambda position, numbers=numbers: ledger.name(numbers[[position]], lines=True)):  # type: ignore[misc]
            rows, unread[source.path] = _mapped(rows, source, part, data, spec)
        rows = rows.add_column(ROW, numbers)
        if source.rows is not None and source.rows < len(rows):
            ledger.mark(numbers, f"{part}: beyond its source's rows")
            rows = rows.shuffle(seed=data.seed).select(range(source.rows))
            ledger.mark(row_numbers(rows), UNREAD)
        found.append(rows)
    for source, rows in zip(sources[1:], found[1:], strict=True):
        if rows.column_names != found[0].column_names:
            first, other = (", ".join(name for name in its.column_names if name != ROW) for its in (found[0], rows))
            message = f"{source.path} has the columns {other}, {sources[0].path} has {first}"
            raise UserError(message, "sources of one list need the same columns", key=f"data.{part}")
    if any(source.weight is not None for source in sources):
        found = _mixed(sources, found, part, data.seed, ledger)
    try:
        return found[0] if len(found) == 1 else concatenate_datasets(found)
    except ValueError as error:  # a column that is text in one and a number in another
        message = f"the sources' columns differ in type: {' '.join(str(error).split())[:200]}"
        raise UserError(message, "give each column one type in all sources of a list", key=f"data.{part}") from error


def _mapped(rows: Dataset, source: Source, part: str, data: Data, spec: TaskSpec) -> tuple[Dataset, list[str]]:
    """A source's rows under the task's column names, and the columns that are not read."""
    columns, path = data.columns | source.columns, source.path
    helpers = [name for name in (data.split_column, data.group_column, *data.slice_by) if name]
    rows = match_texts(rows, data.pattern) if data.pattern else rows
    require_columns(rows.column_names, spec, columns, path, helpers)
    read = read_columns(rows.column_names, spec, columns, path, helpers)
    unread = require_unmeaning(rows, read, part, path, data.ignore_columns)
    return map_columns(rows, spec, columns, path, helpers)[1], unread


def _clean(rows: Dataset, part: str, data: Data, spec: TaskSpec, ledger: Ledger, changed: dict[str, int]) -> Dataset:
    """The rows that data.clean leaves; what its steps drop is entered in the ledger, what they change in `changed`."""
    rows, dropped, altered = clean_rows(
        rows, data.clean, seed=data.seed, thin_out=part == "train", helpers=_helpers(data, spec, rows)
    )
    for reason, numbers in dropped.items():
        ledger.mark(numbers, f"removed: {reason}")
    changed |= {f"{part}: {step}": count for step, count in altered.items()}
    if not len(rows):
        raise UserError(f"no {part} row is left after data.clean", "loosen its steps", key="data.clean")
    return rows


def _thin_out(rows: dict[str, Dataset], data: Data, ledger: Ledger) -> None:
    """Take the training rows of labels that have more than their share out; rows to be measured on stay as they are."""
    if "train" not in rows:
        return
    rows["train"], dropped = thin_labels(rows["train"], data.clean, seed=data.seed)
    for reason, numbers in dropped.items():
        ledger.mark(numbers, f"removed: {reason}")


def _head(stream: StreamedRows, data: Data, *, held: bool) -> Dataset:
    """The first rows of a stream, cleaned.

    Args:
        held: they are all that is wanted, and are counted as read; else all rows are counted as they go by.
    """
    rows = stream.head(STREAM_HEAD)
    if held:
        numbers = stream.ledger.enter("the stream's first rows", "train", len(rows))
        rows = rows.remove_columns(ROW).add_column(ROW, numbers)
    rows, dropped, _ = clean_rows(rows, data.clean, seed=data.seed, thin_out=False, helpers=[])
    for reason, numbers in dropped.items() if held else ():
        stream.ledger.mark(numbers, f"removed: {reason}")
    if not len(rows):
        raise UserError("no row at the stream's beginning is left after data.clean", "loosen its steps", key="data.clean")
    return rows


def _mixed(sources: list[Source], found: list[Dataset], part: str, seed: int, ledger: Ledger) -> list[Dataset]:
    """As many rows of each source as its weight says, the most that takes no row twice; the others are counted as not taken.

    Raises:
        UserError: only some of the sources have a weight.
    """
    weights = [source.weight for source in sources]
    if None in weights:
        bare = sources[weights.index(None)].path
        raise UserError(
            f"{bare} has no weight, other sources of its list have one", "give each a weight", key=f"data.{part}"
        )
    shares = np.array(weights, dtype=float) / sum(filter(None, weights))
    total = min(len(rows) / share for rows, share in zip(found, shares, strict=True))
    taken = []
    for rows, share in zip(found, shares, strict=True):
        order = np.random.default_rng(seed).permutation(len(rows))
        count = min(len(rows), max(1, round(total * share)))
        ledger.mark(row_numbers(rows)[order[count:]], f"{part}: beyond its source's weight")
        taken.append(rows.select(np.sort(order[:count])))
    return taken


def _split(
    rows: Dataset,
    data: Data,
    spec: TaskSpec,
    strata: Callable[[Dataset], np.ndarray | None],
    parts: list[str],
    members: Callable[[Dataset], LabelsOfRows | None],
) -> Mapping[str, np.ndarray | list[int]]:
    sizes = {"eval": data.eval_size, "test": data.test_size}
    wanted = {part: size for part in parts if (size := sizes[part]) is not None}
    if data.split_column:
        found = split_by_column(column_values(rows, data.split_column))
        if missing := {"train", "eval"} - {part for part, positions in found.items() if positions}:
            message = f"the column '{data.split_column}' names no {missing.pop()} row"
            raise UserError(message, "name the sources of both, or split by size", key="data.split_column")
        return found
    if data.group_column:
        return split_by_group(column_values(rows, data.group_column), wanted, seed=data.seed)
    of_one, labels = strata(rows), members(rows)
    parts_of = split_rows(len(rows), wanted, seed=data.seed, labels=of_one)
    if labels is not None:
        parts_of = keep_in_train(parts_of, labels.rows, labels.codes, data.seed)
    if data.drop_overlap or data.gate.overlap >= 1:
        return parts_of
    compared = rows.remove_columns(_helpers(data, spec, rows))

    def copies(train: np.ndarray, measured: np.ndarray) -> list[tuple[int, int]]:
        found = find_overlap(compared.select(train), compared.select(measured), data.gate.similarity)
        return sorted(found.pairs())

    return keep_apart(parts_of, copies, of_one, labels, seed=data.seed)


def _less_blank(rows: dict[str, Dataset]) -> dict[str, Dataset]:
    """The splits less columns that would make chats of their rows and say nothing in any of them."""
    for name in BESIDE_CHATS:
        holding = {part: split for part, split in rows.items() if name in split.column_names}
        if all(is_empty(value) for split in holding.values() for value in split[name]):
            rows = rows | {part: split.remove_columns(name) for part, split in holding.items()}
    return rows


def _require_same_columns(rows: dict[str, Dataset]) -> None:
    """Raises UserError where one split has an optional column that another lacks."""
    found = {part: set(split.column_names) - {ROW} for part, split in rows.items()}
    for part, columns in found.items():
        if columns != (first := next(iter(found.values()))):
            other = next(iter(found))
            message = (
                f"the {part} rows have the columns {', '.join(sorted(columns))}, the {other} rows {', '.join(sorted(first))}"
            )
            raise UserError(message, "give both the same columns", key=f"data.{part}")


def _helpers(data: Data, spec: TaskSpec, rows: Dataset) -> list[str]:
    """The columns that are needed for splitting and analysing alone."""
    return [
        name
        for name in dict.fromkeys((data.split_column, data.group_column, *data.slice_by))
        if name and name in rows.column_names and name not in spec.roles
    ]


def _drop_overlap(splits: Splits, similarity: float) -> None:
    """Drop the training rows that are also eval or test rows, and say so in the ledger."""
    for part in MEASURED_PARTS:
        if part in splits.rows:
            _drop_rows_of(part, splits, similarity)


def _drop_rows_of(part: str, splits: Splits, similarity: float) -> None:
    measured = splits.rows[part]
    seen = find_overlap(measured, splits.rows["train"], similarity)  # looks up each training row
    twice = {row for row, _ in seen.pairs()}
    while twice:
        train = splits.rows["train"]
        if len(twice) == len(train):
            message = f"every training row is also among the {part} rows"
            raise UserError(message, f"give other {part} rows", key="data.drop_overlap")
        splits.ledger.mark(row_numbers(train)[sorted(twice)], f"removed: among the {part} rows too")
        splits.rows["train"] = train = train.select(np.setdiff1d(np.arange(len(train)), sorted(twice)))
        seen = find_overlap(train, measured, similarity)  # near ones are found by sampling: until the gate finds none
        twice = {other for _, other in seen.pairs()}


def find_overlap(train: Dataset, measured: Dataset, similarity: float) -> Overlap:
    """As `overlap`, from the cache where the same rows were compared before."""
    columns = given_columns(train)
    key = digest(train._fingerprint, measured._fingerprint, str(columns), str(similarity), code())
    file = beside_cache(train, f"overlap-{key}.json")
    if file is not None and file.is_file():
        kinds = json.loads(file.read_text(encoding="utf-8"))
        return Overlap(**{kind: [(row, other) for row, other in pairs] for kind, pairs in kinds.items()})
    found = overlap(given_rows(train), given_rows(measured), columns, similarity)
    if file is not None:
        write_json(file, asdict(found))
    return found


def _augmented(splits: Splits, data: Data) -> Dataset:
    block, rows = data.augment, splits.rows["train"]
    assert block is not None
    texts = [name for name in given_columns(rows) if name in ("text", "text_pair")]
    made, counts = augment(rows, texts, block.copies, list(block.operations), data.seed)
    splits.changed |= {f"train: copies by {name}": count for name, count in counts.items()}
    numbers = row_numbers(made)
    copies = splits.ledger.enter_copies(numbers[len(rows) :])  # each has a fate of its own
    return made.remove_columns(ROW).add_column(ROW, np.concatenate([numbers[: len(rows)], copies]))


def fingerprint(rows: Dataset) -> str:
    """SHA-256 of the rows' columns and values, in their order."""
    names = [name for name in rows.column_names if name != ROW]
    return tables.fingerprint(rows, names)
