"""What a training takes, measured alike on every side: seconds, memory above what the process had before, losses by time.

Import ftkit before this where it is measured: ftkit prepares the process for torch.
"""

import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import transformers
from loss_curve import Curve
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class NoteLosses(TrainerCallback):
    """Each step's loss with the seconds since training began; needs logging_steps of 1."""

    def __init__(self) -> None:
        self.curve: Curve = []
        self.start = 0.0

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.start = time.perf_counter()

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs: dict[str, Any], **_: Any
    ) -> None:
        if "loss" in logs:
            self.curve.append([time.perf_counter() - self.start, logs["loss"]])


@contextmanager
def measured() -> Iterator[dict[str, Any]]:
    """Fills seconds, peak (bytes of the process) and above (bytes over what was held when the block began)."""
    found: dict[str, Any] = {}
    before = reset_peak()
    start = time.perf_counter()
    yield found
    found["seconds"] = time.perf_counter() - start
    found["peak"] = peak_bytes()
    found["above"] = found["peak"] - before


@contextmanager
def watched(trainer: transformers.Trainer) -> Iterator[dict[str, Any]]:
    """As `measured`, and fills the curve of the losses that the trainer has inside the block."""
    notes = NoteLosses()
    trainer.add_callback(notes)
    with measured() as found:
        yield found
    found["curve"] = notes.curve


def measure_trainer(found: dict[str, Any]) -> None:
    """From now on `transformers.Trainer.train` is measured, by whoever it is called."""
    own = transformers.Trainer.train

    def train(trainer: Any, *arguments: Any, **named: Any) -> Any:
        with watched(trainer) as figures:
            result = own(trainer, *arguments, **named)
        found.update(figures)
        return result

    transformers.Trainer.train = train  # type: ignore[method-assign]


def reset_peak() -> float:
    """Forget the peak so far, where the system lets one; returns the bytes held now."""
    try:
        CLEAR.write_text("5")
    except OSError:
        return peak_bytes()
    return status("VmRSS")


def peak_bytes() -> float:
    return status("VmHWM") if STATUS.is_file() else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def status(name: str) -> float:
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1]) * 1024
