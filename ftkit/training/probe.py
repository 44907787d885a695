"""One real batch through the real model, forward and backward: the last thing that `ftkit check` does."""

import math
import time
from typing import Any

import numpy as np
import torch

from ftkit.errors import UserError
from ftkit.training.dispatcher import Parts
from ftkit.training.memory import peak_memory_bytes
from ftkit.units import size_words


def probe(parts: Parts) -> dict[str, str]:
    """Run the longest rows, as many as a batch has.

    Raises:
        UserError: the loss is not a number, or no gradient reaches a parameter that should learn.
    """
    trainer, started = parts.trainer, time.monotonic()
    batch = longest_batch(parts, trainer.args.train_batch_size)
    model = parts.model.to(trainer.args.device).train()
    with trainer.stepping():  # backward too: it may compute blocks again
        with trainer.accelerator.autocast():
            loss = model(**trainer._prepare_inputs(batch)).loss
        loss.backward()
    value = float(loss.detach())
    gradients = [p.grad for p in model.parameters() if p.requires_grad]
    norm = float(torch.stack([g.float().norm() for g in gradients if g is not None] or [torch.zeros(())]).norm())
    model.zero_grad(set_to_none=True)
    if not math.isfinite(value) or not math.isfinite(norm):
        raise UserError(
            f"the first batch gives loss {value} and gradient norm {norm}",
            "check the data and the dtype",
            key="training",
        )
    if norm == 0:
        raise UserError("no gradient reaches the parameters that should learn", "check target_modules", key="strategy")
    shape = tuple(batch["input_ids"].shape)
    peak = size_words(max(peak_memory_bytes().values()))
    return {
        "longest batch": f"{shape[0]} rows of up to {shape[1]} tokens: loss {value:.4f}, gradient norm {norm:.4f}",
        "one step": f"{time.monotonic() - started:.2f} s, {peak} at the peak so far",
    }


def longest_batch(parts: Parts, size: int) -> dict[str, Any]:
    dataset = parts.data.encoded["train"].dataset
    longest = np.argsort(-parts.data.facts["train"].lengths, kind="stable")[:size].tolist()
    collate = parts.trainer.train_collator or parts.trainer.data_collator
    batch: dict[str, Any] = dict(collate([dataset[index] for index in longest]))
    return batch
