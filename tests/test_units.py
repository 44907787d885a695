"""Words for sizes and durations at the borders of their units."""

import pytest

from ftkit.units import GIB, MIB, size_words, time_words


@pytest.mark.parametrize(
    ("size", "words"),
    [
        (0, "0 KiB"),
        (1, "1 KiB"),
        (2048, "2 KiB"),
        (MIB, "1.0 MiB"),
        (1023.5 * MIB, "1,023.5 MiB"),
        (GIB, "1.00 GiB"),
        (2000 * GIB, "2,000.00 GiB"),
    ],
)
def test_sizes(size: float, words: str) -> None:
    assert size_words(size) == words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0.0 s"), (59.4, "59.4 s"), (60, "1 min 00 s"), (3599, "59 min 59 s"), (3900, "1 h 05 min"), (9e4, "25 h 00 min")],
)
def test_durations(seconds: float, words: str) -> None:
    assert time_words(seconds) == words
