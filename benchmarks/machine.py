"""What the processor computes in, told without ftkit."""

import time

import torch

HALF = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
"""Whether it multiplies in bfloat16; one that does not takes a hundred times as long to imitate it."""
PRECISION = "bfloat16" if HALF else "float32"


def matrix_rate(size: int = 2048, times: int = 8) -> float:
    """Operations a second of a large product in the processor's fastest precision, the best of several."""
    left, right = (torch.randn(size, size, dtype=getattr(torch, PRECISION)) for _ in range(2))
    best = 0.0
    for _ in range(times):
        start = time.perf_counter()
        left @ right
        best = max(best, 2 * size**3 / (time.perf_counter() - start))
    return best
