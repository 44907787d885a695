"""A base quantized once: its 4-bit weights are kept in the cache, and read from there by every later run.

Quantizing reads the whole checkpoint and computes for each block of 64 weights, many times as long as reading the result
takes. What is kept is what the library's own `save_pretrained` writes, without weights that the checkpoint lacked: each run
draws a new head of its own. The key holds the checkpoint's files, the quantization, the class and the versions.
"""

import copy
import hashlib
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import bitsandbytes
import torch
import transformers
from huggingface_hub.errors import LocalEntryNotFoundError
from safetensors import SafetensorError
from transformers import PretrainedConfig, PreTrainedModel
from transformers.core_model_loading import WeightConverter
from transformers.utils import CONFIG_NAME, SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME

from ftkit import console
from ftkit.models.load import WEIGHTS, weights_folder
from ftkit.recipe.schema import Model
from ftkit.run import as_umask_says
from ftkit.shelf import Shelf, mark_used, unfinished
from ftkit.units import GIB, size_words

BASES = Shelf("quantized", 64 * GIB)  # one of 70 billion weights is 40 GB


class KeptBase:
    """Where the 4-bit weights of a checkpoint are kept.

    Args:
        folder: the checkpoint's.
        options: what `from_pretrained` is given, a quantization_config among it.
        own_head: the checkpoint's head of labels belongs to it.
    """

    def __init__(self, auto_class: Any, folder: Path, options: dict[str, Any], *, own_head: bool) -> None:
        self.quantization: dict[str, Any] = options["quantization_config"].to_dict()
        files = sorted({path for pattern in (*WEIGHTS, CONFIG_NAME) for path in folder.glob(pattern)})
        stats = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files]
        device = "cpu" if options["device_map"] == {"": "cpu"} else "gpu"  # whichever of them a process has
        asked = [str(options["dtype"]), device, self.quantization, auto_class.__name__, *(["own head"] if own_head else [])]
        versions = [bitsandbytes.__version__, transformers.__version__]
        key = json.dumps([str(folder.resolve()), stats, asked, versions], default=str, sort_keys=True)
        self.folder = BASES.folder / hashlib.sha256(key.encode()).hexdigest()[:32]

    @property
    def is_there(self) -> bool:
        return any((self.folder / name).is_file() for name in (SAFE_WEIGHTS_NAME, SAFE_WEIGHTS_INDEX_NAME))

    def config(self, config: PretrainedConfig) -> PretrainedConfig:
        """The config of a model whose weights are quantized already."""
        found = copy.deepcopy(config)
        found.quantization_config = self.quantization  # type: ignore[attr-defined]
        return found

    def keep(self, model: PreTrainedModel, drawn: set[str]) -> None:
        """Write a model that was just quantized; where the disk has no room nothing is kept, and a line says so.

        Args:
            drawn: names of weights that the checkpoint lacks.
        """
        beside = unfinished(self.folder)
        state = {name: tensor for name, tensor in model.state_dict().items() if name not in drawn}
        needed = stored_bytes(state)
        try:
            if not BASES.make_room(needed):
                words = f"its {size_words(needed)} do not fit into {BASES.folder} with room to spare"
                console.warn(f"the quantized base is not kept: {words}")
                return
            with leaving_out(model, drawn):
                model.save_pretrained(beside)
            as_umask_says(beside)
            beside.rename(self.folder)
        except (OSError, SafetensorError, ValueError, RuntimeError) as error:  # safetensors has its own for a full disk
            if not self.is_there:  # else another process was first, with the same
                console.warn(f"the quantized base is not kept: {error}")
        finally:
            shutil.rmtree(beside, ignore_errors=True)

    def mark_used(self) -> None:
        """Let other bases go before this one."""
        mark_used(self.folder)

    def discard(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


def kept_base(auto_class: Any, block: Model, options: dict[str, Any], *, own_head: bool) -> KeptBase | None:
    """None where the checkpoint is not on this machine yet, or brings code of its own, which is not kept."""
    try:
        return None if block.trust_remote_code else KeptBase(auto_class, weights_folder(block), options, own_head=own_head)
    except LocalEntryNotFoundError:
        return None


@contextmanager
def leaving_out(model: PreTrainedModel, names: set[str]) -> Iterator[None]:
    """Inside the block the model is saved without these weights; of a quantized one the library takes no other state."""
    before = model._keys_to_ignore_on_save
    model._keys_to_ignore_on_save = [*(before or []), *names]
    try:
        yield
    finally:
        model._keys_to_ignore_on_save = before


def stored_bytes(state: dict[str, torch.Tensor]) -> int:
    """Bytes of a model's tensors as they are saved, tied ones once."""
    return sum({tensor.data_ptr(): tensor.nbytes for tensor in state.values()}.values())


def forget_reading(model: PreTrainedModel) -> None:
    """Let a model be saved when its weights are no longer in 4 bits, as after merging.

    What was done to weights when they were read, transformers undoes when they are saved; reading 4-bit weights it cannot
    undo (NotImplementedError). A model that was quantized while loading has no such step.
    """
    steps = vars(model).get("_weight_conversions") or []
    model._weight_conversions = [
        step for step in steps if not (isinstance(step, WeightConverter) and reads_4bit(step))
    ] or None


def reads_4bit(step: WeightConverter) -> bool:
    return any(type(part).__module__.endswith("bitsandbytes") for part in step.operations)
