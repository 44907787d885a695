"""From a recipe's data to encoded splits that passed the gate, with every input row accounted for."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from rich.table import Table
from transformers import PretrainedConfig, PreTrainedTokenizerBase

from ftkit import console
from ftkit.data import tables
from ftkit.data.columns import given_rows
from ftkit.data.duplicates import Copies
from ftkit.data.encode import REFERENCES, SEVERAL, Encoded, beside_cache, digest, encode, encoding_key, model_columns
from ftkit.data.gate import OF_FIELDS, OF_LABELS, Facts, Finding, caveats, inspect, judge, require, room_hint
from ftkit.data.ledger import ROW, Ledger, Outcome, row_numbers
from ftkit.data.packing import pack
from ftkit.data.splits import MEASURED_PARTS, Splits, find_overlap, fingerprint, read_splits
from ftkit.data.streams import Stream, StreamEncoder
from ftkit.data.unknown import unknown_of
from ftkit.errors import UserError, rows_named
from ftkit.models.load import takes_longer, usable_length
from ftkit.recipe.schema import Data as DataBlock
from ftkit.recipe.schema import Gate, Recipe
from ftkit.tasks.base import Task, has_targets
from ftkit.training.data_words import count_labels, label_table, say_unread
from ftkit.units import time_words

MOST_LABELS = 3  # that a message names
ALLOWED_WHEN_MEASURING = ("dropped", "cut_answer", "without_end", "double_start")


@dataclass
class Data:
    """The splits under the task's column names and as the model takes them, and what the gate found.

    Attributes:
        facts: of each split's entries as they are trained and measured on.
        stream: the training entries where they are streamed; `rows` and `encoded` then hold its first rows.
        longer: whether the model takes more than `max_length` tokens.
        judged: what the gate found in rows that are held; `findings` has that of the stream too.
        labels: of each split that is held how often each label occurs.
    """

    splits: Splits
    encoded: dict[str, Encoded]
    max_length: int
    facts: dict[str, Facts] = field(default_factory=dict)
    stream: Stream | None = None
    judged: list[Finding] = field(default_factory=list)
    labels: dict[str, dict[str, int]] = field(default_factory=dict)
    longer: bool = True

    @property
    def findings(self) -> list[Finding]:
        """What the gate found, so far as a stream was read."""
        return [*self.judged, *(self.stream.findings() if self.stream else [])]

    @property
    def rows(self) -> dict[str, Dataset]:
        return self.splits.rows

    @property
    def ledger(self) -> Ledger:
        return self.splits.ledger

    def describe(self) -> dict[str, Any]:
        """Rows, outcomes and fingerprint of each split, for run.json."""
        return {
            name: {
                "rows": len(rows), "sha256": fingerprint(rows), "tokens_sha256": token_digest(self.encoded[name]),
                "entries": len(self.encoded[name].rows),
                **self.encoded[name].counts, **self.encoded[name].notes,
            }
            for name, rows in self.rows.items()
        }  # fmt: skip

    def measured_on(self, split: str) -> "Data":
        """The same data with one split as the eval rows."""
        splits = Splits({"eval": self.rows[split]}, self.ledger)
        return Data(
            splits, {"eval": self.encoded[split]}, self.max_length, {"eval": self.facts[split]}, judged=self.findings
        )

    def caveats(self, split: str) -> list[str]:
        """What scores on a split have to be read with: faults of its rows and of the training rows."""
        concerned = [finding for finding in self.findings if finding.split in ("train", split)]
        return [*caveats(concerned), *(self.stream.caveats() if self.stream else [])]

    def report(self, batch_size: int) -> dict[str, Any]:
        """For data_report.json: every input row accounted for, what the gate found, lengths and padding.

        Args:
            batch_size: rows of a training batch, for the share of padding.
        """
        return {
            **self.ledger.report(),
            **({"unread_columns": self.splits.unread} if self.splits.unread else {}),
            "changed": {**self.splits.changed, **(self.stream.changed() if self.stream else {})},
            **({"labels": self.labels} if self.labels else {}),
            "splits": {name: facts.describe(batch_size) for name, facts in self.facts.items()},
            "gate": [finding.describe(self.ledger) for finding in self.findings],
            "caveats": {name: self.caveats(name) for name in self.rows if name in MEASURED_PARTS},
            **({"streamed": self.stream.describe()} if self.stream else {}),
        }

    def table(self) -> Table:
        """Every input row by its fate, with the sum, for the screen."""
        fates = self.ledger.counts()
        share = len(self.ledger)
        copies = self.ledger.copies
        origin = f"of {share - copies:,} read{f' and {copies:,} copied' if copies else ''}"
        rows = [[fate, f"{count:,}", f"{100 * count / share:.1f} %"] for fate, count in fates.items()]
        return console.table("", ["input rows", "", ""], [*rows, ["sum", f"{sum(fates.values()):,}", origin]])


def token_digest(encoded: Encoded) -> str:
    """SHA-256 of all that the model takes of the entries, in their order."""
    return tables.fingerprint(encoded.dataset, sorted(encoded.dataset.column_names))


def prepare(
    recipe: Recipe, task: Task, tokenizer: PreTrainedTokenizerBase, config: PretrainedConfig,
    parts: tuple[str, ...] = ("train", "eval"), learn: Callable[[Splits], None] | None = None,
) -> Data:  # fmt: skip
    """Read, split, encode and judge the rows.

    Args:
        parts: the splits that are wanted; the test rows are always looked at beside training and eval rows.
        learn: what the task takes from the rows before they are encoded; by default it fits itself to the training rows.

    Raises:
        UserError: rows cannot be read, or the gate refuses them.
    """
    started = time.monotonic()
    with console.status("reading the data"):
        splits = read_splits(recipe.data, recipe.spec, task.strata, with_test(recipe.data, parts), task.members)
        require_parts(splits, parts, recipe.data)
        say_unread(splits.unread)
        measured = [name for name in MEASURED_PARTS if name in splits.rows]
        for name in measured or parts:
            limit_rows(splits, name, recipe)
        (learn or (lambda found: task.fit(found.rows["train"], config)))(splits)
    max_length = usable_length(task.auto_class(config), recipe.model, config, tokenizer)
    longer = takes_longer(task.auto_class(config), config, tokenizer, max_length)
    data, gate = Data(splits, {}, max_length, longer=longer), allowances(recipe)
    with console.status("encoding the data"):
        for name, rows in splits.rows.items():
            with rows_named(row_namer(splits, name)):
                encoded = encode_rows(task, rows, tokenizer, config, max_length, name)
            packing = recipe.data.packing and name == "train" and "eval" in parts  # to be trained on, not measured
            add_split(data, name, encoded, task, tokenizer, gate, packing=packing, pairs=has_targets(task, config))
    if recipe.data.streaming and {"train", "eval"} <= set(parts):
        data.stream = open_stream(recipe, data, task, tokenizer, config)
        data.stream.judge_ahead(entries_of_training(recipe), recipe.data.judged_rows)
    for name in measured if "train" in parts and data.stream is None else ():  # a stream drops such rows
        with console.status(f"looking for {name} rows among the training rows"):
            data.judged += overlap_findings(data, name, gate)
    held = {name: rows for name, rows in data.rows.items() if name != "train" or splits.stream is None}
    data.labels = count_labels(task, held)
    console.show(data.table())
    if data.labels:
        console.show(label_table(data.labels))
    console.say(f"data ready in {time_words(time.monotonic() - started)}")
    refused = [f for f in data.findings if "train" in parts or f.rule not in ALLOWED_WHEN_MEASURING]
    require(refused, data.ledger, recipe.place)
    for caveat in caveats(data.findings):
        console.warn(caveat)
    for name, encoded in data.encoded.items():
        if not encoded.rows:
            long = (encoded.outcomes == Outcome.TOO_LONG).any()
            hint = f"{room_hint(longer=longer)}, or mend the data" if long else "mend the data"
            key = "model.max_length" if long else "data"
            raise UserError(f"no {name} row is left: see the table above", hint, key=key)
    return data


def with_test(block: DataBlock, parts: tuple[str, ...]) -> tuple[str, ...]:
    """The parts, and the test rows where there are some that must not be among the training rows."""
    training = {"train", "eval"} <= set(parts) and "test" not in parts
    return (*parts, "test") if training and block.names_test else parts


def require_parts(splits: Splits, parts: tuple[str, ...], block: DataBlock) -> None:
    """Raises UserError where a wanted part has no row."""
    if missing := [part for part in parts if part not in splits.rows]:
        message = f"the column '{block.split_column}' names no {missing[0]} row"
        raise UserError(message, f"name some, or give a source with data.{missing[0]}", key="data.split_column")


def row_namer(splits: Splits, part: str) -> Callable[[int], str]:
    """A function that says where the row at a position of a split stands, as its owner finds it."""
    return lambda position: splits.ledger.name(splits.numbers(part)[[position]], lines=True)


def encode_rows(
    task: Task, rows: Dataset, tokenizer: PreTrainedTokenizerBase, config: PretrainedConfig, max_length: int, name: str
) -> Encoded:
    """The rows as the task encodes them, from the cache where this was done before.

    Raises:
        RowError: a field of a row is of the wrong type.
        UserError: the tokenizer or template lacks something.
    """
    settings = {
        "task": type(task).__name__,
        "max_length": max_length,
        "model": config.model_type,
        "rows": str(rows.features),
    }
    key = encoding_key(tokenizer, settings | task.settings())
    return encode(rows, task.encoder(rows.features, tokenizer, config, max_length), task.columns(tokenizer), key, name)


def limit_rows(splits: Splits, part: str, recipe: Recipe) -> None:
    """Measure at most evaluation.rows rows, drawn with data.seed."""
    limit, rows = recipe.evaluation.rows, splits.rows[part]
    if limit is not None and limit < len(rows):
        chosen = rows.shuffle(seed=recipe.data.seed).select(range(limit))
        splits.ledger.mark(splits.numbers(part), f"{part}: beyond evaluation.rows")
        splits.rows[part] = chosen


def allowances(recipe: Recipe) -> Gate:
    """The recipe's gate; `drop_empty` allows any number of empty fields."""
    return recipe.data.gate.model_copy(update={"empty": 1.0} if recipe.data.drop_empty else {})


