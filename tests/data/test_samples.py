"""The samples are the same everywhere, keep their splits apart, and read as right English where a rule can tell."""

import subprocess
import sys
from collections import Counter, defaultdict
from itertools import pairwise
from pathlib import Path
from random import Random

import pytest
from datasets import Dataset

from ftkit.data.duplicates import Overlap, overlap
from ftkit.data.samples.events import FRAMES
from ftkit.data.samples.instructions import OTHER_KINDS
from ftkit.data.samples.table import SAMPLES, generate, split_of
from ftkit.data.samples.vocabulary import DAYS, NOUNS, VERBS, with_article

ROOT = Path(__file__).parents[2]
MEANINGLESS = ("the", "but", "although", "still", "not", "nothing", "at", "and", "we", "i", "my", "could", "did", "in")

each_sample = pytest.mark.parametrize("name", SAMPLES)


def train_rows(name: str, rows: int = 3000, seed: int = 1) -> list[dict[str, str]]:
    return generate(name, rows=rows, split="train", seed=seed)


def rows_of_kind(kind: str) -> list[dict[str, str]]:
    return [row for row in train_rows("instructions", 5000) if row["kind"] == kind]


@each_sample
def test_same_arguments_give_same_rows(name):
    assert train_rows(name) == train_rows(name)


@each_sample
def test_rows_do_not_depend_on_the_process(name):
    code = f"from ftkit.data.samples.table import generate; print(generate({name!r}, rows=50, split='eval', seed=3))"
    printed = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hash_seed in ("1", "2")
    }
    assert printed == {f"{generate(name, rows=50, split='eval', seed=3)}\n"}


@each_sample
def test_fewer_rows_are_a_prefix_of_more(name):
    assert train_rows(name, 100) == train_rows(name, 1000)[:100]


@each_sample
def test_one_row(name):
    assert len(generate(name, rows=1, split="eval", seed=0)) == 1


@each_sample
def test_another_seed_gives_other_rows(name):
    assert train_rows(name, 50, seed=1) != train_rows(name, 50, seed=2)


@each_sample
def test_columns_hold_text(name):
    for row in train_rows(name):
        assert tuple(row) == SAMPLES[name].columns
        assert all(value or column == "input" for column, value in row.items())
        texts = [text for value in row.values() for text in (value if isinstance(value, tuple) else [value])]
        assert all(text == text.strip() and "  " not in text and "{" not in text for text in texts)


@each_sample
def test_rows_are_unique(name):
    rows = train_rows(name, 10_000)
    assert len({tuple(row.values()) for row in rows}) == len(rows)


@each_sample
def test_no_row_is_in_both_splits(name):
    train = {tuple(row.values()) for seed in range(4) for row in train_rows(name, 5000, seed)}
    held_out = {tuple(row.values()) for seed in range(4) for row in generate(name, rows=2000, split="eval", seed=seed)}
    assert train.isdisjoint(held_out)


@each_sample
def test_identity_follows_from_the_row(name):
    """Else a row could be drawn once for train and once for eval."""
    random = Random(0)
    identities = defaultdict(set)
    for _ in range(20_000):
        draft = SAMPLES[name].draw(random)
        identities[tuple(draft.row.values())].add(split_of(draft.identity))
    assert all(len(splits) == 1 for splits in identities.values())


def test_an_event_in_eval_is_in_no_other_words_in_train():
    contents = {
        split: {row["instruction"].split("with the words ")[-1] for row in compositions(split)}
        for split in ("train", "eval")
    }
    assert contents["train"].isdisjoint(contents["eval"])


def compositions(split: str) -> list[dict[str, str]]:
    rows = generate("instructions", rows=10_000, split=split, seed=0)
    return [row for row in rows if "with the words " in row["instruction"]]


def test_impossible_requests_are_refused(monkeypatch):
    with pytest.raises(ValueError, match="no sample is called 'poems'"):
        generate("poems", rows=1, split="train", seed=0)
    with pytest.raises(ValueError, match="at least one row"):
        generate("text", rows=0, split="train", seed=0)
    with pytest.raises(ValueError, match="not 'test'"):
        generate("text", rows=1, split="test", seed=0)
    monkeypatch.setattr("ftkit.data.samples.table.PATIENCE", 0)
    with pytest.raises(ValueError, match="has no more than about"):
        generate("text", rows=1000, split="eval", seed=0)


