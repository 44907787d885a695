"""Checkpoints that are damaged, gone or cannot be read: each is told, and nothing is lost by it.

Kind: a checkpoint that is removed though the disk or the rights alone keep it from being read; a run that begins anew at
step 0 without a word from its user; a best checkpoint that is gone, in whose place another one's weights are taken.
"""

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from damaged_runs import DAMAGES, MISSING, damage

from ftkit import Recipe, train
from ftkit.errors import UserError
from ftkit.reading import Damaged
from ftkit.run import Run, write_json, write_text
from ftkit.training import callbacks
from ftkit.training.checkpoints import (
    LOST_BEST,
    SEALED,
    checkpoint_to_go_on,
    find_checkpoint,
    give_up,
    last_whole_checkpoint,
    make_place,
    newest_first,
    put_back,
    rotate,
    seal,
    step_of,
)

RecipeMaker = Callable[..., Recipe]
PLAIN_OPEN = Path.open


def checkpoints(folder: Path, *steps: int, best: int | None = None) -> list[Path]:
    """Whole ones, the oldest first."""
    made = []
    for step in steps:
        made.append(folder / f"checkpoints/checkpoint-{step}")
        state = {"best_model_checkpoint": best and str(folder / f"checkpoints/checkpoint-{best}")}
        write_json(made[-1] / "trainer_state.json", state)
        write_text(made[-1] / "optimizer.pt", "state")
        seal(made[-1])
    return made


def a_file_in_a_circle(checkpoint: Path) -> None:
    lead_in_a_circle(checkpoint / "optimizer.pt")


def a_seal_in_a_circle(checkpoint: Path) -> None:
    lead_in_a_circle(checkpoint / "ftkit_seal.json")


def lead_in_a_circle(file: Path) -> None:
    file.unlink()
    file.symlink_to(file)


def a_broken_disk(checkpoint: Path) -> None:
    pass


UNREADABLE = [a_file_in_a_circle, a_seal_in_a_circle, a_broken_disk]


def failing(number: int, folder: Path) -> Callable[..., Any]:
    """`Path.open` and `Path.read_bytes`, of a disk that fails in a folder."""

    def opened(path: Path, *arguments: Any, **named: Any) -> Any:
        if folder in path.parents:
            raise OSError(number, os.strerror(number), str(path))
        return PLAIN_OPEN(path, *arguments, **named)

    return opened


@pytest.mark.parametrize("number", [errno.EIO, errno.EACCES])
@pytest.mark.parametrize("how", UNREADABLE)
def test_what_cannot_be_read_is_never_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: Callable[[Path], None], number: int
) -> None:
    older, newer = checkpoints(tmp_path, 2, 4)
    how(newer)
    if how is a_broken_disk:
        monkeypatch.setattr(Path, "open", failing(number, newer))
    found = find_checkpoint(older.parent)
    assert found.whole == older
    assert "it cannot be read" in found.passed[newer]
    assert newer.is_dir()  # nothing is changed by looking
    assert found.settle() == older
    monkeypatch.undo()
    checkpoints(tmp_path, 4, 6)  # training has gone on
    aside = older.with_name("unreadable-checkpoint-4")
    assert {path.name for path in aside.iterdir()} >= {"trainer_state.json"}


@pytest.mark.parametrize("name", ["optimizer.pt", "ftkit_seal.json", "trainer_state.json"])
@pytest.mark.parametrize("kind", [*DAMAGES, MISSING])
def test_a_damaged_one_is_told_and_goes_once_a_new_one_is_whole(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, kind: str
) -> None:
    older, newer = checkpoints(tmp_path, 2, 4)
    damage(newer / name, kind)
    assert last_whole_checkpoint(older.parent) == older
    said = " ".join(capsys.readouterr().err.split())
    assert f"{newer} is passed over: " in said
    assert "checkpoint-2 is taken instead" in said
    assert name in said or (name == "ftkit_seal.json" and kind in ("flipped", MISSING))  # then another file seems wrong
    aside = older.with_name("damaged-checkpoint-4")
    assert aside.is_dir()
    checkpoints(tmp_path, 6)
    assert not aside.exists()
    assert older.is_dir()


def run_of(folder: Path, **fields: Any) -> Run:
    run = Run(folder)
    write_json(run.record_file, {"state": "failed", "load": {}, **fields})
    write_text(run.recipe_file, "task: x\n")
    return run


