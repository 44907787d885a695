"""Rows that repeat other rows: exactly, after normalising, or nearly, within one set of rows or between two.

Near duplicates are found by MinHash and locality-sensitive hashing (Broder 1997; Leskovec, Rajaraman, Ullman, "Mining of
Massive Datasets", chapter 3) over shingles, and each candidate is then verified by the true Jaccard similarity. Rows are
read in batches; what grows with their number, 64-bit hashes of shingles and bands, goes to temporary files.
"""

import json
import math
import shutil
import tempfile
import unicodedata
import weakref
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import reduce
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from datasets import Dataset
from rensa import RMinHash  # type: ignore[import-untyped]  # 0.5.0 ships no types

from ftkit.data.tables import iterate_tables

Hashes = npt.NDArray[np.uint64]
Numbers = npt.NDArray[np.int64]
Pairs = list[tuple[int, int]]

BATCH = 10_000
SHINGLE_WORDS = 3
OVERLAP_WORDS = 5  # shorter texts resemble each other by chance: "a very good film"
MAX_SLOTS = 128  # of a MinHash signature
MISSED = 1e-3  # share of the pairs at the very threshold that the index may miss; of those above it, far fewer
MAX_GATHERED = 1_000_000  # shingles that are compared at once: about 50 MB
MOST_CANDIDATES = 8  # of a row in one bucket; larger ones, as of texts that share a long footer, are split by the next band
OWNER_BITS = 20
SEED = 1
COLUMN_BREAK = "\x1f"


class _Separators(dict[int, str]):
    """A table for `str.translate`, filled as characters turn up: apostrophes vanish, other punctuation parts words."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        kept = "" if character in "'’" else " " if unicodedata.category(character).startswith("P") else character
        return self.setdefault(code, kept)


_SEPARATORS = _Separators()


def normalise(text: str) -> str:
    """The text under NFKC and case folding, without punctuation, its words parted by one space.

    Symbols such as + and € stay. A text of punctuation alone (":)", "?!") stays too, so that ":)" never equals ":(".
    """
    if text.isascii():
        folded = text.lower()
    else:
        folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return " ".join(folded.translate(_SEPARATORS).split()) or " ".join(folded.split())


def exact_duplicates(rows: Dataset, columns: list[str]) -> Numbers:
    """Numbers of the rows that say in all columns what an earlier row says, ascending; the first one is not among them."""
    return _repeats(_row_hashes(rows, columns, str))


def normalised_duplicates(rows: Dataset, columns: list[str]) -> Numbers:
    """Numbers of the rows that repeat an earlier row exactly or after `normalise`, ascending."""
    return _repeats(_row_hashes(rows, columns, normalise))


def near_duplicates(rows: Dataset, columns: list[str], threshold: float = 0.8) -> Pairs:
    """Rows that resemble an earlier one: word 3-grams with a Jaccard similarity of at least the threshold.

    The columns are read as one text. Texts under 3 words are compared by their words; rows without any are left out, and so
    are, where a language is written without spaces, most rows. Every pair is verified; of the rows exactly at the
    threshold about one in 1,000 is missed, of those above it fewer; more where many texts share most of their words.

    Returns:
        (row, an earlier row that it resembles), each row at most once, ascending. The earlier row may itself resemble a
        still earlier one; without all the first rows of these pairs, one row of each cluster is left.
    """
    with tempfile.TemporaryDirectory() as folder:
        index = _Index(rows, columns, threshold, 1, Path(folder))
        earlier = np.full(len(rows), -1, dtype=np.int64)
        _pair_within(index, _mix(map(index.keys, range(index.bands))), earlier, threshold)  # equal sets, in any bucket
        for band in range(index.bands):
            crowded = _pair_within(index, index.keys(band), earlier, threshold)
            if len(crowded):
                finer = _mix([index.keys(band), index.keys((band + 1) % index.bands)])
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
        near: their word 3-grams have a Jaccard similarity of at least the threshold.
    """

    exact: Pairs = field(default_factory=list)
    normalised: Pairs = field(default_factory=list)
    near: Pairs = field(default_factory=list)


