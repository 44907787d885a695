"""Split rows once, seeded; stratified where there is one label a row."""

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


def _stratified_order(labels: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """A random order in which every stretch holds each label in its share: sorted by quantile within the label."""
    _, codes, counts = np.unique(labels, return_inverse=True, return_counts=True)
    order = random.permutation(len(codes))
    order = order[np.argsort(codes[order], kind="stable")]  # label by label, at random within each
    grouped = codes[order]
    ranks = np.arange(len(codes)) - (np.cumsum(counts) - counts)[grouped]
    quantiles = (ranks + random.random(len(counts))[grouped]) / counts[grouped]
    return order[np.argsort(quantiles, kind="stable")]
