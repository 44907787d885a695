"""Training rows that are read as they are needed, for sets larger than memory or disk: pass after pass, each row judged."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any

import numpy as np
import torch
from datasets import Dataset, Features, IterableDataset, Value, concatenate_datasets, interleave_datasets

from ftkit import console
from ftkit.data.archives import LIBRARY_ERRORS
from ftkit.data.cells import match_texts
from ftkit.data.clean import clean_batch, cleaned_features
from ftkit.data.columns import given_rows, map_columns, read_columns, require_columns
from ftkit.data.duplicates import Copies
from ftkit.data.encode import OUTCOME, TOKENS, Cutter, Encoded, Encoder, entries_of, outcomes_of_rows
from ftkit.data.gate import OF_FIELDS, OF_LABELS, Finding, inspect, judge, require
from ftkit.data.ledger import REMEMBERED, ROW, Counts, Ledger, Outcome
from ftkit.data.places import Places
from ftkit.data.sources import places_of, stream_source
from ftkit.data.unknown import Unknown
from ftkit.data.unread import require_unmeaning
from ftkit.errors import UserError, rows_named
from ftkit.hub.offline import online
from ftkit.recipe.schema import Clean, Columns, Gate, Source
from ftkit.recipe.tasks import TaskSpec

BUFFER = 10_000  # entries among which the next one is drawn
BATCH = 1000

Entry = dict[str, Any]


class StreamedRows:
    """The rows of a list of sources under the task's column names, each with its number in the ledger.

    Files are read one after another, in an order drawn for each pass; from sources with weights the next row is drawn, until
    one is exhausted.

    Raises:
        UserError: a source cannot be streamed or lacks a column, or only some of the sources have a weight.
    """

    def __init__(
        self, sources: list[Source], columns: Columns, spec: TaskSpec, seed: int, ledger: Ledger, clean: Clean,
        ignored: Sequence[str] = (), pattern: str | None = None,
    ) -> None:  # fmt: skip
        self.seed, self.ledger, self.clean = seed, ledger, clean
        self.unread: dict[str, list[str]] = {}
        self._ignored, self._pattern = ignored, pattern
        self.weights = [source.weight for source in sources if source.weight is not None]
        if self.weights and len(self.weights) < len(sources):
            raise UserError("only some of the sources have a weight", "give each a weight", key="data.train")
        self._parts = [
            [self._numbered(*part, columns | source.columns, spec) for part in open_parts(source, spec)]
            for source in sources
        ]

    def _numbered(
        self, name: str, rows: IterableDataset, places: Places | None, columns: Columns, spec: TaskSpec
    ) -> IterableDataset:
        first = self.ledger.enter_stream(name, "train", places)
        with online(), readable(), self.named():
            rows = match_texts(rows, self._pattern, first) if self._pattern else rows
            require_columns(rows.column_names, spec, columns, name, ())
            read = read_columns(rows.column_names, spec, columns, name, ())
            self.unread[name] = require_unmeaning(rows, read, "train", name, self._ignored)
            rows = map_columns(rows, spec, columns, name, first=first)[1]
        features = Features({**rows.features, ROW: Value("int64")})
        return rows.map(
            number_rows, batched=True, batch_size=BATCH, with_indices=True, fn_kwargs={"first": first}, features=features
        )

    def named(self) -> AbstractContextManager[None]:
        """Inside the block a row that is to blame is named by its file."""
        return rows_named(lambda number: self.ledger.name([number], lines=True))

    def of_pass(self, number: int) -> IterableDataset:
        """The rows in the order of one pass.

        Raises:
            UserError: the sources' columns differ.
        """
        dice = np.random.default_rng((self.seed, number))
        lists = self._parts if self.weights else [[part for parts in self._parts for part in parts]]
        try:
            found = [concatenate_datasets([parts[index] for index in dice.permutation(len(parts))]) for parts in lists]
            if not self.weights:
                return found[0]
            shares = [weight / sum(self.weights) for weight in self.weights]
            return interleave_datasets(found, probabilities=shares, seed=self.seed + number)
        except ValueError as error:  # a column that is text in one and a number in another
            message = f"the sources' columns differ in type: {' '.join(str(error).split())[:200]}"
            raise UserError(message, "give each column one type in all sources", key="data.train") from error

    @property
    def features(self) -> Features:
        """The columns' types, without the row's number."""
        features = self._parts[0][0].features
        return Features({name: kind for name, kind in features.items() if name != ROW})

    def head(self, size: int) -> Dataset:
        """The beginning of the first pass as rows that can be looked at.

        Raises:
            UserError: there is none.
        """
        rows = self.of_pass(0)
        with online(), readable(), self.named():
            found = list(rows.take(size))
        if not found:
            raise UserError("the stream has no rows", "check the files", key="data.train")
        return Dataset.from_list(found, features=rows.features)


def open_parts(source: Source, spec: TaskSpec) -> list[tuple[str, IterableDataset, Places | None]]:
    """A source's files by name, so that a row is found again in its file whatever their order; or the source as one."""
    with readable():
        rows = stream_source(source, sample_by=spec.sample_by, key="data.train")
    places = places_of(source, spec.sample_by, "data.train")
    if source.rows is not None or rows.num_shards == 1:
        return [(source.path, rows, places)]
    parts = places.parts if places else []
    shards = range(rows.num_shards)
    if len(parts) != len(shards):
        return [(f"{source.path} (part {index + 1})", rows.shard(len(shards), index), None) for index in shards]
    return [(parts[index].names[0], rows.shard(len(shards), index), parts[index]) for index in shards]


