"""What measuring a model holds in memory, without weights: as rehearsal.py goes through a step, so here evaluation.

Evaluation keeps nothing for a backward pass, but it may take more rows at a time than training, and where a head makes the
logits of all positions, as on general text, these can be the most that a run ever holds.
"""

import inspect
from dataclasses import dataclass
from typing import Any

import torch
from accelerate.utils import convert_outputs_to_fp32
from peft import PeftModel
from torch import nn
from torch._subclasses import FakeTensorMode

from ftkit.training.rehearsal import Batch, MemoryLedger, forward_loss, inputs_of, put_on_cpu, shape_model, tensors_of
from ftkit.training.supervised_loss import lacks_plain_head


@dataclass(frozen=True)
class Measuring:
    """The shapes of what is measured.

    Attributes:
        rows: of the eval batch, which is planned as the longest.
        length: tokens of its rows; target: of an encoder-decoder's targets.
        supervised: of each row, tokens on which a decoder's head runs; 0 where it runs on all.
        labels: in the words of `Batch`.
        texts: rows and tokens of a batch of general text whose tokens are foretold; None where there is none.
        answers: rows, beams counted, and tokens of prompt and answer that are generated at a time; None where none are.
    """

    rows: int
    length: int
    labels: str
    target: int = 0
    supervised: float = 0
    texts: tuple[int, int] | None = None
    answers: tuple[int, int] | None = None


@dataclass(frozen=True)
class MeasuringMemory:
    """Bytes beside the weights at the fullest moment: of a batch of eval rows, of general text, of generated answers."""

    rows: int = 0
    texts: int = 0
    answers: int = 0

    @property
    def most(self) -> int:
        return max(self.rows, self.texts, self.answers)


def rehearse_measuring(
    auto_class: Any, config: Any, block: Any, head: tuple[str, ...], options: dict[str, str | None],
    shapes: Measuring, autocast: torch.dtype | None,
) -> MeasuringMemory:  # fmt: skip
    """What measuring `config`'s model holds; the arguments are those of `rehearse`.

    Raises:
        RuntimeError: the model's forward pass looks at values, which are not there.
    """
    model, _ = shape_model(auto_class, config, block, head, options)
    with FakeTensorMode(), torch.no_grad():
        put_on_cpu(model)
        model.eval()
        return MeasuringMemory(
            rows=_rows(model, shapes, autocast),
            texts=_texts(model, *shapes.texts, autocast) if shapes.texts else 0,
            answers=_answers(model, *shapes.answers) if shapes.answers else 0,
        )


def _rows(model: Any, shapes: Measuring, autocast: torch.dtype | None) -> int:
    """A batch of eval rows; logits and the loss's copies of them where the head is not run on supervised positions."""
    inputs = inputs_of(model, Batch(shapes.rows, shapes.length, shapes.labels, target=shapes.target))
    supervised = 0 if lacks_plain_head(model) else int(shapes.rows * min(shapes.supervised, shapes.length))
    with MemoryLedger([*tensors_of(model), *inputs.values()], set()) as ledger:
        if supervised:
            forward_loss(model, inputs, autocast, supervised)
        else:
            outputs = _call(model, autocast, inputs)
            _reduce(outputs["logits"], shapes.labels)
    return ledger.peak


def _texts(model: Any, rows: int, length: int, autocast: torch.dtype | None) -> int:
    """A batch of general text: all its logits, as no head is told which positions count."""
    inputs = inputs_of(model, Batch(rows, length, "tokens"))
    del inputs["labels"]
    with MemoryLedger([*tensors_of(model), *inputs.values()], set()) as ledger:
        outputs = _call(model, autocast, inputs)
        _reduce(outputs["logits"], "tokens")
    return ledger.peak


def _answers(model: Any, rows: int, length: int) -> int:
    """A pass over prompt and answer that keeps the keys and values, without autocast, as generation computes."""
    inputs: dict[str, Any] = inputs_of(model, Batch(rows, length, "tokens"))
    del inputs["labels"]
    base = model.get_base_model() if isinstance(model, PeftModel) else model
    last = {"logits_to_keep": 1} if "logits_to_keep" in inspect.signature(base.forward).parameters else {}
    with MemoryLedger([*tensors_of(model), *inputs.values()], set()) as ledger:
        outputs = model(**inputs, use_cache=True, **last)
        del outputs
    return ledger.peak


def _call(model: Any, autocast: torch.dtype | None, inputs: dict[str, torch.Tensor]) -> Any:
    """As accelerate lets a model compute that is measured: under autocast its outputs come back in float32."""
    call = model.__call__ if autocast is None else convert_outputs_to_fp32(model.__call__)
    with torch.autocast("cpu", dtype=autocast, enabled=autocast is not None):
        return call(**inputs)


def _reduce(logits: Any, labels: str) -> None:
    """What `token_loss_sums` makes of logits, a row at a time: the row's own copy, and its log-softmax."""
    if labels == "tokens":
        row = logits[0].clone().float()
        nn.functional.cross_entropy(row, torch.zeros(len(row), dtype=torch.long))
