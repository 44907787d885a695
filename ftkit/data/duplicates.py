"""Rows that repeat other rows: exactly, after normalising, or nearly, within one set of rows or between two.

Near ones share most of their shingles (shingles.py). Rows are read in batches, and little of them is held.
"""

import weakref
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path

import numpy as np
import numpy.typing as npt
from datasets import Dataset

from ftkit.data.shingles import Hashes, Index, Numbers, Shingles, are_alike, band_keys, hash_shingles, one_key
from ftkit.data.texts import normalise, texts_of
from ftkit.scratch import scratch

Pairs = list[tuple[int, int]]

OVERLAP_WORDS = 5  # shorter texts resemble each other by chance: "a very good film"
MOST_CANDIDATES = 8  # of a row in one bucket; larger ones, as of texts that share a long footer, are split by the next band
COLUMN_BREAK = "\x1f"


def exact_duplicates(rows: Dataset, columns: list[str]) -> Numbers:
    """Numbers of the rows that say in all columns what an earlier row says, ascending; the first one is not among them."""
    return _repeats(_row_hashes(rows, columns, str))


def normalised_duplicates(rows: Dataset, columns: list[str]) -> Numbers:
    """Numbers of the rows that repeat an earlier row exactly or after `normalise`, ascending."""
    return _repeats(_row_hashes(rows, columns, normalise))


def near_duplicates(rows: Dataset, columns: list[str], threshold: float = 0.8) -> Pairs:
    """Rows that resemble an earlier one: word 3-grams with a Jaccard similarity of at least the threshold.

    The columns are read as one text; in a script without spaces a character is a word. Texts under 3 words are compared by
    what stands between spaces; rows without words are left out. Every pair is verified; of the rows exactly at the
    threshold about one in 1,000 is missed, of those above it fewer; more where many texts share most of their words.

    Returns:
        (row, an earlier row that it resembles), each row at most once, ascending. The earlier row may itself resemble a
        still earlier one; without all the first rows of these pairs, one row of each cluster is left.
    """
    with scratch() as folder:
        index = Index(rows, columns, threshold, 1, Path(folder))
        earlier = np.full(len(rows), -1, dtype=np.int64)
        _pair_within(index, one_key(map(index.keys, range(index.bands))), earlier, threshold)  # equal sets, in any bucket
        for band in range(index.bands):
            crowded = _pair_within(index, index.keys(band), earlier, threshold)
            if len(crowded):
                finer = one_key([index.keys(band), index.keys((band + 1) % index.bands)])
                _pair_within(index, finer, earlier, threshold, crowded)
        index.close()
    found = np.flatnonzero(earlier >= 0)
    return list(zip(found.tolist(), earlier[found].tolist(), strict=True))


@dataclass(frozen=True)
class Overlap:
    """Eval rows that stand in the train rows too, as (eval row, train row), ascending; each eval row stands in one list.

    Args:
        exact: the columns are equal.
        normalised: they are equal after `normalise`.
        swapped: so are they with the texts of the columns in another order, as a pair (a, b) and (b, a).
        near: their word 3-grams have a Jaccard similarity of at least the threshold.
    """

    exact: Pairs = field(default_factory=list)
    normalised: Pairs = field(default_factory=list)
    swapped: Pairs = field(default_factory=list)
    near: Pairs = field(default_factory=list)

    def kinds(self) -> dict[str, Pairs]:
        """The pairs by their kind in words."""
        return {
            "equal": self.exact, "equal but for case and punctuation": self.normalised,
            "equal with their texts swapped": self.swapped, "nearly equal": self.near,
        }  # fmt: skip

    def pairs(self) -> Pairs:
        """Those of all kinds."""
        return [pair for pairs in self.kinds().values() for pair in pairs]


def overlap(train: Dataset, eval: Dataset, columns: list[str], threshold: float = 0.8) -> Overlap:
    """What of the eval rows the train rows give away; each eval row once, under the strongest kind, with one train row.

    For all but near copies it is the earliest train row. Near ones are looked for among texts of at least 5 words only
    (shorter ones are alike by chance), and not at a threshold of 1. Every near pair is verified; at the threshold about one
    in 1,000 is missed, more where many texts share most of their words.

    The eval rows are indexed (about 600 bytes a row at a threshold of 0.8), the train rows are streamed.
    """
    if not len(eval) or not len(train):
        return Overlap()
    exact, normalised = (_earliest(eval, train, columns, form) for form in (str, normalise))
    swapped = _earliest(eval, train, columns, normalise, ordered=False) if len(columns) > 1 else normalised.copy()
    found = (exact >= 0) | (normalised >= 0) | (swapped >= 0)
    near = _near_overlap(train, eval, columns, threshold, found=found) if threshold < 1 else np.full(len(eval), -1)
    swapped[normalised >= 0] = -1
    normalised[exact >= 0] = -1

    def pairs(earliest: Numbers) -> Pairs:
        rows = np.flatnonzero(earliest >= 0)
        return list(zip(rows.tolist(), earliest[rows].tolist(), strict=True))

    return Overlap(pairs(exact), pairs(normalised), pairs(swapped), pairs(near))


