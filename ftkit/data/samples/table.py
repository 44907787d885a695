"""The table of samples: data that the package itself makes, named `sample:NAME` in a recipe.

A row falls into "train" or "eval" by a hash of its content alone, so that no seed and no size can carry a row, or the
same content in other words, from one split into the other.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any, Literal, get_args

from ftkit.data.samples import dialogues, entities, instructions, ratings, sentiment, text
from ftkit.data.samples.draft import Draft

Split = Literal["train", "eval"]

ONE_IN_EVAL = 5
# Draws in a row without a new row for the split, after which its rows count as used up. Usual are one to fifty.
PATIENCE = 50_000


@dataclass(frozen=True, slots=True)
class Sample:
    """One kind of sample data. Equal random states draw equal rows."""

    summary: str
    columns: tuple[str, ...]
    draw: Callable[[Random], Draft]
    train_rows: int = 2000
    eval_rows: int = 200


SAMPLES: dict[str, Sample] = {
    "sentiment": Sample(
        "Short reviews of films, food, hotels and products, labelled negative or positive.",
        sentiment.COLUMNS,
        sentiment.draw_review,
    ),
    "ratings": Sample(
        "Short reviews of the same things with a score from 1 to 5.",
        ratings.COLUMNS,
        ratings.draw_rating,
    ),
    "entities": Sample(
        "Sentences that name people, places and organisations, with a BIO tag a word.",
        entities.COLUMNS,
        entities.draw_sentence,
    ),
    "dialogues": Sample(
        "Two people make a plan in three to six turns, with a summary of one sentence.",
        dialogues.COLUMNS,
        dialogues.draw_dialogue,
    ),
    "instructions": Sample(
        "Grammar exercises with one right output, half of them from active to passive.",
        instructions.COLUMNS,
        instructions.draw_instruction,
    ),
    "text": Sample(
        "Stories of two to five plain sentences about events, plans and opinions.",
        text.COLUMNS,
        text.draw_story,
    ),
}


def generate(name: str, *, rows: int, split: Split, seed: int) -> list[dict[str, Any]]:
    """The first `rows` unique rows of a sample's split: the same for the same arguments, on any machine.

    More rows begin with the same rows as fewer. Raises ValueError for an unknown name or split, for fewer rows than
    one, and for more rows than the sample's words can make.
    """
    _check(name, rows, split)
    # A string seeds through SHA-512, never through hash(), which differs from process to process.
    random = Random(f"{name} {split} {seed}")
    draw = SAMPLES[name].draw
    unique: dict[tuple[Any, ...], dict[str, Any]] = {}
    misses = 0
    while len(unique) < rows:
        draft = draw(random)
        values = tuple(draft.row.values())
        if values not in unique and split_of(draft.identity) == split:
            unique[values] = draft.row
            misses = 0
        elif (misses := misses + 1) > PATIENCE:
            raise ValueError(f"sample:{name} has no more than about {len(unique)} rows in {split!r}, not {rows}")
    return list(unique.values())


def split_of(identity: str) -> Split:
    """The split that a content belongs to, for good."""
    digest = hashlib.blake2b(identity.encode(), digest_size=4).digest()
    return "eval" if int.from_bytes(digest, "big") % ONE_IN_EVAL == 0 else "train"


def _check(name: str, rows: int, split: str) -> None:
    if name not in SAMPLES:
        raise ValueError(f"no sample is called {name!r}: there are {', '.join(SAMPLES)}")
    if split not in get_args(Split):
        raise ValueError(f"a sample has the splits train and eval, not {split!r}")
    if rows < 1:
        raise ValueError(f"a sample needs at least one row, not {rows}")
