"""Settings of the process that must stand before torch and its kin are imported; what the user has set stays.

Threads that wait look for new work for some microseconds, then give their core away (`benchmarks/waiting.py`), and there
are no more of them than a container's quota gives cores. Below that, how many there are is torch's choice: as many as MKL
says in builds with it, else one for each physical core that cpuinfo finds (`init_num_threads` in
https://github.com/pytorch/pytorch/blob/main/aten/src/ATen/ParallelOpenMP.cpp). Neither can tell a hyperthread that a
virtual machine shows as a core; there OMP_NUM_THREADS is the user's to set.

On Linux, torch takes large blocks as huge pages: a training step takes and returns the same gigabyte again and again, and
each time the kernel fills it with zeros, page by page. `benchmarks/allocator.py` measures it. FTKIT_ALLOCATOR=0 turns that
off; FTKIT_ALLOCATOR=keep lets glibc keep what is given back to it, too: a little faster again, at a higher peak of memory.
"""

import ctypes
import logging
import math
import os
import platform
from pathlib import Path
from typing import Any

from ftkit.deferral import defer

DEFAULTS = {
    # oneDNN keeps 1,024 compiled products, and torch (its ideep) as many again of each kind. Batches of ever new sizes fill
    # both: memory grows from step to step for what hardly comes back, and the gaps between them serve nobody.
    "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "64",
    "LRU_CACHE_CAPACITY": "32",
    "TOKENIZERS_PARALLELISM": "true",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "ORT_DISABLE_TELEMETRY": "1",  # onnxruntime tells a host of its own that it was imported
    "HF_UPDATE_DOWNLOAD_COUNTS": "0",  # datasets would ask another host than the hub, for local files too
    "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1",
}
# Threads that wait spin by default, for milliseconds; with another process on a core that made a forward pass ten times
# slower. Not to spin at all costs a call of the system at each product: a quarter of the time of a small model's step.
WAITING = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "2000"}
THREADS = "OMP_NUM_THREADS"
HUGE_PAGES = "THP_MEM_ALLOC_ENABLE"  # torch's name; glibc's own, GLIBC_TUNABLES, counts from a process's first moment only
KEPT_BY_USER = ("MALLOC_", "LD_PRELOAD")  # settings of glibc's malloc, or another allocator
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # malloc.h
NEVER = 2**31 - 1

_facts: dict[str, Any] = {}


def prepare_process() -> None:
    """Call before the first import of torch; a second call changes nothing."""
    wanted = dict(DEFAULTS)
    if not WAITING.keys() & os.environ.keys():
        wanted |= WAITING
    if (cores := quota(Path("/"))) is not None and cores < len(usable_cores()):
        wanted[THREADS] = str(cores)
    if allocator_is_ours():
        wanted[HUGE_PAGES] = "1"
    unset = {name: value for name, value in wanted.items() if name not in os.environ}
    os.environ.update(unset)
    _facts.setdefault("environment", {}).update(unset)
    _facts.setdefault("blocks_kept", allocator_is_ours() and os.environ.get("FTKIT_ALLOCATOR") == "keep" and keep_blocks())
    defer("bitsandbytes")
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it reports a missing optional kernel while importing


def process_facts() -> dict[str, Any]:
    """What ftkit has set, for run.json.

    `environment` holds the variables that the user had not set; `blocks_kept` says whether glibc keeps freed memory.
    """
    import torch  # by now it is loaded, and has read what was set

    return {**_facts, "threads": torch.get_num_threads()}


def usable_cores() -> set[int] | range:
    """The processors that this process may run on."""
    return os.sched_getaffinity(0) if platform.system() == "Linux" else range(os.cpu_count() or 1)


def quota(root: Path) -> int | None:
    """Cores that the control groups of this process grant it, rounded up; None where they set no limit.

    Args:
        root: where /proc and /sys stand.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return None
    grants = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            grants += [read_grant(folder, "cpu.max") for folder in group_folders(root / "sys/fs/cgroup", path)]
        elif "cpu" in controllers.split(","):
            folders = group_folders(root / "sys/fs/cgroup/cpu", path)
            grants += [read_grant(folder, "cpu.cfs_quota_us", "cpu.cfs_period_us") for folder in folders]
    found = [grant for grant in grants if grant is not None]
    return max(1, math.ceil(min(found))) if found else None


def group_folders(mount: Path, path: str) -> list[Path]:
    """A control group's folder and those above it, up to the mount: each may set a limit."""
    own = mount / path.strip("/")
    return [folder for folder in (own, *own.parents) if folder.is_relative_to(mount)]


def read_grant(folder: Path, *files: str) -> float | None:
    """Processor time over time, from `quota period` in one file (version 2) or in two; None where there is no limit."""
    try:
        granted, period = " ".join((folder / file).read_text() for file in files).split()
    except (OSError, ValueError):
        return None
    return float(granted) / float(period) if granted not in ("max", "-1") else None


def allocator_is_ours() -> bool:
    """Whether the process runs on glibc's malloc and nobody has said how."""
    chosen = any(name.startswith(KEPT_BY_USER) for name in os.environ) or "malloc" in os.environ.get("GLIBC_TUNABLES", "")
    return platform.libc_ver()[0] == "glibc" and not chosen and os.environ.get("FTKIT_ALLOCATOR") != "0"


def keep_blocks() -> bool:
    """Let glibc take large blocks from its heap in place of the kernel, and keep them; whether it obeyed."""
    libc = ctypes.CDLL(None)
    return all(libc.mallopt(name, value) == 1 for name, value in ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, NEVER)))


def return_blocks() -> None:
    """Give free memory back once, after work that took more than what comes needs, as loading and quantizing a model."""
    if allocator_is_ours():
        ctypes.CDLL(None).malloc_trim(0)