def number_rows(batch: dict[str, list[Any]], positions: list[int], first: int) -> dict[str, list[int]]:
    return {ROW: [first + position for position in positions]}


class readable:
    """Inside the block what a library says of broken data becomes an error for the user."""

    def __enter__(self) -> None:
        """Nothing is needed."""

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, LIBRARY_ERRORS) and not (isinstance(error, OSError) and error.errno):
            message = f"the stream cannot be read on: {' '.join(str(error).split())[:300]}"
            hint = "mend the file; `ftkit check` without data.streaming names the line, where the set fits into memory"
            raise UserError(message, hint, key="data.train") from error


@dataclass
class Pass:
    """One pass over a stream as far as it was read; what is held does not grow with the rows.

    Attributes:
        judged: rows that were encoded and judged: those that cleaning left, less copies of eval rows.
        findings: what breaks a rule, by the rule's name, with the first rows of each.
        changed: rows changed by a cleaning step.
        whole: whether the pass came to its end.
    """

    counts: Counts = field(default_factory=Counts)
    judged: int = 0
    findings: dict[str, Finding] = field(default_factory=dict)
    changed: Counter[str] = field(default_factory=Counter)
    whole: bool = False

    def add(self, finding: Finding) -> None:
        known = self.findings.get(finding.rule)
        if known is not None:
            rows = np.concatenate([known.rows, finding.rows])[:REMEMBERED]
            finding = replace(known, rows=rows, count=known.found + finding.found)
        self.findings[finding.rule] = replace(finding, rows=finding.rows[:REMEMBERED], count=finding.found)

    def found(self, least: int = 0) -> list[Finding]:
        """The findings, with their share of the rows judged so far, or of `least` rows where there are fewer."""
        return [replace(finding, of=max(self.judged, least)) for finding in self.findings.values()]


