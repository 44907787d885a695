"""The rows on which levers are tried: of the data themselves, of unlike lengths and labels, and no more than a step has."""

from collections.abc import Callable
from typing import Any

import numpy as np
from datasets import Dataset
from torch import nn

from ftkit.data.encode import IGNORED
from ftkit.training.trainer import Trainer

SEEN = 1000  # rows that are looked at
COUNT = 3  # rows by their lengths, beside one with another label
ENOUGH = 64  # tokens of a row, where nothing in the model begins at some length
BOUNDS = ("window", "chunk", "local_attention", "original_max_position")  # in a config's words, from which tokens on it does

LOGITS = 2**26  # entries of all rows, 256 MB

Row = dict[str, Any]


def trial_rows(trainer: Trainer, dataset: Dataset, *, target: bool) -> list[Row]:
    """The shortest, the longest and the median row of those that fit, and one with another label.

    Those fit that are short, or go beyond what the model's config bounds, as a window; together they have no more tokens,
    padding counted, than a step on the longest rows, so that a trial takes no more memory than training. Where only longer
    rows are there they are cut.

    Args:
        target: labels are those of a target, which has tokens of its own.
    """
    dataset = dataset.select(range(min(len(dataset), SEEN)))
    lengths = np.array([len(ids) for ids in dataset["input_ids"]])
    most = int(trainer.args.train_batch_size * lengths.max()) // (COUNT + 1)
    if isinstance(layer := trainer.model.get_output_embeddings(), nn.Module):  # it makes all the logits in float32
        most = min(most, LOGITS // (len(layer.weight) * (COUNT + 1)))
    bounds = [bound for bound in bounds_of(trainer.model.config.to_dict()) if bound < lengths.max()]
    room = max(ENOUGH, min(most, max(bounds, default=0) + ENOUGH))
    rows = [dict(dataset[index]) for index in chosen(lengths, room, labels_of_rows(dataset))]
    return uneven([shortened(row, room, target=target) for row in rows], target=target)


def bounds_of(values: Any) -> list[int]:
    """The lengths from which on a model does something else, by its config, in whatever part of it they stand."""
    if not isinstance(values, dict):
        return []
    pairs = [(name, one) for name, value in values.items() for one in (value if isinstance(value, list) else [value])]
    own = [value for name, value in pairs if is_bound(name, value)]
    return [*own, *(bound for value in values.values() for bound in bounds_of(value))]


def is_bound(name: str, value: Any) -> bool:
    """Whether a value of a config is such a length."""
    return isinstance(value, int) and value > 1 and any(word in str(name) for word in BOUNDS)  # a list has one a layer


def batch_of(trainer: Trainer, rows: list[Row], collate: Callable[[list[Row]], Any] | None = None) -> dict[str, Any]:
    """The rows as a batch on the model's device."""
    return dict(trainer._prepare_inputs(dict((collate or trainer.data_collator)(rows))))


def labels_of_rows(dataset: Dataset) -> list[Any]:
    """Of each row its label, where it has one; else None."""
    labels = dataset["labels"][:]
    return [None if isinstance(label, list) else label for label in labels]


def chosen(lengths: np.ndarray, room: int, labels: list[Any]) -> list[int]:
    """The places of the rows."""
    order = np.argsort(lengths, kind="stable")
    order = order[lengths[order] > 0]
    fitting = order[lengths[order] <= room]
    among = fitting if len(fitting) else order[:COUNT]
    places = [int(among[round(place)]) for place in np.linspace(0, len(among) - 1, COUNT)]
    other = next((int(place) for place in among if labels[int(place)] != labels[places[0]]), places[0])
    return list(dict.fromkeys([*places, other]))


def shortened(row: Row, room: int, *, target: bool) -> Row:
    """A row without its middle where it is longer than there is room: its last token may be one that a head looks for.

    Args:
        target: labels are those of a target, which has tokens of its own.
    """
    count = len(row["input_ids"])
    if count <= room:
        return row
    found = {
        name: [*value[: room - 1], value[-1]]
        if isinstance(value, list) and len(value) == count and not (target and name == "labels")
        else value
        for name, value in row.items()
    }
    return supervised(found)


def supervised(row: Row) -> Row:
    """A row that has lost all its supervised tokens gets them anew: its tokens are their own labels."""
    labels, ids = row["labels"], row["input_ids"]
    if isinstance(labels, list) and len(labels) == len(ids) and all(label == IGNORED for label in labels):
        return row | {"labels": list(ids)}
    return row


def uneven(rows: list[Row], *, target: bool) -> list[Row]:
    """The rows, the first of them half as long where none is shorter than another; one row alone is there twice."""
    rows = rows if len(rows) > 1 else [*rows, dict(rows[0])]
    counts = {len(row["input_ids"]) for row in rows}
    if len(counts) > 1 or max(counts) < 4:
        return rows
    return [shortened(rows[0], max(counts) // 2, target=target), *rows[1:]]