def overlap(train: Dataset, eval: Dataset, columns: list[str], threshold: float = 0.8) -> Overlap:
    """What of the eval rows the train rows give away; each eval row once, under the strongest kind, with one train row.

    For exact and normalised copies it is the earliest train row. Near copies are looked for among texts of at least 5 words
    only (shorter ones are alike by chance), and not at a threshold of 1. Every near pair is verified; at the threshold about
    one in 1,000 is missed, more where many texts share most of their words.

    The eval rows are indexed (about 600 bytes a row at a threshold of 0.8), the train rows are streamed.
    """
    if not len(eval) or not len(train):
        return Overlap()
    exact, normalised = (_earliest(eval, train, columns, form) for form in (str, normalise))
    found = (exact >= 0) | (normalised >= 0)
    near = _near_overlap(train, eval, columns, threshold, found=found) if threshold < 1 else np.full(len(eval), -1)
    normalised[exact >= 0] = -1

    def pairs(earliest: Numbers) -> Pairs:
        rows = np.flatnonzero(earliest >= 0)
        return list(zip(rows.tolist(), earliest[rows].tolist(), strict=True))

    return Overlap(pairs(exact), pairs(normalised), pairs(near))


def as_text(value: Any) -> str:
    """A value to be compared: a null is an empty text, another value than a text is JSON."""
    if value is None or isinstance(value, str):
        return value or ""
    return json.dumps(value, ensure_ascii=False, sort_keys=True, default=str)


def _texts(rows: Dataset, columns: list[str]) -> Iterator[list[tuple[str, ...]]]:
    """The texts of the columns, a tuple a row, in batches; a null is an empty text, other values are read as JSON."""
    for table in iterate_tables(rows, columns, BATCH):
        values = [map(as_text, table.column(column).to_pylist()) for column in columns]
        yield list(zip(*values, strict=True))


def _hash_texts(batch: list[tuple[str, ...]], form: Callable[[str], str]) -> Hashes:
    """One 64-bit hash a row: in 1,000,000 different rows, two are alike with a chance of 3 in 100,000,000."""
    texts = (COLUMN_BREAK.join(map(form, texts)) for texts in batch)
    return np.frombuffer(b"".join(blake2b(text.encode(), digest_size=8).digest() for text in texts), dtype="<u8")


def _row_hashes(rows: Dataset, columns: list[str], form: Callable[[str], str]) -> Hashes:
    hashes = np.empty(len(rows), dtype=np.uint64)
    start = 0
    for batch in _texts(rows, columns):
        hashes[start : start + len(batch)] = _hash_texts(batch, form)
        start += len(batch)
    return hashes


def _repeats(hashes: Hashes) -> Numbers:
    repeats = np.ones(len(hashes), dtype=bool)
    repeats[np.unique(hashes, return_index=True)[1]] = False
    return np.flatnonzero(repeats)


def _earliest(eval: Dataset, train: Dataset, columns: list[str], form: Callable[[str], str]) -> Numbers:
    """For each eval row the first train row with the same hash, or -1."""
    wanted, places = np.unique(_row_hashes(eval, columns, form), return_inverse=True)
    earliest = np.full(len(wanted), np.iinfo(np.int64).max)
    start = 0
    for batch in _texts(train, columns):
        hashes = _hash_texts(batch, form)
        nearest = np.minimum(np.searchsorted(wanted, hashes), len(wanted) - 1)
        hits = np.flatnonzero(wanted[nearest] == hashes)
        np.minimum.at(earliest, nearest[hits], start + hits)
        start += len(batch)
    earliest[earliest == np.iinfo(np.int64).max] = -1
    return earliest[places]


