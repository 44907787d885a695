"""A split of ftkit's own whose sides share no rows that are alike: copies of a row that is learnt are learnt too."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Protocol

import numpy as np

ROUNDS, LAST = 10, 3  # searches for copies, and how many of them at the end take no other rows in


class LabelsOfRows(Protocol):
    """Pairs of a row's position and a label's number."""

    @property
    def rows(self) -> np.ndarray: ...

    @property
    def codes(self) -> np.ndarray: ...


# Finds which rows to measure on are copies of training rows: takes the numbers of both, gives pairs of places in them.
FindCopies = Callable[[np.ndarray, np.ndarray], list[tuple[int, int]]]


def keep_apart(
    parts: Mapping[str, np.ndarray], find: FindCopies, strata: np.ndarray | None, members: LabelsOfRows | None, *, seed: int
) -> dict[str, np.ndarray]:
    """The parts with every copy of a training row on its side, in exchange for a row of the same label that has no copy.

    Where too few rows are without copies a part gets smaller; where nothing would be left of it, it stays as it is.

    Args:
        parts: "train" and others → row numbers.
        strata: one label a row, shape (rows,), or None.
        members: which labels each row has; the last row of one is not taken from training.
    """
    found = dict(parts)
    for part in [name for name in parts if name != "train"]:
        train, measured = _part_from(found["train"], found[part], find, strata, members, seed)
        if len(measured):
            found |= {"train": train, part: measured}
    return found


def _part_from(
    train: np.ndarray,
    measured: np.ndarray,
    find: FindCopies,
    strata: np.ndarray | None,
    members: LabelsOfRows | None,
    seed: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Both sides once no row of one is a copy of the other's; near copies are found by sampling, so it is asked again."""
    taken = np.zeros(0, np.int64)  # rows that have copies
    for number in range(ROUNDS):
        pairs = find(train, measured)
        if not pairs or not len(measured):
            break
        moved = measured[np.unique([place for place, _ in pairs])]
        taken = np.union1d(taken, [*moved, *train[[place for _, place in pairs]]])
        rest = np.setdiff1d(measured, moved)
        spare = np.random.default_rng((seed, number)).permutation(np.setdiff1d(train, taken))
        refill = _exchanged(moved, spare, strata, _counts(members, train)) if number < ROUNDS - LAST else moved[:0]
        train, measured = np.union1d(np.setdiff1d(train, refill), moved), np.union1d(rest, refill)
    return train, measured


def _exchanged(
    moved: np.ndarray, spare: np.ndarray, strata: np.ndarray | None, labels: tuple[dict[int, list[int]], Counter[int]]
) -> np.ndarray:
    """For each row that moves one to take its place, of the same label where rows have one each."""
    of_row, learnt = labels
    queues: dict[int, Iterator[int]] = {}
    chosen = []
    for row in moved.tolist():
        label = -1 if strata is None else int(strata[row])
        if label not in queues:
            queues[label] = iter((spare if strata is None else spare[strata[spare] == label]).tolist())
        for other in queues[label]:
            if all(learnt[code] > 1 for code in of_row.get(other, ())):
                learnt.subtract(of_row.get(other, ()))
                chosen.append(other)
                break
    return np.array(sorted(chosen), np.int64)


def _counts(members: LabelsOfRows | None, train: np.ndarray) -> tuple[dict[int, list[int]], Counter[int]]:
    """The labels of each training row, and how often each occurs there."""
    of_row: dict[int, list[int]] = {}
    if members is not None:
        inside = np.isin(members.rows, train)
        for row, code in zip(members.rows[inside].tolist(), members.codes[inside].tolist(), strict=True):
            of_row.setdefault(row, []).append(code)
    return of_row, Counter(code for codes in of_row.values() for code in codes)
