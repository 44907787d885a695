"""The levers of a step: which a recipe wants, which the loaded model gives the same by, and why the others are off.

A lever is one way of doing the same steps in less time or memory. Each is tried on the model before the first step
(`trial.py`); run.json says what is on, and of what is off why.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from ftkit import console
from ftkit.data.encode import IGNORED
from ftkit.recipe.schema import Speed
from ftkit.training.arguments import autocast_dtype, precision_words
from ftkit.training.dropout import dropout_layers, try_dropout
from ftkit.training.embedding_gradient import adding_rows, learning_embeddings, leaves_gradients
from ftkit.training.fused_adapters import plain_adapters, try_adapters
from ftkit.training.fused_gelu import fusing_gelu, written_out
from ftkit.training.micro_batches import rows_apart
from ftkit.training.supervised_loss import find_head
from ftkit.training.trainer import Trainer, attends_in_flash, has_fused, has_liger, is_alone
from ftkit.training.trial import LEAST_ROW, Trial, own_loss, relative
from ftkit.training.unpadded import UnpaddedModel, lacks_unpadding, try_unpadded
from ftkit.training.ways import reasons_against

Batch = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """What a lever is tried on.

    Attributes:
        rows: a batch as steps compute it.
        items: what a sum of losses is divided by; None where the loss is a mean.
        trial: of the model by itself on these rows.
    """

    trainer: Trainer
    rows: Batch
    items: int | None
    trial: Trial


@dataclass(frozen=True)
class Lever:
    """One lever.

    Attributes:
        key: its name under `speed`, in the recipe and in run.json.
        words: on the screen.
        is_on: whether a Trainer's steps take it.
        attempt: tries it and lets the Trainer take it, or says why not; None where it is settled elsewhere.
        neutral: the Trainer's attributes where it is off; none where it cannot be switched off any more.
    """

    key: str
    words: str
    is_on: Callable[[Trainer], bool]
    attempt: Callable[[Case], str] | None = None
    neutral: Mapping[str, Any] = field(default_factory=dict)


def attempt_unpadded(case: Case) -> str:
    if case.trainer.train_collator is not None or case.trainer.attention is not None:
        return "packed blocks have no padding" if case.trainer.train_collator else "flash attention leaves it out"
    if lacking := lacks_unpadding(case.trainer.model):
        return lacking
    if "attention_mask" not in case.rows:
        return "batches do not say what is padding"
    reason = try_unpadded(case.trainer.model, case.trial, case.rows["attention_mask"])
    case.trainer.unpadded = None if reason else UnpaddedModel(case.trainer.model)
    return reason


def attempt_micro_batches(case: Case) -> str:
    trainer = case.trainer
    if trainer.unpadded is not None:
        return "padding is left out"
    if trainer.train_collator is not None:
        return "packed blocks have no padding"
    trainer.cuts, trainer.part_cost = True, 0.0  # cut wherever it can be
    try:
        reason = case.trial.differs(compute=lambda: parts_loss(case))
    finally:
        trainer.part_cost = None
    trainer.cuts = not reason
    return reason


def attempt_dropout(case: Case) -> str:
    if not dropout_layers(case.trainer.model):
        return "the model has no dropout layers that drop"
    reason = try_dropout(case.trainer.model, case.trial)
    case.trainer.drops = not reason
    return reason


def attempt_gelu(case: Case) -> str:
    if not written_out(case.trainer.model):
        return "the model writes out no GELU"
    reason = case.trial.differs(fusing_gelu(case.trainer.model))
    case.trainer.gelu = not reason
    return reason


def attempt_embedding_rows(case: Case) -> str:
    if not learning_embeddings(case.trainer.model):
        return "no embedding learns"
    keep = leaves_gradients(case.trainer.args.optim)
    reason = case.trial.differs(adding_rows(case.trainer.model, keep=keep), times=2)  # what stays is seen in the second
    case.trainer.adds_rows = not reason
    return reason


def attempt_adapters(case: Case) -> str:
    if not plain_adapters(case.trainer.model):
        return "there are no plain adapters on layers that only multiply"
    reason = try_adapters(case.trainer.model, case.trial)
    case.trainer.fuses = not reason  # to be tried once more in the precision of training
    return reason


# In the order in which they are tried, and said.
LEVERS = (
    Lever("frozen_bfloat16", "frozen base in bfloat16", lambda trainer: trainer.resting is not None),
    Lever("supervised_logits", "logits where supervised", lambda trainer: trainer.head is not None),
    Lever(
        "unpadded", "padding left out", lambda trainer: trainer.unpadded is not None, attempt_unpadded, {"unpadded": None}
    ),
    Lever(
        "micro_batches", "batches in parts of like length", lambda trainer: trainer.cuts, attempt_micro_batches,
        {"cuts": False},
    ),
    Lever("fast_dropout", "dropout drawn by fours", lambda trainer: trainer.drops, attempt_dropout, {"drops": False}),
    Lever("fused_gelu", "GELU in one operation", lambda trainer: trainer.gelu, attempt_gelu, {"gelu": False}),
    Lever(
        "embedding_rows", "embedding gradients by row", lambda trainer: trainer.adds_rows, attempt_embedding_rows,
        {"adds_rows": False},
    ),
    Lever(
        "fused_adapters", "adapters fused with their layers", lambda trainer: trainer.fuses, attempt_adapters,
        {"fuses": False},
    ),
    Lever("flash_attention", "flash attention", attends_in_flash, neutral={"attention": None}),
    Lever("liger_kernel", "Liger kernels", has_liger),  # in the layers for good
    Lever("fused_optimizer", "fused optimizer", has_fused),  # by training.optim
)  # fmt: skip


def speed_up(
    trainer: Trainer, block: Speed, rows: Batch, steps: Batch | None, *, decoder: bool, targets: bool = False
) -> None:
    """Switch on what is wanted and right; why the rest is off is left with the Trainer.

    Args:
        rows: a padded batch of rows with labels, as they are measured.
        steps: a batch as steps compute it; None where the model is measured only.
        decoder: the model is a decoder that foretells the next token.
        targets: a row has a target beside its source, with tokens of its own.
    """
    against = reasons_against(block, trainer.args, trainer.args.device.type, alone=is_alone(trainer))
    trainer.decoder, trainer.targets, trainer.retries = decoder, targets, not against["repeated"]
    trainer.off |= {lever.key: against[lever.key] for lever in LEVERS if lever.key in against}
    trainer.off["fused_optimizer"] = "" if has_fused(trainer) else f"training.optim is {trainer.args.optim}"
    if not trainer.off["supervised_logits"]:
        trainer.off["supervised_logits"] = (
            settle_head(trainer, rows, learns=steps is not None) if decoder else "the model is no decoder"
        )
    if steps is not None:
        settle_steps(trainer, steps)
    if trainer.unpadded is None and padding_matters(trainer, rows):
        trainer.padding_matters, trainer.args.per_device_eval_batch_size = True, 1
        console.say("what this model says of a row hangs on the padding of its batch: rows are measured one by one")


def settle_head(trainer: Trainer, rows: Batch, *, learns: bool) -> str:
    """Let a decoder's head run where tokens are supervised, where that is right; else why not."""
    items = items_of(trainer, rows)
    autocast = autocast_dtype(trainer.args)
    trial = Trial.on_rows(trainer.model, rows, autocast, items, shift=trainer.decoder, learns=learns)
    with trial.prepared():
        found = find_head(trainer.model, trial, rows, items)
    if isinstance(found, str):
        return found
    trainer.head, trainer.preprocess_logits_for_metrics = found, None  # predictions are reduced already
    return ""


