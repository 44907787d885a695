"""The loss of a decoder without the logits that no loss needs.

Logits are the largest thing that training a decoder makes: rows x tokens x vocabulary, in two precisions and with a
gradient, though in prompted tasks most positions are not supervised. Here the body runs as it is, and the language-model
head runs on the supervised positions alone, a chunk of them at a time, each with its loss and gradient, so that no more
than a chunk's logits are there at once. Loss and gradients are those of the whole computation up to rounding.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import nn

from ftkit.data.encode import IGNORED
from ftkit.tasks.language import token_loss_sums
from ftkit.training.trial import Compute, Trial, failure_words, relative

BEYOND = 2e-5  # of a model's loss from that of its logits: that of a router is more
CHUNK = 1024  # positions; at a vocabulary of 50,000 their logits take 200 MB in float32


class Finish(NamedTuple):
    """What a model does to the output layer's logits: cap * tanh(factor * logits / cap), a cap of 0 being none.

    Granite and Cohere have a factor, Gemma 2 has a cap; both are read off the logits (`find_finish`).
    """

    factor: float = 1.0
    cap: float = 0.0

    def apply(self, logits: torch.Tensor) -> torch.Tensor:
        """The model's logits; the tensor that is given may be overwritten."""
        if self.factor != 1.0:
            logits = logits.mul_(self.factor)
        return logits.div_(self.cap).tanh_().mul_(self.cap) if self.cap else logits

    def back(self, gradient: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        """From the gradient of the model's logits that of the layer's; d tanh(x) = 1 - tanh(x)^2."""
        if self.cap:
            gradient = gradient.mul_(1 - (logits / self.cap) ** 2)
        return gradient.mul_(self.factor) if self.factor != 1.0 else gradient


PLAIN = Finish()


class ChunkedCrossEntropy(torch.autograd.Function):
    """Cross-entropy of a linear head's logits, in nats, a chunk of positions at a time.

    The gradient is computed with the loss, while the chunk's logits are there: with p the softmax of the logits, the
    gradient of -log p[target] is p - onehot(target), times the weight for the hidden states, and times the hidden states
    for the weight. So the head's three products are all that is computed, and nothing of it twice.
    """

    @staticmethod
    def forward(
        ctx: Any, hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, targets: torch.Tensor,
        finish: Finish = PLAIN,
    ) -> tuple[torch.Tensor, torch.Tensor]:  # fmt: skip
        """The sum of the losses, and each position's loss, shape (positions,), float32; only the sum has a gradient.

        Args:
            hidden: shape (positions, width).
            weight: shape (vocabulary, width); bias: (vocabulary,) or None.
            targets: token ids, shape (positions,).
            finish: what is done to the logits.
        """
        kind = hidden.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else hidden.dtype
        ctx.wanted, ctx.dtypes = ctx.needs_input_grad[:3], (hidden.dtype, weight.dtype, None if bias is None else bias.dtype)
        with torch.autocast(kind, enabled=False):
            found, gradients = _losses(hidden.to(dtype), weight.to(dtype), bias, targets, ctx.wanted, finish)
        ctx.gradients = gradients
        ctx.mark_non_differentiable(found)
        return found.sum(), found

    @staticmethod
    def backward(ctx: Any, *given: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        found = [None if made is None else made.mul_(given[0].to(made.dtype)) for made in ctx.gradients]
        ctx.gradients = ()
        kinds = zip(found, ctx.dtypes, strict=True)
        return (*(None if made is None else made.to(dtype) for made, dtype in kinds), None, None)


def _losses(
    hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, targets: torch.Tensor, wanted: tuple[bool, ...],
    finish: Finish,
) -> tuple[torch.Tensor, list[torch.Tensor | None]]:  # fmt: skip
    """The losses, and of hidden states, weight and bias the gradients that are wanted."""
    losses = torch.empty(len(targets), dtype=torch.float32, device=hidden.device)
    of_hidden = torch.empty_like(hidden) if wanted[0] else None
    of_weight = None
    of_bias = torch.zeros_like(bias, dtype=torch.float32) if bias is not None and wanted[2] else None
    for start in range(0, len(targets), CHUNK):
        part = slice(start, start + CHUNK)
        logits = nn.functional.linear(hidden[part], weight, None if bias is None else bias.to(weight.dtype)).float()
        right, logits = targets[part, None], finish.apply(logits)
        chances = torch.log_softmax(logits, -1)
        losses[part] = -chances.gather(1, right)[:, 0]
        if not any(wanted):
            continue
        gradient = chances.exp_().scatter_add_(1, right, torch.full_like(right, -1, dtype=chances.dtype))
        gradient = finish.back(gradient, logits)
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
        model: its output embeddings are a linear layer, which makes the logits (`find_head` tries it).
        finish: what the model does to the layer's logits.
    """

    def __init__(self, model: Any, finish: Finish = PLAIN) -> None:
        self.layer: nn.Linear = model.get_output_embeddings()
        self.finish = finish

    def loss(self, model: Any, inputs: dict[str, Any], items: torch.Tensor | int | None) -> torch.Tensor:
        """The sum of the supervised tokens' losses over the number of items, or their mean; as transformers has it."""
        total, losses, _ = self._losses(model, inputs)
        return total / (len(losses) if items is None else items)

    def row_sums(self, model: Any, inputs: dict[str, Any]) -> torch.Tensor:
        """Each row's summed loss and its number of supervised tokens, shape (rows, 2), float32, without gradients."""
        with torch.no_grad():
            _, losses, rows = self._losses(model, inputs)
        return sums_of_rows(losses, rows, len(inputs["labels"]))

    def loss_and_rows(
        self, model: Any, inputs: dict[str, Any], items: torch.Tensor | int | None
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """The loss as `loss` has it, and each row's mean loss."""
        total, losses, rows = self._losses(model, inputs)
        sums = sums_of_rows(losses, rows, len(inputs["labels"]))
        return total / (len(losses) if items is None else items), list(sums[:, 0] / sums[:, 1].clamp(min=1))

    def _losses(self, model: Any, inputs: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The sum; and of each supervised token its loss in nats and the number of its row."""
        labels = inputs["labels"]
        wanted = labels[:, 1:] != IGNORED  # the hidden state at a position foretells the next token
        with self.kept() as kept:
            model(**{name: value for name, value in inputs.items() if name != "labels"})
        hidden, targets = kept[0][:, :-1][wanted], labels[:, 1:][wanted]
        arguments = (hidden, self.layer.weight, self.layer.bias, targets, self.finish)
        total, losses = ChunkedCrossEntropy.apply(*arguments)  # type: ignore[no-untyped-call]
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


def sums_of_rows(losses: torch.Tensor, rows: torch.Tensor, count: int) -> torch.Tensor:
    """Each row's summed loss and its number of tokens, shape (count, 2), of tokens' losses and their rows."""
    losses = losses.detach()
    return losses.new_zeros(count, 2).index_add_(0, rows, torch.stack([losses, torch.ones_like(losses)], 1))


def lacks_plain_head(model: Any) -> str:
    """Why a decoder's head cannot run on some positions alone, so far as that shows without a step; empty where it can."""
    layer = model.get_output_embeddings()
    if type(layer) is not nn.Linear or "forward" in vars(layer):  # nobody else's hook
        return "its output layer is no plain linear layer"
    if model.config.get_text_config().to_dict().get("output_router_logits"):
        return "its loss has that of a router in it"
    return ""


def find_head(model: Any, trial: Trial, rows: dict[str, Any], items: Any) -> Head | str:
    """The head of a decoder whose loss can be computed so, or why it cannot.

    It cannot where the head has an adapter or is a copy that learns, or where more makes the logits than a factor and a cap,
    or more the loss than cross-entropy.

    Args:
        trial: of the model by itself on these rows.
        rows: a batch with labels.
        items: what the sum of losses is divided by, or None for the mean.
    """
    if lacking := lacks_plain_head(model):
        return lacking
    try:
        raw, output = layer_and_output(model, trial.compute)
    except Exception as error:  # whatever the model does with the rows; run.json says it
        return failure_words(error)
    if (gap := loss_beyond_logits(output, rows["labels"], items)) > BEYOND:
        return f"its loss is more than that of its logits, by {gap:.1e}"
    finish = find_finish(model, raw, output["logits"])
    if finish is None:
        return "its logits are more than a factor and a cap make of the output layer's"
    head = Head(model, finish)
    return trial.differs(compute=lambda: head.loss_and_rows(model, rows, items)) or head


def loss_beyond_logits(output: Any, labels: torch.Tensor, items: Any) -> float:
    """How far a model's loss is from the cross-entropy of its own logits, which rounding does not part in any precision."""
    sums = token_loss_sums(output["logits"], labels, shift=True).sum(0)
    return relative(output["loss"], sums[0] / (sums[1] if items is None else items), 1.0)


def find_finish(model: Any, raw: torch.Tensor, final: torch.Tensor) -> Finish | None:
    """What a model does to its output layer's logits; None where it is none of what `Finish` knows.

    Args:
        raw: what the output layer gave; final: the logits that the model made of it.
    """
    if raw.shape != final.shape:
        return None
    rounding = 1e-5 if raw.dtype == final.dtype == torch.float32 else 1e-2
    raw, final = raw.float(), final.float()
    factor = float((raw * final).sum() / (raw * raw).sum().clamp(min=1e-30))
    values = model.config.get_text_config().to_dict()
    caps = [float(value) for name, value in values.items() if "cap" in name and isinstance(value, int | float) and value]
    known = [PLAIN, Finish(factor), *(Finish(1.0, cap) for cap in caps)]
    gaps = [relative(one.apply(raw.clone()), final, 1e-30) for one in known]
    nearest = gaps.index(min(gaps))
    return known[nearest] if gaps[nearest] <= rounding else None


def layer_and_output(model: Any, compute: Compute) -> tuple[torch.Tensor, Any]:
    """What the output layer gives, and what the model does; without gradients."""
    raw: list[torch.Tensor] = []
    outputs: list[Any] = []
    hooks = [
        model.get_output_embeddings().register_forward_hook(lambda _module, _given, output: raw.append(output.clone())),
        model.register_forward_hook(lambda _module, _given, output: outputs.append(output)),
    ]
    try:
        with torch.no_grad():
            compute()
    finally:
        for hook in hooks:
            hook.remove()
    return raw[-1], outputs[-1]
