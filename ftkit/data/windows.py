"""Rows that are longer than the model takes, as windows that overlap: each word is answered where most stands around it."""

from itertools import pairwise
from typing import NamedTuple

import numpy as np

from ftkit.data.encode import IGNORED

OVERLAP = 1 / 4  # of a window's tokens, shared with the next one
MOST_OVERLAP = 1 / 2


class Window(NamedTuple):
    """Tokens from `start` up to `end`, special ones aside, and the words from `first` up to `last` that it answers for."""

    start: int
    end: int
    first: int
    last: int


class Row(NamedTuple):
    """A row's tokens between the special ones at its two ends.

    Attributes:
        before: special tokens before the first word's.
        tokens: from the first word's to the last word's.
        starts: the place of each word's first token among those, shape (words,).
    """

    before: int
    tokens: int
    starts: np.ndarray


def read_row(word_ids: list[int | None]) -> Row:
    """A row from the word that each of its tokens comes from, None of special tokens; each word has a token."""
    words = np.array([-1 if word is None else word for word in word_ids])
    inside = np.flatnonzero(words >= 0)
    first, last = (int(inside[0]), int(inside[-1])) if len(inside) else (0, -1)
    known = words[first : last + 1]
    starts = np.flatnonzero((known >= 0) & (known != np.concatenate([[-1], known[:-1]])))
    return Row(first, last + 1 - first, starts)


def make_windows(row: Row, room: int, overlap: int) -> list[Window]:
    """Windows of `room` tokens, evenly spread over the row, neighbours sharing `overlap` tokens or more.

    A word is answered for by one window alone: where two show it, the border is the middle of what they share, so that the
    word has the more context on its poorer side.
    """
    if row.tokens <= room:
        return [Window(0, row.tokens, 0, len(row.starts))]
    count = 1 + -(-(row.tokens - room) // (room - overlap))
    begins = [step * (row.tokens - room) // (count - 1) for step in range(count)]
    middles = [(begin + before + room) / 2 for before, begin in pairwise(begins)]
    borders = [0, *np.searchsorted(row.starts, middles).tolist(), len(row.starts)]
    found = [Window(begin, begin + room, *borders[place : place + 2]) for place, begin in enumerate(begins)]
    return [window for window in found if window.first < window.last]  # one inside a very long word answers for none


def first_window(row: Row, room: int) -> Window:
    """The beginning of the row, and the words of which it shows the first token."""
    return Window(0, min(room, row.tokens), 0, int(np.searchsorted(row.starts, room)))


def cut_out(values: list[int], row: Row, window: Window) -> list[int]:
    """What a window has of a column with a value for each of the row's tokens, with the special ones at both ends."""
    end = row.before + row.tokens
    return [*values[: row.before], *values[row.before + window.start : row.before + window.end], *values[end:]]


def labels_in(window: Window, labels: list[int], row: Row, length: int) -> list[int]:
    """The labels of the window's own words, each on its word's first token; -100 on all other tokens.

    Args:
        length: tokens of the window, special ones too.
    """
    made = [IGNORED] * length
    for word in range(window.first, window.last):
        made[row.before + int(row.starts[word]) - window.start] = labels[word]
    return made