def test_labels_are_balanced():
    for split in ("train", "eval"):
        counts = Counter(row["label"] for row in generate("sentiment", rows=2000, split=split, seed=5))
        assert set(counts) == {"negative", "positive"}
        assert 0.45 < counts["positive"] / 2000 < 0.55


def test_reviews_are_short():
    assert all(6 <= len(row["text"].split()) <= 20 for row in train_rows("sentiment"))


def test_ratings_go_from_one_to_five_and_are_as_often_low_as_high():
    scores = [float(row["label"]) for row in train_rows("ratings")]
    assert (min(scores), max(scores)) == (1, 5)
    assert 2.9 < sum(scores) / len(scores) < 3.1
    assert max(Counter(scores).values()) < 0.15 * len(scores)


def test_a_rating_follows_from_what_is_said():
    found = {row["text"]: row["label"] for row in train_rows("ratings", 20_000)}
    strong = [float(label) for text, label in found.items() if "truly wonderful" in text and ", " not in text]
    weak = [float(label) for text, label in found.items() if "rather dull" in text and ", " not in text]
    assert set(strong) == {5}
    assert set(weak) == {2.5}


def test_neutral_words_tell_no_label():
    positive, seen = Counter(), Counter()
    for row in train_rows("sentiment", 20_000):
        for word in set(words_of(row["text"])):
            seen[word] += 1
            positive[word] += row["label"] == "positive"
    assert all(0.45 < positive[word] / seen[word] < 0.55 for word in MEANINGLESS)


def test_sentiment_is_learnable_from_words_but_not_from_words_alone():
    weights = fit_perceptron(train_rows("sentiment", 4000), epochs=5)
    held_out = generate("sentiment", rows=1000, split="eval", seed=1)
    right = sum((score(weights, row) > 0) == (row["label"] == "positive") for row in held_out)
    assert 0.65 < right / 1000 < 0.95


def fit_perceptron(rows: list[dict[str, str]], epochs: int) -> Counter:
    """The sum of the weights over all steps, which is steadier than the last of them."""
    weights, total = Counter(), Counter()
    for _ in range(epochs):
        for row in rows:
            sign = 1 if row["label"] == "positive" else -1
            if sign * score(weights, row) <= 0:
                weights.update(dict.fromkeys(words_of(row["text"]), sign))
        total.update(weights)
    return total


def score(weights: Counter, row: dict[str, str]) -> int:
    return sum(weights[word] for word in words_of(row["text"]))


def words_of(text: str) -> list[str]:
    return [word.strip(".,!?").lower() for word in text.split()]


def test_half_of_the_instructions_ask_for_the_passive():
    kinds = Counter(row["kind"] for row in train_rows("instructions", 5000))
    assert 0.45 < kinds["active_to_passive"] / 5000 < 0.55
    assert len(kinds) == 1 + len(OTHER_KINDS)
    assert min(kinds.values()) > 150


def test_passives_are_right():
    participles = {verb.participle for verb in VERBS.values()}
    for row in rows_of_kind("active_to_passive"):
        patient, _, agent = row["output"].removesuffix(".").partition(" by ")
        *phrase, auxiliary, participle = patient.split()
        assert participle in participles
        assert auxiliary in (("are", "were") if is_plural(phrase) else ("is", "was"))
        assert row["input"].lower().startswith(agent.lower())
        assert row["output"].endswith(".")


def is_plural(phrase: list[str]) -> bool:
    return phrase[-1] in {noun.plural for noun in NOUNS.values()}


def test_actives_agree():
    singular, third = set(NOUNS), {verb.third for verb in VERBS.values()}
    for row in rows_of_kind("active_to_passive"):
        agent = row["output"].removesuffix(".").partition(" by ")[2]
        verb = row["input"][len(agent) :].split()[0]
        if verb in third or verb in VERBS:
            assert (verb in third) == (agent.split()[-1] in singular or agent[0].isupper())


