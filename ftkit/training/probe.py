"""Real batches through the real model, as a training step computes them: the last thing that `ftkit check` does."""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from ftkit import console
from ftkit.errors import UserError
from ftkit.models.load import first_line, lacks_memory
from ftkit.training.dispatcher import Parts
from ftkit.training.memory import peak_memory_bytes
from ftkit.training.precision_trial import FAULTS
from ftkit.units import size_words


def probe(parts: Parts) -> dict[str, str]:
    """Run the longest rows, as many as a batch has, and as many whose lengths are those of all rows.

    Raises:
        UserError: the model does not take the rows, the loss is not a number, or no gradient reaches a parameter that
            should learn.
    """
    started, size = time.monotonic(), parts.trainer.args.train_batch_size
    longest = longest_batch(parts, size)
    with console.status("taking two steps"), stepping_model(parts) as model:
        value, norm = step_of(parts, model, longest)
        seconds = time.monotonic() - started
        step_of(parts, model, uneven_batch(parts, size))  # where rows are unlike, batches may be cut
    shape = tuple(longest["input_ids"].shape)
    peak = size_words(max(peak_memory_bytes().values()))
    return {
        "longest batch": f"{shape[0]} rows of up to {shape[1]} tokens: loss {value:.4f}, gradient norm {norm:.4f}",
        "one step": f"{seconds:.2f} s, {peak} at the peak so far",
    }


@contextmanager
def stepping_model(parts: Parts) -> Iterator[torch.nn.Module]:
    """Inside the block the model as training wraps it and computes it; the loss is not scaled, as float16 has it."""
    trainer, forward = parts.trainer, parts.model.forward
    scaler, trainer.accelerator.scaler = trainer.accelerator.scaler, None
    parts.model.to(trainer.args.device)
    model = trainer.accelerator.prepare_model(parts.model, evaluation_mode=True)  # as in training, but alone
    trainer.current_gradient_accumulation_steps = 1
    try:
        with trainer.stepping():
            yield model
    finally:
        trainer.accelerator.scaler = scaler
        trainer.accelerator.free_memory()
        parts.model.forward = forward  # accelerate's own way back takes the model's decorators off too


def step_of(parts: Parts, model: torch.nn.Module, batch: dict[str, Any]) -> tuple[float, float]:
    """Loss and gradient norm of a batch, as the Trainer computes it.

    Raises:
        UserError: one of them is not a number, or there is no gradient.
    """
    trainer = parts.trainer
    try:
        items = trainer._get_num_items_in_batch([batch], trainer.args.device)
        value = float(trainer.compute_batch(model.train(), batch, items))
    except FAULTS as error:
        if isinstance(error, RuntimeError) and lacks_memory(error):
            raise
        message = f"the model does not take a batch of these rows: {type(error).__name__}: {first_line(error)}"
        raise UserError(message, "choose another model, or switch off what `speed` has", key="model.name") from error
    gradients = [p.grad for p in parts.model.parameters() if p.requires_grad]
    norm = float(torch.stack([g.float().norm() for g in gradients if g is not None] or [torch.zeros(())]).norm())
    parts.model.zero_grad(set_to_none=True)
    if not math.isfinite(value) or not math.isfinite(norm):
        message = f"the first batch gives loss {value} and gradient norm {norm}"
        raise UserError(message, "check the data and the dtype", key="training")
    if norm == 0:
        raise UserError("no gradient reaches the parameters that should learn", "check target_modules", key="strategy")
    return value, norm


def longest_batch(parts: Parts, size: int) -> dict[str, Any]:
    """The longest rows."""
    return batch_of(parts, np.argsort(-parts.data.facts["train"].lengths, kind="stable")[:size].tolist())


def uneven_batch(parts: Parts, size: int) -> dict[str, Any]:
    """Rows from the longest to the shortest."""
    order = np.argsort(-parts.data.facts["train"].lengths, kind="stable")
    return batch_of(parts, order[np.linspace(0, len(order) - 1, min(size, len(order))).round().astype(int)].tolist())


def batch_of(parts: Parts, rows: list[int]) -> dict[str, Any]:
    """Training rows as the Trainer gets them."""
    dataset = parts.data.encoded["train"].dataset
    collate = parts.trainer.train_collator or parts.trainer.data_collator
    batch: dict[str, Any] = dict(collate([dataset[index] for index in rows]))
    return batch
