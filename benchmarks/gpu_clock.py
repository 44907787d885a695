"""What the steps of any Trainer take on a GPU, or in a trial on a CPU: seconds without the first ones, and peak memory."""

import time
from typing import Any

import torch
import transformers
from instrument import peak_bytes, reset_peak
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

WARM_UP = 3  # steps in which kernels are compiled and chosen, and memory is first taken


class StepClock(TrainerCallback):
    """The seconds of each step, from one to the next; the GPU's work is waited for."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.ends.append(time.perf_counter())

    def seconds(self) -> float:
        """Of a step, on average over those after the warm-up."""
        first = min(WARM_UP, len(self.ends) - 1) - 1
        return (self.ends[-1] - self.ends[first]) / (len(self.ends) - 1 - first)


def clock_trainer(found: dict[str, float]) -> None:
    """From now on `transformers.Trainer.train` fills the dictionary, by whoever it is called.

    step: seconds; rows: of a step; entries: rows or packed blocks of an epoch; allocated, reserved: bytes at the peak, on a
    CPU those of the process.
    """
    own = transformers.Trainer.train

    def train(trainer: Any, *arguments: Any, **named: Any) -> Any:
        clock = StepClock()
        trainer.add_callback(clock)
        forget_peak()
        result = own(trainer, *arguments, **named)
        found.update(peaks())
        found["step"] = clock.seconds()
        found["rows"] = trainer.args.train_batch_size * trainer.args.gradient_accumulation_steps
        found["entries"] = len(trainer.train_dataset)
        return result

    transformers.Trainer.train = train  # type: ignore[method-assign]


def forget_peak() -> None:
    reset_peak()
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()


def peaks() -> dict[str, float]:
    if torch.cuda.is_available():
        return {"allocated": torch.cuda.max_memory_allocated(), "reserved": torch.cuda.max_memory_reserved()}
    return {"allocated": peak_bytes(), "reserved": peak_bytes()}


def matrix_rate(size: int, times: int = 20) -> float:
    """Operations a second of a large bf16 product on the GPU, else on the CPU: the best of several."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    left, right = (torch.randn(size, size, dtype=torch.bfloat16, device=device) for _ in range(2))
    best = 0.0
    for _ in range(times):
        start = time.perf_counter()
        left @ right
        if device == "cuda":
            torch.cuda.synchronize()
        best = max(best, 2 * size**3 / (time.perf_counter() - start))
    return best
