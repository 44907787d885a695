"""Sizes, durations, figures and the units of labels in words, the same on the screen, in the report and in a comparison."""

import math
from typing import Any

KIB, MIB, GIB = 2**10, 2**20, 2**30


def size_words(size: float) -> str:
    """Bytes for people; less than a KiB counts as one."""
    if size >= GIB:
        return f"{size / GIB:,.2f} GiB"
    return f"{size / MIB:,.1f} MiB" if size >= MIB else f"{math.ceil(size / KIB)} KiB"


def time_words(seconds: float) -> str:
    """Seconds for people."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{seconds:.1f} s"


def ago(seconds: float) -> str:
    """How long something is past, for people."""
    if seconds < 60:
        return f"{round(seconds)} s ago"
    minutes, hours, days = (int(seconds // unit) for unit in (60, 3600, 86400))
    return f"{minutes} min ago" if not hours else f"{hours} h ago" if not days else f"{days} days ago"


def number(value: float, digits: int = 4) -> str:
    """A metric's figure: four decimals or as many as are asked for, one where it is in thousands, digits alone beyond."""
    if not abs(value) >= 1e3:
        return f"{value:.{digits}f}"
    return f"{value:,.1f}" if abs(value) < 1e7 else f"{value:.3g}"


def signed(value: float, digits: int = 4) -> str:
    """A difference of two figures, with its sign."""
    return f"{'-' if value < 0 else '+'}{number(abs(value), digits)}" if not math.isnan(value) else "nan"


def scale_words(scale: dict[str, Any]) -> str:
    """In which units labels that are numbers are learnt, and which the saved model gives; of `label_scale` of run.json."""
    mean, deviation = f"{scale['mean']:.6g}", f"{scale['deviation']:.6g}"
    words = f"learnt in standard units (mean {mean}, standard deviation {deviation}), and so are the losses; "
    own = "the saved model gives their own units"
    return words + (own if scale["in_head"] else f"the saved model gives standard units: times {deviation}, plus {mean}")


def scale_code(scale: dict[str, Any] | None) -> list[str]:
    """What brings a saved model's standard units back to those of the labels; nothing where its head does so itself."""
    if scale is None or scale["in_head"]:
        return []
    return [f"# it gives standard units: number = model(...).logits * {scale['deviation']!r} + {scale['mean']!r}"]
