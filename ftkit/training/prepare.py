"""From a recipe's data to encoded splits that passed the gate, with every input row accounted for."""

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from datasets import ClassLabel, Dataset, IterableDataset
from rich.table import Table
from transformers import PretrainedConfig, PreTrainedTokenizerBase

from ftkit import console
from ftkit.data.encode import Encoded, beside_cache, digest, encode, encoding_key
from ftkit.data.gate import Facts, Finding, caveats, inspect, judge, require
from ftkit.data.ledger import ROW, Ledger, Outcome, row_numbers
from ftkit.data.packing import pack
from ftkit.data.splits import Splits, find_overlap, fingerprint, read_splits
from ftkit.data.streams import encode_stream, open_stream
from ftkit.errors import UserError
from ftkit.models.load import usable_length
from ftkit.recipe.schema import Gate, Recipe
from ftkit.tasks.base import Task

ALLOWED_WHEN_MEASURING = ("dropped", "cut_answer", "without_end", "double_start")


@dataclass
class Data:
    """The splits under the task's column names and as the model takes them, and what the gate found.

    Attributes:
        facts: of each split's entries as they are trained and measured on.
        stream: the training entries where they are streamed; `rows` and `encoded` then hold its first rows.
        streamed: the stream's rows by what became of them, as far as it was read.
    """

    splits: Splits
    encoded: dict[str, Encoded]
    max_length: int
    facts: dict[str, Facts] = field(default_factory=dict)
    stream: IterableDataset | None = None
    streamed: Counter[str] = field(default_factory=Counter)
    findings: list[Finding] = field(default_factory=list)

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
                "rows": len(rows), "sha256": fingerprint(rows), "entries": len(self.encoded[name].rows),
                **self.encoded[name].counts, **self.encoded[name].notes,
            }
            for name, rows in self.rows.items()
        }  # fmt: skip

    def measured_on(self, split: str) -> "Data":
        """The same data with one split as the eval rows."""
        splits = Splits({"eval": self.rows[split]}, self.ledger)
        return Data(
            splits, {"eval": self.encoded[split]}, self.max_length, {"eval": self.facts[split]}, findings=self.findings
        )

    def caveats(self) -> list[str]:
        """What the scores have to be read with."""
        return [*caveats(self.findings), *stream_caveats(self.streamed)]

    def report(self, batch_size: int) -> dict[str, Any]:
        """For data_report.json: every input row accounted for, what the gate found, lengths and padding.

        Args:
            batch_size: rows of a training batch, for the share of padding.
        """
        return {
            **self.ledger.report(),
            "changed": self.splits.changed,
            "splits": {name: facts.describe(batch_size) for name, facts in self.facts.items()},
            "gate": [finding.describe(self.ledger) for finding in self.findings],
            "caveats": self.caveats(),
            **({"streamed": {"read": sum(self.streamed.values()), **self.streamed}} if self.stream is not None else {}),
        }

    def table(self) -> Table:
        """Every input row by its fate, with the sum, for the screen."""
        fates = self.ledger.counts()
        share = len(self.ledger)
        rows = [[fate, f"{count:,}", f"{100 * count / share:.1f} %"] for fate, count in fates.items()]
        return console.table("", ["input rows", "", ""], [*rows, ["sum", f"{sum(fates.values()):,}", f"of {share:,} read"]])


def prepare(
    recipe: Recipe, task: Task, tokenizer: PreTrainedTokenizerBase, config: PretrainedConfig,
    parts: tuple[str, ...] = ("train", "eval"), learn: Callable[[Splits], None] | None = None,
) -> Data:  # fmt: skip
    """Read, split, encode and judge the rows.

    Args:
        parts: the splits that are wanted.
        learn: what the task takes from the rows before they are encoded; by default it fits itself to the training rows.

    Raises:
        UserError: rows cannot be read, or the gate refuses them.
    """
    started = time.monotonic()
    with console.status("reading the data"):
        splits = read_splits(recipe.data, recipe.spec, task.strata, parts)
        measured = parts[-1]
        limit_rows(splits, measured, recipe)
        (learn or (lambda found: task.fit(found.rows["train"])))(splits)
    max_length = usable_length(recipe.model, config, tokenizer)
    data, gate = Data(splits, {}, max_length), allowances(recipe)
    with console.status("encoding the data"):
        for name, rows in splits.rows.items():
            encoded = encode_rows(task, rows, tokenizer, config, max_length, name)
            add_split(data, name, encoded, task, tokenizer, gate, packing=recipe.data.packing)
    if {"train", "eval"} <= set(parts):
        with console.status("looking for eval rows among the training rows"):
            data.findings += overlap_findings(data, gate)
    console.show(data.table())
    console.say(f"data ready in {time.monotonic() - started:.1f} s")
    refused = [f for f in data.findings if "train" in parts or f.rule not in ALLOWED_WHEN_MEASURING]
    require(refused, data.ledger, recipe.place)
    for caveat in data.caveats():
        console.warn(caveat)
    for name, encoded in data.encoded.items():
        if not encoded.rows:
            message = f"no {name} row is left: see the table above"
            raise UserError(message, "raise model.max_length, or mend the data", key="model.max_length")
    if recipe.data.streaming and "train" in parts:
        rows = open_stream(recipe.data.train, recipe.data.columns, recipe.spec, recipe.data.seed)
        encoder = task.encoder(rows.features, tokenizer, config, max_length)
        columns, seed = task.columns(tokenizer), recipe.data.seed
        data.stream, data.streamed = encode_stream(rows, encoder, columns, splits.rows["eval"].remove_columns(ROW), seed)
    return data