def add_split(
    data: Data, name: str, encoded: Encoded, task: Task, tokenizer: PreTrainedTokenizerBase, gate: Gate,
    *, packing: bool, pairs: bool,
) -> None:  # fmt: skip
    """Judge an encoded split, enter it in the ledger, and arrange what is trained or measured on."""
    numbers, ends, start = data.splits.numbers(name), task.end_tokens(tokenizer), tokenizer.bos_token_id
    facts = inspect(encoded.dataset, ends, start, pairs=pairs, unknown=unknown_of(tokenizer))
    streamed = name == "train" and data.splits.stream is not None and "eval" in data.rows  # judged and counted as it is read
    found = [] if streamed else judge(name, numbers, encoded, facts, gate, data.max_length, longer=data.longer)
    for finding in found:
        if finding.rule in (*OF_LABELS, *OF_FIELDS):
            finding.message += f": {named_faults(data.rows[name], encoded, task, data.ledger, finding.rule)}"
    data.judged += found
    if gate.unsupervised and not facts.supervised.all():
        encoded = replace(encoded, outcomes=encoded.outcomes.copy())
        encoded.outcomes[np.asarray(encoded.rows)[facts.supervised == 0]] = Outcome.UNSUPERVISED
        encoded = encoded.select(np.flatnonzero(facts.supervised))
    for outcome in Outcome if not streamed else ():
        if (outcomes := encoded.outcomes == outcome).any():
            data.ledger.mark(numbers[outcomes], f"{name}: {outcome.words}")
    if several := encoded.notes.get(SEVERAL):
        console.say(f"{name}: {several:,} rows {task.several}")
    if several := int((encoded.count(REFERENCES) > 0).sum()):
        how = "the first is learnt" if name == "train" else "the loss is of the first, metrics of text are of all"
        console.say(f"{name}: {several:,} rows have several answers; {how}")
        encoded = replace(encoded, notes={**encoded.notes, "rows with several answers": several})
    arranged = task.arrange(encoded, data.max_length) if encoded.rows else encoded
    if packing and arranged.rows:
        arranged = packed(arranged, data.max_length)
    data.encoded[name] = arranged
    if len(arranged.rows):
        data.facts[name] = facts if arranged is encoded and len(facts.lengths) == len(encoded.rows) else inspect(
            arranged.dataset, set(), None, pairs=pairs
        )  # fmt: skip


