"""Duplicates within rows and between train and eval rows."""

import random
from itertools import pairwise

import numpy as np
import pytest
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st

from ftkit.data import shingles
from ftkit.data import texts as compared
from ftkit.data.clean import clean_rows
from ftkit.data.columns import given_rows
from ftkit.data.duplicates import (
    Overlap,
    exact_duplicates,
    near_duplicates,
    normalised_duplicates,
    overlap,
)
from ftkit.data.shingles import bands_and_slots
from ftkit.data.texts import normalise
from ftkit.recipe.schema import Clean

WORDS = [f"word{number}" for number in range(40)]
TEXTS = st.lists(st.sampled_from(WORDS[:8]), min_size=1, max_size=14).map(" ".join)


def rows_of(texts: list[str]) -> Dataset:
    return Dataset.from_dict({"text": texts})


def similarity(left: str, right: str) -> float:
    """The Jaccard similarity as the docstring says it, by plain sets."""
    words = [normalise(text).split() for text in (left, right)]
    sets = [{tuple(row[i : i + 3]) for i in range(len(row) - 2)} or {(word,) for word in row} for row in words]
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1])


def random_text(dice: random.Random, words: int = 20) -> str:
    return " ".join(dice.choices(WORDS, k=words))


@pytest.mark.parametrize(
    ("text", "normal"),
    [("  Hello,\tWORLD! ", "hello world"), ("Don't", "dont"), ("a,b", "a b"), ("ﬁne Ｗide", "fine wide"), ("STRASSE ", "strasse"),
     ("Straße", "strasse"), ("5 € + 3", "5 € + 3"), (":)", ":)"), ("?!", "?!"), ("«Où?»", "où"), ("  ", "")],
)  # fmt: skip
def test_normalise(text: str, normal: str) -> None:
    assert normalise(text) == normal


@given(st.text())
def test_normalise_gives_words_with_single_spaces(text: str) -> None:
    assert normalise(text) == " ".join(normalise(text).split())


def test_the_first_of_equal_rows_stays() -> None:
    rows = Dataset.from_dict({"text": ["a", "A!", "a", None, "a", ""], "pair": ["b", "b", "b", "c", "x", "c"]})
    assert exact_duplicates(rows, ["text", "pair"]).tolist() == [2, 5]
    assert normalised_duplicates(rows, ["text", "pair"]).tolist() == [1, 2, 5]
    assert exact_duplicates(rows, ["text"]).tolist() == [2, 4, 5]
    assert exact_duplicates(rows.select([]), ["text"]).tolist() == []


def test_a_word_that_moves_to_the_next_column_makes_another_row() -> None:
    rows = Dataset.from_dict({"text": ["a b", "a"], "pair": ["c", "b c"]})
    assert normalised_duplicates(rows, ["text", "pair"]).tolist() == []


def test_other_values_than_texts_are_compared_too() -> None:
    turns = [[{"role": "user", "content": text}] for text in ("one", "two", "one")]
    assert exact_duplicates(Dataset.from_dict({"messages": turns}), ["messages"]).tolist() == [2]


def chats(*turns: tuple[str, str, str]) -> Dataset:
    """Chats of a system prompt, a question and an answer."""
    roles = ("system", "user", "assistant")
    rows = [[{"role": role, "content": text} for role, text in zip(roles, texts, strict=True)] for texts in turns]
    return Dataset.from_dict({"messages": rows, "_row": range(len(rows))})


def test_of_chats_is_compared_what_is_given_to_the_model() -> None:
    question = "how far is it from here to the moon"
    train = given_rows(chats(("Be brief.", question, "Far."), ("Be kind.", "who are you", "A model.")))
    measured = chats(
        ("Be brief.", question, "384,400 km."), ("BE BRIEF", f"{question}?", "Far."), ("Be brief.", f"so {question}", "Far."),
        ("Be rude.", "who are you", "A model."),
    )  # fmt: skip
    found = overlap(train, given_rows(measured), ["messages"], 0.7)
    assert found == Overlap(exact=[(0, 0)], normalised=[(1, 0)], near=[(2, 0)])


def test_a_long_system_prompt_that_chats_share_makes_them_no_copies() -> None:
    dice = random.Random(4)
    system = random_text(dice, 300)
    train, measured = (chats(*((system, random_text(dice), "yes") for _ in range(50))) for _ in range(2))
    assert overlap(given_rows(train), given_rows(measured), ["messages"]) == Overlap()


