"""The memory of a process: the most that it has held, and what it holds beside tensors."""

import functools
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import torch

from ftkit.units import MIB

# On a GPU: the context of CUDA and its libraries; a round estimate.
GPU_CONTEXT = 1024 * MIB
# On a CPU, beside libraries and tensors: what kernels and their threads keep, and the gaps that the allocator leaves between
# blocks that come and go, as a share of them; more where batches are of many sizes: of uneven rows without padding, or in
# parts. Fitted to runs of 23 to 124 million parameters in float32 and bfloat16: benchmarks/plan_against_measured.py.
KERNELS = 160 * MIB
GAPS, GAPS_OF_SIZES = 0.20, 0.36
MARGIN = 0.85  # of the free memory; the estimate is within 10 %, and others take memory too
FORGET = Path("/proc/self/clear_refs")  # Linux forgets a process's peak when it is told 5, see proc(5)

_forgotten: dict[str, int] = {}  # the peaks up to the last time that they were forgotten


def peak_memory_bytes() -> dict[str, int]:
    """Peak resident memory of this process, and peak allocated memory of the GPU where there is one."""
    found = peak_now()
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
        found.update(peak_now())


def forget_peaks() -> None:
    """Let what was held so far, as by steps that were made to measure them, not count as the run's peak."""
    with peak_within():
        _forgotten.clear()


def peak_now() -> dict[str, int]:
    """The peaks since they were last forgotten, as by `peak_within`."""
    unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss is in bytes on macOS, in KiB elsewhere
    peaks = {"process": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit}
    if torch.cuda.is_available():
        peaks["gpu"] = int(torch.cuda.max_memory_allocated())
    return peaks


@functools.cache
def library_bytes() -> int:
    """What this process holds with libraries and data and before a model; measured once, when it is first asked."""
    return int(psutil.Process().memory_info().rss)


def beside_tensors(device: str, passing: int, *, gaps: float = GAPS) -> int:
    """Bytes that a process takes on a device beside tensors.

    Args:
        passing: bytes of tensors that come and go with each step.
        gaps: as a share of these.
    """
    if device == "cuda":
        return GPU_CONTEXT
    return library_bytes() + KERNELS + int(gaps * passing)


def room_bytes() -> int:
    """Memory that this process may hold all in all: what it has, and what machine and container have free, less a margin."""
    free = [psutil.virtual_memory().available, *container_free()]
    return int(psutil.Process().memory_info().rss + MARGIN * min(free))


def gpu_room_bytes() -> int | None:
    """Memory that this process may hold on its GPU all in all; None where there is none."""
    if not torch.cuda.is_available():
        return None
    free = torch.cuda.mem_get_info()[0]  # makes the context where there is none yet
    return gpu_room(free, torch.cuda.memory_reserved() - torch.cuda.memory_allocated())


def gpu_room(free: int, idle: int) -> int:
    """What a process may hold on a GPU whose context it has already, as `beside_tensors` counts it.

    Args:
        free: bytes that the device has free: what the context takes, and what torch keeps, is not among them.
        idle: bytes that torch keeps for tensors to come.
    """
    return free + idle + GPU_CONTEXT


def container_free(groups: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")) -> list[int]:
    """Bytes that each control group of this process has left that has a limit: Linux's way to bound a container.

    A group's files, version 2: https://docs.kernel.org/admin-guide/cgroup-v2.html#memory-interface-files, and 1:
    https://docs.kernel.org/admin-guide/cgroup-v1/memory.html. What it holds of files that nobody reads can be taken back.
    """
    found = []
    for line in groups.read_text().splitlines() if groups.is_file() else []:
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        top = root / "memory" if controllers else root
        names = ("memory.limit_in_bytes", "memory.usage_in_bytes") if controllers else ("memory.max", "memory.current")
        own = top / path.lstrip("/")
        for folder in [own, *own.parents][: len(own.relative_to(top).parts) + 1]:
            limit, used = (folder / name for name in names)
            if limit.is_file() and used.is_file() and (most := limit.read_text().strip()).isdigit():
                found.append(max(0, int(most) - int(used.read_text()) + _idle_files(folder)))
    return found


def _idle_files(folder: Path) -> int:
    stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
    return int(stat.get("total_inactive_file", stat.get("inactive_file", 0)))