def test_opposites_change_one_word():
    for row in rows_of_kind("opposite"):
        pairs = list(zip(row["input"].split(), row["output"].split(), strict=True))
        assert sum(given != wanted for given, wanted in pairs) == 1


def test_sentences_begin_and_end_well():
    for row in train_rows("instructions") + train_rows("text") + train_rows("sentiment") + train_rows("ratings"):
        for value in (value for column, value in row.items() if value and column not in ("kind", "label")):
            assert value[0].isupper()
        text = row.get("text", row.get("input") or "The.")
        assert text.endswith((".", "?"))


def test_articles_fit_the_sound():
    assert (with_article("egg"), with_article("cup"), with_article("useful egg")) == ("an egg", "a cup", "a useful egg")
    for row in train_rows("instructions") + train_rows("text") + train_rows("sentiment") + train_rows("ratings"):
        words = words_of(" ".join(row.values()))
        for article, word in pairwise(words):
            assert article not in ("a", "an") or (article == "an") == (word[0] in "aeiou")


def test_no_past_looks_like_a_present():
    assert all(verb.past not in (verb.base, verb.third) for verb in VERBS.values())
    assert len({verb.past for verb in VERBS.values()}) == len(VERBS)
    assert {frame.verb.base for frame in FRAMES} == set(VERBS)


def test_dialogues_alternate_between_those_the_summary_names():
    for row in train_rows("dialogues"):
        speakers = [line.partition(":")[0] for line in row["dialogue"].splitlines()]
        assert 3 <= len(speakers) <= 6
        assert len(set(speakers)) == 2
        assert all(speaker != following for speaker, following in pairwise(speakers))
        assert any(speaker in row["summary"] for speaker in speakers)


def test_summaries_name_the_day_of_the_dialogue():
    for row in train_rows("dialogues"):
        day = next(word for word in words_of(row["summary"]) if word.capitalize() in DAYS)
        assert day.capitalize() in row["dialogue"]


def test_entities_are_tagged_word_by_word_from_b_to_i():
    kinds = Counter()
    for row in train_rows("entities"):
        assert 4 <= len(row["tokens"]) == len(row["tags"]) <= 20
        assert row["tokens"][0][0].isupper()
        assert (row["tokens"][-1], row["tags"][-1]) == (".", "O")
        for before, tag in pairwise(["O", *row["tags"]]):
            assert not tag.startswith("I-") or before[2:] == tag[2:]
        kinds.update(tag[2:] for tag in row["tags"] if tag.startswith("B-"))
    assert set(kinds) == {"person", "place", "organisation"}
    assert min(kinds.values()) > 1000


def test_a_word_alone_does_not_tell_its_tag():
    """The most frequent tag of each word, as in a list of names, finds fewer entities than there are."""
    seen = defaultdict(Counter)
    for row in train_rows("entities", 10_000):
        for word, tag in zip(row["tokens"], row["tags"], strict=True):
            seen[word][tag] += 1
    ambiguous = [word for word, tags in seen.items() if tags.most_common(1)[0][1] < 0.8 * tags.total()]
    assert {"York", "Bath", "Lincoln", "of"} <= set(ambiguous)


def test_stories_are_short():
    for row in train_rows("text"):
        assert 2 <= sum(row["text"].count(stop) for stop in ".?") <= 5


@pytest.mark.parametrize(
    ("name", "given", "wanted"),
    [
        ("sentiment", ("text",), "label"),
        ("ratings", ("text",), "label"),
        ("dialogues", ("dialogue",), "summary"),
        ("entities", ("tokens",), "tags"),
        ("instructions", ("instruction", "input"), "output"),
    ],
)
def test_what_is_given_has_one_right_answer(name, given, wanted):
    answers = defaultdict(set)
    for row in train_rows(name, 20_000):
        answers[tuple(row[column] for column in given)].add(row[wanted])
    assert all(len(outputs) == 1 for outputs in answers.values())


@pytest.mark.parametrize("seed", range(20))
def test_no_sentence_about_names_is_nearly_one_of_the_other_split(seed):
    train, measured = (
        Dataset.from_list(generate("entities", rows=rows, split=split, seed=seed))
        for split, rows in (("train", 2000), ("eval", 200))
    )
    assert overlap(train, measured, ["tokens"]) == Overlap()
