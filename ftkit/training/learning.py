"""Training to its end, or to where it diverges: then it stops, or goes on from the last good weights with half the rate."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ftkit import console
from ftkit.errors import Diverged, UserError
from ftkit.reading import read_tensors
from ftkit.recipe.schema import Recipe
from ftkit.run import Run
from ftkit.training.blame import blamed
from ftkit.training.checkpoints import last_whole_checkpoint, step_of
from ftkit.training.dispatcher import Parts, seed_everything
from ftkit.training.divergence import Divergence, Watch
from ftkit.training.trainer import Trainer

MOST_TRIES = 3  # with half the rate each
START = "start.safetensors"  # of the checkpoints' folder: the weights before the first step


class LowerRate(TrainerCallback):
    """Each training begins with the recipe's learning rate times `factor`, whatever the rate was in the checkpoint."""

    def __init__(self) -> None:
        self.factor = 1.0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl,
        optimizer: Any = None, lr_scheduler: Any = None, **_: Any,
    ) -> None:  # fmt: skip
        if self.factor == 1.0 or not args.learning_rate:
            return
        bases = getattr(lr_scheduler, "base_lrs", None) or [group["lr"] for group in optimizer.param_groups]
        ratio = self.factor * args.learning_rate / max(bases)
        if hasattr(lr_scheduler, "base_lrs"):
            lr_scheduler.base_lrs = [base * ratio for base in bases]
        for group in optimizer.param_groups:
            group["lr"] = group["lr"] * ratio


def learn(recipe: Recipe, run: Run, parts: Parts, checkpoint: Path | None, between: Callable[[], None]) -> None:
    """Take all steps.

    Args:
        between: is called where training diverged, before anything is said of it.

    Raises:
        Diverged: the training diverged, and the recipe has it stopped, or lower rates did not help.
        UserError: the checkpoint holds more than data.
    """
    trainer, rate = parts.trainer, LowerRate()
    trainer.add_callback(rate)
    returns = recipe.training.on_divergence == "rollback"
    if returns and checkpoint is None:
        keep_start(run, trainer)
    while True:
        known = run.record.get("divergence", [])
        rate.factor = 0.5 ** len(known) if returns else 1.0
        record_rate(recipe, run, rate.factor, checkpoint)
        try:
            trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        except Divergence as found:
            between()
            checkpoint = last_whole_checkpoint(run.checkpoints)
            error = diverged(recipe, run, parts, found, checkpoint)
            if not returns or len(known) >= MOST_TRIES:
                raise error from None
            go_back(recipe, run, trainer, checkpoint)
            console.warn(f"{error.message}; going back to {place_words(checkpoint)} with half the learning rate")
        except UnpicklingError as error:
            message = f"{checkpoint} holds something else than states of the Trainer, which is not unpickled"
            raise UserError(message, "start anew with --overwrite where you did not write it", "--resume") from error
        else:
            (run.checkpoints / START).unlink(missing_ok=True)
            return


def record_rate(recipe: Recipe, run: Run, factor: float, checkpoint: Path | None) -> None:
    """Let run.json say with which learning rate the steps from here on are taken, where it is not the recipe's."""
    if factor == 1.0:
        run.forget("lowered_rate")
        return
    asked, step = recipe.training.learning_rate, step_of(checkpoint) if checkpoint else 0
    known = run.record.get("lowered_rate", {})
    if known.get("learning_rate") == asked * factor:  # a run that was resumed has had it for longer
        step = min(step, known["after_step"])
    run.update(lowered_rate={"learning_rate": asked * factor, "recipe": asked, "after_step": step})


def diverged(recipe: Recipe, run: Run, parts: Parts, found: Divergence, checkpoint: Path | None) -> Diverged:
    """The error for the user, with rows by the names of their files; run.json says the same."""
    split, rows, alone = blamed(parts, found)
    ledger = parts.data.ledger
    words = found.words
    if len(rows):
        named = ledger.name(rows, lines=alone)
        words += f"; {named} alone {'makes' if len(rows) == 1 else 'make'} it so" if alone else f"; its rows are {named}"
    entry = {
        "step": found.step, "what": found.what, "value": str(found.value), "split": split, "rows": ledger.names(rows),
        "alone": alone, "learning_rate": recipe.training.learning_rate * 0.5 ** len(run.record.get("divergence", [])),
        "checkpoint": step_of(checkpoint) if checkpoint else None,
    }  # fmt: skip
    run.update(divergence=[*run.record.get("divergence", []), entry])
    resumes = checkpoint is not None and not alone and recipe.training.on_divergence == "stop"
    return Diverged(run.folder, words, advice(recipe, checkpoint, alone=alone, resumes=resumes), resumes=resumes)


@contextmanager
def in_numbers(recipe: Recipe, run: Run, parts: Parts) -> Iterator[None]:
    """Inside the block the eval rows are measured, before training or after.

    Raises:
        Diverged: the loss of some of them is not a finite number.
    """
    try:
        yield
    except Divergence as found:
        raise diverged(recipe, run, parts, found, last_whole_checkpoint(run.checkpoints)) from None


def keep_watch(run: Run, trainer: Trainer) -> None:
    """Let the trainer's losses be looked at, in training and wherever it measures."""
    trainer.watch = Watch(trainer, lambda found: run.update(loss_rose=found))
    trainer.add_callback(trainer.watch)


def advice(recipe: Recipe, checkpoint: Path | None, *, alone: bool, resumes: bool) -> str:
    """How to go on."""
    rate = f"training.learning_rate (it is {recipe.training.learning_rate:g})"
    if alone:
        kept = f"; {place_words(checkpoint)} is good and kept" if checkpoint else ""
        return f"mend or leave out what is named, and start anew with --overwrite{kept}"
    if checkpoint is None:
        return f"there is no checkpoint from before it; start anew with --overwrite and a lower {rate}"
    if not resumes:
        return f"{place_words(checkpoint)} is good and kept; start anew with --overwrite and a lower {rate}"
    return (
        f"{place_words(checkpoint)} is good and kept: go on from there at half the rate with --resume "
        f"training.on_divergence=rollback, or start anew with --overwrite and a lower {rate}"
    )


def place_words(checkpoint: Path | None) -> str:
    return str(checkpoint) if checkpoint else "the start"


def keep_start(run: Run, trainer: Trainer) -> None:
    """Write the weights that learn, to go back to where no checkpoint is there yet."""
    run.checkpoints.mkdir(parents=True, exist_ok=True)
    save_file(learning_weights(trainer), run.checkpoints / START)


def learning_weights(trainer: Trainer) -> dict[str, torch.Tensor]:
    """By name; each is a copy, since tied ones share their memory."""
    named = trainer.model.named_parameters()
    return {name: weight.detach().cpu().clone().contiguous() for name, weight in named if weight.requires_grad}


def go_back(recipe: Recipe, run: Run, trainer: Trainer, checkpoint: Path | None) -> None:
    """Let the next training begin at a checkpoint, which it reads itself, or with the weights of the start."""
    trainer.optimizer = trainer.lr_scheduler = None
    trainer.model.zero_grad(set_to_none=True)
    run.forget_steps(step_of(checkpoint) if checkpoint else 0)
    if checkpoint is None:
        kept = read_tensors(run.checkpoints / START)
        with torch.no_grad():
            for name, weight in trainer.model.named_parameters():
                if weight.requires_grad:
                    weight.copy_(kept[name])
        seed_everything(recipe)
