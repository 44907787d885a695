"""A frozen linear layer and the LoRA adapter on it as one product.

peft computes y = Wx and then y + s B(Ax), with x in float32 for A, and with a tensor as large as the output for B's product,
for s times it, and for the sum: in a Llama of 7B on a GPU a hundredth of the work took a tenth of a step's time. Here B's
product is added to y where it lies, and A's to the gradient. Of the layer's input one copy is kept for the backward pass, in
the precision that is computed in. Same loss and gradients, up to rounding.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any, Protocol

import torch
from peft.tuners.lora import LoraLayer
from torch import nn
from transformers.pytorch_utils import Conv1D

from ftkit.training.trial import Trial


class Product(Protocol):
    """How a kind of frozen layer multiplies, and the gradient that its input then has."""

    def computes_in(self, layer: Any, dtype: torch.dtype) -> bool: ...

    def forward(self, layer: Any, inputs: torch.Tensor) -> torch.Tensor:
        """A tensor of its own, shape (..., out)."""

    def backward(self, layer: Any, given: torch.Tensor) -> torch.Tensor:
        """Of the output's gradient, shape (tokens, out), the input's, a tensor of its own, shape (tokens, in)."""


class Dense:
    """A layer whose weight rests in the precision that is computed in; in another, autocast casts it."""

    def computes_in(self, layer: Any, dtype: torch.dtype) -> bool:
        return bool(layer.weight.dtype == dtype and (layer.bias is None or layer.bias.dtype == dtype))


class DenseLinear(Dense):
    def forward(self, layer: nn.Linear, inputs: torch.Tensor) -> torch.Tensor:
        return nn.functional.linear(inputs, layer.weight, layer.bias)

    def backward(self, layer: nn.Linear, given: torch.Tensor) -> torch.Tensor:
        return given @ layer.weight


class DenseConv1D(Dense):
    """GPT-2's linear layer, whose weight is transposed."""

    def forward(self, layer: Conv1D, inputs: torch.Tensor) -> torch.Tensor:
        found = torch.addmm(layer.bias, inputs.flatten(0, -2), layer.weight)
        return found.view(*inputs.shape[:-1], -1)

    def backward(self, layer: Conv1D, given: torch.Tensor) -> torch.Tensor:
        return given @ layer.weight.t()


