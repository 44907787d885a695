"""Augmented copies: seeded, label-preserving, numbers and quotes untouched."""

import random
import re

import pytest
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st

from ftkit.data.augment import OPERATIONS, augment, change_text
from ftkit.errors import UserError

TEXT = 'The plot was not good, she said "Never Again" about all 12 parts of this series'
NAMES = list(OPERATIONS)


def make_rows() -> Dataset:
    texts = [f"{TEXT} number {number} which everybody knows" for number in range(50)]
    return Dataset.from_dict({"text": texts, "label": [number % 2 for number in range(50)], "_row": range(50)})


def test_originals_come_first_and_copies_keep_their_other_columns() -> None:
    rows = make_rows()
    more, counts = augment(rows, ["text"], 4, NAMES, seed=1)
    assert more.select(range(50)).to_list() == rows.to_list()
    assert more.features == rows.features
    assert len(more) == 50 + counts.total() == 250
    assert set(counts) == set(NAMES)
    assert all(row["label"] == row["_row"] % 2 for row in more)


def test_the_seed_decides() -> None:
    first, again, other = (augment(make_rows(), ["text"], 1, NAMES, seed)[0]["text"][:] for seed in (1, 1, 2))
    assert first == again != other


@pytest.mark.parametrize("operation", NAMES)
def test_numbers_quotes_and_negations_stay(operation: str) -> None:
    for seed in range(50):
        changed = change_text(TEXT, operation, random.Random(seed))
        assert changed != TEXT
        assert '"Never Again"' in changed
        assert " 12 " in changed
        assert " not " in changed


def test_what_each_operation_does() -> None:
    words = TEXT.split()
    assert sorted(change_text(TEXT, "swap_words", random.Random(1)).split()) == sorted(words)
    assert len(change_text(TEXT, "drop_words", random.Random(1)).split()) == len(words) - 2
    mistyped = change_text(TEXT, "typos", random.Random(1)).split()
    assert sum(a != b for a, b in zip(words, mistyped, strict=True)) == 1
    assert change_text(TEXT, "lower", random.Random(1)) == TEXT.replace("The", "the")


@pytest.mark.parametrize(
    "quoted",
    ["'Mind the Gap'", "“Mind the Gap”", "«Mind the Gap»", "`Mind the Gap`", 'said:"Mind the Gap"!', "'Don't Mind the Gap'"],
)
def test_every_kind_of_quote(quoted: str) -> None:
    text = f"They don't think that {quoted} would sound as good elsewhere"
    for seed in range(20):
        assert all(quoted in change_text(text, name, random.Random(seed)) for name in NAMES)


@given(st.text(alphabet="aB cé9'\"“”\n.", max_size=60), st.sampled_from(NAMES), st.integers(0, 9))
def test_digits_stand_in_their_order_and_no_text_breaks_it(text: str, name: str, seed: int) -> None:
    changed = change_text(text, name, random.Random(seed))
    assert re.findall(r"\d", changed) == re.findall(r"\d", text)


def test_a_copy_equal_to_its_row_is_not_added() -> None:
    rows = Dataset.from_dict({"text": ["all lower", "", None, "Upper"]})
    more, counts = augment(rows, ["text"], 3, ["lower"], seed=1)
    assert more["text"][:] == ["all lower", "", None, "Upper", "upper"]
    assert counts == {"lower": 1}
    assert augment(rows, ["text"], 1, ["typos"], seed=1) == (rows, {})


def test_an_unknown_operation() -> None:
    with pytest.raises(UserError, match="'synonyms' is no augmentation; there are swap_words"):
        augment(make_rows(), ["text"], 1, ["synonyms"], seed=1)
