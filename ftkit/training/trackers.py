"""Experiment trackers: which of them the Trainer's `report_to` names, and what they are told beside its log."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from transformers import Trainer
from transformers.integrations import INTEGRATION_TO_CALLBACK, TensorBoardCallback, get_available_reporting_integrations

from ftkit import console
from ftkit.disk import refusal
from ftkit.errors import UserError

DEFAULT = "tensorboard"  # writes files and asks nobody
KEEP_OPEN = {"tensorboard", "wandb"}  # what is logged after training still lands in the same run
PACKAGES = {"tensorboard": "'ftkit[tensorboard]'", "comet_ml": "comet-ml", "azure_ml": "azureml-core mlflow"}


def find_trackers(wanted: str | list[str] | None) -> list[str]:
    """The trackers that a recipe names; without a word on it, tensorboard where it is installed.

    Raises:
        UserError: a named tracker is unknown or not installed.
    """
    installed = get_available_reporting_integrations()
    if wanted is None:
        return [DEFAULT] if DEFAULT in installed else []
    names = [wanted] if isinstance(wanted, str) else wanted
    if names == ["all"]:
        return list(installed)
    names = [name for name in names if name != "none"]
    for name in names:
        require_tracker(name, installed)
    return names


def require_tracker(name: str, installed: list[str]) -> None:
    """Raises UserError where a tracker is unknown or not installed."""
    if name not in INTEGRATION_TO_CALLBACK:
        known = ", ".join(sorted(INTEGRATION_TO_CALLBACK))
        raise UserError(f"no tracker '{name}'", f"there are {known}, all and none", key="training.report_to")
    if name not in installed:
        hint = f"pip install {PACKAGES.get(name, name)}"
        raise UserError(f"the tracker '{name}' is not installed", hint, key="training.report_to")


class SparingTensorBoard(TensorBoardCallback):  # type: ignore[misc]  # of a library without types
    """Tensorboard's files, which end where the disk takes no more; training goes on."""

    def on_train_begin(self, *arguments: Any, **named: Any) -> None:
        with self.sparing():
            super().on_train_begin(*arguments, **named)

    def on_log(self, *arguments: Any, **named: Any) -> None:
        with self.sparing():
            super().on_log(*arguments, **named)

    def on_train_end(self, *arguments: Any, **named: Any) -> None:
        with self.sparing():
            super().on_train_end(*arguments, **named)

    @contextmanager
    def sparing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if not (what := refusal(error)):
                raise
            console.warn(f"{self.logging_dir}: {what}; tensorboard is told nothing more")
            self.tb_writer = self._SummaryWriter = None


def place_tensorboard(trainer: Trainer, folder: Path) -> None:
    """Let tensorboard write into a folder of the run; its own choice lies among the checkpoints."""
    callbacks = trainer.callback_handler.callbacks
    for place, callback in enumerate(callbacks):
        if isinstance(callback, TensorBoardCallback):
            callbacks[place] = SparingTensorBoard(callback.tb_writer)
            callbacks[place].logging_dir = callback.logging_dir or str(folder)


def tell_trackers(trainer: Trainer, name: str, metrics: dict[str, float], *, ended: bool = False) -> None:
    """Send the metrics of the baseline or of the tuned model, as `eval/baseline_accuracy`.

    Args:
        ended: training is over. Some trackers close their run then and would open another: they are told nothing.
    """
    trackers = set(trainer.args.report_to)
    if trackers and not (ended and trackers - KEEP_OPEN):
        trainer.log({f"eval_{name}_{metric}": value for metric, value in metrics.items() if math.isfinite(value)})