@dataclass(frozen=True)
class _Shingles:
    """Sets of shingle hashes, one a row: those of row i are hashes[starts[i]:starts[i + 1]]."""

    hashes: Hashes
    starts: Numbers

    def sizes(self, numbers: Numbers) -> Numbers:
        return self.starts[numbers + 1] - self.starts[numbers]

    def gather(self, numbers: Numbers) -> Hashes:
        """The hashes of these rows, one row after another."""
        sizes = self.sizes(numbers)
        within = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        return self.hashes[np.repeat(self.starts[numbers], sizes) + within]


def _shingles_of(words: list[str], least_words: int) -> set[str]:
    if len(words) < max(least_words, SHINGLE_WORDS):
        return set(words) if len(words) >= least_words else set()
    return {" ".join(words[start : start + SHINGLE_WORDS]) for start in range(len(words) - SHINGLE_WORDS + 1)}


def _hash_shingles(batch: list[tuple[str, ...]], least_words: int) -> _Shingles:
    """The shingles of each row's columns, read as one text; none where it has fewer words than `least_words`."""
    shingles = [list(_shingles_of(" ".join(map(normalise, texts)).split(), least_words)) for texts in batch]
    hashes = RMinHash.hash_token_sets(shingles)
    starts = np.concatenate([[0], np.cumsum([len(row) for row in hashes], dtype=np.int64)])
    return _Shingles(np.fromiter((value for row in hashes for value in row), np.uint64, int(starts[-1])), starts)


def _bands_and_slots(threshold: float) -> tuple[int, int]:
    """How many bands of how many slots find all but `MISSED` of the pairs at the threshold, with the fewest false ones.

    A band of r slots agrees with the chance t^r, so that b bands miss a pair with the chance (1 - t^r)^b.
    """
    if not 0 < threshold <= 1:
        raise ValueError(f"the threshold is a similarity above 0 and up to 1, not {threshold:g}")
    if threshold == 1:
        return 1, MAX_SLOTS
    needed = {slots: math.ceil(math.log(MISSED) / math.log1p(-(threshold**slots))) for slots in range(1, MAX_SLOTS)}
    slots = max((slots for slots, bands in needed.items() if slots * bands <= MAX_SLOTS), default=1)
    return needed[slots], slots


def _band_keys(shingles: _Shingles, bands: int, slots: int) -> Hashes:
    """A 64-bit key for each band of each row's MinHash signature; shape (bands, rows)."""
    matrix = RMinHash.digest_matrix_from_flat_token_hashes(
        shingles.hashes, shingles.starts.astype(np.uint64), bands * slots, SEED
    )
    signature = np.array(matrix.to_rows(), dtype=np.uint64).reshape(-1, bands, slots)
    keys = np.zeros(signature.shape[:2], dtype=np.uint64)
    for slot in range(slots):
        keys = (keys ^ signature[:, :, slot]) * np.uint64(0x9E3779B97F4A7C15)
        keys ^= keys >> np.uint64(32)
    return np.ascontiguousarray(keys.T)


class _Index:
    """The shingles and band keys of rows, in two files of a temporary folder; 8 bytes a row are held."""

    def __init__(self, rows: Dataset, columns: list[str], threshold: float, least_words: int, folder: Path) -> None:
        self.bands, self.slots = _bands_and_slots(threshold)
        self._count, self._keys_file = len(rows), folder / "keys"
        sizes = np.zeros(len(rows) + 1, dtype=np.int64)
        start = 0
        with (folder / "shingles").open("wb") as shingles_file, self._keys_file.open("wb") as keys_file:
            for batch in _texts(rows, columns):
                shingles = _hash_shingles(batch, least_words)
                shingles_file.write(shingles.hashes.tobytes())
                sizes[start + 1 : start + len(batch) + 1] = np.diff(shingles.starts)
                for band, keys in enumerate(_band_keys(shingles, self.bands, self.slots)):
                    keys_file.seek(8 * (band * self._count + start))
                    keys_file.write(keys.tobytes())
                start += len(batch)
        starts = np.cumsum(sizes)
        empty = not starts[-1]  # an empty file cannot be mapped
        hashes = np.zeros(0, np.uint64) if empty else np.memmap(folder / "shingles", np.uint64, "r")
        self.shingles = _Shingles(hashes, starts)

    def keys(self, band: int) -> Hashes:
        return np.fromfile(self._keys_file, np.uint64, self._count, offset=8 * band * self._count)

    def close(self) -> None:
        """Let go of the files: Windows deletes no file that is mapped."""
        self.shingles = _Shingles(np.zeros(0, np.uint64), np.zeros(1, np.int64))


