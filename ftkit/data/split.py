"""Split rows once, seeded; stratified where there is one label a row."""

from collections import defaultdict
from collections.abc import Hashable, Sequence

import numpy as np

from ftkit.errors import UserError


def split_rows(
    count: int, sizes: dict[str, float], *, seed: int, labels: Sequence[Hashable] | None = None
) -> dict[str, list[int]]:
    """Divide row numbers into "train" and the named parts.

    Args:
        count: how many rows there are.
        sizes: part → share (below 1) or number of rows (from 1 on).
        labels: one label a row; each part then gets each label's share, as near as whole rows allow.

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
    order = _stratified_order(labels, seed) if labels else np.random.default_rng(seed).permutation(count).tolist()
    parts, start = {}, 0
    for part, rows in wanted.items():
        parts[part], start = sorted(order[start : start + rows]), start + rows
    parts["train"] = sorted(order[start:])
    return parts


def _stratified_order(labels: Sequence[Hashable], seed: int) -> list[int]:
    """A random order in which every stretch holds each label in its share: sorted by quantile within the label."""
    random = np.random.default_rng(seed)
    groups: dict[Hashable, list[int]] = defaultdict(list)
    for row, label in enumerate(labels):
        groups[label].append(row)
    quantiles = np.empty(len(labels))
    for rows in groups.values():
        quantiles[random.permutation(rows)] = (np.arange(len(rows)) + random.random()) / len(rows)
    return [int(row) for row in np.argsort(quantiles, kind="stable")]
