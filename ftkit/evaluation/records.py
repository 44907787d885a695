"""The rows of a verification on disk: what goes into the model, and the scores before and after training.

Some of the rows stand there a second time, padded as the longest of them, to tell what padding alone does to a loss.
"""

from pathlib import Path

import torch
from safetensors.torch import save_file

from ftkit.disk import whole_or_absent
from ftkit.evaluation.scoring import Row
from ftkit.reading import Damaged, opened_tensors
from ftkit.run import as_umask_says

INPUT, PADDED = "input", "padded"


def write_rows(file: Path, rows: list[Row], padded: list[Row], **scores: list[torch.Tensor]) -> None:
    """Write the rows and each named list of scores: whole or not at all."""
    tensors = {
        f"{kind} {index} {name}": value
        for kind, some in ((INPUT, rows), (PADDED, padded))
        for index, row in enumerate(some)
        for name, value in row.items()
    }
    for name, vectors in scores.items():
        tensors |= {f"{name} {index}": vector for index, vector in enumerate(vectors)}
    file.parent.mkdir(parents=True, exist_ok=True)
    with whole_or_absent(file, file.with_name(f".{file.name}.partial")) as beside:
        save_file(tensors, beside)
        as_umask_says(beside)


def read_rows(file: Path, which: str = INPUT) -> list[Row]:
    """The rows as they go into the model, or those that are PADDED.

    Raises:
        Damaged: the file cannot be read.
    """
    rows: dict[int, Row] = {}
    with opened_tensors(file) as held:
        for key in held.keys():  # noqa: SIM118, it is no mapping
            kind, index, *name = key.split(" ", 2)
            if kind == which:
                rows.setdefault(number_of(index, file), {})[name[0] if name else ""] = held.get_tensor(key)
    return [rows[index] for index in sorted(rows)]


def read_scores(file: Path, name: str) -> list[torch.Tensor]:
    """A named list of scores; empty where it was never written.

    Raises:
        Damaged: the file cannot be read.
    """
    with opened_tensors(file) as held:
        keys = [key for key in held.keys() if key.startswith(f"{name} ")]  # noqa: SIM118
        found = {number_of(key.split(" ")[1], file): held.get_tensor(key) for key in keys}
    return [found[index] for index in sorted(found)]


def number_of(word: str, file: Path) -> int:
    """Which row a tensor is of."""
    if not word.isdigit():
        raise Damaged(file, f"it names a row '{word}'")
    return int(word)