def _alike(left: _Shingles, lefts: Numbers, right: _Shingles, rights: Numbers, threshold: float) -> npt.NDArray[np.bool_]:
    """Which of the pairs (lefts[i], rights[i]) have a Jaccard similarity of at least the threshold."""
    left_sizes, right_sizes = left.sizes(lefts), right.sizes(rights)
    smaller, larger = np.minimum(left_sizes, right_sizes), np.maximum(left_sizes, right_sizes)
    alike = (smaller >= threshold * larger) & (larger > 0)  # the similarity is at most smaller / larger
    possible = np.flatnonzero(alike)
    parts = np.cumsum((left_sizes + right_sizes)[possible]) // MAX_GATHERED
    for chunk in np.split(possible, np.flatnonzero(np.diff(parts)) + 1):
        needed = threshold / (1 + threshold) * (left_sizes[chunk] + right_sizes[chunk]) - 1e-9
        at_most = _bound_shared(left, lefts[chunk], right, rights[chunk])
        alike[chunk] = at_most >= needed
        likely = np.flatnonzero(at_most >= needed)
        alike[chunk[likely]] = _count_shared(left, lefts[chunk[likely]], right, rights[chunk[likely]]) >= needed[likely]
    return alike


def _bound_shared(left: _Shingles, lefts: Numbers, right: _Shingles, rights: Numbers) -> Numbers:
    """At most how many shingles both rows of each pair hold, by 44 bits of their hashes: ten times as fast as all 64."""
    pairs = np.arange(len(lefts), dtype=np.uint64) << np.uint64(64 - OWNER_BITS)
    hashes = np.concatenate([left.gather(lefts), right.gather(rights)]) >> np.uint64(OWNER_BITS)
    hashes |= np.concatenate([np.repeat(pairs, left.sizes(lefts)), np.repeat(pairs, right.sizes(rights))])
    hashes.sort()
    twice = hashes[1:][hashes[1:] == hashes[:-1]] >> np.uint64(64 - OWNER_BITS)
    return np.bincount(twice.astype(np.int64), minlength=len(lefts))


def _count_shared(left: _Shingles, lefts: Numbers, right: _Shingles, rights: Numbers) -> Numbers:
    """How many shingles both rows of each pair hold: a set holds none twice, so what stands twice under a pair is shared."""
    pairs = np.arange(len(lefts), dtype=np.int32)
    hashes = np.concatenate([left.gather(lefts), right.gather(rights)])
    owners = np.concatenate([np.repeat(pairs, left.sizes(lefts)), np.repeat(pairs, right.sizes(rights))])
    order = np.lexsort((hashes, owners))
    hashes, owners = hashes[order], owners[order]
    twice = (hashes[1:] == hashes[:-1]) & (owners[1:] == owners[:-1])
    return np.bincount(owners[1:][twice], minlength=len(lefts))


def _mix(keys: Iterable[Hashes]) -> Hashes:
    """One key of several."""
    return reduce(_stir, keys)


def _stir(mixed: Hashes, key: Hashes) -> Hashes:
    mixed = (mixed * np.uint64(0x9E3779B97F4A7C15)) ^ key
    return mixed ^ (mixed >> np.uint64(32))


def _pair_within(index: _Index, keys: Hashes, earlier: Numbers, threshold: float, among: Numbers | None = None) -> Numbers:
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
        alike = _alike(index.shingles, rows, index.shingles, leaders, threshold)
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
    with tempfile.TemporaryDirectory() as folder:
        index = _Index(eval, columns, threshold, OVERLAP_WORDS, Path(folder))
        buckets = _buckets_of(index, found)
        start = 0
        for batch in _texts(train, columns) if buckets else ():
            _pair_across(index, buckets, _hash_shingles(batch, OVERLAP_WORDS), start, near, threshold)
            start += len(batch)
        index.close()
    return near


