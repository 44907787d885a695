"""The frozen linear layers of an adapter's base in bfloat16 while it trains; before and after, in the precision they have.

Autocast casts the weight of a linear layer to bfloat16 in each forward pass, and keeps no cast of one that does not
learn. Of weights that rest in bfloat16 already it computes the very same, in half the memory and without the cast. Only
layers that multiply and do nothing else are taken: embeddings and norms compute in float32 under autocast, and would round
what they give. What the rounding took away is read from the checkpoint again: nothing after the training knows of it.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from peft.tuners.lora import LoraLayer
from safetensors import SafetensorError, safe_open
from torch import nn
from transformers.pytorch_utils import Conv1D
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME

from ftkit import console
from ftkit.models.load import has_weights, weights_folder
from ftkit.process import return_blocks
from ftkit.recipe.schema import Lora, Model

MULTIPLIES = (nn.Linear, Conv1D)  # by their very type: a subclass may do something else with its weight
WRAPPED, KEPT = ".base_layer", ".original_module"  # peft's names for a layer under an adapter, and for one it has a copy of
PREFIX = "base_model.model."
Tensors = dict[str, tuple[Path, list[int]]]  # of a checkpoint: each one's file and shape
PLAIN_INITS = (True, False, "gaussian", "orthogonal")  # of adapters; others change the base's weights


def may_rest(strategy: object) -> bool:
    """Whether a strategy keeps a base that is not saved, and whose weights the checkpoint has."""
    return isinstance(strategy, Lora) and strategy.init_lora_weights in PLAIN_INITS  # type: ignore[attr-defined]


def resting_layers(model: nn.Module) -> dict[str, nn.Module]:
    """The frozen linear layers in float32 of a model with adapters, by their names in it."""
    holders = [id(weight) for module in model.modules() for weight in module.parameters(recurse=False)]
    adapted = [module for module in model.modules() if isinstance(module, LoraLayer)]
    varied = {
        id(layer.get_base_layer()) for layer in adapted if layer.lora_variant
    }  # DoRA and its kin compute with the weight
    return {
        name: module
        for name, module in model.named_modules()
        if type(module) in MULTIPLIES
        and KEPT not in name
        and id(module) not in varied
        and holders.count(id(module.weight)) == 1  # an output layer that is the embedding too stays as it is
        and module.weight.dtype == torch.float32
        and not any(parameter.requires_grad for parameter in module.parameters())
    }


def own_name(name: str) -> str:
    """A layer's name in the base of a model with adapters."""
    return name.removeprefix(PREFIX).replace(WRAPPED, "")


def stored_layers(layers: dict[str, nn.Module], known: Tensors) -> dict[str, nn.Module]:
    """Those of the layers that a checkpoint has by name and shape; for layers without values too."""
    return {
        name: layer
        for name, layer in layers.items()
        if all(originals(f"{own_name(name)}.{part}", weight, known) for part, weight in layer.named_parameters())
    }


def rest(layers: dict[str, nn.Module]) -> None:
    """Round the layers' weights to bfloat16."""
    for layer in layers.values():
        for parameter in layer.parameters():
            parameter.data = parameter.data.to(torch.bfloat16)


@dataclass(frozen=True)
class Original:
    """A tensor of a checkpoint."""

    file: Path
    key: str

    def read(self, kind: torch.Tensor) -> torch.Tensor | None:
        """The tensor in float32 on the device of `kind`; None where it is gone, or does not round to `kind`."""
        try:
            with safe_open(self.file, framework="pt") as file:
                found: torch.Tensor = file.get_tensor(self.key).to(kind.device, torch.float32)
        except (OSError, SafetensorError):
            return None
        return found if torch.equal(found.to(kind.dtype), kind) else None


class RestingBase:
    """The layers of a model that rest in bfloat16 while it trains, and where their weights are read again.

    Args:
        folder: the checkpoint's; only layers whose very weights its safetensors files hold are taken.
    """

    def __init__(self, model: nn.Module, folder: Path) -> None:
        self.model, known = model, checkpoint_tensors(folder)
        self.layers: dict[str, nn.Module] = {}
        self.originals: dict[int, Original] = {}
        for name, layer in resting_layers(model).items():
            own = own_name(name)
            found = {id(weight): find_original(f"{own}.{part}", weight, known) for part, weight in layer.named_parameters()}
            if None not in found.values():
                self.layers[own] = layer
                self.originals |= found  # type: ignore[arg-type]

    @contextmanager
    def at_rest(self) -> Iterator[None]:
        """Inside the block the layers rest; after it they are as they were."""
        rest(self.layers)
        leave_file(self.model)
        return_blocks()
        try:
            yield
        finally:
            self._wake_all()

    def _wake_all(self) -> None:
        rounded = [name for name, layer in self.layers.items() if not self._wake(layer)]
        if rounded:
            console.warn(
                f"the checkpoint is not what it was: {len(rounded)} frozen layers stay rounded to bfloat16, as {rounded[0]}"
            )

    def _wake(self, layer: nn.Module) -> bool:
        """Give a layer its float32 back, read from the checkpoint; whether that could be done."""
        found = {part: self.originals[id(weight)].read(weight.data) for part, weight in layer.named_parameters()}
        for part, weight in layer.named_parameters():
            original = found[part]
            weight.data = weight.data.float() if original is None else original
        return all(value is not None for value in found.values())


def leave_file(model: nn.Module) -> None:
    """Copy what still lies in the checkpoint's mapped file, which stays in memory as long as one tensor does."""
    for tensor in [*model.parameters(), *model.buffers()]:
        if tensor.device.type == "cpu" and tensor.dtype == torch.float32 and not tensor.requires_grad:
            tensor.data = tensor.data.clone()


def tensors_at_hand(block: Model) -> Tensors | None:
    """The tensors that a model's checkpoint has in safetensors; None where the weights are not all on this machine."""
    try:
        return checkpoint_tensors(weights_folder(block)) if has_weights(block) else None
    except (OSError, ValueError, SafetensorError):  # some are missing or damaged, which loading will tell
        return None


def checkpoint_tensors(folder: Path) -> Tensors:
    """Each tensor's file and shape, of a checkpoint in safetensors: one file, or those that its index names."""
    names, index = {SAFE_WEIGHTS_NAME}, folder / SAFE_WEIGHTS_INDEX_NAME
    if not (folder / SAFE_WEIGHTS_NAME).is_file():
        names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()) if index.is_file() else set()
    found: Tensors = {}
    for path in (folder / name for name in sorted(names)):
        with safe_open(path, framework="pt") as file:
            found |= {key: (path, file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118  it is no mapping
    return found


def originals(name: str, weight: nn.Parameter, known: Tensors) -> list[Original]:
    """Where a weight may stand in the checkpoint: under its name, with or without the name of the body in front."""
    bare = name.partition(".")[2]
    keys = [key for key in (name, bare) if key in known] or [key for key in known if key.endswith(f".{name}")]
    return [Original(known[key][0], key) for key in keys if known[key][1] == list(weight.shape)]


def find_original(name: str, weight: nn.Parameter, known: Tensors) -> Original | None:
    """Where the very weight stands in the checkpoint."""
    return next((found for found in originals(name, weight, known) if found.read(weight.data) is not None), None)
