"""What a training takes, measured alike on every side: seconds, and the memory of the process above what it had before."""

import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@contextmanager
def measured() -> Iterator[dict[str, float]]:
    """Fills seconds, peak (bytes of the process) and above (bytes over what was held when the block began)."""
    found: dict[str, float] = {}
    before = reset_peak()
    start = time.perf_counter()
    yield found
    found["seconds"] = time.perf_counter() - start
    found["peak"] = peak_bytes()
    found["above"] = found["peak"] - before


def measure_trainer(found: dict[str, float]) -> None:
    """From now on `transformers.Trainer.train` is measured, by whoever it is called."""
    import transformers

    own = transformers.Trainer.train

    def train(trainer: Any, *arguments: Any, **named: Any) -> Any:
        with measured() as figures:
            result = own(trainer, *arguments, **named)
        found.update(figures)
        return result

    transformers.Trainer.train = train  # type: ignore[method-assign]


def reset_peak() -> float:
    """Forget the peak so far, where the system lets one; returns the bytes held now."""
    try:
        CLEAR.write_text("5")
    except OSError:
        return peak_bytes()
    return status("VmRSS")


def peak_bytes() -> float:
    return status("VmHWM") if STATUS.is_file() else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def status(name: str) -> float:
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1]) * 1024
