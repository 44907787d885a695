"""A GPU's own kernels, chosen where they are right: flash attention while training, and Liger's fused layers.

What is chosen follows from plain facts (the device, what is installed, the model's type), so that the choice can be
tested without a GPU; a kernel that is chosen is tried before it is used. Of Liger's kernels the head's and the loss's stay
off: ftkit makes logits on supervised positions alone (supervised_loss.py), and its rules know adapters on the head.
"""

import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from peft import PeftModel
from transformers.integrations.liger import apply_liger_kernel
from transformers.utils import is_flash_attn_2_available

from ftkit import console
from ftkit.errors import UserError
from ftkit.models.load import first_line
from ftkit.training.trial import COARSE, Trial
from ftkit.training.varlen_attention import VARLEN, has_varlen, register_varlen

AMPERE = (8, 0)  # compute capability from which flash attention and bfloat16 are in hardware
FLASH = "flash_attention_2"
LIGER_CONFIG = {"cross_entropy": False, "fused_linear_cross_entropy": False}
NO_FLASH = "no NVIDIA GPU since Ampere trains in half precision with a flash kernel, or the recipe names its attention"
INSTALL_LIGER = "pip install 'ftkit[gpu]'"


@dataclass(frozen=True)
class Machine:
    """What the choice of kernels goes by.

    Attributes:
        capability: compute capability of the GPU that trains, or None on anything else.
        flash: the package flash_attn is installed; varlen: this torch has a flash attention for rows of any length.
        liger_types: the types of models that the installed liger-kernel knows; None where it is not installed.
    """

    capability: tuple[int, int] | None
    flash: bool = False
    varlen: bool = False
    liger_types: frozenset[str] | None = None


def this_machine(device: torch.device) -> Machine:
    """The device that trains, and what is installed for it; nothing is imported where there is no GPU."""
    if device.type != "cuda" or torch.version.cuda is None:
        return Machine(None)
    capability = torch.cuda.get_device_capability(device)
    return Machine(capability, bool(is_flash_attn_2_available()), has_varlen(), liger_types())


def liger_types() -> frozenset[str] | None:
    """The types of models in Liger's table; None where it is not installed, or cannot be imported."""
    if importlib.util.find_spec("liger_kernel") is None:
        return None
    try:
        from liger_kernel.transformers.monkey_patch import MODEL_TYPE_TO_APPLY_LIGER_FN as table
    except (ImportError, RuntimeError) as error:
        console.warn(f"liger-kernel is installed and cannot be used: {first_line(error)}")
        return None
    return frozenset(table)


def choose_attention(machine: Machine, said: str | None, *, half: bool) -> tuple[str, ...]:
    """The attentions that training steps may take in place of the loaded model's, the fastest first.

    Args:
        said: what the recipe says; it stands.
        half: steps are computed in bfloat16 or float16, which is all that flash attention takes.
    """
    if said is not None or not half or machine.capability is None or machine.capability < AMPERE:
        return ()
    return (VARLEN,) * machine.varlen + (FLASH,) * machine.flash


def choose_liger(machine: Machine, wanted: bool | None, model_type: str) -> bool:
    """Whether Liger's kernels are used.

    Args:
        wanted: what the recipe says; None for where it is right.

    Raises:
        UserError: they are wanted and cannot be had.
    """
    if wanted is False:
        return False
    lacking, hint = liger_lacks(machine, model_type)
    if lacking and wanted:
        raise UserError(f"speed.liger_kernel: {lacking}", hint, key="speed.liger_kernel")
    return not lacking


def would_have_liger(model_type: str, training: Any, wanted: bool | None) -> bool:
    """Whether a training on this machine's GPU would have Liger's kernels, so far as that can be told without the model.

    Args:
        training: the recipe's block; wanted: what it says under speed.
    """
    if not torch.cuda.is_available() or training.use_cpu:
        return False
    return bool(training.use_liger_kernel) or (
        wanted is not False and not any(liger_lacks(this_machine(torch.device("cuda")), model_type))
    )


def liger_lacks(machine: Machine, model_type: str) -> tuple[str, str]:
    """What stands against Liger's kernels, and what to do about it; nothing where they can be used."""
    if machine.capability is None:
        return "there is no NVIDIA GPU that trains", "remove the key: they are used where they can be"
    if machine.liger_types is None:
        return "liger-kernel is not installed", INSTALL_LIGER
    if model_type not in machine.liger_types:
        return f"liger-kernel has none for a model of type {model_type}", "remove the key"
    return "", ""


def base_of(model: Any) -> Any:
    """The model without its adapters."""
    return model.get_base_model() if isinstance(model, PeftModel) else model


@contextmanager
def attending(model: Any, attention: str | None) -> Iterator[None]:
    """Inside the block the model attends so; outside as it was loaded. None changes nothing.

    Only steps of training take other kernels: generation and verification compute in the weights' own precision, for
    which there is no flash attention, and a model is measured as others will load it.
    """
    base = base_of(model)
    before = base.config._attn_implementation
    if attention is None or attention == before:
        yield
        return
    base.set_attn_implementation(attention)
    try:
        yield
    finally:
        base.set_attn_implementation(before)


