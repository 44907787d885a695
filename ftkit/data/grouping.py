"""Split rows as a column says: all rows of a group on one side, or each row in the part that it names."""

from collections import Counter
from collections.abc import Hashable, Sequence

import numpy as np

from ftkit.data.paths import PART_NAMES
from ftkit.errors import UserError

MOST_LISTED = 10


def split_by_group(groups: Sequence[Hashable], sizes: dict[str, float], seed: int) -> dict[str, list[int]]:
    """Divide row numbers into "train" and the named parts, all rows of a group in one part.

    The groups are dealt out from the largest to the smallest, those of one size in a seeded order, each to the part that
    lacks most rows: the parts come as near to their sizes as whole groups allow, within the smallest groups' size.

    Args:
        groups: the group of each row.
        sizes: part → share (below 1) or number of rows (from 1 on).

    Returns:
        part → row numbers in ascending order.

    Raises:
        UserError: there are fewer groups than parts, or too few rows for the sizes.
    """
    counts = Counter(groups)
    wanted = {part: round(size * len(groups)) if size < 1 else int(size) for part, size in sizes.items()}
    if len(counts) < len(wanted) + 1:
        message = f"{len(counts)} {'group is' if len(counts) == 1 else 'groups are'} too few for {len(wanted) + 1} parts"
        raise UserError(message, "group by another column, or split off fewer parts", key="data.group_column")
    for part, rows in wanted.items():
        if rows < 1 or sum(wanted.values()) >= len(groups):
            message = f"{len(groups)} rows are too few to split off data.{part}_size {sizes[part]:g}"
            raise UserError(message, "give more rows, or another size", key=f"data.{part}_size")
    part_of = _deal(counts, {**wanted, "train": len(groups) - sum(wanted.values())}, seed)
    parts: dict[str, list[int]] = {part: [] for part in [*wanted, "train"]}
    for row, group in enumerate(groups):
        parts[part_of[group]].append(row)
    return parts


def _deal(counts: Counter[Hashable], lacking: dict[str, int], seed: int) -> dict[Hashable, str]:
    """The part of each group; a part that is still empty gets one of the last groups at the latest."""
    names = list(counts)
    names = [names[number] for number in np.random.default_rng(seed).permutation(len(names))]
    names.sort(key=lambda name: -counts[name])
    part_of: dict[Hashable, str] = {}
    empty = set(lacking)
    for left, group in zip(range(len(names), 0, -1), names, strict=True):
        part = max(empty if left == len(empty) else lacking, key=lambda name: (lacking[name], name))
        part_of[group] = part
        lacking[part] -= counts[group]
        empty.discard(part)
    return part_of


def split_by_column(values: Sequence[str]) -> dict[str, list[int]]:
    """Divide row numbers by a column that names each row's split: train, validation, test, or another name for these.

    Returns:
        "train", "eval" and "test", as far as they are named → row numbers in ascending order.

    Raises:
        UserError: a value names no split; all such values are listed.
    """
    parts: dict[str, list[int]] = {}
    unknown: Counter[str] = Counter()
    for row, value in enumerate(values):
        part = PART_NAMES.get(str(value).strip().lower())
        if part is None:
            unknown[str(value)] += 1
        else:
            parts.setdefault(part, []).append(row)
    if unknown:
        shown = ", ".join(f"{value!r} ({count})" for value, count in unknown.most_common(MOST_LISTED))
        more = f" and {len(unknown) - MOST_LISTED} more" if len(unknown) > MOST_LISTED else ""
        message = f"the split column names no split in {unknown.total()} of {len(values)} rows: {shown}{more}"
        raise UserError(message, f"the names known are {', '.join(PART_NAMES)}", key="data.split_column")
    return parts
