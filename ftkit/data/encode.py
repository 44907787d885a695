"""Rows become token ids and labels: in batches, once, kept in the cache of `datasets` under what they were made from."""

import gc
import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
import transformers
from datasets import Dataset, Features, List, Value
from transformers import PreTrainedTokenizerBase

from ftkit import console
from ftkit.data.ledger import Outcome

IGNORED = -100  # the label of tokens that do not count in the loss
BATCH = 1000
OUTCOME = "outcome"
PLACE = "place"  # of each entry, which row of the batch it is of, where a row may become several
TOKENS = List(Value("int32"))

# Takes a batch of columns and the rows' positions; gives the columns that the model takes and each row's outcome. Where it
# makes several entries of a row it says of each, under `place`, which row of the batch it is of.
Encoder = Callable[[dict[str, list[Any]], list[int]], dict[str, list[Any]]]

# Takes the token ids of one row after another; gives the blocks that are full, and keeps the rest for the next rows.
Cutter = Callable[[list[list[int]]], list[list[int]]]


@dataclass
class Encoded:
    """Rows as the model takes them.

    Attributes:
        dataset: input_ids, labels and what else the model takes; one entry a kept row or several, or a block of text.
        rows: for each entry the position of the row in the split that it comes from.
        outcomes: for each row of the split an `Outcome`, shape (rows,).
        notes: further counts, as the number of tokens.
    """

    dataset: Dataset
    rows: list[int]
    outcomes: np.ndarray
    notes: dict[str, int] = field(default_factory=dict)

    @property
    def counts(self) -> dict[str, int]:
        """Rows by outcome in words, without those that did not occur."""
        found = Counter(self.outcomes.tolist())
        return {outcome.words: found[outcome] for outcome in Outcome if found[outcome]}


def encode(rows: Dataset, encoder: Encoder, columns: Features, key: str, name: str) -> Encoded:
    """Encode all rows and set aside those that the encoder dropped.

    Args:
        columns: what the encoder makes, without the outcome.
        key: names all that the result depends on beside the rows; the same key on the same rows is read from the cache.
        name: what the rows are called while the progress is shown.
    """
    with console.progress_bar() as bar, without_collection():
        task = bar.add_task(f"encoding {name}", total=len(rows))

        def step(batch: dict[str, list[Any]], positions: list[int]) -> dict[str, list[Any]]:
            made = encoder(batch, positions)
            bar.advance(task, len(positions))
            return made | {PLACE: [positions[place] for place in made.get(PLACE, range(len(positions)))]}

        encoded = rows.map(
            step, batched=True, batch_size=BATCH, with_indices=True, remove_columns=rows.column_names,
            features=Features({**columns, OUTCOME: Value("int8"), PLACE: Value("int64")}), load_from_cache_file=True,
            new_fingerprint=digest(rows._fingerprint, key),
        )  # fmt: skip
        bar.update(task, completed=len(rows))
    found, places = (encoded.data.column(name).to_numpy() for name in (OUTCOME, PLACE))
    outcomes = outcomes_of_rows(found, places, len(rows))
    kept = np.flatnonzero(found < Outcome.TOO_LONG)
    dataset = encoded.remove_columns([OUTCOME, PLACE])
    return Encoded(dataset if len(kept) == len(dataset) else dataset.select(kept), places[kept].tolist(), outcomes)


def outcomes_of_rows(found: np.ndarray, places: np.ndarray, count: int) -> np.ndarray:
    """The outcome of each row, shape (rows,), from those of its entries: it is the same for all of a row."""
    outcomes = np.full(count, Outcome.UNSUPERVISED, np.int8)
    outcomes[places] = found
    return outcomes


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