def encode_rows(
    task: Task, rows: Dataset, tokenizer: PreTrainedTokenizerBase, config: PretrainedConfig, max_length: int, name: str
) -> Encoded:
    """The rows as the task encodes them, from the cache where this was done before.

    Raises:
        UserError: a field is of the wrong type, or the tokenizer or template lacks something.
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
    data: Data, name: str, encoded: Encoded, task: Task, tokenizer: PreTrainedTokenizerBase, gate: Gate, *, packing: bool
) -> None:
    """Judge an encoded split, enter it in the ledger, and arrange what is trained or measured on."""
    numbers, ends, start = data.splits.numbers(name), task.end_tokens(tokenizer), tokenizer.bos_token_id
    facts = inspect(encoded.dataset, ends, start)
    data.findings += judge(name, numbers, encoded, facts, gate, data.max_length)
    for finding in data.findings:
        if finding.rule == "unknown_label" and finding.split == name:
            finding.message += f": {unknown_labels(data.rows[name], encoded, task)}"
    if gate.unsupervised and not facts.supervised.all():
        encoded.outcomes = encoded.outcomes.copy()
        encoded.outcomes[np.asarray(encoded.rows)[facts.supervised == 0]] = Outcome.UNSUPERVISED
        kept = np.flatnonzero(facts.supervised)
        encoded.dataset, encoded.rows = encoded.dataset.select(kept), [encoded.rows[index] for index in kept]
    for outcome in Outcome:
        if (outcomes := encoded.outcomes == outcome).any():
            data.ledger.mark(numbers[outcomes], f"{name}: {outcome.words}")
    arranged = task.arrange(encoded, data.max_length) if encoded.rows else encoded
    if packing and name == "train" and arranged.rows:
        arranged = packed(arranged, data.max_length)
    data.encoded[name] = arranged
    if len(arranged.rows):
        data.facts[name] = facts if arranged is encoded and len(facts.lengths) == len(encoded.rows) else inspect(
            arranged.dataset, set(), None
        )  # fmt: skip


def unknown_labels(rows: Dataset, encoded: Encoded, task: Task) -> str:
    """The first few of them; where a row has several labels or tags, those that the model does not know."""
    chosen = rows.select(np.flatnonzero(encoded.outcomes == Outcome.UNKNOWN_LABEL)[:100])
    column = "label" if "label" in rows.column_names else "tags"
    feature, known = rows.features[column], task.settings()["labels"]
    inner = getattr(feature, "feature", feature)  # of a list
    as_name = inner.int2str if isinstance(inner, ClassLabel) else str
    single = [label for value in chosen[column] for label in (value if isinstance(value, list) else [value])]
    labels = [name for name in dict.fromkeys(map(as_name, single)) if name not in known]
    return ", ".join(f"'{label}'" for label in labels[:3]) + (", …" if len(labels) > 3 else "")


def stream_caveats(streamed: Counter[str]) -> list[str]:
    """What became of streamed rows that were not trained on; the gate saw only the first of them."""
    read = sum(streamed.values())
    dropped = {fate: count for fate, count in streamed.items() if fate.startswith("dropped")}
    return [f"{count:,} of {read:,} streamed train rows were {fate}" for fate, count in dropped.items()]


def packed(encoded: Encoded, max_length: int) -> Encoded:
    """Whole examples put together into blocks; a block is named after its first row."""
    name = f"packed-{digest(encoded.dataset._fingerprint, str(max_length))}.arrow"
    blocks, members = pack(encoded.dataset, max_length, file=beside_cache(encoded.dataset, name))
    notes = {**encoded.notes, "packed examples": len(encoded.rows)}
    return replace(encoded, dataset=blocks, rows=[encoded.rows[block[0]] for block in members], notes=notes)


def kept_rows(data: Data, name: str) -> Dataset:
    """A split's rows without those that were dropped; the very same rows where none was, so that the cache knows them."""
    rows, kept = data.rows[name], np.flatnonzero(data.encoded[name].outcomes < Outcome.TOO_LONG)
    return rows if len(kept) == len(rows) else rows.select(kept)


def overlap_findings(data: Data, gate: Gate) -> list[Finding]:
    """The eval rows that the training rows give away, each named with one of those rows; dropped rows do not count."""
    train, measured = (kept_rows(data, name) for name in ("train", "eval"))
    found, ledger = find_overlap(train, measured, gate.similarity), data.ledger
    eval_numbers, train_numbers = row_numbers(measured), row_numbers(train)
    kinds = {"equal": found.exact, "equal but for case and punctuation": found.normalised, "nearly equal": found.near}
    pairs = [(kind, row, other) for kind, rows in kinds.items() for row, other in rows]
    if not pairs:
        return []
    counts = ", ".join(f"{len(rows)} {kind}" for kind, rows in kinds.items() if rows)
    twins = {
        ledger.name([eval_numbers[row]]): {"kind": kind, "train": ledger.name([train_numbers[other]])}
        for kind, row, other in pairs
    }
    first, twin = next(iter(twins.items()))
    message = f"rows are also training rows: {counts}; {first} to {twin['train']}"
    hint = "drop such training rows with data.drop_overlap: true"
    rows = eval_numbers[sorted(row for _, row, _ in pairs)]
    return [
        Finding(
            "eval", "overlap", message, rows, len(eval_numbers), gate.overlap, hint, "data.gate.overlap", {"pairs": twins}
        )
    ]