def _hash_texts(batch: list[tuple[str, ...]], form: Callable[[str], str], *, ordered: bool = True) -> Hashes:
    """One 64-bit hash a row: in 1,000,000 different rows, two are alike with a chance of 3 in 100,000,000.

    Args:
        ordered: the order of a row's texts counts.
    """
    order: Callable[[Iterable[str]], Iterable[str]] = iter if ordered else sorted
    texts = (COLUMN_BREAK.join(order(map(form, texts))) for texts in batch)
    return np.frombuffer(b"".join(blake2b(text.encode(), digest_size=8).digest() for text in texts), dtype="<u8")


def _row_hashes(rows: Dataset, columns: list[str], form: Callable[[str], str], *, ordered: bool = True) -> Hashes:
    hashes = np.empty(len(rows), dtype=np.uint64)
    start = 0
    for batch in texts_of(rows, columns):
        hashes[start : start + len(batch)] = _hash_texts(batch, form, ordered=ordered)
        start += len(batch)
    return hashes


def _repeats(hashes: Hashes) -> Numbers:
    repeats = np.ones(len(hashes), dtype=bool)
    repeats[np.unique(hashes, return_index=True)[1]] = False
    return np.flatnonzero(repeats)


def _earliest(
    eval: Dataset, train: Dataset, columns: list[str], form: Callable[[str], str], *, ordered: bool = True
) -> Numbers:
    """For each eval row the first train row with the same hash, or -1."""
    wanted, places = np.unique(_row_hashes(eval, columns, form, ordered=ordered), return_inverse=True)
    earliest = np.full(len(wanted), np.iinfo(np.int64).max)
    start = 0
    for batch in texts_of(train, columns):
        hashes = _hash_texts(batch, form, ordered=ordered)
        nearest = np.minimum(np.searchsorted(wanted, hashes), len(wanted) - 1)
        hits = np.flatnonzero(wanted[nearest] == hashes)
        np.minimum.at(earliest, nearest[hits], start + hits)
        start += len(batch)
    earliest[earliest == np.iinfo(np.int64).max] = -1
    return earliest[places]


def _pair_within(index: Index, keys: Hashes, earlier: Numbers, threshold: float, among: Numbers | None = None) -> Numbers:
    """Write into `earlier` which row each row of one band's buckets resembles.

    All rows of a bucket are compared with its first; those that differ are compared with the first of themselves, and so
    on. That is linear in the copies of a row, unlike comparing all with all.

    Returns:
        The rows of crowded buckets, which are not compared with all others there.
    """
    rows = np.flatnonzero((earlier < 0) & (np.diff(index.shingles.starts) > 0)) if among is None else np.sort(among)
    rows = rows[np.argsort(keys[rows], kind="stable")]
    for _ in range(MOST_CANDIDATES):
        if not len(rows):
            break
        first = np.concatenate([[True], keys[rows[1:]] != keys[rows[:-1]]])
        leaders = rows[np.maximum.accumulate(np.where(first, np.arange(len(rows)), 0))]
        rows, leaders = rows[~first], leaders[~first]
        alike = are_alike(index.shingles, rows, index.shingles, leaders, threshold)
        earlier[rows[alike]] = leaders[alike]
        rows = rows[~alike]
    return rows


def _near_overlap(
    train: Dataset,
    eval: Dataset,
    columns: list[str],
    threshold: float,
    found: npt.NDArray[np.bool_],
) -> Numbers:
    """For each eval row that is not yet found a train row that it resembles, or -1."""
    near = np.full(len(eval), -1, dtype=np.int64)
    with scratch() as folder:
        index = Index(eval, columns, threshold, OVERLAP_WORDS, Path(folder))
        buckets = _buckets_of(index, found)
        start = 0
        for batch in texts_of(train, columns) if buckets else ():
            _pair_across(index, buckets, hash_shingles(batch, OVERLAP_WORDS), start, near, threshold)
            start += len(batch)
        index.close()
    return near


