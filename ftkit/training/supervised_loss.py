"""The loss of a decoder without the logits that no loss needs.

Logits are the largest thing that training a decoder makes: rows x tokens x vocabulary, in two precisions and with a
gradient, though in prompted tasks most positions are not supervised. Here the body runs as it is, and the language-model
head runs on the supervised positions alone, a chunk of them at a time, each with its loss and gradient, so that no more
than a chunk's logits are there at once. Loss and gradients are those of the whole computation up to rounding.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from ftkit.data.encode import IGNORED

CHUNK = 1024  # positions; at a vocabulary of 50,000 their logits take 200 MB in float32
AGREEMENT = 5e-3  # of two losses in bfloat16, relative


class ChunkedCrossEntropy(torch.autograd.Function):
    """Cross-entropy of a linear head's logits, in nats, a chunk of positions at a time.

    The gradient is computed with the loss, while the chunk's logits are there: with p the softmax of the logits, the
    gradient of -log p[target] is p - onehot(target), times the weight for the hidden states, and times the hidden states
    for the weight. So the head's three products are all that is computed, and nothing of it twice.
    """

    @staticmethod
    def forward(
        ctx: Any, hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, targets: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The sum of the losses, and each position's loss, shape (positions,), float32; only the sum has a gradient.

        Args:
            hidden: shape (positions, width).
            weight: shape (vocabulary, width); bias: (vocabulary,) or None.
            targets: token ids, shape (positions,).
        """
        kind = hidden.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else hidden.dtype
        ctx.wanted, ctx.dtypes = ctx.needs_input_grad[:3], (hidden.dtype, weight.dtype, None if bias is None else bias.dtype)
        with torch.autocast(kind, enabled=False):
            found, gradients = _losses(hidden.to(dtype), weight.to(dtype), bias, targets, ctx.wanted)
        ctx.gradients = gradients
        ctx.mark_non_differentiable(found)
        return found.sum(), found

    @staticmethod
    def backward(ctx: Any, *given: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        found = [None if made is None else made.mul_(given[0].to(made.dtype)) for made in ctx.gradients]
        ctx.gradients = ()
        kinds = zip(found, ctx.dtypes, strict=True)
        return (*(None if made is None else made.to(dtype) for made, dtype in kinds), None)


def _losses(
    hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, targets: torch.Tensor, wanted: tuple[bool, ...]
) -> tuple[torch.Tensor, list[torch.Tensor | None]]:
    """The losses, and of hidden states, weight and bias the gradients that are wanted."""
    losses = torch.empty(len(targets), dtype=torch.float32, device=hidden.device)
    of_hidden = torch.empty_like(hidden) if wanted[0] else None
    of_weight = None
    of_bias = torch.zeros_like(bias, dtype=torch.float32) if bias is not None and wanted[2] else None
    for start in range(0, len(targets), CHUNK):
        part = slice(start, start + CHUNK)
        logits = nn.functional.linear(hidden[part], weight, None if bias is None else bias.to(weight.dtype)).float()
        right = targets[part, None]
        chances = torch.log_softmax(logits, -1)
        losses[part] = -chances.gather(1, right)[:, 0]
        if not any(wanted):
            continue
        gradient = chances.exp_().scatter_add_(1, right, torch.full_like(right, -1, dtype=chances.dtype))
        if of_bias is not None:
            of_bias += gradient.sum(0)
        gradient = gradient.to(weight.dtype)
        if of_hidden is not None:
            torch.mm(gradient, weight, out=of_hidden[part])
        if wanted[1]:
            made = gradient.t() @ hidden[part]
            of_weight = made.float() if of_weight is None else of_weight.add_(made)
    return losses, [of_hidden, of_weight, of_bias]


class Head:
    """The language-model head of a decoder, and what it is given.

    Args:
        model: its output embeddings are a linear layer, which is all that makes the logits (`plain_head` tries it).
    """

    def __init__(self, model: Any) -> None:
        self.layer: nn.Linear = model.get_output_embeddings()

    def loss(self, model: Any, inputs: dict[str, Any], items: torch.Tensor | int | None) -> torch.Tensor:
        """The sum of the supervised tokens' losses over the number of items, or their mean; as transformers has it."""
        total, losses, _ = self._losses(model, inputs)
        return total / (len(losses) if items is None else items)

    def row_sums(self, model: Any, inputs: dict[str, Any]) -> torch.Tensor:
        """Each row's summed loss and its number of supervised tokens, shape (rows, 2), float32, without gradients."""
        with torch.no_grad():
            _, losses, rows = self._losses(model, inputs)
        sums = losses.new_zeros(len(inputs["labels"]), 2)
        return sums.index_add_(0, rows, torch.stack([losses, torch.ones_like(losses)], 1))

    def _losses(self, model: Any, inputs: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The sum; and of each supervised token its loss in nats and the number of its row."""
        labels = inputs["labels"]
        wanted = labels[:, 1:] != IGNORED  # the hidden state at a position foretells the next token
        with self.kept() as kept:
            model(**{name: value for name, value in inputs.items() if name != "labels"})
        hidden, targets = kept[0][:, :-1][wanted], labels[:, 1:][wanted]
        total, losses = ChunkedCrossEntropy.apply(hidden, self.layer.weight, self.layer.bias, targets)  # type: ignore[no-untyped-call]
        return total, losses, wanted.nonzero()[:, 0]

    @contextmanager
    def kept(self) -> Iterator[list[torch.Tensor]]:
        """Inside the block the layer keeps what it is given and computes nothing: a cast of its weight alone takes time."""
        kept: list[torch.Tensor] = []

        def keep(hidden: torch.Tensor) -> torch.Tensor:
            kept.append(hidden)
            return hidden.new_zeros(len(hidden), 1, 1)

        self.layer.forward = keep  # type: ignore[method-assign]
        try:
            yield kept
        finally:
            del self.layer.forward


def has_plain_head(model: Any) -> bool:
    """Whether the head is a linear layer without adapters, so far as can be seen without trying it."""
    caps = model.config.get_text_config().to_dict().get("final_logit_softcapping")  # too small to show in a new model
    layer = model.get_output_embeddings()
    return not caps and type(layer) is nn.Linear and "forward" not in vars(layer)  # nobody else's hook


def plain_head(model: Any, row: dict[str, Any]) -> Head | None:
    """The head of a decoder whose loss can be computed so; tried on a row, against the model's own loss.

    None where the head is no plain linear layer (it has an adapter, or is a copy that learns), or where more than it makes
    the logits or the loss, as a factor, a cap, or the loss of a router.

    Args:
        row: a batch of one row, with labels.
    """
    if not has_plain_head(model):
        return None
    head, training = Head(model), model.training
    model.eval()
    try:
        with torch.no_grad():
            own, ours = model(**row).loss, head.loss(model, row, None)
    except (TypeError, ValueError, RuntimeError, IndexError):
        return None  # it takes other arguments, or its head is given something else
    finally:
        model.train(training)
    return head if torch.allclose(own.float(), ours.float(), rtol=AGREEMENT) else None
