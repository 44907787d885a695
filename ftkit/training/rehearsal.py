"""One training step without weights: every operation runs on shapes alone, and what it would hold in memory is added up.

PyTorch's fake tensors (https://docs.pytorch.org/docs/stable/torch.compiler_fake_tensor.html) go through the very
operations of forward and backward, autocast and checkpointing included, so that no formula for an architecture is needed
and none can be forgotten: score matrices of eager attention, copies of weights under autocast, copies of logits.
"""

import copy
import weakref
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from accelerate.utils import convert_outputs_to_fp32
from torch import nn
from torch._subclasses import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ftkit.models.architecture import model_of
from ftkit.models.counts import quantized_layers
from ftkit.models.load import torch_dtype
from ftkit.models.resting import Tensors, rest, resting_layers, stored_layers
from ftkit.models.strategies.table import STRATEGIES
from ftkit.training.dropout import drop, dropping
from ftkit.training.embedding_gradient import adding_rows
from ftkit.training.footprint import Learning, four_bit_bytes, gradient_bytes, resting_bytes
from ftkit.training.fused_adapters import PRODUCTS, fusing_adapters
from ftkit.training.fused_gelu import fusing_gelu
from ftkit.training.liger_shapes import liger_shapes
from ftkit.training.supervised_loss import CHUNK, ChunkedCrossEntropy, Head, lacks_plain_head
from ftkit.training.unpadded import Layout, UnpaddedModel, may_unpad


@dataclass(frozen=True)
class Batch:
    """The shape of a micro-batch, and how it is computed.

    Attributes:
        autocast: the precision of autocast, or None.
        accumulates: whether gradients of earlier micro-batches are there.
        labels: of each row: `tokens`, `class` or `number`; `classes` where there may be several.
        checkpointing: the arguments of activation checkpointing, or None where there is none.
        target: tokens of the target where a decoder with an encoder learns.
        supervised: tokens of all rows on which a decoder's head runs; 0 where it runs on all that there are.
        rests: whether frozen layers rest in bfloat16, see `models/resting.py`.
        adds_rows: whether embeddings add to their gradients by row, see `embedding_gradient.py`.
        keeps_rows: whether they keep these gradients from step to step.
        fuses: whether adapters are computed with their layers, see `fused_adapters.py`.
        liger: whether Liger's kernels are in the layers, see `liger_shapes.py`.
        drops: whether dropout draws as in `dropout.py`.
        gelu: whether GELU that is written out is one operation, see `fused_gelu.py`.
        unpads: whether its blocks see no padding, see `unpadded.py`; the rows then are of one length.
        stored: what the checkpoint has, where that is known: other layers do not rest.
    """

    rows: int
    length: int
    labels: str
    autocast: torch.dtype | None = None
    checkpointing: dict[str, Any] | None = None
    accumulates: bool = False
    target: int = 0
    supervised: int = 0
    rests: bool = False
    adds_rows: bool = False
    keeps_rows: bool = False
    fuses: bool = False
    liger: bool = False
    drops: bool = False
    gelu: bool = False
    unpads: bool = False
    stored: Tensors | None = None


@dataclass(frozen=True)
class Rehearsal:
    """Bytes of a step, beside the weights where nothing else is said.

    Attributes:
        loaded: the weights as they are loaded, adapters with them.
        weights: the same while it trains.
        adapters: those of the weights that were added to the base.
        activations: held when forward ends, without logits.
        logits: most at any time in tensors as large as the logits are.
        step: most at any time in forward and backward, gradients with it.
        learning: the tensors that learn.
        parameters: all there are, in the shapes in which they are stored.
        kept: gradients that stay from step to step.
    """

    loaded: int
    weights: int
    adapters: int
    gradients: int
    activations: int
    logits: int
    step: int
    learning: tuple[Learning, ...]
    parameters: int
    kept: int = 0


