"""Checkpoints that are whole or do not count: each is sealed once all its files are written.

The Trainer writes a checkpoint file by file and resumes from the highest number, half-written or not; a missing optimizer
or a flipped byte it does not notice. The seal lists every file with its size and SHA-256, and is written last.
"""

import shutil
from pathlib import Path

from ftkit import console
from ftkit.reading import DAMAGED, UNREADABLE, Damaged, read_bytes, read_object, read_text
from ftkit.run import RECORD, Run, as_umask_says, write_json, write_text
from ftkit.seals import describe, seal_of, unlike

SEAL = "ftkit_seal.json"
KEPT = "kept-"  # before the name of a checkpoint that is being written again


def seal(checkpoint: Path) -> None:
    """Note size and SHA-256 of every file of a checkpoint, which takes the place of one that was set aside for it."""
    as_umask_says(checkpoint)
    write_json(checkpoint / SEAL, seal_of(checkpoint, _files(checkpoint)))
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
    return not damage_in(checkpoint)


def damage_in(checkpoint: Path) -> str:
    """What is wrong with a checkpoint, in words; empty where it is whole."""
    if not (checkpoint / SEAL).is_file():
        return "it was broken off while it was written"
    try:
        files = read_object(checkpoint / SEAL)
    except Damaged as error:
        return f"{SEAL}: {error.message}"
    found = unlike(checkpoint, files)
    return next((f"{name}: {what}" for name, what in found.items()), "" if files else f"{SEAL}: empty")


def last_whole_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint that is whole, or was set aside; of others it is said what is wrong, and they are removed.

    What the disk or the rights keep from being read is left where it is.
    """
    for checkpoint in newest_first(folder):
        if not (what := damage_in(checkpoint)):
            return _in_its_place(checkpoint)
        unreadable = UNREADABLE in what
        console.warn(f"{checkpoint} is not whole, and {'left aside' if unreadable else 'removed'}: {what}")
        if not unreadable:
            shutil.rmtree(checkpoint)
    return None


def newest_first(folder: Path) -> list[Path]:
    """All checkpoints, whole or not, each before the one that was set aside for it."""
    named = [*folder.glob("checkpoint-*"), *folder.glob(f"{KEPT}checkpoint-*")]
    numbered = [path for path in named if path.name.rpartition("-")[2].isdigit()]
    return sorted(numbered, key=lambda path: (step_of(path), not path.name.startswith(KEPT)), reverse=True)


def _in_its_place(checkpoint: Path) -> Path:
    """A whole checkpoint under its own name, without what was set aside for it."""
    place = checkpoint.with_name(checkpoint.name.removeprefix(KEPT))
    if place == checkpoint:
        shutil.rmtree(kept_of(checkpoint), ignore_errors=True)
        return checkpoint
    return checkpoint if place.exists() else checkpoint.rename(place)


def keep_copies(run: Run, checkpoint: Path) -> None:
    """Lay record, recipe and inputs of the run into a checkpoint that is not sealed yet, to be put back if they get lost."""
    for name, file in copies(run).items():
        if file.is_file():
            shutil.copyfile(file, checkpoint / name)


def copies(run: Run) -> dict[str, Path]:
    """By the name that each has in a checkpoint."""
    return {"ftkit_run.json": run.record_file, "ftkit_recipe.yaml": run.recipe_file, "ftkit_inputs.json": run.inputs}


def put_back(run: Run) -> None:
    """Put run.json, recipe.yaml and inputs.json back where they are lost or damaged, from the last checkpoint of the run.

    Raises:
        Damaged: one of the first two is, and no whole checkpoint has a copy; without inputs a run goes on by force.
    """
    if not (run.record_file.exists() or run.recipe_file.exists()):
        return  # there is no run
    whole = None
    for name, file in copies(run).items():  # the record first, which knows the recipe's digest
        if not (what := damage_of(run, file)):
            continue
        whole = whole or next((checkpoint for checkpoint in newest_first(run.checkpoints) if is_whole(checkpoint)), None)
        if file == run.inputs and (whole is None or not (whole / name).is_file()):
            continue
        if whole is None or not (whole / name).is_file():
            hint = "no whole checkpoint has a copy: put one back, or start anew with --overwrite"
            raise Damaged(file, what.removeprefix(DAMAGED), hint)
        write_text(file, read_text(whole / name))
        console.warn(f"{file}: {what}; put back from {whole}")


def damage_of(run: Run, file: Path) -> str:
    """What is wrong with run.json, recipe.yaml or inputs.json; empty where nothing is."""
    try:
        if file == run.inputs:
            noted = run.record.get("fingerprints", {}).get("inputs")
            read_bytes(file) if noted else None
            return "" if not noted or describe(file)[1] == noted else f"{DAMAGED}not as it was when the run began"
        if file == run.record_file:
            read_object(file, RECORD, ("state", "load"))
            return ""
        read_bytes(file)
        return "" if run.has_its_recipe() else f"{DAMAGED}not as it was when the run began"
    except Damaged as error:
        return error.message


def step_of(checkpoint: Path) -> int:
    return int(checkpoint.name.rpartition("-")[2])


def _files(checkpoint: Path) -> list[Path]:
    return sorted(file for file in checkpoint.rglob("*") if file.is_file() and file.name != SEAL)
