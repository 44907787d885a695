"""The energy that a run took, where the hardware tells: the processor by Intel's and AMD's RAPL counters, GPUs by NVML.

A counter is that of the whole machine or device, so other work on it counts too.
"""

from contextlib import suppress
from pathlib import Path

import torch

POWERCAP = Path("/sys/class/powercap")
MICRO, MILLI = 1e-6, 1e-3


class EnergyMeter:
    """Joules since it was made, by place; a place that does not tell is absent."""

    def __init__(self, powercap: Path = POWERCAP) -> None:
        self.powercap = powercap
        self.started = self._counters()

    def joules(self) -> dict[str, float]:
        """Read the counters again; one that has begun anew is taken to have done so once."""
        found: dict[str, float] = {}
        for counter, (value, range_) in self._counters().items():
            if counter in self.started:
                used = value - self.started[counter][0]
                place = counter.partition(" ")[0]
                found[place] = found.get(place, 0.0) + (used if used >= 0 else used + range_)
        return {place: round(joules, 1) for place, joules in found.items()}

    def _counters(self) -> dict[str, tuple[float, float]]:
        """Each counter's joules, and after how many it begins anew."""
        return packages(self.powercap) | devices()


def packages(powercap: Path) -> dict[str, tuple[float, float]]:
    """The processor's packages; their cores and memory, which lie one level deeper, are part of them."""
    found = {}
    for package in sorted(powercap.glob("*-rapl:[0-9]")):
        with suppress(OSError, ValueError):  # most systems let only root read them
            value, range_ = (float((package / name).read_text()) for name in ("energy_uj", "max_energy_range_uj"))
            found[f"processor {package.name}"] = (value * MICRO, range_ * MICRO)
    return found


def devices() -> dict[str, tuple[float, float]]:
    """GPUs that this process may use, by NVML's counter since the driver was loaded."""
    if not torch.cuda.is_available():
        return {}
    try:
        import pynvml  # of nvidia-ml-py, which not every machine with a GPU has
    except ImportError:
        return {}
    try:
        pynvml.nvmlInit()
        handles = [torch.cuda._get_nvml_device_index(index) for index in range(torch.cuda.device_count())]
        counts = [pynvml.nvmlDeviceGetTotalEnergyConsumption(pynvml.nvmlDeviceGetHandleByIndex(index)) for index in handles]
    except (RuntimeError, pynvml.NVMLError):  # older devices have no such counter
        return {}
    return {f"gpu {index}": (count * MILLI, 0.0) for index, count in enumerate(counts)}
