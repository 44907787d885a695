"""A split of ftkit's own shares no rows that are alike, so that the gate does not refuse what ftkit itself has made."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ftkit.data.apart import keep_apart
from ftkit.data.splits import MEASURED_PARTS, Splits, find_overlap, read_splits
from ftkit.recipe.load import load_values
from ftkit.run import write_jsonl

WORDS = [f"{first}{last}" for first in ("bar", "mel", "tor", "sun", "vik", "pol") for last in ("an", "ed", "ix", "or", "um")]


def sentence(number: int) -> str:
    dice = np.random.default_rng(number)
    return " ".join(dice.choice(WORDS, 18))


def copies_of(text: str, kind: str) -> str:
    """A row's text once more, as people have it in their files."""
    return {"equal": text, "case": f"{text.title()}!", "near": f"{text} indeed"}[kind]


def split_of(tmp_path: Path, rows: list[dict[str, Any]], **data: Any) -> Splits:
    write_jsonl(tmp_path / "rows.jsonl", rows)
    values = {
        "task": "text-classification",
        "model": "m",
        "strategy": "full",
        "data": {"train": str(tmp_path / "rows.jsonl"), **data},
    }
    made = load_values(values)
    strata = lambda found: np.array([int(label == "b") for label in found["label"]])  # noqa: E731
    return read_splits(made.data, made.spec, strata, ("train", "eval", "test") if "test_size" in data else ("train", "eval"))


def overlapping(splits: Splits) -> int:
    parts = [part for part in MEASURED_PARTS if part in splits.rows]
    return sum(len(find_overlap(splits.rows["train"], splits.rows[part], 0.8).pairs()) for part in parts)


@pytest.mark.parametrize("kind", ["equal", "case", "near"])
@pytest.mark.parametrize("sizes", [{"eval_size": 40}, {"eval_size": 0.2, "test_size": 30}])
def test_copies_stand_on_one_side(tmp_path: Path, kind: str, sizes: dict[str, Any]) -> None:
    rows = [{"text": sentence(n), "label": "ab"[n % 2]} for n in range(200)]
    rows += [{"text": copies_of(sentence(n), kind), "label": "ab"[n % 2]} for n in range(60)]
    splits = split_of(tmp_path, rows, **sizes)
    assert overlapping(splits) == 0
    assert len(splits.rows["eval"]) == (40 if sizes["eval_size"] == 40 else 52)
    counts = Counter(splits.rows["eval"]["label"])
    assert abs(counts["a"] - counts["b"]) <= 1
    assert sum(map(len, splits.rows.values())) == len(rows)
    again = split_of(tmp_path, rows, **sizes)
    assert again.rows["eval"]["text"][:] == splits.rows["eval"]["text"][:]


def test_a_split_without_copies_stays_what_it_was(tmp_path: Path) -> None:
    rows = [{"text": sentence(n), "label": "ab"[n % 2]} for n in range(120)]
    apart, plain = split_of(tmp_path, rows, eval_size=30), split_of(tmp_path, rows, eval_size=30, gate={"overlap": 1.0})
    assert apart.rows["eval"]["text"][:] == plain.rows["eval"]["text"][:]


def test_rows_that_are_all_alike_are_left_to_the_gate(tmp_path: Path) -> None:
    rows = [{"text": f"{sentence(1)} {'again ' * (n % 3)}", "label": "ab"[n % 2]} for n in range(60)]
    splits = split_of(tmp_path, rows, eval_size=10)
    assert len(splits.rows["eval"]) == 10
    assert overlapping(splits) == 10


def test_the_last_row_of_a_label_is_not_taken_from_training() -> None:
    class Members:
        rows = np.arange(6)
        codes = np.array([0, 0, 0, 0, 1, 2])

    parts = {"train": np.array([0, 1, 4, 5]), "eval": np.array([2, 3])}
    alike = {2: 0}

    def find(train: np.ndarray, measured: np.ndarray) -> list[tuple[int, int]]:
        places = {row: place for place, row in enumerate(train.tolist())}
        return [(place, places[alike[row]]) for place, row in enumerate(measured.tolist()) if alike.get(row) in places]

    found = keep_apart(parts, find, None, Members(), seed=1)
    assert found["eval"].tolist() == [1, 3]
    assert found["train"].tolist() == [0, 2, 4, 5]
