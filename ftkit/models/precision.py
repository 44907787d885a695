"""The precisions that a machine computes in."""

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
