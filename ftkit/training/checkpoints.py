"""Checkpoints that are whole or do not count: each is sealed once all its files are written.

The Trainer writes a checkpoint file by file and resumes from the highest number, half-written or not; a missing optimizer
or a flipped byte it does not notice. The seal lists every file with its size and SHA-256, and is written last.
"""

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ftkit import console
from ftkit.disk import refusal
from ftkit.errors import UserError
from ftkit.reading import DAMAGED, LOOK, MISSING, UNREADABLE, Damaged, read_bytes, read_object, read_text, unreadable
from ftkit.run import RECORD, Run, as_umask_says, write_json, write_text
from ftkit.seals import describe, seal_of, unlike

if TYPE_CHECKING:
    from transformers import TrainerState, TrainingArguments

SEAL = "ftkit_seal.json"
KEPT = "kept-"  # before the name of a checkpoint that is being written again
DAMAGED_ONE = "damaged-"  # before the name of one that does not serve, until a new one is whole
UNREADABLE_ONE = "unreadable-"  # before that of one which may come back: it is left to the user
UNSEALED = "it was broken off while it was written"
LOST_BEST = "lost_best"  # in run.json: the step of the best checkpoint, which the disk did not take
SEALED = "sealed"  # in run.json: the step of the last checkpoint that was sealed
NUMBERED = re.compile(rf"(?:{KEPT})?checkpoint-\d+")


@dataclass(frozen=True)
class Found:
    """What lies among a run's checkpoints.

    Attributes:
        whole: the newest that is, or None; it may be one that was set aside.
        passed: newer ones, and what is wrong with each.
    """

    whole: Path | None
    passed: dict[Path, str]

    def tell(self) -> None:
        """Say what is wrong, and what is taken instead."""
        instead = f"{self.whole.name} is taken instead" if self.whole else "there is none to take instead"
        for checkpoint, what in self.passed.items():
            console.warn(f"{checkpoint} is passed over: {what}; {instead}")

    def settle(self) -> Path | None:
        """Give the whole one its own name, and others a name by which nobody takes them; none is removed."""
        for checkpoint, what in self.passed.items():
            prefix = UNREADABLE_ONE if UNREADABLE in what else DAMAGED_ONE
            places = (checkpoint.with_name(f"{prefix}{number}{checkpoint.name}") for number in ("", *range(2, 1000)))
            checkpoint.rename(next(place for place in places if not place.exists()))
        return self.whole and _in_its_place(self.whole)


def seal(checkpoint: Path) -> None:
    """Note size and SHA-256 of every file of a checkpoint; then what was kept until there is a whole one is removed."""
    as_umask_says(checkpoint)
    write_json(checkpoint / SEAL, seal_of(checkpoint, _files(checkpoint)))
    shutil.rmtree(kept_of(checkpoint), ignore_errors=True)
    drop_damaged(checkpoint.parent)


def drop_damaged(folder: Path) -> None:
    """Remove the checkpoints that were passed over, but for those that only could not be read."""
    for checkpoint in folder.glob(f"{DAMAGED_ONE}*checkpoint-*"):
        shutil.rmtree(checkpoint, ignore_errors=True)


def make_place(checkpoint: Path) -> None:
    """Let a checkpoint be written: a whole one in its place is kept until it is sealed, what was broken off goes."""
    if not checkpoint.is_dir():
        return
    if is_sealed(checkpoint):
        shutil.rmtree(kept_of(checkpoint), ignore_errors=True)
        checkpoint.rename(kept_of(checkpoint))
    else:
        shutil.rmtree(checkpoint)


@contextmanager
def sparing(checkpoint: Path, *, ends: bool = False) -> Iterator[None]:
    """Where the disk takes no more inside the block, there is no new checkpoint, and a warning says so.

    Args:
        ends: training ends with it.
    """
    try:
        yield
    except Exception as error:
        if not (what := refusal(error)):
            raise
        give_up(checkpoint)
        before = next((one for one in newest_first(checkpoint.parent) if is_sealed(one)), None)
        last = f"{before.name} stays the last" if before else "there is none yet"
        onward = "" if ends else "training goes on without, and "
        console.warn(f"{checkpoint} cannot be written: {what}; {onward}{last}")


def give_up(checkpoint: Path) -> None:
    """Give the space of a half-written checkpoint back; the one that was set aside for it takes its place."""
    shutil.rmtree(checkpoint, ignore_errors=True)
    if (kept := kept_of(checkpoint)).is_dir() and not checkpoint.exists():
        kept.rename(checkpoint)