@dataclass
class StreamEncoder:
    """Batches of rows become entries that the model takes; every row is cleaned, looked up among the eval rows and judged.

    Attributes:
        features: of the rows before cleaning.
        columns: what the encoder makes that the model takes.
        copies: the rows of each measured part; training rows like them are dropped.
        ends: token ids that end an answer.
        start: the tokenizer's start token, or None.
        unknown: the tokenizer's unknown token.
        pairs: the model reads a prompt with one part and writes with another.
        name_faults: what breaks a rule in words, as labels that the model does not know; of rows with their numbers.
        name_rows: rows in words, by their numbers.
        longer: whether the model takes more than `max_length` tokens.
    """

    encoder: Encoder
    features: Features
    columns: Features
    clean: Clean
    copies: dict[str, Copies]
    ends: set[int]
    start: int | None
    unknown: Unknown
    pairs: bool
    gate: Gate
    max_length: int
    name_faults: Callable[[Dataset, Encoded, str], str]
    name_rows: Callable[[np.ndarray], str]
    longer: bool = True

    def __call__(self, batch: dict[str, list[Any]], found: Pass) -> list[Entry]:
        """The entries of a batch; its rows are counted in `found`."""
        numbers, features = np.array(batch.pop(ROW), np.int64), cleaned_features(self.features, self.clean)
        found.counts.enter(numbers)
        batch, dropped, changed = clean_batch(batch, self.features, self.clean)
        found.changed.update(changed)
        rows = Dataset.from_dict(batch, features=features)
        kept = np.ones(len(rows), bool)
        for reason, positions in dropped.items():
            found.counts.mark(numbers[positions], f"removed: {reason}")
            kept[positions] = False
        for part, copies in self.copies.items():
            left = np.flatnonzero(kept)
            twice = left[copies.find(given_rows(rows.select(left)))]
            found.counts.mark(numbers[twice], f"removed: among the {part} rows too")
            kept[twice] = False
        places = np.flatnonzero(kept)
        return self._encode(rows.select(places), places + int(found.counts.read) - len(numbers), numbers[places], found)

    def _encode(self, rows: Dataset, positions: np.ndarray, numbers: np.ndarray, found: Pass) -> list[Entry]:
        if not len(rows):
            return []
        places = {position: place for place, position in enumerate(positions.tolist())}
        with rows_named(lambda position: self.name_rows(numbers[[places[position]]])):
            made = self.encoder(rows[:], positions.tolist())
        of, fates = np.array(entries_of(made)), np.array(made.pop(OUTCOME), np.int8)
        outcomes, kept = outcomes_of_rows(fates, of), np.flatnonzero(fates < Outcome.TOO_LONG)
        made = {name: [made[name][index] for index in kept] for name in self.columns}
        encoded = Encoded(Dataset.from_dict(made, features=self.columns), of[kept].tolist(), outcomes)
        facts = inspect(encoded.dataset, self.ends, self.start, pairs=self.pairs, unknown=self.unknown)
        found.judged += len(rows)
        for finding in judge("train", numbers, encoded, facts, self.gate, self.max_length, longer=self.longer):
            if finding.rule in (*OF_LABELS, *OF_FIELDS) and finding.rule not in found.findings:
                finding.message += f": {self.name_faults(rows.add_column(ROW, numbers), encoded, finding.rule)}"
            found.add(finding)
        learnt = facts.supervised > 0
        outcomes[of[kept[~learnt]]] = Outcome.UNSUPERVISED
        for outcome in Outcome:
            found.counts.mark(numbers[outcomes == outcome], f"train: {outcome.words}")
        entries = (dict(zip(made, values, strict=True)) for values in zip(*made.values(), strict=True))
        return [entry for entry, taken in zip(entries, learnt, strict=True) if taken]