def test_a_run_begins_at_step_0_unasked_only_where_nothing_was_ever_saved(tmp_path: Path) -> None:
    assert checkpoint_to_go_on(run_of(tmp_path / "early"), best=False).whole is None
    broken_off = run_of(tmp_path / "first")
    write_text(broken_off.checkpoints / "checkpoint-2/optimizer.pt", "half")
    assert checkpoint_to_go_on(broken_off, best=False).whole is None
    gone = run_of(tmp_path / "gone", **{SEALED: 4})
    with pytest.raises(UserError, match=r"it wrote one at step 4, which is gone; .*--overwrite"):
        checkpoint_to_go_on(gone, best=False)
    write_text(gone.checkpoints / "checkpoint-6/optimizer.pt", "half")
    with pytest.raises(UserError, match=r"checkpoint-6: it was broken off"):
        checkpoint_to_go_on(gone, best=False)
    without_best = run_of(tmp_path / "best", **{SEALED: 4, LOST_BEST: 2})  # as it was said when training ended
    checkpoints(without_best.folder, 4)
    assert checkpoint_to_go_on(without_best, best=True).whole is None
    damaged = run_of(tmp_path / "damaged")
    for checkpoint in checkpoints(damaged.folder, 2, 4):
        damage(checkpoint / "optimizer.pt", "half")
    with pytest.raises(UserError, match=r"checkpoint-4: optimizer.pt: .*checkpoint-2: optimizer.pt: .*--overwrite"):
        checkpoint_to_go_on(damaged, best=False)
    assert len(newest_first(damaged.checkpoints)) == 2  # all is where it was
    damaged.checkpoints.rename(tmp_path / "aside")
    damaged.checkpoints.write_text("")
    with pytest.raises(Damaged, match="it cannot be read: Not a directory"):
        checkpoint_to_go_on(damaged, best=False)


@pytest.mark.parametrize("kind", ["flipped", "gone", "never saved"])
def test_a_run_that_ends_with_its_best_goes_on_from_before_a_lost_one(tmp_path: Path, kind: str) -> None:
    run = run_of(tmp_path / "run", **({LOST_BEST: 4} if kind == "never saved" else {}))
    first = checkpoints(run.folder, 2)[0]
    best, last = checkpoints(run.folder, 4, 6, best=4)
    if kind == "flipped":
        damage(best / "optimizer.pt", "flipped")
    else:
        shutil.rmtree(best)
    found = checkpoint_to_go_on(run, best=True)
    assert found.whole == first
    assert "the best so far" in found.passed[last]
    assert checkpoint_to_go_on(run, best=False).whole == last


def test_a_record_that_cannot_be_read_is_not_written_over(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run")
    run.record_file.unlink()
    run.record_file.mkdir()  # reading it fails as on a bad disk
    with pytest.raises(Damaged, match="it cannot be read"):
        put_back(run)


def test_a_checkpoint_in_whose_place_another_could_not_be_written_comes_back(tmp_path: Path) -> None:
    (whole,) = checkpoints(tmp_path, 2)
    make_place(whole)
    write_text(whole / "optimizer.pt", "half")
    give_up(whole)
    assert find_checkpoint(whole.parent).whole == whole
    make_place(whole)
    give_up(whole)  # nothing was written yet
    assert find_checkpoint(whole.parent).whole == whole


@pytest.mark.slow
def test_a_resumed_run_whose_checkpoints_are_damaged_changes_nothing(recipe: RecipeMaker, tmp_path: Path) -> None:
    made = recipe("lora", training={"max_steps": 4, "save_strategy": "steps", "save_steps": 2})
    train(made, output_dir=tmp_path / "run")
    run = Run(tmp_path / "run")
    run.update(state="failed")
    for checkpoint in newest_first(run.checkpoints):
        damage(checkpoint / "optimizer.pt", "flipped")
    before = {file: file.read_bytes() for file in run.folder.rglob("*") if file.is_file()}
    with pytest.raises(UserError, match=r"no checkpoint in .* is whole"):
        train(made, output_dir=run.folder, resume=True)
    assert {file: file.read_bytes() for file in run.folder.rglob("*") if file.is_file()} == before


# Kind: what a process was killed before it came to, at the last step, behind which no training begins again.
def test_old_ones_go_also_where_the_process_died_behind_the_last_seal(recipe: RecipeMaker, tmp_path: Path) -> None:
    saving = {"max_steps": 3, "save_strategy": "steps", "save_steps": 1, "save_total_limit": 2}
    made = recipe("full", training=saving, evaluation={"general_text": False, "baseline": False})

    def died(arguments: Any, state: Any) -> None:
        if state.global_step == 3:
            raise KeyboardInterrupt
        rotate(arguments, state)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(callbacks, "rotate", died)
        with pytest.raises(KeyboardInterrupt):
            train(made, output_dir=tmp_path / "run")
    run = Run(tmp_path / "run")
    assert [step_of(one) for one in newest_first(run.checkpoints)] == [3, 2, 1]
    train(made, output_dir=run.folder, resume=True)
    assert [step_of(one) for one in newest_first(run.checkpoints)] == [3, 2]
