"""Words for sizes and durations at the borders of their units."""

import pytest

from ftkit.units import GIB, MIB, number, scale_code, scale_words, signed, size_words, time_words


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


@pytest.mark.parametrize(
    ("value", "words"),
    [(0.5, "0.5000"), (999.99, "999.9900"), (1441753.4, "1,441,753.4"), (3e9, "3e+09"), (float("nan"), "nan")],
)
def test_figures_in_words(value: float, words: str) -> None:
    assert number(value) == words


@pytest.mark.parametrize(("value", "words"), [(0.0, "+0.0000"), (-12.5, "-12.5000"), (-11375.23, "-11,375.2")])
def test_differences_have_a_sign(value: float, words: str) -> None:
    assert signed(value) == words


def test_units_of_labels_are_said_where_the_head_does_not_hold_them() -> None:
    held = {"mean": 1193.9914, "deviation": 120.5, "in_head": True}
    assert "the saved model gives their own units" in scale_words(held)
    assert scale_code(held) == scale_code(None) == []
    (line,) = scale_code(held | {"in_head": False})
    assert line.endswith("number = model(...).logits * 120.5 + 1193.9914")
    assert "times 120.5, plus 1193.99" in scale_words(held | {"in_head": False})