class FourBit:
    """A layer of bitsandbytes: its weight is unpacked for each product, forward and backward."""

    def computes_in(self, layer: Any, dtype: torch.dtype) -> bool:
        return True

    def forward(self, layer: Any, inputs: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = layer(inputs)
        return found

    def backward(self, layer: Any, given: torch.Tensor) -> torch.Tensor:
        from bitsandbytes.functional import dequantize_4bit

        dtype = layer.compute_dtype or given.dtype
        weight = dequantize_4bit(layer.weight, layer.weight.quant_state).to(dtype)
        return (given.to(dtype) @ weight).to(given.dtype)


ADAPTED = ("Linear", "Linear4bit")  # peft's layers that add B(Ax), by the names of their types
Products = Mapping[str, Product]
PRODUCTS: Products = MappingProxyType({"Linear": DenseLinear(), "Conv1D": DenseConv1D(), "Linear4bit": FourBit()})


class AdaptedProduct(torch.autograd.Function):
    """W x + b + s B(A x), with gradients for x, A and B."""

    @staticmethod
    def forward(
        ctx: Any, inputs: torch.Tensor, dropped: torch.Tensor | None, down: torch.Tensor, up: torch.Tensor, scaling: float,
        layer: nn.Module, product: Product,
    ) -> torch.Tensor:  # fmt: skip
        """The layer's output, shape (..., out).

        Args:
            inputs: shape (..., in); dropped: what the adapter gets where that is something else, as by dropout.
            down: A, shape (r, in); up: B, shape (out, r); in any precision.
        """
        found = product.forward(layer, inputs)
        own = (inputs if dropped is None else dropped).flatten(0, -2)
        inner = own @ down.to(own.dtype).t()
        found.view(-1, found.shape[-1]).addmm_(inner, up.to(own.dtype).t(), alpha=scaling)
        ctx.save_for_backward(own, inner, down, up)
        ctx.scaling, ctx.layer, ctx.product = scaling, layer, product
        ctx.shape, ctx.apart = inputs.shape, dropped is not None
        return found.clone() if found._is_view() else found  # a model may write into it, as Longformer does

    @staticmethod
    def backward(ctx: Any, *given: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        own, inner, down, up = ctx.saved_tensors
        gradient = given[0].flatten(0, -2)
        of_inner = (gradient @ up.to(gradient.dtype)).mul_(ctx.scaling)
        of_down = (of_inner.t() @ own).to(down.dtype)
        of_up = (inner.t() @ gradient).mul_(ctx.scaling).t().to(up.dtype)  # so a third of the time of the other way round
        of_inputs = of_dropped = None
        if ctx.needs_input_grad[0]:
            of_inputs = ctx.product.backward(ctx.layer, gradient)
            if not ctx.apart:
                of_inputs.addmm_(of_inner, down.to(gradient.dtype))
            of_inputs = of_inputs.view(ctx.shape)
        if ctx.needs_input_grad[1]:
            of_dropped = (of_inner @ down.to(gradient.dtype)).view(ctx.shape)
        return of_inputs, of_dropped, of_down, of_up, None, None, None


@contextmanager
def fusing_adapters(model: nn.Module, products: Products = PRODUCTS) -> Iterator[None]:
    """Inside the block plain adapters are computed with their layers.

    Args:
        products: by the name of a layer's type, how it multiplies.
    """
    layers = plain_adapters(model, products)
    for layer in layers:
        layer.forward = partial(_forward, layer, products[type(layer.get_base_layer()).__name__])
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward


def plain_adapters(model: nn.Module, products: Products = PRODUCTS) -> list[LoraLayer]:
    """The layers with one plain LoRA adapter: no other kind of it, as DoRA, and on nothing but a product."""
    return [
        module
        for module in model.modules()
        if type(module).__name__ in ADAPTED
        and isinstance(module, LoraLayer)
        and type(module.get_base_layer()).__name__ in products
        and not any("forward" in vars(layer) for layer in (module, module.get_base_layer()))  # nobody else's hook
        and not any(weight.requires_grad for weight in module.get_base_layer().parameters())
        and len(module.active_adapters) == 1
        and _is_plain(module, module.active_adapters[0])
    ]


def _is_plain(module: LoraLayer, name: str) -> bool:
    if name not in module.lora_A or name in module.lora_variant:
        return False
    return all(type(part) is nn.Linear and part.bias is None for part in (module.lora_A[name], module.lora_B[name]))


def _forward(module: Any, product: Product, inputs: torch.Tensor, *more: Any, **named: Any) -> torch.Tensor:
    kind, name = inputs.device.type, module.active_adapters[0]
    casts = torch.is_autocast_enabled(kind)
    dtype = torch.get_autocast_dtype(kind) if casts else inputs.dtype
    layer = module.get_base_layer()
    apart = not casts and module.lora_A[name].weight.dtype != dtype  # peft computes the adapter in its own precision then
    measures = not (torch.is_grad_enabled() or module.training)  # rounded as where the model is measured after training
    if (
        measures
        or more
        or named
        or apart
        or module.disable_adapters
        or module.merged
        or not product.computes_in(layer, dtype)
    ):
        found: torch.Tensor = type(module).forward(module, inputs, *more, **named)
        return found
    with torch.autocast(kind, enabled=False):
        inputs, dropout = inputs.to(dtype), module.lora_dropout[name]
        drops = isinstance(dropout, nn.Dropout) and dropout.p > 0 and module.training
        return AdaptedProduct.apply(  # type: ignore[no-untyped-call, no-any-return]
            inputs, dropout(inputs) if drops else None, module.lora_A[name].weight, module.lora_B[name].weight,
            module.scaling[name], layer, product,
        )  # fmt: skip


@dataclass
class Counted:
    """A product that counts how often it is taken."""

    own: Product
    times: int = 0

    def computes_in(self, layer: Any, dtype: torch.dtype) -> bool:
        return self.own.computes_in(layer, dtype)

    def forward(self, layer: Any, inputs: torch.Tensor) -> torch.Tensor:
        self.times += 1
        return self.own.forward(layer, inputs)

    def backward(self, layer: Any, given: torch.Tensor) -> torch.Tensor:
        return self.own.backward(layer, given)


def try_adapters(model: Any, trial: Trial, products: Products = PRODUCTS) -> str:
    """Why adapters are not fused with their layers; empty where they are, as the model computes now, and all is the same."""
    counted = {name: Counted(product) for name, product in products.items()}
    if reason := trial.differs(fusing_adapters(model, counted)):
        return reason
    taken = any(product.times for product in counted.values())
    return "" if taken else "the layers rest in another precision than products are computed in"