def settle_steps(trainer: Trainer, rows: Batch) -> None:
    """Try each lever of a step by itself."""
    items = items_of(trainer, rows)
    trial = Trial(trainer.model, lambda: step_loss(trainer, rows, items), autocast_dtype(trainer.args))
    case = Case(trainer, rows, items, trial)
    with trial.prepared():
        for lever in LEVERS:
            if lever.attempt is not None and not trainer.off[lever.key]:
                trainer.off[lever.key] = lever.attempt(case)


def items_of(trainer: Trainer, rows: Batch) -> int | None:
    """What the Trainer divides the sum of a batch's losses by; None where the loss is a mean."""
    if not trainer.model_accepts_loss_kwargs:
        return None
    return int((rows["labels"][..., 1 if trainer.decoder else 0 :] != IGNORED).sum())


def step_loss(trainer: Trainer, rows: Batch, items: int | None) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """The loss as a step computes it, with the head on supervised positions where that is settled."""
    if trainer.head is not None:
        return trainer.head.loss_and_rows(trainer.model, rows, items)
    return own_loss(trainer.model, rows, items, shift=trainer.decoder)


def parts_loss(case: Case) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """The same of a batch in parts; their rows are in another order, and not told apart."""
    losses = [
        step_loss(case.trainer, part.inputs, case.items)[0] * (part.share if case.items is None else 1.0)
        for part in case.trainer.parts(case.rows)
    ]
    return torch.stack(losses).sum(), []


def padding_matters(trainer: Trainer, rows: Batch) -> bool:
    """Whether a row alone gets something else than in a padded batch, beyond rounding."""
    trial = Trial(trainer.model, lambda: step_loss(trainer, rows, None), autocast_dtype(trainer.args))
    if "attention_mask" not in rows:
        return True  # the model cannot know
    if not trial.exact or rows["attention_mask"].all():
        return False
    with trial.prepared(), torch.no_grad():
        try:
            together = trial.compute()[1]
            apart = rows_apart(rows, shifted=trainer.decoder, targets=trainer.targets)
            alone = [step_loss(trainer, row, None)[1][0] for row in apart]
        except Exception:  # whatever a model does with such rows, its first step will say it
            return False
    alike = len(alone) == len(together)
    return alike and any(relative(*pair, LEAST_ROW) > trial.bounds.row for pair in zip(together, alone, strict=True))


def speed_facts(trainer: Trainer) -> dict[str, bool]:
    """What is on, for run.json."""
    return {lever.key: lever.is_on(trainer) for lever in sorted(LEVERS, key=lambda lever: lever.key)}


def speed_reasons(trainer: Trainer) -> dict[str, str]:
    """Of what is off why, for run.json."""
    return {key: trainer.off.get(key) or "not settled" for key, on in speed_facts(trainer).items() if not on}


def speed_words(trainer: Trainer) -> str:
    """What is on, in one line."""
    found = [lever.words for lever in LEVERS if lever.is_on(trainer)]
    return f"computed on {trainer.args.device}: {', '.join([precision_words(autocast_dtype(trainer.args)), *found])}"
