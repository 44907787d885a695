"""A batch cut into micro-batches of rows of like length: the same gradient with less padding.

Which rows meet in a step is drawn as before; only within the step are they sorted by length and computed in parts, each
padded to its own longest row. Grouping rows by length over the whole set saves as much, but changes the steps.
"""

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch

from ftkit.data.encode import IGNORED

BORDERS = "cu_seq_lens_q"  # of the examples of packed blocks, in transformers' words
MOST_PARTS = 4
DRAWN = 100  # batches from which a plan learns how batches are cut
MOST_DRAWN, MOST_RUNS = 1_000_000, 101  # rows and runs from which it learns how full they are
PLACES = 32  # of a sorted batch where it may be cut
# What a part costs beside its tokens, in tokens: casting weights and adding gradients (so many whatever the model's size),
# unpacking those of 4 bits, forward and backward (as many), and going through its layers in Python (the more tokens, the
# smaller the model).
PART_TOKENS = 64
PART_UNPACKED_TOKENS = 400
PART_WEIGHT_TOKENS = 1.6e9


class Part(NamedTuple):
    """Some rows of a batch.

    Attributes:
        share: of what the batch's mean loss is a mean of, how much is in this part.
    """

    inputs: dict[str, Any]
    share: float


def part_cost(parameters: int, *, quantized: bool) -> float:
    """What a part costs beside its tokens, in tokens of a model of so many parameters, whose weights may rest in 4 bits."""
    return PART_TOKENS + PART_UNPACKED_TOKENS * quantized + PART_WEIGHT_TOKENS / max(parameters, 1)


def cut_by_length(inputs: dict[str, Any], cost: float, *, shifted: bool = False, targets: bool = False) -> list[Part]:
    """The batch in parts where that saves more than the parts cost; else the batch as it is.

    The part with the most tokens comes first: the gradients of those before it are not there yet, beside what it holds.

    Args:
        inputs: tensors of shape (rows, ...), with an attention_mask of shape (rows, tokens) for padding on either side.
        cost: of a part, in tokens.
        shifted: a row's first label does not count, as in a decoder that foretells the next token.
        targets: labels, and decoder_input_ids where there are such, have tokens of their own, those of a target.
    """
    mask = inputs.get("attention_mask")
    vectors = any(isinstance(value, torch.Tensor) and value.dim() > 2 for value in inputs.values())  # no tokens to save
    if not isinstance(mask, torch.Tensor) or mask.dim() != 2 or len(mask) < 2 or "labels" not in inputs or vectors:
        return [Part(inputs, 1.0)]
    lengths = mask.sum(1).cpu().numpy()
    order = np.argsort(-lengths, kind="stable")
    bounds = best_cuts(lengths[order], cost)
    if len(bounds) == 2:
        return [Part(inputs, 1.0)]
    parts = list(_parts(inputs, mask, order, bounds, shifted=shifted, targets=targets))
    return sorted(parts, key=lambda part: -part.inputs["attention_mask"].numel()) or [Part(inputs, 1.0)]


def count_rows(inputs: dict[str, Any]) -> int:
    """Rows of a batch; of packed blocks that lie behind one another, examples."""
    return len(inputs[BORDERS]) - 1 if BORDERS in inputs else len(inputs["labels"])


def cut_rows(part: Part, most: int, *, shifted: bool = False) -> Iterator[Part]:
    """A part in parts of at most so many rows, in their order; those without anything supervised have no loss and go."""
    count, whole = count_rows(part.inputs), weight_of(part.inputs, shifted=shifted)
    cut = _examples if BORDERS in part.inputs else _rows
    for start in range(0, count, most):
        inputs = cut(part.inputs, start, min(start + most, count))
        if weight := weight_of(inputs, shifted=shifted):
            yield Part(inputs, part.share * weight / whole)


def _rows(inputs: dict[str, Any], start: int, end: int) -> dict[str, Any]:
    count = len(inputs["labels"])
    return {name: value[start:end] if _by_row(value, count) else value for name, value in inputs.items()}


def _examples(inputs: dict[str, Any], start: int, end: int) -> dict[str, Any]:
    """Some of the examples of one row, with what says where they begin: see `PackedCollator`."""
    borders = inputs[BORDERS][start : end + 1]
    tokens = slice(int(borders[0]), int(borders[-1]))
    found = {name: value[:, tokens] if _by_row(value, 1) and value.dim() == 2 else value for name, value in inputs.items()}
    longest = int(borders.diff().max())
    return found | {
        BORDERS: borders - borders[0],
        "cu_seq_lens_k": borders - borders[0],
        "max_length_q": longest,
        "max_length_k": longest,
    }


