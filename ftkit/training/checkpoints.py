"""Checkpoints that are whole or do not count: each is sealed once all its files are written.

The Trainer writes a checkpoint file by file and resumes from the highest number, half-written or not; a missing optimizer
or a flipped byte it does not notice. The seal lists every file with its size and SHA-256, and is written last.
"""

import shutil
from pathlib import Path

from ftkit.reading import Damaged, read_object
from ftkit.run import Run, as_umask_says, write_json
from ftkit.seals import seal_of, unlike

SEAL = "ftkit_seal.json"


def seal(checkpoint: Path) -> None:
    """Note size and SHA-256 of every file of a checkpoint."""
    as_umask_says(checkpoint)
    write_json(checkpoint / SEAL, seal_of(checkpoint, _files(checkpoint)))


def is_whole(checkpoint: Path) -> bool:
    """Whether the checkpoint is sealed and every file is as it was sealed."""
    try:
        files = read_object(checkpoint / SEAL)
    except Damaged:
        return False
    return bool(files) and not unlike(checkpoint, files)


def last_whole_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint that is whole; those that are not are removed on the way."""
    for checkpoint in newest_first(folder):
        if is_whole(checkpoint):
            return checkpoint
        shutil.rmtree(checkpoint)
    return None


def newest_first(folder: Path) -> list[Path]:
    """All checkpoints, whole or not."""
    numbered = [path for path in folder.glob("checkpoint-*") if path.name.rpartition("-")[2].isdigit()]
    return sorted(numbered, key=step_of, reverse=True)


def keep_copies(run: Run, checkpoint: Path) -> None:
    """Lay record and recipe of the run into a checkpoint that is not sealed yet, to be put back where they get lost."""
    for name, file in copies(run).items():
        if file.is_file():
            shutil.copyfile(file, checkpoint / name)


def copies(run: Run) -> dict[str, Path]:
    """By the name that each has in a checkpoint."""
    return {"ftkit_run.json": run.record_file, "ftkit_recipe.yaml": run.recipe_file}


def step_of(checkpoint: Path) -> int:
    return int(checkpoint.name.rpartition("-")[2])


def _files(checkpoint: Path) -> list[Path]:
    return sorted(file for file in checkpoint.rglob("*") if file.is_file() and file.name != SEAL)