class FourBitProduct(torch.autograd.Function):
    """A product with packed weights: they are unpacked for it, forward and backward, and only they are kept.

    So does bitsandbytes: https://github.com/bitsandbytes-foundation/bitsandbytes/blob/0.50.2/bitsandbytes/autograd/_functions.py,
    MatMul4Bit.
    """

    @staticmethod
    def forward(ctx: Any, inputs: torch.Tensor, packed: torch.Tensor, shape: tuple[int, int]) -> torch.Tensor:
        ctx.save_for_backward(packed)
        ctx.shape = shape
        return inputs @ inputs.new_empty(shape).t()

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        return gradients[0] @ gradients[0].new_empty(ctx.shape), None, None


class FourBitLinear(nn.Linear):
    """A linear layer in the shape of its packed weights; it computes in the precision to which they are unpacked."""

    def __init__(self, inside: int, outside: int, bias: nn.Parameter | None, unpacked: torch.dtype) -> None:
        super().__init__(1, 1, bias=False)
        self.in_features, self.out_features, self.unpacked = inside, outside, unpacked
        self.weight = nn.Parameter(torch.empty(four_bit_bytes(inside * outside), dtype=torch.uint8), requires_grad=False)
        # Cast for good by the layer's first forward pass.
        self.bias = bias if bias is None else nn.Parameter(bias.detach().to(unpacked), requires_grad=False)  # type: ignore[assignment]

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", enabled=False):
            shape = (self.out_features, self.in_features)
            found = FourBitProduct.apply(inputs.to(self.unpacked), self.weight, shape)
            found = (found if self.bias is None else found + self.bias).to(inputs.dtype)
        return (
            found.to(torch.get_autocast_dtype("cpu")) if torch.is_autocast_enabled("cpu") else found
        )  # as `compat.py` has it


class FourBitShapes:
    """How `FourBitLinear` multiplies, for `fused_adapters.py`."""

    def computes_in(self, layer: FourBitLinear, dtype: torch.dtype) -> bool:
        return True

    def forward(self, layer: FourBitLinear, inputs: torch.Tensor) -> torch.Tensor:
        return layer(inputs)  # type: ignore[no-any-return]

    def backward(self, layer: FourBitLinear, given: torch.Tensor) -> torch.Tensor:
        cast = given.to(layer.unpacked)
        return (cast @ cast.new_empty(layer.out_features, layer.in_features)).to(given.dtype)


SHAPE_PRODUCTS = {**PRODUCTS, "FourBitLinear": FourBitShapes()}