def named_faults(rows: Dataset, encoded: Encoded, task: Task, ledger: Ledger, rule: str) -> str:
    """The first few faults of a rule whose findings name them."""
    return (lost_fields if rule in OF_FIELDS else unknown_labels)(rows, encoded, task, ledger)


def lost_fields(rows: Dataset, encoded: Encoded, task: Task, ledger: Ledger) -> str:
    """What leaves no token in the first row that is left out for it."""
    first = rows.select(np.flatnonzero(encoded.outcomes == Outcome.LOST_TEXT)[:1])
    place = f" in {ledger.name([first[0][ROW]])}" if ROW in rows.column_names else ""
    return ", ".join(task.lost_fields(first[0])[:MOST_LABELS]) + place


def unknown_labels(rows: Dataset, encoded: Encoded, task: Task, ledger: Ledger) -> str:
    """The first few labels that the model does not know, each with its first row and the nearest that the model knows."""
    chosen = rows.select(np.flatnonzero(np.isin(encoded.outcomes, (Outcome.UNKNOWN_LABEL, Outcome.NO_NUMBER)))[:100])
    found: dict[str, tuple[int, str]] = {}
    for position, labels in enumerate(task.unknown_labels(chosen)):
        for label, nearest in labels.items():
            found.setdefault(label, (position, nearest))
    words = []
    for label, (position, nearest) in list(found.items())[:MOST_LABELS]:
        named = len(found) > 1 and ROW in rows.column_names  # of a single one the finding names the rows
        place = f" in {ledger.name([chosen[position][ROW]])}" if named else ""
        words.append(f"'{label}'{place}" + (f", nearest '{nearest}'" if nearest else ""))
    return "; ".join(words) + ("; …" if len(found) > MOST_LABELS else "")


