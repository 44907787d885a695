"""Training rows that are read as they are needed, for sets larger than memory or disk; counted as they go by."""

from collections import Counter
from typing import Any

from datasets import Dataset, Features, IterableDataset, concatenate_datasets, interleave_datasets

from ftkit.data.columns import given_columns, map_columns
from ftkit.data.duplicates import normalise
from ftkit.data.encode import OUTCOME, Encoder
from ftkit.data.ledger import Outcome
from ftkit.data.sources import stream_source
from ftkit.errors import UserError
from ftkit.recipe.schema import Source
from ftkit.recipe.tasks import TaskSpec

BUFFER = 10_000  # rows among which the next one is drawn
BATCH = 1000
SEEN = "dropped, among the eval rows too"


def open_stream(sources: list[Source], columns: dict[str, str], spec: TaskSpec, seed: int) -> IterableDataset:
    """The rows of the sources under the task's column names: one after another, or drawn by weight until one is exhausted.

    Raises:
        UserError: a source cannot be streamed or lacks a column, or only some of the sources have a weight.
    """
    found = []
    for source in sources:
        rows = stream_source(source, sample_by=spec.sample_by, key="data.train")
        found.append(map_columns(rows, spec, columns, source.path)[1])
    weights = [source.weight for source in sources if source.weight is not None]
    if weights and len(weights) < len(sources):
        raise UserError("only some of the sources have a weight", "give each a weight", key="data.train")
    if weights:
        return interleave_datasets(found, probabilities=[weight / sum(weights) for weight in weights], seed=seed)
    return found[0] if len(found) == 1 else concatenate_datasets(found)


def encode_stream(
    rows: IterableDataset, encoder: Encoder, columns: Features, measured: Dataset, seed: int
) -> tuple[IterableDataset, Counter[str]]:
    """The rows as the model takes them, shuffled in a buffer, without those that are dropped or are eval rows.

    Args:
        measured: the eval rows; training rows equal to them but for case and punctuation are dropped.

    Returns:
        The stream, and the counts of rows by what became of them, which grow as it is read.
    """
    names, counts = given_columns(measured), Counter[str]()
    texts = zip(*(measured[name] for name in names), strict=True)
    known = {fold(row) for row in texts}

    def step(batch: dict[str, list[Any]], positions: list[int]) -> dict[str, list[Any]]:
        made = encoder(batch, positions)
        kept = []
        given = zip(*(batch[name] for name in names), strict=True)
        for index, (outcome, row) in enumerate(zip(made.pop(OUTCOME), given, strict=True)):
            fate = SEEN if fold(row) in known else Outcome(outcome).words
            counts[fate] += 1
            if fate is not SEEN and Outcome(outcome).is_kept:
                kept.append(index)
        return {name: [values[index] for index in kept] for name, values in made.items()}

    encoded = rows.map(
        step, batched=True, batch_size=BATCH, with_indices=True, remove_columns=rows.column_names, features=columns
    )
    return encoded.shuffle(seed=seed, buffer_size=BUFFER), counts


def fold(row: tuple[Any, ...]) -> int:
    """A number that rows share which are equal but for case and punctuation."""
    return hash(tuple(normalise(value) if isinstance(value, str) else str(value) for value in row))


def first_rows(rows: IterableDataset, count: int) -> Dataset:
    """The beginning of a stream as rows that can be looked at.

    Raises:
        UserError: there is none.
    """
    found = list(rows.take(count))
    if not found:
        raise UserError("the stream has no rows", "check the files", key="data.train")
    return Dataset.from_list(found, features=rows.features)