class MemoryLedger(TorchDispatchMode):
    """Adds up the storages that operations make, and takes them off when they are let go."""

    def __init__(self, known: Iterable[torch.Tensor], logits: set[int]) -> None:
        """Args: known: tensors that do not count. logits: numbers of entries by which logits are known."""
        super().__init__()
        self._sizes: dict[int, tuple[int, bool]] = {tensor.untyped_storage()._cdata: (0, False) for tensor in known}
        self._logit_counts = logits
        self.live = self.peak = self.logits = self.logits_peak = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(found):
            if isinstance(tensor, torch.Tensor):
                self._enter(tensor)
        return found

    def _enter(self, tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        if (key := storage._cdata) in self._sizes:
            return
        size, is_logits = storage.nbytes(), tensor.numel() in self._logit_counts
        self._sizes[key] = size, is_logits
        self._add(size, is_logits)
        weakref.finalize(storage, self._leave, key)

    def _leave(self, key: int) -> None:
        size, is_logits = self._sizes.pop(key)
        self._add(-size, is_logits)

    def _add(self, size: int, is_logits: bool) -> None:
        self.live += size
        self.peak = max(self.peak, self.live)
        self.logits += size if is_logits else 0
        self.logits_peak = max(self.logits_peak, self.logits)


def rehearse(
    auto_class: Any, config: Any, block: Any, head: tuple[str, ...], options: dict[str, str | None], batch: Batch
) -> Rehearsal:
    """A step of `config`'s model under the recipe's strategy `block`.

    Args:
        options: `dtype` in which frozen weights rest; `unpacked`, that of weights in 4 bits for their products; and
            `attention`, None for the library's choice.

    Raises:
        UserError: the strategy's values do not fit the model.
        RuntimeError: the model's forward pass looks at values, which are not there.
    """
    model, before = shape_model(auto_class, config, block, head, options)
    layout = Layout(torch.ones(batch.rows, batch.length, dtype=torch.bool)) if batch.unpads and may_unpad(model) else None
    with FakeTensorMode(allow_non_fake_inputs=layout is not None):  # its places are real
        put_on_cpu(model)
        return _step(model.train(), before, batch, layout)


def shape_model(
    auto_class: Any, config: Any, block: Any, head: tuple[str, ...], options: dict[str, str | None]
) -> tuple[Any, int]:
    """The model under its strategy on the meta device, and the bytes of its base; the arguments are those of `rehearse`."""
    strategy = STRATEGIES[block.name]
    if block.name in ("lora", "qlora"):  # the shapes are the same, and some ways of drawing them need values
        block = block.model_copy(update={"init_lora_weights": True})
    dtype = torch.float32 if block.name == "full" else torch_dtype(options["dtype"] or "float32")
    config = copy.deepcopy(config)
    config.use_cache = False  # as the Trainer sets it: a training step keeps no keys and values
    with torch.device("meta"):
        base = model_of(auto_class, config, attn_implementation=options["attention"], dtype=dtype)
        if strategy.quantized:
            pack_layers(base, head, torch_dtype(options.get("unpacked") or "bfloat16"))
        before = sum(tensor.nbytes for tensor in tensors_of(base))  # each once: parameters() passes over ties
        return strategy.apply(base, block, head), before


def put_on_cpu(model: nn.Module) -> None:
    """Give a model on the meta device fake tensors that pass for a CPU's: there is no autocast on meta. Ties are kept."""
    made: dict[int, torch.Tensor] = {}
    for module in model.modules():
        for name, old in [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]:
            if id(old) not in made:
                new = torch.empty(old.shape, dtype=old.dtype)
                made[id(old)] = nn.Parameter(new, old.requires_grad) if isinstance(old, nn.Parameter) else new
            setattr(module, name, made[id(old)])


def pack_layers(model: nn.Module, head: tuple[str, ...], unpacked: torch.dtype) -> None:
    """Put layers in the shape of packed weights where 4-bit loading would."""
    packed = {id(layer) for layer in quantized_layers(model, head)}
    for parent in list(model.modules()):
        for name, layer in list(parent.named_children()):
            if id(layer) in packed:
                shape = layer.weight.shape if isinstance(layer, nn.Linear) else layer.weight.shape[::-1]  # type: ignore[union-attr, index]
                setattr(parent, name, FourBitLinear(shape[1], shape[0], layer.bias, unpacked))  # type: ignore[arg-type, index]


def learning_tensors(model: nn.Module) -> tuple[Learning, ...]:
    """The tensors of a model that learn, tied ones once."""
    embeddings = {id(p) for m in model.modules() if isinstance(m, nn.Embedding) for p in m.parameters(recurse=False)}
    return tuple(Learning(tuple(p.shape), id(p) in embeddings) for p in model.parameters() if p.requires_grad)


def enable_checkpointing(model: Any, given: dict[str, Any] | None) -> None:
    """As the Trainer does when training begins."""
    options = dict(given or {})
    every, offload = options.pop("every_n_layers", 1), options.pop("offload", False)
    model.activation_checkpointing_enable(
        activation_checkpointing_kwargs=options or None, every_n_layers=every, offload=offload
    )


def _step(model: Any, before: int, batch: Batch, layout: Layout | None) -> Rehearsal:
    learning, loaded = learning_tensors(model), resting_bytes(tensors_of(model))
    if batch.rests:
        layers = resting_layers(model)
        rest(layers if batch.stored is None else stored_layers(layers, batch.stored))
    weights, stored = resting_bytes(tensors_of(model)), sum(parameter.numel() for parameter in model.parameters())
    if batch.checkpointing is not None:
        enable_checkpointing(model, batch.checkpointing | {"offload": False})  # shapes pass for a CPU's
    if batch.accumulates:
        for parameter in model.parameters():
            parameter.grad = torch.empty_like(parameter) if parameter.requires_grad else None
    inputs, vocabulary = inputs_of(model, batch), model.get_input_embeddings().weight.shape[0]
    supervised = 0 if lacks_plain_head(model) else batch.supervised
    positions = {batch.rows * length for side in (batch.length, batch.target) for length in (side, side - 1)}
    if supervised:
        positions = {min(supervised, CHUNK), supervised % CHUNK}
    logits = {count * vocabulary for count in positions}
    gradients = gradient_bytes(learning)
    earlier = [p.grad for p in model.parameters() if p.grad is not None]
    with as_trained(model, batch, layout) as begun:
        known = [*tensors_of(model), *inputs.values(), *earlier, *begun]
        with MemoryLedger(known, logits - {0}) as ledger:
            loss = forward_loss(model, inputs, batch.autocast, supervised)
            held, held_logits = ledger.live, ledger.logits
            loss.backward()  # type: ignore[no-untyped-call]
            del loss
    kept = sum(gradient.nbytes for gradient in begun)
    step = ledger.peak + (gradients if batch.accumulates else kept)
    return Rehearsal(
        loaded, weights, loaded - before, gradients, held - held_logits, ledger.logits_peak, step, learning, stored, kept
    )


@contextmanager
def as_trained(model: Any, batch: Batch, layout: Layout | None) -> Iterator[list[torch.Tensor]]:
    """Inside the block the model computes as in the Trainer's steps; the gradients that are kept from step to step."""
    with ExitStack() as stack:
        if batch.fuses:
            stack.enter_context(fusing_adapters(model, SHAPE_PRODUCTS))
        if batch.liger:
            stack.enter_context(liger_shapes(model))
        if layout is not None:
            unpadded = UnpaddedModel(model, layout)
            stack.enter_context(unpadded.in_place(drop=drop if batch.drops else nn.functional.dropout))
        if batch.drops:
            stack.enter_context(dropping(model))
        if batch.gelu:
            stack.enter_context(fusing_gelu(model))
        yield stack.enter_context(adding_rows(model, keep=batch.keeps_rows, begun=True)) if batch.adds_rows else []


def forward_loss(model: Any, inputs: dict[str, torch.Tensor], autocast: torch.dtype | None, supervised: int) -> torch.Tensor:
    """The loss; the outputs are let go, as the Trainer does. Under autocast accelerate gives them back in float32."""
    call = model.__call__ if autocast is None else convert_outputs_to_fp32(model.__call__)  # with its hooks
    with torch.autocast("cpu", dtype=autocast, enabled=autocast is not None):
        if not supervised:
            loss: torch.Tensor = call(**inputs)["loss"]
            return loss
        head = Head(model)
        with head.kept() as kept:
            call(**{name: value for name, value in inputs.items() if name != "labels"})
        chosen = kept.pop().flatten(0, 1)[:supervised].clone()
        targets = torch.zeros(supervised, dtype=torch.long)
        total, _ = ChunkedCrossEntropy.apply(chosen, head.layer.weight, head.layer.bias, targets)  # type: ignore[no-untyped-call]
        return total / supervised


def inputs_of(model: Any, batch: Batch) -> dict[str, torch.Tensor]:
    """A batch of such a shape, with labels."""
    shape = (batch.rows, batch.length)
    labels = {
        "tokens": lambda: torch.zeros((batch.rows, batch.target or batch.length), dtype=torch.long),
        "class": lambda: torch.zeros(batch.rows, dtype=torch.long),
        "classes": lambda: torch.zeros(batch.rows, model.config.num_labels),
        "number": lambda: torch.zeros(batch.rows),
    }[batch.labels]()
    ones = torch.ones(shape, dtype=torch.long)
    return {"input_ids": torch.zeros(shape, dtype=torch.long), "attention_mask": ones, "labels": labels}


def tensors_of(model: nn.Module) -> list[torch.Tensor]:
    """All that a model rests in."""
    return [*model.parameters(), *model.buffers()]
