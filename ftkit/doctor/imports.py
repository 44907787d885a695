"""The process that imports what ftkit stands on and looks at the hardware; started by ftkit/doctor/examine.py.

It tells on standard output, in lines of JSON, what it begins with and how that ended: what ends the process is known too.
"""

import importlib
import platform
import sys
from collections.abc import Callable
from pathlib import Path

from ftkit.doctor.children import answering
from ftkit.doctor.findings import BROKEN, GOOD, NOTE, Finding, error_words
from ftkit.process import quota, usable_cores
from ftkit.units import size_words

HARDWARE = "hardware"
NVIDIA = Path("/dev/nvidia0")


def main() -> None:
    """Import each module that the arguments name, then look at the hardware."""
    with answering() as tell:
        for name in sys.argv[1:]:
            tell({"begun": name})
            tell({"module": name, "error": try_import(name)})
        tell({"begun": HARDWARE})
        for finding in hardware():
            tell(vars(finding))


def try_import(name: str) -> str:
    """Why a module cannot be imported; empty where it can."""
    try:
        vars(importlib.import_module(name)).get("__version__")
        if name == "bitsandbytes":
            importlib.import_module("bitsandbytes.nn")  # which waits for its first use, see ftkit/deferral.py
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a module may also end the process
        return error_words(error)
    return ""


def hardware() -> list[Finding]:
    """What this process computes on, each line for itself: one that cannot be had says why."""
    looks: dict[str, Callable[[], Finding]] = {"processor": processor, "memory": memory, "precision": precision, "gpu": gpu}
    found = []
    for name, look in looks.items():
        try:
            found.append(look())
        except Exception as error:  # torch may be broken in any way, and the other lines stay true
            found.append(Finding(HARDWARE, name, f"not known: {error_words(error)}", NOTE))
    return found


def processor() -> Finding:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").is_file() else []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    granted, cores = quota(Path("/")), len(usable_cores())
    words = f"{named[0] if named else platform.machine()}, {cores} cores for this process"
    if granted is not None and granted < cores:
        words += f", of which the container grants {granted}"
    return Finding(HARDWARE, "processor", words)


def memory() -> Finding:
    import psutil

    machine = psutil.virtual_memory()
    words = f"{size_words(machine.total)}, {size_words(machine.available)} free"
    try:
        from ftkit.training.memory import container_free, room_bytes
    except Exception:  # torch is broken, which its own line says
        return Finding(HARDWARE, "memory", words)
    if (left := container_free()) and min(left) < machine.available:
        words += f", the container has {size_words(min(left))} left"
    return Finding(HARDWARE, "memory", f"{words}; a run may take {size_words(room_bytes())}")


def precision() -> Finding:
    import torch

    from ftkit.models.precision import has_bf16

    kinds = {"AMX": torch.cpu._is_amx_tile_supported(), "AVX512-BF16": torch.cpu._is_avx512_bf16_supported()}
    found = ", ".join(name for name, there in kinds.items() if there) or "neither AMX nor AVX512-BF16"
    computes = "bfloat16" if has_bf16() else "float32"
    return Finding(
        HARDWARE, "precision", f"training computes in {computes} (processor: {found}; {torch.get_num_threads()} threads)"
    )


def gpu() -> Finding:
    import torch

    if torch.cuda.is_available():
        return Finding(HARDWARE, "gpu", "; ".join(map(of_gpu, range(torch.cuda.device_count()))))
    built = f"torch {torch.__version__} is built for CUDA {torch.version.cuda}"
    words = built if torch.version.cuda else f"torch {torch.__version__} is built without CUDA"
    if NVIDIA.exists():
        hint = "is the driver new enough?" if torch.version.cuda else "install a torch for CUDA"
        return Finding(HARDWARE, "gpu", f"there is one that torch does not see: {words}", BROKEN, hint)
    return Finding(HARDWARE, "gpu", f"none; {words}", GOOD)


def of_gpu(number: int) -> str:
    import torch

    free, total = torch.cuda.mem_get_info(number)
    major, minor = torch.cuda.get_device_capability(number)
    name = torch.cuda.get_device_name(number)
    return f"{name}, {size_words(total)}, {size_words(free)} free, compute capability {major}.{minor}"


if __name__ == "__main__":
    main()
