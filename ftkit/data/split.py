"""Split rows once, seeded; stratified where there is one label a row."""

from collections import Counter
from collections.abc import Iterator, Mapping

import numpy as np

from ftkit.errors import UserError


def split_rows(count: int, sizes: dict[str, float], *, seed: int, labels: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """Divide row numbers into "train" and the named parts.

    Args:
        count: how many rows there are.
        sizes: part → share (below 1) or number of rows (from 1 on).
        labels: one label a row as a number, shape (count,); each part then gets each label's share, as near as whole rows
            allow.

    Returns:
        part → row numbers in ascending order.

    Raises:
        UserError: there are too few rows for the sizes.
    """
    wanted = {part: round(size * count) if size < 1 else int(size) for part, size in sizes.items()}
    for part, rows in wanted.items():
        if rows < 1 or sum(wanted.values()) >= count:
            sizes_text = ", ".join(f"data.{name}_size {size:g}" for name, size in sizes.items())
            message = f"{count} {'row is' if count == 1 else 'rows are'} too few to split off {sizes_text}"
            raise UserError(message, "give more rows, another size, or name a source of their own", key=f"data.{part}_size")
    random = np.random.default_rng(seed)
    order = random.permutation(count) if labels is None else _stratified_order(labels, random)
    parts, start = dict[str, np.ndarray](), 0
    for part, rows in wanted.items():
        parts[part], start = np.sort(order[start : start + rows]), start + rows
    parts["train"] = np.sort(order[start:])
    return parts


def keep_in_train(parts: Mapping[str, np.ndarray], rows: np.ndarray, codes: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    """The parts with a row in "train" of every label that there is, each taken in exchange for another row where one can be.

    Args:
        parts: "train" and others → row numbers.
        rows: the row of each pair of a row and a label, shape (pairs,).
        codes: the label's number, shape (pairs,).
    """
    in_train = np.isin(rows, parts["train"])
    lacking = set(np.setdiff1d(codes, codes[in_train]).tolist())
    if not lacking:
        return dict(parts)
    part_of = {int(row): part for part, numbers in parts.items() for row in numbers}
    learnt = Counter(codes[in_train].tolist())
    labels: dict[int, list[int]] = {}
    for row, code in zip(rows.tolist(), codes.tolist(), strict=True):
        labels.setdefault(row, []).append(code)
    spare = iter(np.random.default_rng(seed).permutation(parts["train"]).tolist())
    for row in sorted(row for row in labels if part_of.get(row, "train") != "train"):
        other = _dispensable(spare, labels, learnt) if lacking & set(labels[row]) else None
        if other is not None:
            part_of[other], part_of[row] = part_of[row], "train"
            learnt.subtract(labels.get(other, []))
            learnt.update(labels[row])
            lacking -= set(labels[row])
    return {part: np.array(sorted(row for row, its in part_of.items() if its == part), np.int64) for part in parts}


def _dispensable(spare: Iterator[int], labels: Mapping[int, list[int]], learnt: Counter[int]) -> int | None:
    """The next row each of whose labels others have too; None where there is none. One that is passed over stays needed."""
    found = (row for row in spare if all(learnt[code] > labels[row].count(code) for code in labels.get(row, [])))
    return next(found, None)


def _stratified_order(labels: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """A random order in which every stretch holds each label in its share: sorted by quantile within the label."""
    _, codes, counts = np.unique(labels, return_inverse=True, return_counts=True)
    order = random.permutation(len(codes))
    order = order[np.argsort(codes[order], kind="stable")]  # label by label, at random within each
    grouped = codes[order]
    ranks = np.arange(len(codes)) - (np.cumsum(counts) - counts)[grouped]
    quantiles = (ranks + random.random(len(counts))[grouped]) / counts[grouped]
    return order[np.argsort(quantiles, kind="stable")]