def _buckets_of(index: _Index, found: npt.NDArray[np.bool_]) -> list[tuple["_Buckets", "_Buckets"]]:
    """For each band the buckets of the rows that are not yet found, and the finer ones; none where all are found."""
    wanted = np.flatnonzero(~found & (np.diff(index.shingles.starts) > 0))
    buckets = []
    for band in range(index.bands if len(wanted) else 0):
        keys = index.keys(band)[wanted]
        finer = _mix([keys, index.keys((band + 1) % index.bands)[wanted]])
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
    index: _Index,
    buckets: list[tuple[_Buckets, _Buckets]],
    batch: _Shingles,
    start: int,
    near: Numbers,
    threshold: float,
) -> None:
    """Write into `near` which train row of a batch, whose first is row `start`, each indexed row resembles."""
    filled = np.flatnonzero(np.diff(batch.starts))
    keys = _band_keys(batch, index.bands, index.slots)[:, filled]
    for band, (coarse, fine) in enumerate(buckets):
        lower, counts = coarse.find(keys[band])
        crowded = counts > MOST_CANDIDATES
        finer = _mix([keys[band], keys[(band + 1) % index.bands]])[crowded]
        for found, (lowest, sizes), trains in (
            (coarse, (lower[~crowded], counts[~crowded]), filled[~crowded]),
            (fine, fine.find(finer), filled[crowded]),
        ):
            sizes = np.minimum(sizes, MOST_CANDIDATES)
            within = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
            evals, trains = found.rows[np.repeat(lowest, sizes) + within], np.repeat(trains, sizes)
            missing = near[evals] < 0
            evals, trains = evals[missing], trains[missing]
            alike = _alike(index.shingles, evals, batch, trains, threshold)
            # The last assignment to a row wins: from the back, it is the earliest train row of this band.
            near[evals[alike][::-1]] = start + trains[alike][::-1]


class Copies:
    """Rows that are indexed once, and of which copies are looked for in batch after batch of other rows.

    Exact and normalised copies are found by 64-bit hashes, near ones as by `overlap`.
    """

    def __init__(self, rows: Dataset, columns: list[str], threshold: float) -> None:
        self.columns, self.threshold = columns, threshold
        self._hashes = np.unique(_row_hashes(rows, columns, normalise))
        folder = tempfile.mkdtemp()
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        self._index = _Index(rows, columns, threshold, OVERLAP_WORDS, Path(folder)) if threshold < 1 else None
        self._buckets = _buckets_of(self._index, np.zeros(len(rows), bool)) if self._index else []
        self._count = len(rows)

    def find(self, batch: Dataset) -> npt.NDArray[np.bool_]:
        """Which rows of the batch are equal to an indexed row, equal but for case and punctuation, or nearly equal."""
        found = np.isin(_row_hashes(batch, self.columns, normalise), self._hashes)
        if self._index is None or not self._buckets:
            return found
        start = 0
        for texts in _texts(batch, self.columns):
            self._find_near(_hash_shingles(texts, OVERLAP_WORDS), found[start : start + len(texts)])
            start += len(texts)
        return found

    def _find_near(self, shingles: _Shingles, found: npt.NDArray[np.bool_]) -> None:
        """Mark near copies; each round names one row of the batch for each indexed row, so until a round finds none."""
        assert self._index is not None
        while True:
            left = np.flatnonzero(~found)
            near = np.full(self._count, -1, dtype=np.int64)
            chosen = _Shingles(shingles.gather(left), np.concatenate([[0], np.cumsum(shingles.sizes(left))]))
            _pair_across(self._index, self._buckets, chosen, 0, near, self.threshold)
            if not (near >= 0).any():
                return
            found[left[near[near >= 0]]] = True
