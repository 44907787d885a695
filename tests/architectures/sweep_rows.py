"""Rows of every task, of unlike lengths: some are pairs, one text is longer than the models' positions."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from configurations import POSITIONS, WORDS, texts

from ftkit.run import write_jsonl

TRAIN, EVAL = 15, 9
LABELS = ("bad", "fine", "good")
Rows = list[dict[str, Any]]


def write_rows(folder: Path) -> None:
    """For each task `TASK-train.jsonl` and `TASK-eval.jsonl`; `pairs` is text-classification of two texts."""
    for part, count, seed in (("train", TRAIN, 1), ("eval", EVAL, 2)):
        for task, make in MAKERS.items():
            write_jsonl(folder / f"{task}-{part}.jsonl", make(count, seed))


def with_a_long_one(count: int, seed: int) -> list[str]:
    """Texts of which the third is longer than a model's positions."""
    found = texts(count, seed)
    found[2] = " ".join(texts(12, seed + 50))
    assert len(found[2].split()) > POSITIONS
    return found


def labelled(count: int, seed: int) -> Rows:
    return [{"text": text, "label": LABELS[index % 3]} for index, text in enumerate(with_a_long_one(count, seed))]


def pairs(count: int, seed: int) -> Rows:
    second = texts(count, seed + 100, longest=15)
    return [row | {"text_pair": second[index]} for index, row in enumerate(labelled(count, seed))]


def numbers(count: int, seed: int) -> Rows:
    return [{"text": text, "label": (index * 7 % 11) / 5 - 1} for index, text in enumerate(with_a_long_one(count, seed))]


def tagged(count: int, seed: int) -> Rows:
    rows = [text.split() for text in texts(count, seed)]
    return [{"tokens": words, "tags": ["B-X" if word in WORDS[-8:] else "O" for word in words]} for words in rows]


def plain(count: int, seed: int) -> Rows:
    return [{"text": text} for text in with_a_long_one(count, seed)]


def instructions(count: int, seed: int) -> Rows:
    draw = random.Random(seed)
    answers = [" ".join(draw.choices(WORDS, k=draw.randint(1, 12))) for _ in range(count)]
    asked = texts(count, seed, longest=20)
    return [{"prompt": f"{text} :", "completion": f" {answer}"} for text, answer in zip(asked, answers, strict=True)]


def documents(count: int, seed: int) -> Rows:
    short = texts(count, seed + 200, longest=9)
    return [{"document": text, "summary": short[index]} for index, text in enumerate(with_a_long_one(count, seed))]


MAKERS: dict[str, Callable[[int, int], Rows]] = {
    "text-classification": labelled,
    "pairs": pairs,
    "text-regression": numbers,
    "token-classification": tagged,
    "language-modeling": plain,
    "masked-language-modeling": plain,
    "instruction": instructions,
    "summarization": documents,
}