def open_stream(
    recipe: Recipe, data: Data, task: Task, tokenizer: PreTrainedTokenizerBase, config: PretrainedConfig
) -> Stream:
    """The training entries, read and judged as they are needed."""
    rows, block, head = data.splits.stream, recipe.data, data.rows["train"].remove_columns(ROW)
    assert rows is not None
    measured = {name: given_rows(held) for name, held in data.rows.items() if name in MEASURED_PARTS}
    encoder = StreamEncoder(
        encoder=task.encoder(head.features, tokenizer, config, data.max_length),
        features=rows.features, columns=model_columns(task.columns(tokenizer)), clean=block.clean,
        copies={name: Copies(held, held.column_names, block.gate.similarity) for name, held in measured.items()},
        ends=task.end_tokens(tokenizer), start=tokenizer.bos_token_id, unknown=unknown_of(tokenizer),
        pairs=has_targets(task, config),
        gate=allowances(recipe), max_length=data.max_length, longer=data.longer,
        name_faults=lambda labelled, encoded, rule: named_faults(labelled, encoded, task, data.ledger, rule),
        name_rows=lambda numbers: data.ledger.name(numbers, lines=True),
    )  # fmt: skip
    return Stream(rows, encoder, recipe.place, lambda: task.cutter(data.max_length))


def entries_of_training(recipe: Recipe) -> int:
    """How many entries of a stream the Trainer takes: those of all steps, and of one more that is fetched ahead."""
    training = recipe.training
    step = training.per_device_train_batch_size * training.gradient_accumulation_steps * max(1, torch.cuda.device_count())
    return int(step * (training.max_steps + 1))


def packed(encoded: Encoded, max_length: int) -> Encoded:
    """Whole examples put together into blocks; a block is named after its first row."""
    name = f"packed-{digest(encoded.dataset._fingerprint, str(max_length))}.arrow"
    blocks, members = pack(encoded.dataset, max_length, file=beside_cache(encoded.dataset, name))
    notes = {**encoded.notes, "packed examples": len(encoded.rows)}
    rows = [[encoded.rows[entry] for entry in block] for block in members]
    return replace(encoded, dataset=blocks, rows=[block[0] for block in rows], members=rows, notes=notes)


def kept_rows(data: Data, name: str) -> Dataset:
    """A split's rows without those that were dropped; the very same rows where none was, so that the cache knows them."""
    rows, kept = data.rows[name], np.flatnonzero(data.encoded[name].outcomes < Outcome.TOO_LONG)
    return rows if len(kept) == len(rows) else rows.select(kept)


def overlap_findings(data: Data, name: str, gate: Gate) -> list[Finding]:
    """The rows of a split that the training rows give away, each named with one of those rows; dropped rows do not count."""
    train, measured = (kept_rows(data, part) for part in ("train", name))
    found, ledger = find_overlap(train, measured, gate.similarity), data.ledger
    numbers, train_numbers = row_numbers(measured), row_numbers(train)
    kinds = found.kinds()
    pairs = [(kind, row, other) for kind, rows in kinds.items() for row, other in rows]
    if not pairs:
        return []
    counts = ", ".join(f"{len(rows)} {kind}" for kind, rows in kinds.items() if rows)
    twins = {
        ledger.name([numbers[row]]): {"kind": kind, "train": ledger.name([train_numbers[other]])}
        for kind, row, other in pairs
    }
    first, twin = next(iter(twins.items()))
    message = f"rows are also training rows: {counts}; {first} to {twin['train']}"
    hint = "drop such training rows with data.drop_overlap: true"
    rows = numbers[sorted(row for _, row, _ in pairs)]
    return [Finding(name, "overlap", message, rows, len(numbers), gate.overlap, hint, "data.gate.overlap", {"pairs": twins})]
