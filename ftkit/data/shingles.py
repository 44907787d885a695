"""Sets of shingles, runs of words (of characters in scripts without spaces), by which texts are found to be alike.

Candidates are found by MinHash and locality-sensitive hashing (Broder 1997; Leskovec, Rajaraman, Ullman, "Mining of Massive
Datasets", chapter 3), and each pair is verified by the true Jaccard similarity. What grows with the number of rows, 64-bit
hashes of shingles and bands, goes to temporary files.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce
from pathlib import Path

import numpy as np
import numpy.typing as npt
from datasets import Dataset
from rensa import RMinHash  # type: ignore[import-untyped]  # 0.5.0 ships no types

from ftkit.data.scripts import split_words
from ftkit.data.texts import normalise, texts_of

Hashes = npt.NDArray[np.uint64]
Numbers = npt.NDArray[np.int64]

SHINGLE_WORDS = 3
MAX_SLOTS = 128  # of a MinHash signature
MISSED = 1e-3  # share of the pairs at the very threshold that the index may miss; of those above it, far fewer
MAX_GATHERED = 1_000_000  # shingles that are compared at once: about 50 MB
OWNER_BITS = 20
SEED = 1


@dataclass(frozen=True)
class Shingles:
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


def _shingles_of(text: str, least_words: int) -> set[str]:
    words = split_words(text)
    if len(words) < max(least_words, SHINGLE_WORDS):  # two characters are one word, which is another the other way round
        return set(text.split()) if len(words) >= least_words else set()
    return {" ".join(words[start : start + SHINGLE_WORDS]) for start in range(len(words) - SHINGLE_WORDS + 1)}


def hash_shingles(batch: list[tuple[str, ...]], least_words: int) -> Shingles:
    """The shingles of each row's columns, read as one text; none where it has fewer words than `least_words`."""
    shingles = [list(_shingles_of(" ".join(map(normalise, texts)), least_words)) for texts in batch]
    hashes = RMinHash.hash_token_sets(shingles)
    starts = np.concatenate([[0], np.cumsum([len(row) for row in hashes], dtype=np.int64)])
    return Shingles(np.fromiter((value for row in hashes for value in row), np.uint64, int(starts[-1])), starts)


def bands_and_slots(threshold: float) -> tuple[int, int]:
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


def band_keys(shingles: Shingles, bands: int, slots: int) -> Hashes:
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


class Index:
    """The shingles and band keys of rows, in two files of a temporary folder; 8 bytes a row are held."""

    def __init__(self, rows: Dataset, columns: list[str], threshold: float, least_words: int, folder: Path) -> None:
        self.bands, self.slots = bands_and_slots(threshold)
        self._count, self._keys_file = len(rows), folder / "keys"
        sizes = np.zeros(len(rows) + 1, dtype=np.int64)
        start = 0
        with (folder / "shingles").open("wb") as shingles_file, self._keys_file.open("wb") as keys_file:
            for batch in texts_of(rows, columns):
                shingles = hash_shingles(batch, least_words)
                shingles_file.write(shingles.hashes.tobytes())
                sizes[start + 1 : start + len(batch) + 1] = np.diff(shingles.starts)
                for band, keys in enumerate(band_keys(shingles, self.bands, self.slots)):
                    keys_file.seek(8 * (band * self._count + start))
                    keys_file.write(keys.tobytes())
                start += len(batch)
        starts = np.cumsum(sizes)
        empty = not starts[-1]  # an empty file cannot be mapped
        hashes = np.zeros(0, np.uint64) if empty else np.memmap(folder / "shingles", np.uint64, "r")
        self.shingles = Shingles(hashes, starts)

    def keys(self, band: int) -> Hashes:
        return np.fromfile(self._keys_file, np.uint64, self._count, offset=8 * band * self._count)

    def close(self) -> None:
        """Let go of the files: Windows deletes no file that is mapped."""
        self.shingles = Shingles(np.zeros(0, np.uint64), np.zeros(1, np.int64))


def are_alike(left: Shingles, lefts: Numbers, right: Shingles, rights: Numbers, threshold: float) -> npt.NDArray[np.bool_]:
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


def _bound_shared(left: Shingles, lefts: Numbers, right: Shingles, rights: Numbers) -> Numbers:
    """At most how many shingles both rows of each pair hold, by 44 bits of their hashes: ten times as fast as all 64."""
    pairs = np.arange(len(lefts), dtype=np.uint64) << np.uint64(64 - OWNER_BITS)
    hashes = np.concatenate([left.gather(lefts), right.gather(rights)]) >> np.uint64(OWNER_BITS)
    hashes |= np.concatenate([np.repeat(pairs, left.sizes(lefts)), np.repeat(pairs, right.sizes(rights))])
    hashes.sort()
    twice = hashes[1:][hashes[1:] == hashes[:-1]] >> np.uint64(64 - OWNER_BITS)
    return np.bincount(twice.astype(np.int64), minlength=len(lefts))


def _count_shared(left: Shingles, lefts: Numbers, right: Shingles, rights: Numbers) -> Numbers:
    """How many shingles both rows of each pair hold: a set holds none twice, so what stands twice under a pair is shared."""
    pairs = np.arange(len(lefts), dtype=np.int32)
    hashes = np.concatenate([left.gather(lefts), right.gather(rights)])
    owners = np.concatenate([np.repeat(pairs, left.sizes(lefts)), np.repeat(pairs, right.sizes(rights))])
    order = np.lexsort((hashes, owners))
    hashes, owners = hashes[order], owners[order]
    twice = (hashes[1:] == hashes[:-1]) & (owners[1:] == owners[:-1])
    return np.bincount(owners[1:][twice], minlength=len(lefts))


def one_key(keys: Iterable[Hashes]) -> Hashes:
    """One key of several."""
    return reduce(_stir, keys)


def _stir(mixed: Hashes, key: Hashes) -> Hashes:
    mixed = (mixed * np.uint64(0x9E3779B97F4A7C15)) ^ key
    return mixed ^ (mixed >> np.uint64(32))
