"""A disk that fills while a run writes: it ends trained or with one line, and resumed it has the bits of the unbroken run.

Kind: training that ends for a checkpoint, a line of the log or a tracker that the disk does not take; half-written files that
keep the space; a whole checkpoint that is lost before another one is whole.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from damaged_runs import ReloaderHere
from small_disks import filling, small_disk

from ftkit import Recipe, train
from ftkit.errors import FtkitError
from ftkit.evaluation import verification
from ftkit.run import FINISHED, Run, read_jsonl
from ftkit.training.checkpoints import is_whole, newest_first

RecipeMaker = Callable[..., Recipe]
PLACES = 20
SIZE = "6m"
TRAINING = {
    "max_steps": 6, "save_strategy": "steps", "save_steps": 2, "eval_strategy": "steps", "eval_steps": 2, "save_total_limit": 1,
    "load_best_model_at_end": True, "metric_for_best_model": "eval_loss", "report_to": "tensorboard",
}  # fmt: skip


@pytest.fixture
def made(recipe: RecipeMaker, monkeypatch: pytest.MonkeyPatch) -> Recipe:
    monkeypatch.setattr(verification, "Reloader", ReloaderHere)
    return recipe("lora", training=TRAINING, evaluation={"verify": True, "general_text": False})


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
def test_a_disk_that_fills_anywhere_costs_no_training(made: Recipe, tmp_path: Path) -> None:
    """At each of 20 places, for ever or for some moments, with no byte left or a few."""
    with small_disk(tmp_path / "disk", "64m") as disk, filling(disk) as counted:
        train(made, output_dir=disk / "run")
        twin, count = left_by(Run(disk / "run")), len(counted.moments)
    wrong, ends = [], []
    for number in range(PLACES):
        at = 1 + number * (count - 1) // (PLACES - 1)
        how: dict[str, int | None] = {"at": at, "lasts": (None, 12)[number % 2], "spare": (0, 0, 40_000)[number % 3]}
        with small_disk(tmp_path / "disk", "64m") as disk:
            run = Run(disk / "run")
            with filling(disk, **how) as filled:
                said = end_of(made, run.folder)
            ends.append(said)
            place = f"{how} ({filled.moments[at - 1]}): {said}"
            if said:
                again = end_of(made, run.folder, resume="--resume" in said)
                if again:
                    wrong.append(f"{place}; then {again}")
                    continue
            if left_by(run) != twin:
                wrong.append(
                    f"{place}: the run is another: {[key for key, value in left_by(run).items() if value != twin[key]]}"
                )
            hidden = [path.name for path in run.folder.rglob(".*")]
            if run.state != FINISHED or hidden or not all(map(is_whole, newest_first(run.checkpoints))):
                wrong.append(f"{place}: {run.state}, {hidden}, {newest_first(run.checkpoints)}")
    print("\n".join(ends))
    assert not wrong, "\n".join(wrong)
    assert any(not said for said in ends)
    assert any(said for said in ends)
