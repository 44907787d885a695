"""How many parameters a model has: those that learn, all, and all as stored where 4-bit weights are packed by two."""

from dataclasses import dataclass
from typing import Any

from torch import nn

from ftkit.models.architecture import meta_model
from ftkit.models.heads import find_head
from ftkit.models.strategies.table import STRATEGIES


@dataclass(frozen=True)
class ParameterCounts:
    """Numbers of parameters; `total` counts a 4-bit weight as one, `stored` as half a byte's half (two to an entry)."""

    trainable: int
    total: int
    stored: int

    @property
    def trainable_percent(self) -> float:
        return 100 * self.trainable / self.total


def count_parameters(model: nn.Module) -> ParameterCounts:
    """Counts of a loaded model. A packed weight's logical size is that of its quantization state."""
    trainable = total = stored = 0
    for parameter in model.parameters():
        packed = getattr(parameter, "quant_state", None)  # only bitsandbytes' Params4bit has one
        logical = packed.shape.numel() if packed is not None else parameter.numel()
        total, stored = total + logical, stored + parameter.numel()
        trainable += logical if parameter.requires_grad else 0
    return ParameterCounts(trainable, total, stored)


def count_from_config(auto_class: Any, config: Any, block: Any, *, new_head: bool) -> ParameterCounts:
    """Counts of a model that is not there: from its config and the recipe's strategy, without weights.

    Args:
        block: the recipe's `strategy`.
        new_head: whether the task trains a head.
    """
    model, strategy = meta_model(auto_class, config), STRATEGIES[block.name]
    head = find_head(auto_class, config) if new_head and strategy.needs_head else ()
    packed = sum(layer.weight.numel() for layer in quantized_layers(model, head)) if strategy.quantized else 0
    counts = count_parameters(strategy.apply(model, block, head))  # type: ignore[arg-type]
    return ParameterCounts(counts.trainable, counts.total, counts.total - packed // 2)


def quantized_layers(model: nn.Module, head: tuple[str, ...]) -> list[Any]:
    """The linear layers that 4-bit loading packs: all but the head's and the output embedding."""
    output = model.get_output_embeddings() if not head else None  # type: ignore[operator]
    return [
        module
        for name, module in model.named_modules()
        if (type(module) is nn.Linear or type(module).__name__ == "Conv1D")
        and module is not output
        and not any(name == part or name.startswith(part + ".") for part in head)
    ]
