"""The splits of a recipe's data: cleaned, mixed, split and counted, so that each input row has one fate."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from ftkit.data.ledger import ranges
from ftkit.data.splits import Splits, read_splits
from ftkit.errors import UserError
from ftkit.recipe.load import load_values
from ftkit.run import write_jsonl


def splits_of(tmp_path: Path, rows: dict[str, list[dict[str, Any]]], **data: Any) -> Splits:
    """The splits of a recipe on files `NAME.jsonl` in the test's folder."""
    for name, content in rows.items():
        write_jsonl(tmp_path / f"{name}.jsonl", content)
    values = {"task": "text-classification", "model": "m", "strategy": "full", "data": {"train": "rows.jsonl", **data}}
    recipe = load_values(values)
    return read_splits(recipe.data, recipe.spec, lambda _: None)


def reviews(count: int, offset: int = 0, **more: Any) -> list[dict[str, Any]]:
    return [
        {"text": f"Review number {number} of them", "label": "ab"[number % 2], **more}
        for number in range(offset, offset + count)
    ]


def test_the_fates_sum_to_the_rows_whatever_the_steps_do(tmp_path: Path) -> None:
    rows = [*reviews(40), *reviews(4), {"text": "x", "label": "a"}, {"text": " Ünïcode\u0301 ", "label": "B"}]
    clean = {"unicode": "NFC", "strip": True, "label_map": {"B": "b"}, "min_characters": 3, "duplicates": "exact",
             "max_rows_per_label": 15, "balance": True}  # fmt: skip
    splits = splits_of(tmp_path, {"rows": rows}, clean=clean, eval_size=6, test_size=4)
    for part in ("train", "eval"):
        splits.ledger.mark(splits.numbers(part), f"{part}: kept whole")
    counts = splits.ledger.counts()
    assert sum(counts.values()) == len(rows) == 46
    assert counts["removed: exact duplicate"] == 4
    assert counts["removed: under 3 characters"] == 1
    assert counts["test: not read now"] == 4
    assert counts["eval: kept whole"] == 6
    assert splits.changed == {"train: texts brought to NFC": 1, "train: texts stripped": 1, "train: label B → b": 1}


