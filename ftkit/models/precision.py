"""The precisions that a machine computes in, and that weights rest in."""

from typing import Any

import torch


def has_bf16() -> bool:
    """Whether this machine computes in bfloat16 in hardware: an Ampere or later GPU, or AVX512-BF16 or AMX on the CPU."""
    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def product_dtype() -> torch.dtype:
    """What weights of 4 bits are unpacked to for their products: bfloat16 where the machine multiplies in it.

    A processor without takes a hundred times as long to imitate it. In float16, which GPUs before Ampere have, gradients
    vanish unless the loss is scaled.
    """
    return torch.bfloat16 if has_bf16() else torch.float32


def rests_in_half(model: Any) -> bool:
    """Whether weights have 16 bits, but for 4-bit layers, which bring their biases to the type of their products."""
    modules = [module for module in model.modules() if type(module).__name__ != "Linear4bit"]
    halves = (torch.bfloat16, torch.float16)
    return any(parameter.dtype in halves for module in modules for parameter in module.parameters(recurse=False))