def test_a_chat_in_which_nobody_asks_is_compared_whole() -> None:
    alone = [[{"role": "assistant", "content": text}] for text in ("a", "b", "a")]
    assert exact_duplicates(given_rows(Dataset.from_dict({"messages": alone})), ["messages"]).tolist() == [2]


@pytest.mark.parametrize(("kind", "left"), [("exact", 3), ("normalised", 2), ("near", 2)])
def test_cleaning_compares_chats_as_it_compares_instructions(kind: str, left: int) -> None:
    asked = [("go", "Count to ten.", "1"), ("go", "Count to ten.", "2"), ("go", "Stop.", "3"), ("go", "Stop.", "3")]
    plain = Dataset.from_dict({"instruction": [row[1] for row in asked], "output": [row[2] for row in asked]})
    for rows in (chats(*asked), plain.add_column("_row", range(4))):
        kept, dropped, _ = clean_rows(rows, Clean(duplicates=kind), seed=1, thin_out=True, helpers=[])
        assert len(kept) == left
        assert sum(map(len, dropped.values())) == 4 - left


def test_near_duplicates_of_planted_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compared, "BATCH", 100)
    dice = random.Random(1)
    texts = [random_text(dice) for _ in range(500)]
    copies = [f"{text} more" for text in texts]  # 18 of 19 shingles
    pairs = near_duplicates(rows_of(texts + copies), ["text"])
    assert pairs == [(500 + row, row) for row in range(500)]


@settings(max_examples=50)
@given(st.lists(TEXTS, min_size=1, max_size=30), st.sampled_from([0.3, 0.5, 0.8, 1.0]))
def test_near_pairs_are_verified_and_their_first_rows_stay(texts: list[str], threshold: float) -> None:
    pairs = near_duplicates(rows_of(texts), ["text"], threshold)
    assert all(earlier < row and similarity(texts[row], texts[earlier]) >= threshold for row, earlier in pairs)
    assert len({row for row, _ in pairs}) == len(pairs)
    left = sorted(set(range(len(texts))) - {row for row, _ in pairs})
    assert len({normalise(texts[row]) for row in left}) == len(left)


def test_rows_without_words_and_no_rows_have_no_near_duplicates() -> None:
    assert near_duplicates(rows_of(["", " ", ""]), ["text"]) == []
    assert near_duplicates(rows_of(["x"]).select([]), ["text"]) == []
    assert near_duplicates(rows_of(["good film", "film good", "good"]), ["text"]) == [(1, 0)]


@pytest.mark.parametrize("threshold", [0, -1, 1.1])
def test_a_threshold_is_a_similarity(threshold: float) -> None:
    with pytest.raises(ValueError, match="up to 1"):
        near_duplicates(rows_of(["x"]), ["text"], threshold)


@pytest.mark.parametrize("threshold", [0.05, 0.2, 0.5, 0.7, 0.8, 0.9, 0.99])
def test_the_bands_miss_one_in_a_thousand_at_the_threshold(threshold: float) -> None:
    bands, slots = bands_and_slots(threshold)
    assert (1 - threshold**slots) ** bands <= 1e-3


def test_overlap_by_kind() -> None:
    text = "one two three four five six seven eight nine ten eleven twelve"
    train = rows_of(["short text", text, text, "Short text here"])
    evals = rows_of(
        [text, text.upper(), f"{text} thirteen", "quite another text than those of the train rows", "SHORT text", text]
    )
    assert overlap(train, evals, ["text"]) == Overlap(exact=[(0, 1), (5, 1)], normalised=[(1, 1), (4, 0)], near=[(2, 1)])
    assert overlap(train.select([]), evals, ["text"]) == overlap(train, evals.select([]), ["text"]) == Overlap()


# Characters of scripts that write no spaces, of which texts are made.
UNSPACED = {
    "Han": "今天很好我们去公园散步吃饭看书学习工作电影音乐城市河流山水花草树木",
    "Japanese": "あいうえおかきくけこさしすせそアイウエオカキクケコ川橋近早凍",
    "Thai": "กขคงจฉชซญดตถทนบปผฝพฟมยรลวสหอฮ",
    "Khmer": "កខគឃងចឆជឈញដឋឌឍណតថទធន",
    "Lao": "ກຂຄງຈສຊຍດຕຖທນບປຜຝພຟມຢຣລວຫອຮ",
}


