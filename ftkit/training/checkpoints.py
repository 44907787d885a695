"""Checkpoints that are whole or do not count: each is sealed once all its files are written.

The Trainer writes a checkpoint file by file and resumes from the highest number, half-written or not; a missing optimizer
or a flipped byte it does not notice. The seal lists every file with its size and SHA-256, and is written last.
"""

import hashlib
import json
import shutil
from pathlib import Path

from ftkit.run import as_umask_says, write_json

SEAL = "ftkit_seal.json"
KEPT = "kept-"  # before the name of a checkpoint that is being written again
CHUNK = 1 << 20


def seal(checkpoint: Path) -> None:
    """Note size and SHA-256 of every file of a checkpoint, which takes the place of one that was set aside for it."""
    as_umask_says(checkpoint)
    files = {str(file.relative_to(checkpoint)): _describe(file) for file in _files(checkpoint)}
    write_json(checkpoint / SEAL, files)
    shutil.rmtree(kept_of(checkpoint), ignore_errors=True)


def set_aside(checkpoint: Path) -> None:
    """Keep a checkpoint that is written again until that is sealed: the Trainer writes into the files that are there."""
    if checkpoint.is_dir():
        shutil.rmtree(kept_of(checkpoint), ignore_errors=True)
        checkpoint.rename(kept_of(checkpoint))


def kept_of(checkpoint: Path) -> Path:
    return checkpoint.with_name(KEPT + checkpoint.name)


def is_whole(checkpoint: Path) -> bool:
    """Whether the checkpoint is sealed and every file is as it was sealed."""
    try:
        files = json.loads((checkpoint / SEAL).read_text(encoding="utf-8"))
        return bool(files) and all(_describe(checkpoint / name) == found for name, found in files.items())
    except (OSError, json.JSONDecodeError, AttributeError):
        return False


def last_whole_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint that is whole, or was set aside; those that are not are removed on the way."""
    for kept in folder.glob(f"{KEPT}checkpoint-*"):
        checkpoint = kept.with_name(kept.name.removeprefix(KEPT))
        if not is_whole(checkpoint):
            shutil.rmtree(checkpoint, ignore_errors=True)
            kept.rename(checkpoint)
    numbered = [path for path in folder.glob("checkpoint-*") if path.name.rpartition("-")[2].isdigit()]
    for checkpoint in sorted(numbered, key=lambda path: int(path.name.rpartition("-")[2]), reverse=True):
        if is_whole(checkpoint):
            return checkpoint
        shutil.rmtree(checkpoint)
    return None


def step_of(checkpoint: Path) -> int:
    return int(checkpoint.name.rpartition("-")[2])


def _files(checkpoint: Path) -> list[Path]:
    return sorted(file for file in checkpoint.rglob("*") if file.is_file() and file.name != SEAL)


def _describe(file: Path) -> list[int | str]:
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while chunk := stream.read(CHUNK):
            digest.update(chunk)
    return [file.stat().st_size, digest.hexdigest()]
