"""The frozen blocks of a model: what they give is computed once, and put back in place of computing it.

What the last frozen block gives is all that the rest of the model needs of the body. A batch that brings it along under the
name `frozen_outputs` is not sent through the frozen blocks; every other batch goes through the model as it is.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from typing import Any

import torch
from torch import nn

from ftkit.models.heads import last_blocks
from ftkit.models.load import first_line

FROZEN = "frozen_outputs"
Batch = dict[str, torch.Tensor]


class Reading(str, Enum):
    """Which positions of a row the rest of the model reads; the others need not be kept."""

    FIRST = "first token"
    LAST = "last token"
    ALL = "all tokens"


# How far two computations of the same may differ, as a share of their size: sums are rounded by the shape of a batch.
ROUNDING = {None: 1e-4, torch.float16: 1e-2, torch.bfloat16: 5e-2}
PADDED = 1e-5  # the same in float32, where one of the two is padded: models of 6 to 12 blocks differ by 1e-6
SEED = 0


class Unkeepable(Exception):
    """What the frozen blocks give cannot stand for them; the message says why."""


class FrozenBlocks:
    """A model's blocks below the first that learns.

    Args:
        learning: how many of the last blocks learn.
        precision: of autocast, as in training; None without.
    """

    def __init__(self, model: Any, learning: int, precision: torch.dtype | None) -> None:
        self.model, self.precision, self.head_alone = model, precision, learning == 0
        _, blocks = last_blocks(model)
        self.blocks = list(blocks)[: len(blocks) - learning]
        self.own_forward = model.forward  # accelerate puts one with autocast in its place
        self.given: torch.Tensor | None = None
        self.further = 0  # how many values a block gives beside the hidden states
        for block in self.blocks:
            self._make_replayable(block)
        model.register_forward_pre_hook(self._take, with_kwargs=True)
        model.register_forward_hook(self._release, always_call=True)

    def compute(self, batch: Batch) -> tuple[Any, torch.Tensor]:
        """The whole model's output, and what the last frozen block gave on the way, shape (rows, tokens, width).

        Raises:
            Unkeepable: there is no such thing.
        """
        found: list[torch.Tensor] = []
        hook = hooked(self.blocks[-1], lambda _module, _inputs, output: found.append(self._hidden(output)))
        with torch.no_grad(), hook:
            output = self.forward(batch)
        if not found:
            raise Unkeepable("its blocks do not run as modules of their own")
        if found[-1].shape[:2] != batch["input_ids"].shape:
            raise Unkeepable(f"a block gives {tuple(found[-1].shape)} for {tuple(batch['input_ids'].shape)} tokens")
        return output, found[-1]  # the last: a block may run several times, as in ALBERT

    def forward(self, batch: Batch) -> Any:
        """The model's output in the precision of training."""
        device = self.model.device
        moved = {name: value.to(device) for name, value in batch.items()}
        with torch.autocast(device.type, self.precision, enabled=self.precision is not None):
            return self.model(**moved)

    @contextmanager
    def without_autocast(self) -> Iterator[None]:
        """Inside the block a model in float32 is computed in it; one in another precision as ever."""
        before = self.model.forward, self.precision
        if self.model.dtype == torch.float32:
            self.model.forward, self.precision = self.own_forward, None
        try:
            yield
        finally:
            self.model.forward, self.precision = before

    def _make_replayable(self, block: Any) -> None:
        compute = block.forward

        def forward(*args: Any, **kwargs: Any) -> Any:
            if self.given is None:
                return compute(*args, **kwargs)
            return (self.given, *([None] * (self.further - 1))) if self.further else self.given

        block.forward = forward

    def _hidden(self, output: Any) -> torch.Tensor:
        several = isinstance(output, tuple | list)
        self.further = len(output) if several else 0
        hidden: torch.Tensor = output[0] if several else output
        return hidden.detach()

    def _take(self, module: nn.Module, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        self.given = kwargs.pop(FROZEN, None)
        return args, kwargs

    def _release(self, *_: Any) -> None:
        self.given = None


@contextmanager
def hooked(module: nn.Module, hook: Any) -> Iterator[None]:
    handle = module.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def lengths_of(batch: Batch) -> torch.Tensor:
    """Tokens of each row, shape (rows,); rows are padded on the right."""
    return batch["attention_mask"].sum(1).cpu()


def replayed(batch: Batch, hidden: torch.Tensor, reading: Reading) -> Batch:
    """The batch with what the frozen blocks gave for it, cut down to the position that is read."""
    hidden = hidden.cpu()
    if reading is Reading.ALL:
        return batch | {FROZEN: hidden * batch["attention_mask"].cpu().to(hidden.dtype)[..., None]}
    rows, width = batch["input_ids"].shape
    places = torch.zeros(rows, dtype=torch.long) if reading is Reading.FIRST else lengths_of(batch) - 1
    chosen = torch.arange(rows)
    cut = {name: value[chosen, places][:, None] for name, value in batch.items() if is_per_token(name, value, width)}
    return batch | cut | {FROZEN: hidden[chosen, places][:, None]}


def is_per_token(name: str, value: torch.Tensor, width: int) -> bool:
    """Whether an input has one value a token; labels of rows may happen to be as many as tokens."""
    return name != "labels" and value.ndim == 2 and value.shape[1] == width


def positions_read(frozen: FrozenBlocks, batch: Batch, hidden: torch.Tensor) -> Reading:
    """Which positions of the frozen blocks' output bear on the logits, seen by their gradient.

    The head's weights are random meanwhile: one that starts at zero would seem to read nothing.
    """
    if not frozen.head_alone:
        return Reading.ALL
    leaf = hidden.detach().clone().requires_grad_(True)
    frozen.model.eval()
    with shaken(frozen.model), torch.enable_grad():
        logits = frozen.forward(batch | {FROZEN: leaf}).logits.float()
        (gradient,) = torch.autograd.grad((logits * torch.randn_like(logits)).sum(), leaf)
    read = gradient.abs().sum(-1).cpu() > 0
    places = torch.arange(read.shape[1])[None, :]
    for reading, place in ((Reading.FIRST, torch.zeros(len(read))), (Reading.LAST, lengths_of(batch) - 1)):
        if torch.equal(read, places == place[:, None]):
            return reading
    return Reading.ALL


@contextmanager
def shaken(model: nn.Module) -> Iterator[None]:
    """Inside the block the weights that learn have noise on them."""
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    before = [parameter.detach().clone() for parameter in learning]
    with torch.no_grad():
        for parameter in learning:
            parameter.add_(torch.randn_like(parameter), alpha=0.05)
    try:
        yield
    finally:
        with torch.no_grad():
            for parameter, value in zip(learning, before, strict=True):
                parameter.copy_(value)


@contextmanager
def refusing() -> Iterator[None]:
    """Whatever a model does when it is asked so is a reason to compute in every epoch, and never the end of a run."""
    try:
        yield
    except (Unkeepable, OSError):  # a full disk is told otherwise
        raise
    except Exception as error:
        raise Unkeepable(f"{type(error).__name__}: {first_line(error)}") from error


@refusing()
def find_reading(frozen: FrozenBlocks, batch: Batch) -> tuple[Reading, torch.Tensor]:
    """What must be kept of the frozen blocks' output so that the model says the same of a batch without computing it.

    The model is asked in training mode, with the same seed each time, so that a head whose own dropout draws otherwise would
    show. Dropout in the frozen part shows beside evaluation mode.

    Args:
        batch: rows of unlike lengths; what a row gives must not hang on how far it is padded.

    Returns:
        What is read, and what the frozen blocks gave.

    Raises:
        Unkeepable: nothing gives the same.
    """
    frozen.model.eval()
    calm = frozen.compute(batch)[1]  # first, since a model may exchange its attention when it first sees short rows
    with seeded(frozen.model):
        output, hidden = frozen.compute(batch)
        expected, draw = seen(output, batch), float(torch.rand((), device=hidden.device))
    if difference(calm, hidden) > ROUNDING[frozen.precision]:
        raise Unkeepable("it gives other numbers in training than in evaluation: there is dropout in it")
    require_unpadded(frozen, batch)
    with seeded(frozen.model):
        narrow = positions_read(frozen, batch, hidden)
    why = Unkeepable("the rest of the model reads more than its outputs")
    for reading in dict.fromkeys((narrow, Reading.ALL)):
        try:
            with refusing(), seeded(frozen.model), torch.no_grad():
                found = seen(frozen.forward(replayed(batch, hidden, reading)), batch)
                same_draws = float(torch.rand((), device=hidden.device)) == draw
        except Unkeepable as error:
            why = error
            continue
        if same_draws and difference(found, expected) <= ROUNDING[frozen.precision]:
            return reading, hidden
    raise why


def require_unpadded(frozen: FrozenBlocks, batch: Batch) -> None:
    """Make sure that the shortest row gives the same alone as beside longer ones: it is recorded beside others than later.

    Weights in float32 are asked without autocast, whose rounding would hide what padding does.

    Raises:
        Unkeepable: it does not.
    """
    lengths, width = lengths_of(batch), batch["input_ids"].shape[1]
    row, length = int(lengths.argmin()), int(lengths.min())
    alone = {
        name: value[row : row + 1, :length] if is_per_token(name, value, width) else value[row : row + 1]
        for name, value in batch.items()
        if name != "labels"
    }
    with frozen.without_autocast():
        beside, own = frozen.compute(batch)[1][row : row + 1, :length], frozen.compute(alone)[1]
        if difference(own, beside) > (PADDED if frozen.precision is None else ROUNDING[frozen.precision]):
            raise Unkeepable("what it gives for a row hangs on how far the row is padded")


@contextmanager
def seeded(model: nn.Module) -> Iterator[None]:
    """Inside the block the model is in training mode and draws the same numbers each time; the process draws none."""
    with torch.random.fork_rng():
        torch.manual_seed(SEED)
        model.train()
        try:
            yield
        finally:
            model.eval()


def seen(output: Any, batch: Batch) -> torch.Tensor:
    """The logits and the loss in one row of numbers; logits of padding say nothing."""
    logits = output.logits.detach().float().cpu()
    if logits.ndim == 3:
        logits = logits[batch["attention_mask"].bool()]
    return torch.cat([logits.flatten(), output.loss.detach().float().cpu().flatten()])


def difference(found: torch.Tensor, expected: torch.Tensor) -> float:
    """How far one is from the other, as a share of its size; infinite where it is not a number."""
    if found.shape != expected.shape:
        return float("inf")
    share = float((found.float() - expected.float()).norm() / expected.float().norm().clamp(min=1e-12))
    return share if share == share else float("inf")
