"""Trackers: which are taken, where they write, and what they are told."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from transformers.integrations import get_available_reporting_integrations

from ftkit.api import train
from ftkit.errors import UserError
from ftkit.recipe.schema import Recipe
from ftkit.training.trackers import find_trackers

INSTALLED = get_available_reporting_integrations()


def test_without_a_word_tensorboard_is_taken_where_it_is_installed() -> None:
    assert find_trackers(None) == (["tensorboard"] if "tensorboard" in INSTALLED else [])
    assert find_trackers("none") == find_trackers([]) == []
    assert find_trackers("all") == INSTALLED


@pytest.mark.parametrize("name", [name for name in ("wandb", "mlflow", "trackio", "tensorboard") if name not in INSTALLED])
def test_a_named_tracker_that_is_not_installed(name: str, recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"the tracker '{name}' is not installed") as caught:
        train(recipe(training={"report_to": name}), output_dir=tmp_path / "run")
    assert caught.value.hint.startswith("pip install ")
    assert not (tmp_path / "run").exists()


def test_an_unknown_tracker() -> None:
    with pytest.raises(UserError, match="no tracker 'tensorbord'"):
        find_trackers(["tensorbord"])


def test_tensorboard_gets_baseline_and_tuned(recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    train(recipe(), output_dir=tmp_path / "run")
    events = accumulators.EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    for name, step in (("baseline", 0), ("tuned", 4)):
        (told,) = events.Scalars(f"eval/{name}_accuracy")
        assert (told.step, told.value) == (step, pytest.approx(metrics[name]["accuracy"]))
    assert "train/loss" in events.Tags()["scalars"]


def test_no_tracker_writes_where_none_is_wanted(recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    train(recipe(training={"report_to": "none"}), output_dir=tmp_path / "run")
    assert not (tmp_path / "run" / "tensorboard").exists()
