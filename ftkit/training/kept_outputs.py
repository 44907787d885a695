"""What frozen blocks gave for the rows of a split, in files of the cache that are mapped into memory.

A folder is whole or absent: it is written under another name and renamed. Where all tokens are read, the rows' tokens lie
one after another; where one token is read, it is kept with what else the model takes of the row.
"""

import json
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.lib.format import open_memmap

from ftkit.models.frozen import FROZEN, Batch, Reading, lengths_of, replayed
from ftkit.shelf import Shelf, mark_used, size_of, unfinished
from ftkit.units import GIB

META = "meta.json"
OUTPUTS = Shelf("frozen", 20 * GIB)
NUMPY_TYPES = {torch.bfloat16: torch.int16}  # numpy has no bfloat16: its bits are kept
TYPES = {
    str(kind).removeprefix("torch."): kind
    for kind in (torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.bool)
}


@dataclass(frozen=True)
class KeptOutputs:
    """A whole folder, open for reading.

    Attributes:
        arrays: by the name of the model's input; of shape (rows, …), or (tokens, width) where all tokens are read.
        starts: where all tokens are read, at which token each row starts, shape (rows + 1,).
    """

    folder: Path
    reading: Reading
    arrays: dict[str, np.ndarray]
    starts: np.ndarray
    types: dict[str, torch.dtype]
    rows: int

    @property
    def bytes(self) -> int:
        return size_of(self.folder)

    def batch(self, indices: list[int]) -> Batch:
        """All that the model takes of rows of which one token is read."""
        return {name: self._tensor(name, array[indices]) for name, array in self.arrays.items()}

    def tokens(self, indices: list[int], width: int) -> torch.Tensor:
        """Of rows of which all tokens are read, padded with zeros: shape (rows, width, hidden width)."""
        array = self.arrays[FROZEN]
        found = np.zeros((len(indices), width, array.shape[1]), array.dtype)
        for place, index in enumerate(indices):
            start, end = self.starts[index : index + 2]
            found[place, : end - start] = array[start:end]
        return self._tensor(FROZEN, found)

    def hidden(self, indices: list[int], width: int) -> torch.Tensor:
        """What is kept of the blocks' output for rows."""
        if self.reading is Reading.ALL:
            return self.tokens(indices, width)
        return self._tensor(FROZEN, self.arrays[FROZEN][indices])

    def _tensor(self, name: str, values: np.ndarray) -> torch.Tensor:
        tensor, kind = torch.from_numpy(values), self.types[name]
        return tensor.view(kind) if kind in NUMPY_TYPES else tensor


class Writer:
    """Rows are put into a new folder batch by batch, in any order.

    Raises:
        OSError: the disk is full, or may not be written to.
    """

    def __init__(self, folder: Path, reading: Reading, lengths: np.ndarray) -> None:
        self.folder, self.reading, self.lengths = folder, reading, lengths
        self.starts = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
        self.beside = unfinished(folder)
        self.arrays: dict[str, np.ndarray] = {}
        self.types: dict[str, torch.dtype] = {}
        shutil.rmtree(self.beside, ignore_errors=True)
        self.beside.mkdir(parents=True)

    def put(self, rows: np.ndarray, batch: Batch, hidden: torch.Tensor) -> None:
        """Keep what the blocks gave for a batch of these rows."""
        if self.reading is not Reading.ALL:
            for name, value in replayed(batch, hidden, self.reading).items():
                self._array(name, value, len(self.starts) - 1)[rows] = plain(value)
            return
        values = plain(hidden)
        array = self._array(FROZEN, hidden[0], int(self.starts[-1]))
        for place, (row, length) in enumerate(zip(rows, lengths_of(batch).tolist(), strict=True)):
            array[self.starts[row] : self.starts[row + 1]] = values[place, :length]

    def close(self) -> KeptOutputs | None:
        """Make the folder whole and open it; another process may have been first, with the same."""
        for array in self.arrays.values():
            array.flush()  # type: ignore[attr-defined]
        np.save(self.beside / "starts.npy", self.starts)
        names = {kind: name for name, kind in TYPES.items()}
        types = {name: names[kind] for name, kind in self.types.items()}
        meta = {"reading": self.reading.value, "rows": len(self.starts) - 1, "types": types}
        (self.beside / META).write_text(json.dumps(meta), encoding="utf-8")
        try:
            self.beside.rename(self.folder)
        except OSError:
            if not (self.folder / META).is_file():
                raise
        return open_kept(self.folder)

    def discard(self) -> None:
        shutil.rmtree(self.beside, ignore_errors=True)

    def _array(self, name: str, value: torch.Tensor, count: int) -> np.ndarray:
        if name not in self.arrays:
            kind = torch.empty(0, dtype=NUMPY_TYPES.get(value.dtype, value.dtype)).numpy().dtype
            shape = (count, *value.shape[1:])
            file = self.beside / f"{name}.npy"
            self.arrays[name] = open_memmap(file, mode="w+", dtype=kind, shape=shape)
            take_space(file)
            self.types[name] = value.dtype
        return self.arrays[name]


def take_space(file: Path) -> None:
    """Take a mapped file's blocks on the disk now: writing to one on a full disk would kill the process.

    Raises:
        OSError: the disk is full.
    """
    if sys.platform == "linux":
        with file.open("r+b") as stream:
            os.posix_fallocate(stream.fileno(), 0, file.stat().st_size)


def plain(value: torch.Tensor) -> np.ndarray:
    value = value.detach().cpu()
    found: np.ndarray = (value.view(NUMPY_TYPES[value.dtype]) if value.dtype in NUMPY_TYPES else value).numpy()
    return found


def open_kept(folder: Path) -> KeptOutputs | None:
    """What lies in a folder, or None where there is none that can be read."""
    try:
        meta: dict[str, Any] = json.loads((folder / META).read_text(encoding="utf-8"))
        types = {name: TYPES[kind] for name, kind in meta["types"].items()}
        arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="c") for name in types}
        starts = np.load(folder / "starts.npy")
    except (OSError, ValueError, KeyError):
        return None
    mark_used(folder)
    return KeptOutputs(folder, Reading(meta["reading"]), arrays, starts, types, meta["rows"])
