"""The trial of a lever: what a step gives with it, beside what the model gives by itself.

No lever is on because a model's name is known. Before the first step it is tried on the very model, on rows of the data that
are of unlike lengths, and it stays only where the loss, what each row gets and every gradient are the same up to rounding.
Nothing hides meanwhile: adapters add something (as they are made they are zero), the logits of a new model are as large as
a trained one's, so that a factor or a cap shows, and what can be is computed in float32, whatever training computes in.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import cached_property
from typing import Any, NamedTuple

import torch
from peft.tuners.lora import LoraLayer
from torch import nn

from ftkit.models.load import first_line
from ftkit.tasks.language import token_loss_sums

LOUD = 4.0  # standard deviation of logits, from which a cap of 30 shows in the fifth digit
DRAWN = 0.02  # standard deviation of an adapter's B while it is tried
LEAST_LOSS, LEAST_ROW = 1.0, 0.05  # what is smaller is held against these: rounding is that of the logits


class Bounds(NamedTuple):
    """How far a lever may be from the model itself, as a share: of the loss, of what a row gets, of each gradient.

    A gradient smaller than the share `quiet` of the largest is held against that share: it may be rounding alone.
    """

    loss: float
    row: float
    gradient: float
    quiet: float


# In float32; where products are in half precision, of which bfloat16 keeps 8 bits (a row that is lost takes its share of the
# gradient, a quarter); and where the very same is computed in the same order.
EXACT, COARSE = Bounds(1e-5, 1e-4, 1e-4, quiet=1e-2), Bounds(5e-3, 5e-2, 0.15, quiet=1.0)
SAME = Bounds(1e-7, 1e-7, 1e-2, quiet=1.0)


class Found(NamedTuple):
    """What a step gave.

    Attributes:
        rows: of each row what it gets, as its logits or its loss; none where rows are not told apart.
        gradients: by the name of the weight, those that learn.
    """

    loss: torch.Tensor
    rows: list[torch.Tensor]
    gradients: dict[str, torch.Tensor]


Compute = Callable[[], tuple[torch.Tensor, list[torch.Tensor]]]  # the loss, and what each row gets


class Trial:
    """A model in eval mode on some rows: a step of it by itself is computed once, and set beside one with each lever.

    Args:
        compute: a forward pass of the model by itself over the rows.
        autocast: the precision of training; None without.
        bounds: in place of those of the precision; then it is computed as in training.
        learns: steps go backward too; else the model is measured only, and gradients are not compared.
    """

    def __init__(
        self, model: Any, compute: Compute, autocast: torch.dtype | None, bounds: Bounds | None = None, *,
        learns: bool = True,
    ) -> None:  # fmt: skip
        self.model, self.compute, self.learns = model, compute, learns
        self.exact = bounds is None and is_exact(model)
        self.autocast = None if self.exact else autocast
        self.bounds = bounds or (EXACT if self.exact else COARSE)

    @classmethod
    def on_rows(
        cls, model: Any, rows: dict[str, Any], autocast: torch.dtype | None = None, items: int | None = None, *,
        shift: bool = False, learns: bool = True,
    ) -> "Trial":  # fmt: skip
        """A trial by the model's own loss; the arguments are those of `own_loss`."""
        return cls(model, lambda: own_loss(model, rows, items, shift=shift), autocast, learns=learns)

    @cached_property
    def own(self) -> Found:
        """What the model gives by itself."""
        return self.step(self.compute)

    def differs(
        self, lever: AbstractContextManager[Any] | None = None, compute: Compute | None = None, *, times: int = 1
    ) -> str:
        """What a lever changes, in words; nothing where all is the same up to rounding.

        Args:
            lever: what the lever does around steps; compute: in place of the model's own forward pass.
            times: so many steps are made one after the other, of which the last counts.
        """
        try:
            own = self.own
            with lever or nullcontext():
                for _ in range(times - 1):
                    self.step(compute or self.compute)
                ours = self.step(compute or self.compute)
        except Exception as error:  # whatever a model does with what is not as it expects it; run.json says it
            return failure_words(error)
        return difference_words(own, ours, self.bounds)

    def step(self, compute: Compute) -> Found:
        """Forward and, where it learns, backward; the model has no gradients before and after."""
        kind = self.model.device.type
        self.model.zero_grad(set_to_none=True)
        try:
            with (
                torch.autocast(kind, self.autocast) if self.autocast else nullcontext(),
                torch.set_grad_enabled(self.learns),
            ):
                loss, rows = compute()
            if self.learns:
                loss.backward()  # type: ignore[no-untyped-call]
            named = self.model.named_parameters()
            return Found(loss.detach(), rows, {name: weight.grad for name, weight in named if weight.grad is not None})
        finally:
            self.model.zero_grad(set_to_none=True)

    @contextmanager
    def prepared(self) -> Iterator["Trial"]:
        """Inside the block nothing that a lever changes can hide; after it the model is as it was."""
        with ExitStack() as stack:
            stack.enter_context(left_as_it_was(self.model))
            self.model.eval()
            stack.enter_context(drawn_adapters(self.model))
            if self.exact:
                stack.enter_context(four_bits_in_float32(self.model))
            stack.enter_context(loud_logits(self.model, self.compute))
            yield self


@contextmanager
def left_as_it_was(model: nn.Module) -> Iterator[None]:
    """After the block each part of a model has the switches and the parts that it had before.

    Some models change themselves for good by what they see, as BigBird, which takes whole attention once a row is short.
    """
    before = [
        (module, {name: value for name, value in vars(module).items() if isinstance(value, str | bool | int | float)})
        for module in model.modules()
    ]
    parts = [(module, dict(module._modules)) for module, _ in before]
    try:
        yield
    finally:
        for module, values in before:
            vars(module).update(values)
        for module, own in parts:
            module._modules.clear()
            module._modules.update(own)


