"""The most memory that the process has held."""

import resource
import sys

import torch


def peak_memory_bytes() -> dict[str, int]:
    """Peak resident memory of this process, and peak allocated memory of the GPU where there is one."""
    unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss is in bytes on macOS, in KiB elsewhere
    peaks = {"process": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit}
    if torch.cuda.is_available():
        peaks["gpu"] = int(torch.cuda.max_memory_allocated())
    return peaks
