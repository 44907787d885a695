"""How the rows of a verification are scored: by the model in memory and by the one that is loaded anew. Imports torch alone.

A score is a vector a row: the logits where the model gives one answer for a row, else the log-probability of each label.
"""

import hashlib
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from ftkit.models.precision import rests_in_half

IGNORED = -100
Row = dict[str, torch.Tensor]  # input_ids, labels and what else the model takes, without a batch dimension


def score_rows(model: Any, rows: list[Row], *, shift: bool) -> list[torch.Tensor]:
    """One float32 vector a row, computed in eval mode and one row at a time, so that no padding has a part in it.

    Args:
        shift: the logits at a position foretell the next token, as in decoder-only models.
    """
    model.eval()
    with torch.no_grad(), precision_of(model):
        return [score_row(model, row, shift=shift) for row in rows]


def score_row(model: Any, row: Row, *, shift: bool) -> torch.Tensor:
    """The score of one row by the model in memory."""
    inputs = as_batch(model, row)
    labels = inputs["labels"] if model.config.is_encoder_decoder else inputs.pop("labels")
    # By the class: on the object itself, the Trainer has put a forward that computes in the precision of training.
    return score_of(type(model).forward(model, **inputs).logits, labels, shift=shift)


def as_batch(model: Any, row: Row) -> Row:
    """A row as a batch of one on the model's device; where it brings no attention mask, none of its tokens is padding."""
    inputs = {name: value.unsqueeze(0).to(model.device) for name, value in row.items()}
    return {"attention_mask": torch.ones_like(inputs["input_ids"])} | inputs


def score_of(logits: torch.Tensor, labels: torch.Tensor, *, shift: bool) -> torch.Tensor:
    """The logits, shape (labels,), or the log-probabilities of the labels that count, shape (tokens,).

    Args:
        logits: of a batch of one, shape (1, labels) or (1, tokens, vocabulary).
    """
    if logits.dim() == 2:
        return logits[0].float().cpu()
    if shift:
        logits, labels = logits[:, :-1], labels[:, 1:]
    counted = labels != IGNORED
    chances = logits[counted].float().log_softmax(-1)
    return chances.gather(-1, labels[counted].long().unsqueeze(-1)).squeeze(-1).cpu()


def precision_of(model: Any) -> AbstractContextManager[Any]:
    """Autocast to bfloat16 where weights rest in 16 bits, since those that learn are float32; else plain float32.

    A 4-bit layer answers in the precision that it is asked in, and some models compute in float32 alone. Flash attention
    takes half precision only.
    """
    flash = "flash" in (model.config._attn_implementation or "")
    return torch.autocast(model.device.type, torch.bfloat16) if flash or rests_in_half(model) else nullcontext()


def is_coarse(model: Any) -> bool:
    """Whether some weights have less than float32."""
    return any(parameter.dtype != torch.float32 for parameter in model.parameters())


def digest(tensor: torch.Tensor) -> str:
    """SHA-256 of a tensor's type, shape and bytes."""
    plain = tensor.detach().cpu().contiguous()
    words = hashlib.sha256(f"{plain.dtype} {tuple(plain.shape)}".encode())
    words.update(memoryview(plain.flatten().view(torch.uint8).numpy()))
    return words.hexdigest()


def largest_difference(first: list[torch.Tensor], second: list[torch.Tensor]) -> float:
    """The largest absolute difference of two lists of vectors; infinite where one has a number that the other has not."""
    if [vector.shape for vector in first] != [vector.shape for vector in second]:
        return float("inf")
    if not first:
        return 0.0
    gap = (torch.cat(first) - torch.cat(second)).abs().nan_to_num(float("inf"), float("inf"))
    return float(gap.max()) if gap.numel() else 0.0