def failure_words(error: Exception) -> str:
    """Of a trial that raised."""
    return f"its trial ends in {type(error).__name__}: {first_line(error)}"


def own_loss(model: Any, rows: dict[str, Any], items: int | None, *, shift: bool) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """The model's own loss, and what each row gets: its mean loss where tokens are supervised, else its logits.

    Args:
        rows: a batch with labels, on the model's device.
        items: what the sum of losses is divided by; None where the loss is a mean.
        shift: the logits at a position foretell the next token.
    """
    given = {} if items is None else {"num_items_in_batch": items}
    output = model(**rows, **given)
    loss, logits = (output["loss"], output["logits"]) if isinstance(output, dict) else output[:2]
    labels = rows["labels"]
    if logits.dim() == 3 and labels.shape == logits.shape[:2]:
        sums = token_loss_sums(logits.detach(), labels, shift=shift)
        return loss, list(sums[:, 0] / sums[:, 1].clamp(min=1))
    return loss, list(logits.detach())


def is_exact(model: nn.Module) -> bool:
    """Whether all weights are float32, but for those in 4 bits, whose products can be computed in it."""
    return all(weight.dtype == torch.float32 for weight in model.parameters() if weight.is_floating_point())


def difference_words(own: Found, ours: Found, bounds: Bounds) -> str:
    """The first of loss, rows and gradients that is beyond its bound, and by how much."""
    if ours.gradients.keys() != own.gradients.keys():
        return f"{min(ours.gradients.keys() ^ own.gradients.keys())} has a gradient on one way only"
    gaps = gaps_between(ours, own, bounds.quiet)
    if gaps.loss > bounds.loss:
        return f"the loss differs by {gaps.loss:.1e}"
    if gaps.row > bounds.row:
        return f"what a row gets differs by {gaps.row:.1e}"
    return f"the gradient of {gaps.name} differs by {gaps.gradient:.1e}" if gaps.gradient > bounds.gradient else ""


class Gaps(NamedTuple):
    """How far one step is from another, as shares; `row` and `gradient` are the largest, `name` is of that gradient."""

    loss: float
    row: float
    gradient: float
    name: str


def gaps_between(ours: Found, own: Found, quiet: float) -> Gaps:
    """Of two steps with gradients of the same names; rows that are not told apart have no gap."""
    rows = zip(ours.rows, own.rows, strict=True) if ours.rows and own.rows else ()
    largest = max((float(gradient.norm()) for gradient in own.gradients.values()), default=0.0)
    gradients = {name: relative(ours.gradients[name], gradient, quiet * largest) for name, gradient in own.gradients.items()}
    worst = max(gradients, key=lambda name: gradients[name], default="")
    row = max((relative(one, other, LEAST_ROW) for one, other in rows), default=0.0)
    return Gaps(relative(ours.loss, own.loss, LEAST_LOSS), row, gradients.get(worst, 0.0), worst)


def relative(found: torch.Tensor, expected: torch.Tensor, least: float) -> float:
    """How far one is from the other, as a share of its size or of `least`; infinite where it is no number."""
    if found.shape != expected.shape:
        return float("inf")
    found, expected = found.float(), expected.float()
    share = float((found - expected).norm()) / max(float(expected.norm()), least, 1e-30)
    return share if share == share else float("inf")


@contextmanager
def drawn_adapters(model: nn.Module) -> Iterator[None]:
    """Inside the block the adapters add something: as they are made, B is zero, and whatever is done with it."""
    layers = [module for module in model.modules() if isinstance(module, LoraLayer)]
    ups = [part.weight for layer in layers for part in layer.lora_B.values()]
    before = [weight.detach().clone() for weight in ups]
    try:
        for number, weight in enumerate(ups):
            drawn = torch.randn(weight.shape, generator=torch.Generator().manual_seed(number))
            weight.data.copy_(drawn * DRAWN)
        yield
    finally:
        for weight, own in zip(ups, before, strict=True):
            weight.data.copy_(own)


@contextmanager
def four_bits_in_float32(model: nn.Module) -> Iterator[None]:
    """Inside the block layers in 4 bits compute in float32."""
    named = [module for module in model.modules() if type(module).__name__ == "Linear4bit"]
    layers: list[Any] = [module for module in named if not isinstance(module, LoraLayer)]  # peft's has the same name
    before = [layer.compute_dtype for layer in layers]
    try:
        for layer in layers:
            layer.compute_dtype = torch.float32
        yield
    finally:
        for layer, dtype in zip(layers, before, strict=True):
            layer.compute_dtype = dtype


@contextmanager
def loud_logits(model: Any, compute: Compute) -> Iterator[None]:
    """Inside the block what an output layer is given is so large that its logits are those of a model that is sure."""
    layer = model.get_output_embeddings()
    if not isinstance(layer, nn.Module):
        yield
        return
    factor = loudness(layer, compute)
    handle = layer.register_forward_pre_hook(lambda _, given: (given[0] * factor, *given[1:]))
    try:
        yield
    finally:
        handle.remove()


def loudness(layer: nn.Module, compute: Compute) -> float:
    """What a layer's input has to be multiplied by for its output to be loud; 1 where it is, or nothing runs through it."""
    seen: list[float] = []
    handle = layer.register_forward_hook(lambda _module, _given, output: seen.append(float(output.detach().float().std())))
    try:
        with torch.no_grad():
            compute()
    except Exception:  # the step itself will say it
        return 1.0
    finally:
        handle.remove()
    return max(1.0, LOUD / seen[-1]) if seen and seen[-1] > 0 else 1.0
