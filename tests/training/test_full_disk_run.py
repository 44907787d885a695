"""A disk that fills while a run writes: it ends trained or with one line, and resumed it has the bits of the unbroken run.

Kind: training that ends for a checkpoint, a line of the log or a tracker that the disk does not take; half-written files that
keep the space; a whole checkpoint that is lost before another one is whole.
"""

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from damaged_runs import ReloaderHere
from small_disks import filling, small_disk

from ftkit import Recipe, train
from ftkit.errors import FtkitError
from ftkit.evaluation import verification
from ftkit.reading import read_jsonl
from ftkit.recipe.load import load_values
from ftkit.run import FINISHED, Run
from ftkit.training import callbacks
from ftkit.training.checkpoints import is_whole, newest_first

PLACES = 20
TRAINING = {
    "max_steps": 6, "per_device_train_batch_size": 8, "logging_steps": 1, "save_strategy": "steps", "save_steps": 2, "eval_strategy": "steps", "eval_steps": 2, "save_total_limit": 1,
    "load_best_model_at_end": True, "metric_for_best_model": "eval_loss", "report_to": "tensorboard",
}  # fmt: skip


@pytest.fixture(scope="module")
def made(stand_in: Callable[[str], Path], reviews: Path) -> Recipe:
    return load_values(
        {
            "task": "text-classification",
            "model": {"name": str(stand_in("distilbert")), "max_length": 128},
            "strategy": {"name": "lora", "r": 2, "target_modules": ["q_lin"]},
            "data": {"train": str(reviews), "eval_size": 8},
            "training": TRAINING,
            "evaluation": {"verify": True, "general_text": False},
        }
    )


@pytest.fixture(autouse=True)
def verified_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verification, "Reloader", ReloaderHere)


@pytest.fixture(scope="module")
def twin(made: Recipe, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], int]:
    """What the unbroken run leaves, and how many moments it has."""
    place = tmp_path_factory.mktemp("twin")
    with pytest.MonkeyPatch.context() as patch, small_disk(place / "disk", "64m") as disk, filling(disk) as counted:
        patch.setattr(verification, "Reloader", ReloaderHere)
        train(made, output_dir=disk / "run")
        return left_by(Run(disk / "run")), len(counted.moments)


def left_by(run: Run) -> dict[str, Any]:
    """What must be the same: weights, predictions, and the losses of each step."""
    weights = {file.name: file.read_bytes() for file in run.model.glob("*.safetensors")}
    losses = [
        (event["step"], key, event[key])
        for event in read_jsonl(run.log_file)
        for key in ("loss", "eval_loss")
        if key in event
    ]
    return {**weights, "predictions": run.predictions_file.read_text(), "losses": losses}


def end_of(made: Recipe, folder: Path, **how: bool) -> str:
    """How a training ends: empty where it is finished, else the line; what is no line fails."""
    said = ""
    try:
        train(made, output_dir=folder, **how)
    except FtkitError as error:
        said = str(error)
    assert "\n" not in said
    return said


@pytest.mark.slow
@pytest.mark.parametrize("number", range(PLACES))
def test_a_disk_that_fills_costs_no_training(
    made: Recipe, twin: tuple[dict[str, Any], int], tmp_path: Path, number: int
) -> None:
    """At one of twenty places, for ever or for some moments, with no byte left or a few."""
    left, count = twin
    at = 1 + number * (count - 1) // (PLACES - 1)
    how: dict[str, int | None] = {"at": at, "lasts": (None, 12)[number % 2], "spare": (0, 0, 40_000)[number % 3]}
    with small_disk(tmp_path / "disk", "64m") as disk:
        run = Run(disk / "run")
        with filling(disk, **how) as filled:
            said = end_of(made, run.folder)
        assert at <= len(filled.moments)
        if said:
            assert ("no space is left for" in said) or ("the disk did not take" in said)
            assert end_of(made, run.folder, resume="--resume" in said) == ""
        assert left_by(run) == left
        assert run.state == FINISHED
        assert [path.name for path in run.folder.rglob(".*")] == []  # nothing half-written
        assert all(map(is_whole, newest_first(run.checkpoints)))


@pytest.mark.slow
def test_the_last_whole_checkpoint_stays_until_another_is_sealed(
    made: Recipe, twin: tuple[dict[str, Any], int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the disk takes all of a checkpoint but its seal, and only one is to be kept."""
    plain, run = callbacks.seal, Run(tmp_path / "run")

    def seal_but_the_last(checkpoint: Path) -> None:
        if checkpoint.name == "checkpoint-6":
            raise OSError(errno.ENOSPC, "No space left on device")
        plain(checkpoint)

    monkeypatch.setattr(callbacks, "seal", seal_but_the_last)
    said = end_of(made, run.folder)
    assert [path.name for path in newest_first(run.checkpoints)] == ["checkpoint-4"]
    assert "the best of the steps is 6, whose checkpoint the disk did not take" in said
    monkeypatch.setattr(callbacks, "seal", plain)
    assert end_of(made, run.folder, resume=True) == ""
    assert run.record["resumed"] == [4]
    assert left_by(run) == twin[0]
    assert [path.name for path in newest_first(run.checkpoints)] == ["checkpoint-6"]
