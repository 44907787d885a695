"""The memory of a process: the most that it has held, and what it holds beside tensors."""

import functools
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import torch

MIB = 2**20
# On a GPU: the context of CUDA and its libraries; a round estimate.
GPU_CONTEXT = 1024 * MIB
# On a CPU, beside libraries and tensors: what kernels and their threads keep, and the gaps that the allocator leaves, a
# share of the tensors. Fitted to training runs of 23 to 124 million parameters: benchmarks/plan_against_measured.py.
KERNELS = 140 * MIB
GAPS = 0.10
FORGET = Path("/proc/self/clear_refs")  # Linux forgets a process's peak when it is told 5, see proc(5)

_forgotten: dict[str, int] = {}  # the peaks up to the last time that they were forgotten


def peak_memory_bytes() -> dict[str, int]:
    """Peak resident memory of this process, and peak allocated memory of the GPU where there is one."""
    found = _peaks()
    return {place: max(size, _forgotten.get(place, 0)) for place, size in found.items()}


@contextmanager
def peak_within() -> Iterator[dict[str, int]]:
    """Filled with the peaks of the block alone when it ends; of all so far where the system cannot forget a peak."""
    found: dict[str, int] = {}
    _forgotten.update(peak_memory_bytes())
    with suppress(OSError):
        FORGET.write_text("5")
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    try:
        yield found
    finally:
        found.update(_peaks())


def _peaks() -> dict[str, int]:
    unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss is in bytes on macOS, in KiB elsewhere
    peaks = {"process": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit}
    if torch.cuda.is_available():
        peaks["gpu"] = int(torch.cuda.max_memory_allocated())
    return peaks


@functools.cache
def library_bytes() -> int:
    """What this process holds with libraries and data and before a model; measured once, when it is first asked."""
    return int(psutil.Process().memory_info().rss)


def beside_tensors(device: str, tensors: int) -> int:
    """Bytes that a process takes on a device beside so many bytes of tensors."""
    return GPU_CONTEXT if device == "cuda" else library_bytes() + KERNELS + int(GAPS * tensors)