class Stream(torch.utils.data.IterableDataset[Entry]):
    """The entries that are trained on: pass after pass without end, each in an order of its own, every row judged.

    To the Trainer it is one long epoch, and the entries follow from the seed alone; so a resumed run that passes over those
    it has had goes on with the very next one, in whichever pass that is.

    Args:
        place: gives the place of a recipe key.
        cutter: makes what lays rows end to end and cuts them into blocks, or None; asked each time the stream is begun.
    """

    def __init__(
        self, rows: StreamedRows, encoder: StreamEncoder, place: Callable[[str], str], cutter: Callable[[], Cutter | None]
    ) -> None:
        self.rows, self.encoder, self.place, self._cutter = rows, encoder, place, cutter
        self.counted = Pass()  # the pass that read most rows; the reports are about it
        self._judged = 0  # rows that were judged ahead

    def __iter__(self) -> Iterator[Entry]:
        cut = self._cutter()
        for number in count():
            found = Pass()
            dice = np.random.default_rng((self.rows.seed, number))
            yield from shuffle(self._entries(number, found, cut, strict=True), self.encoder.columns, dice)
            if not found.judged:
                raise UserError("no row of the stream is left to train on", "loosen data.clean", key="data.train")

    def _entries(self, number: int, found: Pass, cut: Cutter | None, *, strict: bool) -> Iterator[list[Entry]]:
        """The entries of a pass, batch by batch.

        Args:
            strict: stop at the batch in which there is more of a fault than the recipe allows.
        """
        batches = iter(self.rows.of_pass(number).iter(batch_size=BATCH))
        while True:
            with online(), readable(), self.rows.named():
                batch = next(batches, None)
            if batch is None:
                break
            entries = self.encoder(batch, found)
            if found.counts.read >= self.counted.counts.read:
                self.counted, self.rows.ledger.streamed = found, found.counts
            if strict:
                require(found.found(self._judged), self.rows.ledger, self.place)
            if cut is not None:
                entries = [{"input_ids": ids, "labels": ids} for ids in cut([entry["input_ids"] for entry in entries])]
            yield entries
        found.whole = True

    def judge_ahead(self, entries: int, rows: int | None) -> None:
        """Read the first pass as the training will, as far as it will, and count and judge its rows.

        Args:
            entries: how many the training takes; the buffer it draws from is filled beyond them.
            rows: stop after so many rows all the same.
        """
        found, taken = Pass(), 0
        with console.progress_bar() as bar:
            task = bar.add_task("judging the stream", total=entries + BUFFER)
            for batch in self._entries(0, found, self._cutter(), strict=False):
                taken += len(batch)
                bar.update(task, completed=min(taken, entries + BUFFER))
                if taken >= entries + BUFFER or (rows is not None and found.counts.read >= rows):
                    break
            bar.update(task, total=taken, completed=taken)
        self._judged = found.judged
        names = self.rows.clean.label_map.items() if found.whole else ()
        if missing := [old for old, new in names if not found.changed[f"label {old} → {new}"]]:
            message = f"no row has the label '{missing[0]}'"
            raise UserError(message, "rename a label that is there", key="data.clean.label_map")

    def findings(self) -> list[Finding]:
        """What breaks a rule in the pass that read most rows."""
        return self.counted.found()

    def caveats(self) -> list[str]:
        """Training rows that are missing since they are eval rows too."""
        fates, read = self.counted.counts.fates, self.counted.counts.read
        return [
            f"{fates[fate]:,} of {read:,} streamed train rows were {fate}"
            for fate in (f"removed: among the {part} rows too" for part in self.encoder.copies)
            if fates[fate]
        ]

    def changed(self) -> dict[str, int]:
        """Rows changed by each cleaning step, for the report."""
        return {f"train: {step}": changed for step, changed in self.counted.changed.items() if changed}

    def describe(self) -> dict[str, Any]:
        """For the report: how much of one pass was read, and how much of that before step 0."""
        counts = self.counted.counts
        return {
            "read": counts.read, "whole_pass": self.counted.whole, "judged_before_step_0": self._judged, **counts.fates
        }  # fmt: skip


def shuffle(batches: Iterator[list[Entry]], columns: Features, dice: np.random.Generator) -> Iterator[Entry]:
    """The entries, each drawn from a buffer that the next one then takes its place in."""
    tokens = [name for name, kind in columns.items() if kind == TOKENS]
    buffer: list[Entry] = []

    def small(entry: Entry) -> Entry:  # a list of numbers takes ten times the memory
        return entry | {name: np.array(entry[name], np.int32) for name in tokens}

    def whole(entry: Entry) -> Entry:
        return entry | {name: entry[name].tolist() for name in tokens}

    for batch in batches:
        places = iter(dice.integers(0, BUFFER, len(batch)).tolist())
        for entry in batch:
            if len(buffer) < BUFFER:
                buffer.append(small(entry))
            else:
                place = next(places)
                yield whole(buffer[place])
                buffer[place] = small(entry)
    for place in dice.permutation(len(buffer)).tolist():
        yield whole(buffer[place])
