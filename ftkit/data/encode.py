"""Rows become token ids and labels: in batches, once, kept in the cache of `datasets` under what they were made from."""

import gc
import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc  # type: ignore[import-untyped]
import tokenizers
import transformers
from datasets import Dataset, Features, List, Value
from transformers import PreTrainedTokenizerBase

from ftkit import console
from ftkit.data.ledger import Outcome

IGNORED = -100  # the label of tokens that do not count in the loss
BATCH = 1000
OUTCOME = "outcome"
OF = "of"  # where rows may have several entries: of each entry, which row of the batch it is of
LOST = "lost"  # labels of the words that stand behind the cut
REFERENCES = "references"  # all right answers of a row that has several, the one that is learnt first
SEVERAL = "rows with several entries"
ASIDE = (LOST, REFERENCES)  # what an encoder says of an entry that the model does not take
TOKENS = List(Value("int32"))

# Takes a batch of columns and the rows' positions; gives the columns of `Task.columns` and the outcome, one a row; or one an
# entry, entries of a row side by side, and then says in the column OF which row each is of.
Encoder = Callable[[dict[str, list[Any]], list[int]], dict[str, list[Any]]]

# Takes the token ids of one row after another; gives the blocks that are full, and keeps the rest for the next rows.
Cutter = Callable[[list[list[int]]], list[list[int]]]


@dataclass
class Encoded:
    """Rows as the model takes them.

    Attributes:
        dataset: input_ids, labels and what else the model takes; one entry a kept row, or a window or block of text.
        rows: for each entry the position of the row in the split that it comes from.
        outcomes: for each row of the split an `Outcome`, shape (rows,).
        notes: further counts, as the number of tokens.
        aside: for each entry what is known of it beside what the model takes, by the names in ASIDE; None where nothing is.
        members: of each block of packed rows, the positions of all its rows; None where nothing is packed.
    """

    dataset: Dataset
    rows: list[int]
    outcomes: np.ndarray
    notes: dict[str, int] = field(default_factory=dict)
    aside: Dataset | None = None
    members: list[list[int]] | None = None

    @property
    def counts(self) -> dict[str, int]:
        """Rows by outcome in words, without those that did not occur."""
        found = Counter(self.outcomes.tolist())
        return {outcome.words: found[outcome] for outcome in Outcome if found[outcome]}

    def known(self, name: str) -> list[Any] | None:
        """Of each entry what is known beside what the model takes; None where the task says no such thing."""
        return self.aside[name][:] if self.aside is not None and name in self.aside.column_names else None

    def count(self, name: str) -> np.ndarray:
        """Of each entry how many such things are known; of none where the task says no such thing, shape (entries,)."""
        if self.aside is None or name not in self.aside.column_names:
            return np.zeros(len(self.rows), np.int64)
        return np.asarray(pc.list_value_length(self.aside.with_format("arrow")[:][name]).to_numpy())

    def select(self, entries: np.ndarray) -> "Encoded":
        """Some of the entries; the rows of the others keep their outcome."""
        aside = self.aside.select(entries) if self.aside is not None else None
        return replace(self, dataset=self.dataset.select(entries), rows=[self.rows[entry] for entry in entries], aside=aside)


def longest_first(dataset: Dataset) -> np.ndarray:
    """The entries from the longest to the shortest, in which least is padded."""
    tables = dataset.select_columns("input_ids").with_format("arrow").iter(1000)
    lengths = np.concatenate([pc.list_value_length(table["input_ids"]).to_numpy() for table in tables])
    return np.argsort(-lengths, kind="stable")


