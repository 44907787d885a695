"""Numbers that a head learns in standard units: less the mean of the training labels, by their standard deviation.

A new head gives numbers about 0, and steps of training have one size, whatever the labels are: prices would be out of
reach. So labels are standardised for the steps. Outside of them the model gives its owner's numbers: mean and deviation go
into weight and bias of the last layer, which is exact for a linear one, and so they are saved. Where no layer takes
them (a decoder's has no bias; one in half precision would round them), the saved model gives standard units, and its config
has the two numbers.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import PretrainedConfig

from ftkit.models.heads import few_tokens

KEY = "label_scale"  # of a model's config
PROBE = (3.0, 5.0)  # a mean and a deviation, to see whether a layer can take such
CLOSE = 1e-4


@dataclass(frozen=True)
class Scale:
    """Standard units, as the mean and the standard deviation of the owner's numbers."""

    mean: float = 0.0
    deviation: float = 1.0

    def standard(self, numbers: torch.Tensor) -> torch.Tensor:
        return (numbers.float() - self.mean) / self.deviation

    def own(self, numbers: torch.Tensor) -> torch.Tensor:
        return numbers.float() * self.deviation + self.mean


OWN = Scale()


class LabelScale:
    """In which units a model gives its numbers, now and when it is saved.

    Args:
        layer: takes mean and deviation into its weight and bias; None where none can, or where they are in it for good.
        in_head: the model gives the owner's numbers outside of steps.
        config: of the model, which is to tell how things are now: so a checkpoint's does, too.

    Attributes:
        stepping: the model learns in standard units now.
    """

    def __init__(
        self, scale: Scale, layer: nn.Linear | None, *, in_head: bool, config: PretrainedConfig | None = None
    ) -> None:
        self.scale, self.layer, self.in_head, self.config = scale, layer, in_head, config
        self.stepping = False
        self._tell()

    @property
    def of_outputs(self) -> Scale:
        """What the model's outputs are to be brought back from."""
        return self.scale if self.stepping or not self.in_head else OWN

    @property
    def of_labels(self) -> Scale:
        """What the labels of a batch are brought to."""
        return self.scale if self.stepping else OWN

    @contextmanager
    def in_steps(self) -> Iterator[None]:
        """Inside the block labels and outputs are in standard units."""
        if self.stepping:
            yield
            return
        if self.layer is not None:
            take_out(self.layer, self.scale)
        self.stepping = True
        self._tell()
        try:
            yield
        finally:
            self.stepping = False
            self._tell()
            if self.layer is not None:
                put_in(self.layer, self.scale)

    def describe(self) -> dict[str, Any]:
        """For run.json and the model's config."""
        in_head = self.in_head and not self.stepping
        return {"mean": self.scale.mean, "deviation": self.scale.deviation, "in_head": in_head}

    def _tell(self) -> None:
        if self.config is not None:
            vars(self.config).pop(KEY, None)  # of an earlier training
            vars(self.config).update({KEY: self.describe()} if self.scale != OWN else {})


def read_scale(config: PretrainedConfig) -> tuple[Scale, bool] | None:
    """What a saved model's config says of its labels' scale, and whether it is in its head; None where it says nothing."""
    found = vars(config).get(KEY)
    return (Scale(found["mean"], found["deviation"]), found["in_head"]) if found else None


def settle_scale(model: nn.Module, scale: Scale, *, new: bool, kept: Scale | None, may_fold: bool) -> LabelScale:
    """Let the head of a model that is to learn take a scale, and the model's config tell of it.

    Args:
        scale: of the training labels.
        new: the head was drawn anew; else it gives the owner's numbers, or standard units of its own.
        kept: those units, which stay as they are.
        may_fold: what the head holds is saved and loaded in float32.
    """
    layer = last_layer(model) if may_fold and kept is None else None
    config = base_of(model).config
    if layer is None:
        return LabelScale(kept or (scale if new else OWN), None, in_head=False, config=config)
    if new:
        put_in(layer, scale)
    return LabelScale(scale, layer, in_head=True, config=config)


def base_of(model: Any) -> Any:
    """The model under adapters, or the model itself."""
    return model.get_base_model() if hasattr(model, "peft_config") else model


def number_layers(model: nn.Module) -> list[nn.Linear]:
    """The linear layers that give one number."""
    kinds = (nn.Linear, Float32Linear)
    return [module for module in model.modules() if type(module) in kinds and module.out_features == 1]


def last_layer(model: Any) -> nn.Linear | None:
    """The layer that learns and whose weight and bias decide mean and deviation of what the model gives."""
    for layer in reversed(number_layers(model)):
        learns = layer.bias is not None and layer.weight.requires_grad and layer.bias.requires_grad
        if learns and layer.weight.dtype == torch.float32 and takes(model, layer):
            return layer
    return None


def takes(model: Any, layer: nn.Linear) -> bool:
    """Whether a scale that is put into a layer comes out of the model, tried on a few tokens."""
    modes = [(module, module.training) for module in model.modules()]
    kept = [tensor.detach().clone() for tensor in (layer.weight, layer.bias)]
    ids = few_tokens(base_of(model)).to(layer.weight.device)
    try:
        with torch.no_grad():
            model.eval()
            before = model(input_ids=ids).logits
            put_in(layer, Scale(*PROBE))
            after = model(input_ids=ids).logits
    except (RuntimeError, TypeError, ValueError, AttributeError, LookupError):
        return False  # such a model is not asked with ids alone
    finally:
        layer.weight.data.copy_(kept[0])
        layer.bias.data.copy_(kept[1])
        for module, training in modes:
            module.training = training
    return torch.allclose(after, Scale(*PROBE).own(before), rtol=CLOSE, atol=CLOSE)


def put_in(layer: nn.Linear, scale: Scale) -> None:
    """Let a layer that gives standard units give the owner's."""
    layer.weight.data.mul_(scale.deviation)
    layer.bias.data.copy_(scale.own(layer.bias.data))


def take_out(layer: nn.Linear, scale: Scale) -> None:
    """Let a layer that gives the owner's numbers give standard units."""
    layer.weight.data.div_(scale.deviation)
    layer.bias.data.copy_(scale.standard(layer.bias.data))


class Float32Linear(nn.Linear):
    """A linear layer that computes in float32, also under autocast: bfloat16 knows 1,200 and 1,208, and none between."""

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        with torch.autocast(hidden.device.type, enabled=False):
            bias = None if self.bias is None else self.bias.float()
            return nn.functional.linear(hidden.float(), self.weight.float(), bias)


def answer_in_float32(model: nn.Module) -> None:
    """Let the layers that give one number compute in float32."""
    for layer in number_layers(model):
        layer.__class__ = Float32Linear