def rotate(args: "TrainingArguments", state: "TrainerState") -> None:
    """Remove the oldest checkpoints beyond `save_total_limit`, never the best."""
    from transformers.trainer_utils import rotate_checkpoints  # what looks at checkpoints before training needs no library

    rotate_checkpoints(str(args.output_dir), args.save_total_limit, state.best_model_checkpoint, use_mtime=True)


def is_fresh(checkpoint: Path) -> bool:
    """Whether the checkpoint is written, and not sealed yet."""
    return checkpoint.is_dir() and not is_sealed(checkpoint)


def is_sealed(checkpoint: Path) -> bool:
    return (checkpoint / SEAL).is_file()


def kept_of(checkpoint: Path) -> Path:
    return checkpoint.with_name(KEPT + checkpoint.name)


def is_whole(checkpoint: Path) -> bool:
    """Whether the checkpoint is sealed and every file is as it was sealed."""
    return not damage_in(checkpoint)


def require_whole(checkpoint: Path) -> None:
    """Raises Damaged where a checkpoint that is to be loaded is not as it was sealed."""
    if what := damage_in(checkpoint):
        raise Damaged(checkpoint, what, "go on with --resume, which trains again what is lost")


def damage_in(checkpoint: Path) -> str:
    """What is wrong with a checkpoint, in words; empty where it is whole."""
    try:
        files = read_object(checkpoint / SEAL)
    except Damaged as error:
        return UNSEALED if error.what == MISSING else f"{SEAL}: {error.message}"
    found = unlike(checkpoint, files)
    return next((f"{name}: {what}" for name, what in found.items()), "" if files else f"{SEAL}: empty")


def find_checkpoint(folder: Path, *, best: bool = False, lost: int | None = None) -> Found:
    """The newest checkpoint that is whole, or was set aside, and from which training ends as it would have.

    Args:
        best: the run is to end with its best checkpoint, which must be there too.
        lost: the step of a best checkpoint that could not be written: from later ones it cannot be had.

    Raises:
        Damaged: the folder cannot be read.
    """
    passed: dict[Path, str] = {}
    for checkpoint in newest_first(folder):
        what = damage_in(checkpoint) or (lack_of_best(checkpoint, lost) if best else "")
        if not what:
            return Found(checkpoint, passed)
        passed[checkpoint] = what
    return Found(None, passed)


def lack_of_best(checkpoint: Path, lost: int | None) -> str:
    """Why the best of the steps up to a whole checkpoint cannot be had any more; empty where it can."""
    if lost is not None and lost <= step_of(checkpoint):
        return lost_words(lost)
    state = read_object(checkpoint / "trainer_state.json")
    named = Path(str(state.get("best_model_checkpoint") or checkpoint)).name
    if named == checkpoint.name.removeprefix(KEPT):
        return ""
    what = damage_in(checkpoint.with_name(named))
    return f"{named}, the best so far: {what}" if what else ""


def lost_words(lost: int | None) -> str:
    return f"step {lost}, the best so far, could not be saved"


def last_whole_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint that is whole, under its own name; of newer ones it is said what is wrong."""
    found = find_checkpoint(folder)
    found.tell()
    return found.settle()


def checkpoint_to_go_on(run: Run, *, best: bool) -> Found:
    """What a run goes on from, after a word on what does not serve; nothing is changed yet.

    Args:
        best: as in `find_checkpoint`.

    Raises:
        UserError: there were checkpoints, and none of them is whole.
    """
    sealed, lost = (run.record.get(name) for name in (SEALED, LOST_BEST))
    found = find_checkpoint(run.checkpoints, best=best, lost=lost)
    reasons, known = set(found.passed.values()), lost_words(lost)  # which the run has said when it ended
    if found.whole is None and (reasons - {UNSEALED, known} or (sealed and known not in reasons)):
        wrong = [f"{checkpoint.name}: {what}" for checkpoint, what in found.passed.items()]
        written = f"it wrote one at step {sealed}, which is gone"
        hint = "put a whole one back, or begin at step 0 with --overwrite in place of --resume"
        message = f"no checkpoint in {run.checkpoints} is whole: {'; '.join(wrong) or written}"
        raise UserError(message, hint, "--resume")
    found.tell()
    return found


def newest_first(folder: Path) -> list[Path]:
    """All checkpoints, whole or not, each before the one that was set aside for it.

    Raises:
        Damaged: the folder cannot be read.
    """
    try:
        found = [path for path in folder.iterdir() if NUMBERED.fullmatch(path.name)]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise unreadable(folder, error) from error
    return sorted(found, key=lambda path: (step_of(path), not path.name.startswith(KEPT)), reverse=True)


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
        if UNREADABLE in what:
            raise Damaged(file, what.removeprefix(DAMAGED), LOOK)
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
