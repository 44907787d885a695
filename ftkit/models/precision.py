"""The precisions that a machine computes in."""

import torch


def has_bf16() -> bool:
    """Whether this machine computes in bfloat16 in hardware: an Ampere or later GPU, or AVX512-BF16 or AMX on the CPU."""
    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def product_dtype() -> torch.dtype:
    """What weights of 4 bits are unpacked to for their products: half precision where the machine multiplies in it.

    A processor without bfloat16 takes a hundred times as long for a product in it as in float32; GPUs before Ampere have
    float16.
    """
    if has_bf16():
        return torch.bfloat16
    return torch.float16 if torch.cuda.is_available() else torch.float32
