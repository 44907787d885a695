"""The rows of a verification on disk: what goes into the model, and the scores before and after training.

Some of the rows stand there a second time, padded as the longest of them, to tell what padding alone does to a loss.
"""

import os
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from ftkit.evaluation.scoring import Row
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
    beside = file.with_name(f".{file.name}.partial")
    save_file(tensors, beside)
    as_umask_says(beside)
    os.replace(beside, file)


def read_rows(file: Path, which: str = INPUT) -> list[Row]:
    """The rows as they go into the model, or those that are PADDED."""
    rows: dict[int, Row] = {}
    with safe_open(file, framework="pt") as held:
        for key in held.keys():  # noqa: SIM118, it is no mapping
            kind, index, *name = key.split(" ", 2)
            if kind == which:
                rows.setdefault(int(index), {})[name[0]] = held.get_tensor(key)
    return [rows[index] for index in sorted(rows)]


def read_scores(file: Path, name: str) -> list[torch.Tensor]:
    """A named list of scores; empty where it was never written."""
    with safe_open(file, framework="pt") as held:
        found = {int(key.split(" ")[1]): held.get_tensor(key) for key in held.keys() if key.startswith(f"{name} ")}  # noqa: SIM118
    return [found[index] for index in sorted(found)]