def test_a_group_stands_on_one_side(tmp_path: Path) -> None:
    rows = [{"text": f"text {n}", "label": "ab"[n % 2], "article": n // 5} for n in range(60)]
    splits = splits_of(tmp_path, {"rows": rows}, group_column="article", eval_size=0.25)
    sides = {part: {int(text.split()[1]) // 5 for text in splits.rows[part]["text"]} for part in ("train", "eval")}
    assert not sides["train"] & sides["eval"]
    assert len(splits.rows["eval"]) == 15
    assert "article" not in splits.rows["train"].column_names


def test_a_column_can_name_the_split(tmp_path: Path) -> None:
    rows = [{"text": f"text {n}", "label": "a", "part": ("train", "train", "dev", "test")[n % 4]} for n in range(40)]
    splits = splits_of(tmp_path, {"rows": rows}, split_column="part")
    assert {part: len(found) for part, found in splits.rows.items()} == {"train": 20, "eval": 10}
    with pytest.raises(UserError, match="has no column 'prat'; did you mean part"):
        splits_of(tmp_path, {"rows": rows}, split_column="prat")


def test_sources_are_mixed_by_weight_and_no_row_is_taken_twice(tmp_path: Path) -> None:
    files = {"rows": reviews(100), "more": reviews(100, 1000), "eval": reviews(10, 5000)}
    train = [{"path": "rows.jsonl", "weight": 3}, {"path": "more.jsonl", "weight": 1}]
    splits = splits_of(tmp_path, files, train=train, eval="eval.jsonl")
    sources = Counter("more" if int(text.split()[2]) >= 1000 else "rows" for text in splits.rows["train"]["text"])
    assert sources == {"rows": 100, "more": 33}
    assert splits.ledger.counts()["train: beyond its source's weight"] == 67
    with pytest.raises(UserError, match=r"more.jsonl has no weight"):
        splits_of(tmp_path, files, train=[train[0], "more.jsonl"], eval="eval.jsonl")


def test_training_rows_that_are_eval_rows_are_dropped_and_counted(tmp_path: Path) -> None:
    files = {"rows": reviews(30), "eval": [*reviews(5, 100), *reviews(3)]}
    splits = splits_of(tmp_path, files, eval="eval.jsonl", drop_overlap=True)
    assert len(splits.rows["train"]) == 27
    assert splits.ledger.counts()["removed: among the eval rows too"] == 3


def test_copies_are_made_of_training_rows_only(tmp_path: Path) -> None:
    augment = {"copies": 2, "operations": ["swap_words", "typos"]}
    splits = splits_of(tmp_path, {"rows": reviews(40)}, augment=augment, eval_size=10)
    again = splits_of(tmp_path, {"rows": reviews(40)}, augment=augment, eval_size=10)
    assert len(splits.rows["eval"]) == 10
    assert 60 < len(splits.rows["train"]) <= 90
    assert list(splits.rows["train"]["text"]) == list(again.rows["train"]["text"])
    assert sum(splits.changed.values()) == len(splits.rows["train"]) - 30


def test_each_copy_has_a_fate_of_its_own_and_is_named(tmp_path: Path) -> None:
    splits = splits_of(tmp_path, {"rows": reviews(40)}, augment={"copies": 2, "operations": ["swap_words"]}, eval_size=10)
    ledger, train, count = splits.ledger, splits.numbers("train"), len(splits.rows["train"])
    assert len(set(train.tolist())) == count == 30 + ledger.copies
    ledger.mark(splits.numbers("eval"), "eval: kept whole")
    ledger.mark(train[:30], "train: kept whole")
    ledger.mark(train[30:], "train: dropped, too long")
    assert ledger.counts() == {"eval: kept whole": 10, "train: kept whole": 30, "train: dropped, too long": ledger.copies}
    report = ledger.report()
    assert report["rows"] == report["sum_of_fates"] == 40 + report["of_these_copies"]
    first, second = (int(text.split()[2]) + 1 for text in splits.rows["train"]["text"][:2])
    assert ledger.name(train[:1]) == f"rows.jsonl row {first}"
    assert ledger.name(train[30:31]) == f"rows.jsonl row {first}, copy 1"
    assert ledger.name(train[[0, 1, 30]]) == f"rows.jsonl rows {', '.join(ranges([first, second]))}, {first} copy 1"


def test_a_group_column_that_is_also_a_role_stays(tmp_path: Path) -> None:
    rows = [{"text": f"question {n}", "text_pair": f"passage {n // 4}", "label": "ab"[n % 2]} for n in range(40)]
    splits = splits_of(tmp_path, {"rows": rows}, group_column="text_pair", eval_size=8)
    assert set(splits.rows["train"].column_names) == {"text", "text_pair", "label", "_row"}
    assert not set(splits.rows["train"]["text_pair"]) & set(splits.rows["eval"]["text_pair"])


def test_rows_left_out_of_a_source_are_counted_and_the_others_keep_their_numbers(tmp_path: Path) -> None:
    splits = splits_of(tmp_path, {"rows": reviews(60)}, train={"path": "rows.jsonl", "rows": 50}, eval_size=10)
    assert splits.ledger.counts()["train: beyond its source's rows"] == 10
    for part in ("train", "eval"):
        numbers = [int(text.split()[2]) for text in splits.rows[part]["text"]]
        assert splits.numbers(part).tolist() == numbers


def test_splits_with_other_columns_and_sources_with_other_types_are_refused(tmp_path: Path) -> None:
    pairs = [row | {"text_pair": "more"} for row in reviews(10, 100)]
    with pytest.raises(
        UserError, match=r"the \w+ rows have the columns label, text(, text_pair)?, the \w+ rows label, text"
    ):
        splits_of(tmp_path, {"rows": reviews(20), "eval": pairs}, eval="eval.jsonl")
    numbers = [row | {"label": n % 2} for n, row in enumerate(reviews(20, 200))]
    with pytest.raises(UserError, match="the sources' columns differ in type"):
        splits_of(tmp_path, {"rows": reviews(20), "more": numbers}, train=["rows.jsonl", "more.jsonl"])


def test_the_same_text_with_another_label_is_no_exact_duplicate(tmp_path: Path) -> None:
    rows = [*reviews(20), {"text": "Review number 3 of them", "label": "a"}, *reviews(1)]
    rows = [row | {"article": n} for n, row in enumerate(rows)]
    splits = splits_of(tmp_path, {"rows": rows}, clean={"duplicates": "exact"}, group_column="article", eval_size=5)
    assert splits.ledger.counts()["removed: exact duplicate"] == 1


def test_a_source_named_twice_is_counted_twice(tmp_path: Path) -> None:
    splits = splits_of(tmp_path, {"rows": reviews(10)}, train=["rows.jsonl", "rows.jsonl"], clean={"duplicates": "exact"})
    assert splits.ledger.report()["row_ids"]["removed: exact duplicate"] == {"rows.jsonl": "1-10"}


@pytest.mark.parametrize("step", [{"balance": True}, {"max_rows_per_label": 5}])
@pytest.mark.parametrize("own", [True, False])
def test_rows_to_learn_from_alone_are_balanced(tmp_path: Path, step: dict[str, Any], own: bool) -> None:
    rows = [{"text": f"text {n} of many", "label": "rare" if n % 10 == 0 else "common"} for n in range(200)]
    eval_rows = [{"text": f"another {n} of many", "label": "rare" if n % 10 == 0 else "common"} for n in range(50)]
    sources = {"rows": rows, **({"eval": eval_rows} if own else {})}
    more: dict[str, Any] = {"eval": "eval.jsonl"} if own else {"eval_size": 50}
    plain, thinned = (splits_of(tmp_path, sources, **({"clean": clean} if clean else {}), **more) for clean in ({}, step))
    assert thinned.rows["eval"]["text"][:] == plain.rows["eval"]["text"][:]
    assert len(set(Counter(thinned.rows["train"]["label"]).values())) == 1
    assert len(thinned.rows["train"]) < len(plain.rows["train"])
