"""Sizes, durations and figures in words, the same on the screen, in the report and in a comparison."""

import math

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


def number(value: float, digits: int = 4) -> str:
    """A metric's figure, with four decimals where it is not large."""
    return f"{value:.{digits}f}" if abs(value) < 1e5 else f"{value:.3g}"
