"""What a run took, over all the processes that it went on in: time, peaks and energy of each, and what they come to.

A checkpoint carries the account as it stood when it was written, as it carries the Trainer's state. So a process that is
killed counts up to the checkpoint that another goes on from, and no step counts twice.
"""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ftkit.run import Run, now, write_json
from ftkit.training.energy import EnergyMeter
from ftkit.training.memory import peak_memory_bytes, peak_now

FILE = "ftkit_parts.json"  # of a checkpoint
Part = dict[str, Any]


class Account(TrainerCallback):
    """Keeps `parts` in run.json: a process each, with its steps, `seconds`, peaks and `energy_joules`.

    It is made when the process begins, and comes before whatever seals checkpoints.
    """

    def __init__(self, run: Run) -> None:
        self.run, self.began, self.meter = run, now(), EnergyMeter()
        self.started = time.monotonic()
        self.training: float | None = None  # when it began; seconds, once it has ended
        self.ended = False
        self.earlier: list[Part] = []
        self.first = 0
        self.training_peak: dict[str, int] = {}

    def go_on(self, checkpoint: Path, step: int) -> None:
        """Add this process to those that led to the checkpoint."""
        file = checkpoint / FILE  # absent from checkpoints of an earlier version
        self.earlier = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else []
        self.first = step

    @property
    def trained_before(self) -> float:
        """Seconds that the earlier processes trained."""
        return sum_of([part["seconds"]["training"] for part in self.earlier])

    def start_training(self) -> None:
        self.training = time.monotonic()

    def end_training(self, peak: dict[str, int]) -> None:
        """Training is over, or was passed by; `peak` is its own."""
        self.training, self.ended, self.training_peak = self.trained(), True, peak

    def trained(self) -> float:
        """Seconds that this process has trained so far."""
        if self.training is None:
            return 0.0
        return self.training if self.ended else time.monotonic() - self.training

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        checkpoint = Path(args.output_dir or "") / f"checkpoint-{state.global_step}"
        if state.is_world_process_zero and checkpoint.is_dir():
            self.training_peak = peak_now()
            parts = self.parts(state.global_step)
            write_json(checkpoint / FILE, parts)
            self.run.update(parts=parts)

    def parts(self, step: int) -> list[Part]:
        """All processes, this one as far as it has come."""
        return [*self.earlier, {
            "started": self.began, "from_step": self.first, "to_step": step,
            "seconds": {"training": round(self.trained(), 3), "total": round(time.monotonic() - self.started, 3)},
            "peak_memory_bytes": peak_memory_bytes(), "training_peak_bytes": self.training_peak,
            "energy_joules": self.meter.joules(),
        }]  # fmt: skip

    def close(self, step: int) -> None:
        """Write into run.json what the run took."""
        self.run.update(**totals(parts := self.parts(step)), parts=parts)


def totals(parts: list[Part]) -> dict[str, Any]:
    """What the parts come to, in the words of run.json: sums, and of peaks the highest."""
    return {
        "seconds": joined([part["seconds"] for part in parts], sum_of),
        "peak_memory_bytes": joined([part["peak_memory_bytes"] for part in parts], max),
        "training_peak_bytes": joined([part["training_peak_bytes"] for part in parts], max),
        "energy_joules": told_by_all([part["energy_joules"] for part in parts]),
    }


def joined(found: list[dict[str, Any]], how: Callable[[list[Any]], Any]) -> dict[str, Any]:
    """Values by name, made of those that have the name."""
    names = dict.fromkeys(name for one in found for name in one)
    return {name: how([one[name] for one in found if name in one]) for name in names}


def told_by_all(found: list[dict[str, float]]) -> dict[str, float]:
    """Sums by place; where one part does not tell, the sum is not known."""
    return {place: joules for place, joules in joined(found, sum_of).items() if all(place in one for one in found)}


def sum_of(values: list[float]) -> float:
    return round(sum(values), 3)