def _buckets_of(index: Index, found: npt.NDArray[np.bool_]) -> list[tuple["_Buckets", "_Buckets"]]:
    """For each band the buckets of the rows that are not yet found, and the finer ones; none where all are found."""
    wanted = np.flatnonzero(~found & (np.diff(index.shingles.starts) > 0))
    buckets = []
    for band in range(index.bands if len(wanted) else 0):
        keys = index.keys(band)[wanted]
        finer = one_key([keys, index.keys((band + 1) % index.bands)[wanted]])
        orders = [np.argsort(keys, kind="stable"), np.argsort(finer, kind="stable")]
        buckets.append((_Buckets(keys[orders[0]], wanted[orders[0]]), _Buckets(finer[orders[1]], wanted[orders[1]])))
    return buckets


@dataclass(frozen=True)
class _Buckets:
    """Rows in the order of their keys."""

    keys: Hashes
    rows: Numbers

    def find(self, keys: Hashes) -> tuple[Numbers, Numbers]:
        """For each key, where its rows begin and how many there are."""
        lower = np.searchsorted(self.keys, keys, "left")
        return lower, np.searchsorted(self.keys, keys, "right") - lower


def _pair_across(
    index: Index,
    buckets: list[tuple[_Buckets, _Buckets]],
    batch: Shingles,
    start: int,
    near: Numbers,
    threshold: float,
) -> None:
    """Write into `near` which train row of a batch, whose first is row `start`, each indexed row resembles."""
    filled = np.flatnonzero(np.diff(batch.starts))
    keys = band_keys(batch, index.bands, index.slots)[:, filled]
    for band, (coarse, fine) in enumerate(buckets):
        lower, counts = coarse.find(keys[band])
        crowded = counts > MOST_CANDIDATES
        finer = one_key([keys[band], keys[(band + 1) % index.bands]])[crowded]
        for found, (lowest, sizes), trains in (
            (coarse, (lower[~crowded], counts[~crowded]), filled[~crowded]),
            (fine, fine.find(finer), filled[crowded]),
        ):
            sizes = np.minimum(sizes, MOST_CANDIDATES)
            within = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
            evals, trains = found.rows[np.repeat(lowest, sizes) + within], np.repeat(trains, sizes)
            missing = near[evals] < 0
            evals, trains = evals[missing], trains[missing]
            alike = are_alike(index.shingles, evals, batch, trains, threshold)
            # The last assignment to a row wins: from the back, it is the earliest train row of this band.
            near[evals[alike][::-1]] = start + trains[alike][::-1]


class Copies:
    """Rows that are indexed once, and of which copies are looked for in batch after batch of other rows.

    Exact, normalised and swapped copies are found by 64-bit hashes, near ones as by `overlap`.
    """

    def __init__(self, rows: Dataset, columns: list[str], threshold: float) -> None:
        self.columns, self.threshold = columns, threshold
        self._hashes = np.unique(_row_hashes(rows, columns, normalise, ordered=False))
        held = ExitStack()
        folder = held.enter_context(scratch())
        weakref.finalize(self, held.close)
        self._index = Index(rows, columns, threshold, OVERLAP_WORDS, Path(folder)) if threshold < 1 else None
        self._buckets = _buckets_of(self._index, np.zeros(len(rows), bool)) if self._index else []
        self._count = len(rows)

    def find(self, batch: Dataset) -> npt.NDArray[np.bool_]:
        """Which rows of the batch are equal to an indexed row, but for case, punctuation and order, or nearly equal."""
        found = np.isin(_row_hashes(batch, self.columns, normalise, ordered=False), self._hashes)
        if self._index is None or not self._buckets:
            return found
        start = 0
        for texts in texts_of(batch, self.columns):
            self._find_near(hash_shingles(texts, OVERLAP_WORDS), found[start : start + len(texts)])
            start += len(texts)
        return found

    def _find_near(self, shingles: Shingles, found: npt.NDArray[np.bool_]) -> None:
        """Mark near copies; each round names one row of the batch for each indexed row, so until a round finds none."""
        assert self._index is not None
        while True:
            left = np.flatnonzero(~found)
            near = np.full(self._count, -1, dtype=np.int64)
            chosen = Shingles(shingles.gather(left), np.concatenate([[0], np.cumsum(shingles.sizes(left))]))
            _pair_across(self._index, self._buckets, chosen, 0, near, self.threshold)
            if not (near >= 0).any():
                return
            found[left[near[near >= 0]]] = True