def encode(rows: Dataset, encoder: Encoder, columns: Features, key: str, name: str) -> Encoded:
    """Encode all rows and set aside those that the encoder dropped.

    Args:
        columns: what the encoder makes, without the outcome.
        key: names all that the result depends on beside the rows; the same key on the same rows is read from the cache.
        name: what the rows are called while the progress is shown.
    """
    beside = [column for column in ASIDE if column in columns]
    with console.progress_bar() as bar, without_collection():
        task = bar.add_task(f"encoding {name}", total=len(rows))

        def step(batch: dict[str, list[Any]], positions: list[int]) -> dict[str, list[Any]]:
            made = encoder(batch, positions)
            made[OF] = [positions[index] for index in entries_of(made)]
            made |= {name: [[]] * len(made[OF]) for name in beside if name not in made}
            bar.advance(task, len(positions))
            return made

        encoded = rows.map(
            step, batched=True, batch_size=BATCH, with_indices=True, remove_columns=rows.column_names,
            features=Features({**columns, OUTCOME: Value("int8"), OF: Value("int64")}), load_from_cache_file=True,
            new_fingerprint=digest(rows._fingerprint, key),
        )  # fmt: skip
        bar.update(task, completed=len(rows))
    outcomes, of = (encoded.data.column(column).to_numpy() for column in (OUTCOME, OF))
    found = Encoded(
        encoded.remove_columns([OUTCOME, OF, *beside]), of.tolist(), outcomes_of_rows(outcomes, of),
        several(of), encoded.select_columns(beside) if beside else None,
    )  # fmt: skip
    kept = np.flatnonzero(outcomes < Outcome.TOO_LONG)
    return found if len(kept) == len(of) else found.select(kept)


def entries_of(made: dict[str, list[Any]]) -> list[int]:
    """Of each entry that an encoder made of a batch, which row of the batch it is of; takes the column out."""
    return list(made.pop(OF, range(len(made[OUTCOME]))))


def outcomes_of_rows(outcomes: np.ndarray, of: np.ndarray) -> np.ndarray:
    """Each row's outcome, shape (rows,), from those of its entries, which are all alike."""
    return np.asarray(outcomes[np.unique(of, return_index=True)[1]])


def several(of: np.ndarray) -> dict[str, int]:
    """The note that says how many rows have several entries, where some have."""
    found = int((np.unique(of, return_counts=True)[1] > 1).sum())
    return {SEVERAL: found} if found else {}


def model_columns(columns: Features) -> Features:
    """Those of an encoder's columns that the model takes."""
    return Features({name: kind for name, kind in columns.items() if name not in ASIDE})


@contextmanager
def without_collection() -> Iterator[None]:
    """No search for cycles, which token ids have none of: a fifth of the time that many rows take."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def encoding_key(tokenizer: PreTrainedTokenizerBase, settings: dict[str, Any]) -> str:
    """What an encoding depends on beside its rows: the tokenizer, the settings, and the code that does it."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    words = without_state(backend.to_str()) if backend else json.dumps(tokenizer.get_vocab(), sort_keys=True)
    special = json.dumps(tokenizer.special_tokens_map, sort_keys=True, default=str)
    sides = f"{tokenizer.truncation_side} {tokenizer.padding_side} {tokenizer.model_input_names}"
    versions = (transformers.__version__, tokenizers.__version__, sides)
    return digest(words, special, str(tokenizer.chat_template), json.dumps(settings, sort_keys=True), code(), *versions)


def without_state(tokenizer: str) -> str:
    """A serialised tokenizer without what the last call left in it."""
    return json.dumps(json.loads(tokenizer) | {"truncation": None, "padding": None}, sort_keys=True)


def beside_cache(rows: Dataset, name: str) -> Path | None:
    """A file beside the rows' own in the cache of `datasets`; None for rows held in memory."""
    files = rows.cache_files
    return Path(files[0]["filename"]).parent / name if files else None


def code() -> str:
    """A digest of the files that decide what an encoding is."""
    here = Path(__file__).parent
    files = sorted([*here.glob("*.py"), *(here.parent / "tasks").glob("*.py")])
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def digest(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]


def is_empty(value: Any) -> bool:
    """Whether a field says nothing: null, no number (NaN), white space, or an empty list."""
    return (
        value is None
        or value != value
        or (isinstance(value, str) and not value.strip())
        or (isinstance(value, list) and not value)
    )