def best_cuts(lengths: np.ndarray, cost: float) -> list[int]:
    """Where to cut rows of descending lengths so that padded tokens and the parts' own cost are least.

    Args:
        lengths: tokens of each row, descending.
        cost: of each part, in tokens.

    Returns:
        The bounds of the parts, from 0 to the number of rows.
    """
    rows = len(lengths)
    places = np.unique(np.linspace(0, rows, min(rows, PLACES) + 1).round().astype(int))
    # best[k][j]: the least cost of the rows before place j in k parts, and where the last of them begins
    best = [np.where(places == 0, 0.0, np.inf)]
    begins: list[np.ndarray] = []
    for _ in range(MOST_PARTS):
        sizes = np.maximum(places[None, :] - places[:, None], 0)
        costs = best[-1][:, None] + sizes * lengths[np.minimum(places, rows - 1)][:, None] + cost
        costs[sizes == 0] = np.inf
        begins.append(costs.argmin(0))
        best.append(costs.min(0))
    parts = int(np.argmin([found[-1] for found in best]))
    bounds, place = [rows], len(places) - 1
    for begin in reversed(begins[:parts]):
        place = int(begin[place])
        bounds.append(int(places[place]))
    return bounds[::-1]


def later_part(lengths: np.ndarray, rows: int, cost: float) -> tuple[int, int]:
    """Rows and tokens of the largest part that is not the first of its batch, among batches drawn from so long rows.

    Args:
        lengths: tokens of each row of the data.
        rows: of a batch.
        cost: of a part, in tokens.

    Returns:
        Two zeros where no batch is cut.
    """
    draw, found = np.random.default_rng(0), [(0, 0)]
    for _ in range(DRAWN):
        batch = -np.sort(-draw.choice(lengths, min(rows, len(lengths)), replace=False))
        sizes = [(end - start, int(batch[start])) for start, end in pairwise(best_cuts(batch, cost))]
        found += sorted(sizes, key=lambda size: -size[0] * size[1])[1:2]
    return max(found, key=lambda size: size[0] * size[1])


def most_tokens(lengths: np.ndarray, rows: int, batches: int) -> int:
    """Tokens, without padding, of the fullest of so many batches, drawn from rows so long epoch by epoch as training does.

    It is the median over some such runs, so many as `MOST_DRAWN` rows make, and of a run that draws more its beginning.
    """
    draw, size = np.random.default_rng(0), min(rows, len(lengths))
    whole = len(lengths) // size  # batches of an epoch
    batches = min(batches, max(1, MOST_DRAWN // size))

    def fullest() -> int:
        if batches <= whole:
            drawn = draw.choice(lengths, batches * size, replace=False)
        else:
            epochs = draw.permuted(np.tile(lengths, (math.ceil(batches / whole), 1)), axis=1)
            drawn = epochs[:, : whole * size].ravel()[: batches * size]
        return int(drawn.reshape(batches, size).sum(1).max())

    runs = max(1, min(MOST_RUNS, MOST_DRAWN // (batches * size)))
    return int(rows * np.median([fullest() for _ in range(runs)])) // size


def rows_apart(inputs: dict[str, Any], *, shifted: bool, targets: bool) -> list[dict[str, Any]]:
    """Each row of a batch as a batch of its own, without its padding; those that have nothing supervised are left out."""
    count = len(inputs["labels"])
    each, bounds = np.arange(count), list(range(count + 1))
    parts = _parts(inputs, inputs["attention_mask"], each, bounds, shifted=shifted, targets=targets)
    return [part.inputs for part in parts]


def _parts(
    inputs: dict[str, Any], mask: torch.Tensor, order: np.ndarray, bounds: list[int], *, shifted: bool, targets: bool
) -> Iterator[Part]:
    whole = weight_of(inputs, shifted=shifted)
    for start, end in pairwise(bounds):
        rows = torch.as_tensor(order[start:end].copy(), device=mask.device)
        part = {name: value[rows] if _by_row(value, len(mask)) else value for name, value in inputs.items()}
        used = _used(part["attention_mask"] != 0)
        of_targets = _used(part["labels"] != IGNORED) if targets else used
        for name, value in part.items():
            if _by_row(value, len(rows)) and value.dim() >= 2 and not value.is_floating_point():
                part[name] = value[:, of_targets if name in ("labels", "decoder_input_ids") else used].contiguous()
        if weight := weight_of(part, shifted=shifted):  # a mean over nothing is no number
            yield Part(part, weight / whole)


def _by_row(value: Any, rows: int) -> bool:
    return isinstance(value, torch.Tensor) and value.dim() >= 1 and len(value) == rows


def _used(mask: torch.Tensor) -> slice:
    """From the first to the last column that some row uses."""
    columns = mask.any(0).nonzero()[:, 0]
    return slice(int(columns[0]), int(columns[-1]) + 1) if len(columns) else slice(0, 1)


def weight_of(inputs: dict[str, Any], *, shifted: bool) -> int:
    """What a mean loss is a mean of: supervised tokens, or rows; nothing where there are no labels."""
    labels = inputs.get("labels")
    if not isinstance(labels, torch.Tensor):
        return 0
    if labels.dim() == 2 and not labels.is_floating_point():
        return int((labels[:, 1 if shifted else 0 :] != IGNORED).sum())
    return len(labels)