def refuses_attention(model: Any, attention: str, rows: dict[str, Any]) -> str:
    """Why a model does not take an attention; empty where transformers has it, and loss and gradients are the same by it.

    Args:
        rows: a padded batch with labels, on the model's device.
    """
    base = base_of(model)
    if base.config.sub_configs:
        return "parts of the model have a choice of their own, which could not be put back"
    if attention == VARLEN:
        if not sees_rows(base):
            return "the model attends to more than its own rows, or in chunks"
        register_varlen()
    trial = Trial(model, lambda: (model(**rows).loss, []), torch_autocast(model.device.type), COARSE)
    with trial.prepared():
        return trial.differs(attending_to(model, attention, rows))


def torch_autocast(kind: str) -> torch.dtype | None:
    """The precision of the autocast that is on; None where none is."""
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None


@contextmanager
def attending_to(model: Any, attention: str, rows: dict[str, Any]) -> Iterator[None]:
    """As `attending`, where a model takes it, with dropout too.

    Raises:
        UserError: it stays with its own.
    """
    with attending(model, attention):
        if base_of(model).config._attn_implementation != attention:
            raise UserError(f"the model stays with {base_of(model).config._attn_implementation}", "")
        with torch.random.fork_rng(), torch.no_grad():
            model.train()(**rows)
            model.eval()
        yield


@dataclass
class Names:
    """What stands in the place of functions and classes of some modules: by module and name, their own and the other."""

    replaced: dict[tuple[str, str], tuple[Any, Any]] = field(default_factory=dict)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Inside the block the others stand there."""
        self._put(1)
        try:
            yield
        finally:
            self._put(0)

    def _put(self, which: int) -> None:
        for (module, name), pair in self.replaced.items():
            setattr(sys.modules[module], name, pair[which])


def homes_of(model: Any) -> set[str]:
    """The Python modules that the classes of a model's parts come from."""
    return {type(part).__module__ for part in model.modules()} & sys.modules.keys()


@contextmanager
def borrowed_names(model: Any) -> Iterator[Names]:
    """Inside the block names of the modules that a model's classes come from may be replaced; after it they are put back.

    Liger does so for good, so that every later model of the process would have its kernels, on a CPU and on shapes too.
    """
    before = {home: dict(vars(sys.modules[home])) for home in homes_of(base_of(model))}
    names = Names()
    try:
        yield names
    finally:
        for home, own in before.items():
            now = vars(sys.modules[home])
            names.replaced |= {(home, name): (own[name], now[name]) for name in own if now.get(name) is not own[name]}
        names._put(0)


def sees_rows(base: Any) -> bool:
    """Whether a model attends to its own rows, whole or in a sliding window: all that `varlen_attention.py` can say."""
    config = base.config.to_dict()
    return bool(
        base._supports_flash_attn and not config.get("is_encoder_decoder") and not config.get("attention_chunk_size")
    )


def use_liger(model: Any, machine: Machine, wanted: bool | None, trial: Trial) -> Names | str:
    """Put Liger's kernels in the model's layers where that is right.

    Args:
        trial: of the model by itself.

    Returns:
        The names that have to be in place while the model trains, or why nothing was done.

    Raises:
        UserError: they are wanted and cannot be had.
    """
    if not choose_liger(machine, wanted, base_of(model).config.model_type):
        lacking, _ = liger_lacks(machine, base_of(model).config.model_type)
        return lacking or "speed.liger_kernel is false"
    try:
        try_triton(model.device)
    except Exception as error:  # whatever a compiler, a driver or Triton says: no run ends for want of a faster kernel
        message = f"Triton does not work here: {first_line(error)}"
        if wanted:
            raise UserError(
                f"speed.liger_kernel: {message}", "it compiles with the system's C compiler", key="speed.liger_kernel"
            ) from error
        console.warn(f"Liger kernels are not used: {message}")
        return message
    with trial.prepared():
        found = put_liger(model, trial)
    if wanted and isinstance(found, str):
        raise UserError(
            f"speed.liger_kernel: {found}", "remove the key: they are used where they can be", key="speed.liger_kernel"
        )
    return found


def put_liger(model: Any, trial: Trial) -> Names | str:
    """Liger's kernels in the model's layers, where loss and gradients are the same by them; else why they are not."""
    _ = trial.own  # before anything is changed
    before = {module: dict(vars(module)) for module in model.modules()}
    with borrowed_names(model) as names:
        apply_liger_kernel(model, LIGER_CONFIG)
    if reason := trial.differs(names.in_place()):
        for module, own in before.items():
            vars(module).clear()
            vars(module).update(own)
        return reason
    return names


def try_triton(device: torch.device) -> None:
    """Compile and run the smallest of Liger's layers; it compiles at first use, when a patched model could not go back."""
    from liger_kernel.transformers.rms_norm import LigerRMSNorm

    layer = LigerRMSNorm(64).to(device)
    layer(torch.ones(2, 64, device=device, requires_grad=True)).sum().backward()
