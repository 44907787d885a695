"""What happens beside the Trainer's own loop: progress on screen, the log, sealed checkpoints, and stopping on a signal."""

import math
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from rich.progress import TaskID
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ftkit import console
from ftkit.claim import Claim
from ftkit.metrics.names import shown_name
from ftkit.run import Run
from ftkit.signals import ENDING, Stopped, note
from ftkit.training.checkpoints import LOST_BEST, SEALED, is_fresh, is_sealed, rotate, seal, sparing, step_of


class ShowProgress(TrainerCallback):
    """Steps, loss and time left on one line; what is measured while training on a line of its own, which stays.

    Args:
        metrics: those shown, beside the loss.
        details: what their names leave open, by metric.
    """

    def __init__(self, metrics: Sequence[str], details: Mapping[str, str] | None = None) -> None:
        self.scores = {f"eval_{name}": f"eval {shown_name(name, details)}" for name in ("loss", *metrics)}
        self.bar: console.Bar | None = None
        self.task: TaskID | None = None
        self.started, self.first_step, self.told = 0.0, 0, False

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if not state.is_world_process_zero:
            return
        self.started, self.first_step = 0.0, state.global_step
        self.bar = console.progress_bar("loss", "lr", "rate")
        self.task = self.bar.add_task("step", total=state.max_steps, completed=state.global_step)
        self.bar.start()

    def on_step_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.started = self.started or time.monotonic()  # what a run that goes on passed over before is no part of the rate

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if self.bar and self.task is not None:
            self.bar.update(self.task, completed=state.global_step, rate=f"{self.rows_per_second(args, state):.0f} rows/s")

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **_: Any,
    ) -> None:
        if self.bar is None or self.task is None or not logs:
            return
        shown: dict[str, Any] = {
            name: f"{name} {_short(logs[key])}" for name, key in (("loss", "loss"), ("lr", "learning_rate")) if key in logs
        }
        self.bar.update(self.task, **shown)
        if shown and self.bar.disable and (not self.told or state.global_step >= state.max_steps):
            self.told = True
            self.bar.tell(self.task)  # the first and the last, however fast it goes
        scores = [f"{self.scores[key]} {_short(value)}" for key, value in logs.items() if key in self.scores]
        if scores:
            console.say("  ".join([f"step {state.global_step:,}/{state.max_steps:,}", *scores]))

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.close()

    def close(self) -> None:
        if self.bar:
            self.bar.stop()
            self.bar = None

    def rows_per_second(self, args: TrainingArguments, state: TrainerState) -> float:
        steps, seconds = state.global_step - self.first_step, time.monotonic() - self.started
        rows = steps * args.train_batch_size * args.gradient_accumulation_steps * args.world_size
        return rows / seconds if seconds > 0 else 0.0


class WriteLog(TrainerCallback):
    """Every logging event as a line of log.jsonl, with the seconds of training up to it.

    Args:
        trained: gives these seconds.
    """

    def __init__(self, run: Run, trained: Callable[[], float]) -> None:
        self.run, self.trained = run, trained

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **_: Any,
    ) -> None:
        if state.is_world_process_zero and logs:
            seconds = round(self.trained(), 3)
            finite = {
                key: value if not isinstance(value, float) or math.isfinite(value) else str(value)
                for key, value in logs.items()
            }
            self.run.log({"step": state.global_step, "seconds": seconds, **finite})


class TellStep(TrainerCallback):
    """Says in the lock of the run's folder how far training is."""

    def __init__(self, claim: Claim) -> None:
        self.claim = claim

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.claim.at_step(state.global_step, state.max_steps)


class SealCheckpoints(TrainerCallback):
    """Seals each checkpoint when the Trainer has written all of it; only then older ones may go.

    Where the disk did not take the best one, run.json says so.
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        self.best: str | None = None  # the best checkpoint that is sealed

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.best = state.best_model_checkpoint

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        checkpoint = Path(args.output_dir or "") / f"checkpoint-{state.global_step}"
        if not state.is_world_process_zero:
            return
        if is_fresh(checkpoint):
            with sparing(checkpoint, ends=control.should_training_stop):
                seal(checkpoint)
        self.note_best(state, checkpoint)
        if is_sealed(checkpoint):
            self.run.update(**{SEALED: state.global_step})
            rotate(args, state)

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if state.is_world_process_zero:
            rotate(args, state)  # what a process did not come to that was killed behind a seal

    def note_best(self, state: TrainerState, checkpoint: Path) -> None:
        """Let state and record say which checkpoint is the best of those there, and whether a better one is lost."""
        if state.best_model_checkpoint == str(checkpoint) and not is_sealed(checkpoint):
            state.best_model_checkpoint = self.best
        if state.best_global_step == state.global_step and not is_sealed(checkpoint):
            self.run.update(**{LOST_BEST: state.global_step})
        self.best, lost = state.best_model_checkpoint, self.run.record.get(LOST_BEST)
        if lost is not None and self.best and step_of(Path(self.best)) > lost:
            self.run.forget(LOST_BEST)


class StopOnSignal(TrainerCallback):
    """On SIGINT, SIGTERM or SIGHUP the step in hand is finished and saved, then training stops; a second one stops at once.

    Where the eval rows are due at that step they are measured behind the checkpoint, which is then written again: whoever
    sent the signal may lose patience meanwhile, so the first is kept until the second is sealed.
    """

    def __init__(self) -> None:
        self.asked = self.owed = False
        self.number = int(signal.SIGINT)  # of the signal that asked

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if self.asked:
            control.should_save = control.should_training_stop = True
            self.owed, control.should_evaluate = control.should_evaluate, False

    def on_epoch_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        # The Trainer ends the epoch here too where a stop fell inside it; the unbroken run measures and saves nothing there.
        if self.asked:
            whole = abs((state.epoch or 0) - round(state.epoch or 0)) <= 1e-6
            control.should_evaluate = self.owed or (whole and control.should_evaluate)
            control.should_save = self.owed or (whole and control.should_save)

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Signals ask for a stop while the block runs; only the main thread can listen."""

        def ask(number: int, frame: FrameType | None) -> None:
            note(number)
            if self.asked:
                raise Stopped(number)
            self.asked, self.number = True, number
            console.warn("stopping after this step, with a checkpoint; once more to stop at once")

        try:
            heard = (signal.SIGINT, *(number for number in ENDING if signal.getsignal(number) != signal.SIG_IGN))
            before = {number: signal.signal(number, ask) for number in heard}
        except ValueError:  # not in the main thread, where signals never come
            before = {}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


class StopAfter(TrainerCallback):
    """Ends training after a step, as if it were the last, without saving or measuring there."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._end(state, control)

    def on_epoch_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._end(state, control)

    def _end(self, state: TrainerState, control: TrainerControl) -> None:
        if state.global_step >= self.step:
            control.should_training_stop = True
            control.should_save = control.should_evaluate = False


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