@pytest.mark.parametrize("script", UNSPACED)
def test_near_copies_are_found_without_spaces(script: str) -> None:
    """A text that is one word by its spaces is compared by its characters, within a set of rows and between two."""
    dice = random.Random(4)
    texts = ["".join(dice.choices(UNSPACED[script], k=40)) for _ in range(200)]
    copies = [text[:-1] + UNSPACED[script][0] * 2 + "。" for text in texts]  # 37 of 41 shingles
    pairs = [(row, row) for row in range(200)]
    assert overlap(rows_of(texts), rows_of(copies), ["text"]).near == pairs
    assert near_duplicates(rows_of(texts + copies), ["text"]) == [(200 + row, row) for row in range(200)]
    halves = [text[:20] + other[20:] for text, other in pairwise(texts)]
    assert overlap(rows_of(texts), rows_of(halves), ["text"]).near == []


@pytest.mark.parametrize("script", UNSPACED)
def test_two_characters_the_other_way_round_are_another_word(script: str) -> None:
    one, two, three, *_ = UNSPACED[script]
    assert (
        near_duplicates(rows_of([one + two, two + one, one, f"{one} {two}", one + two + three, three + two + one]), ["text"])
        == []
    )
    assert near_duplicates(rows_of([one + two, f"{one}{two}!"]), ["text"]) == [(1, 0)]


def test_emoji_and_mixed_scripts_are_words_of_a_text() -> None:
    text = "iPhone手机的网络 Wi-Fi 很好 😀 我们今天在公园散步看电影"
    assert overlap(rows_of([text]), rows_of([f"{text}了"]), ["text"]).near == [(0, 0)]
    assert overlap(rows_of([text]), rows_of([text[::-1]]), ["text"]) == Overlap()
    assert near_duplicates(rows_of(["😀 🎉 👍", "😀 🎉 😢"]), ["text"]) == []


def test_near_overlap_is_for_texts_of_five_words_and_more() -> None:
    assert overlap(rows_of(["a b c d", "a b c d e"]), rows_of(["a b c d f", "d c b a"]), ["text"], 0.5).near == [(0, 1)]


@settings(max_examples=50)
@given(st.lists(TEXTS, min_size=1, max_size=20), st.lists(TEXTS, min_size=1, max_size=20), st.data())
def test_overlap_finds_every_planted_copy_and_no_pair_below_the_threshold(
    train: list[str], evals: list[str], data: st.DataObject
) -> None:
    exact = data.draw(st.sampled_from(train))
    normalised = data.draw(st.sampled_from(train)).upper() + "!"
    found = overlap(rows_of(train), rows_of([*evals, exact, normalised]), ["text"], 0.6)
    evals = [*evals, exact, normalised]
    assert (len(evals) - 2, train.index(exact)) in found.exact
    assert len(evals) - 1 in [row for row, _ in found.normalised]
    assert all(evals[row] == train[other] for row, other in found.exact)
    assert all(
        evals[row] != train[other] and normalise(evals[row]) == normalise(train[other]) for row, other in found.normalised
    )
    assert all(similarity(evals[row], train[other]) >= 0.6 for row, other in found.near)
    kinds = [row for pairs in (found.exact, found.normalised, found.near) for row, _ in pairs]
    assert len(kinds) == len(set(kinds))


def test_overlap_finds_planted_near_copies_in_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compared, "BATCH", 64)
    monkeypatch.setattr(shingles, "MAX_GATHERED", 100)
    dice = random.Random(2)
    train = [random_text(dice) for _ in range(300)]
    evals = [f"{text} more" for text in train[::3]] + [random_text(dice) for _ in range(50)]
    assert overlap(rows_of(train), rows_of(evals), ["text"]).near == [(row, 3 * row) for row in range(100)]


def test_recall_at_the_threshold() -> None:
    dice = random.Random(3)
    train = [random_text(dice, 20) for _ in range(2000)]
    evals = [f"{text} {random_text(dice, 4)}" for text in train]  # 18 of 22 shingles: 0.82
    assert np.mean([similarity(*pair) >= 0.8 for pair in zip(train, evals, strict=True)]) == 1
    assert len(overlap(rows_of(train), rows_of(evals), ["text"]).near) >= 1995
