"""The cleaning steps: what stays, what goes and how it is counted."""

import functools
from pathlib import Path

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, Features, Value, load_dataset

from ftkit.data.steps import (
    balance_labels,
    cap_labels,
    drop_duplicates,
    filter_length,
    map_labels,
    normalise_unicode,
    strip_texts,
)
from ftkit.errors import UserError


def rows_of(*texts: str | None) -> Dataset:
    return Dataset.from_dict({"text": list(texts), "other": list(texts)})


@pytest.mark.parametrize(("form", "text"), [("NFC", "é"), ("NFKC", "é"), ("NFD", "e\u0301"), ("NFKD", "e\u0301")])
def test_unicode_forms(form: str, text: str) -> None:
    rows, changed = normalise_unicode(rows_of("é", "e\u0301", "plain", None), ["text"], form)  # type: ignore[arg-type]
    assert rows["text"][:] == [text, text, "plain", None]
    assert rows["other"][:2] == ["é", "e\u0301"]
    assert changed == 1


def test_strip_counts_rows_and_not_fields() -> None:
    rows, changed = strip_texts(rows_of(" a ", "b", None), ["text", "other"])
    assert rows.to_list() == rows_of("a", "b", None).to_list()
    assert changed == 1
    assert strip_texts(rows, ["text"]) == (rows, 0)


def test_length_filters_count_characters() -> None:
    rows, dropped = filter_length(rows_of("é", "four", "seven77", None), "text", min_characters=1, max_characters=6)
    assert rows["text"][:] == ["é", "four"]
    assert {reason: numbers.tolist() for reason, numbers in dropped.items()} == {
        "under 1 characters": [3],
        "over 6 characters": [2],
    }
    assert filter_length(rows, "text", min_characters=1)[1] == {}


def test_duplicates_are_counted_by_the_strictest_kind() -> None:
    text = "the quick brown fox jumps over the lazy dog and runs away into the deep woods"
    rows = rows_of(text, text.upper(), text, f"{text} again", "something else", ":)", ":(")
    for kind, kept in (("exact", [0, 1, 3, 4, 5, 6]), ("normalised", [0, 3, 4, 5, 6]), ("near", [0, 4, 5, 6])):
        left, dropped = drop_duplicates(rows, rows.select_columns("text"), kind)  # type: ignore[arg-type]
        assert left.to_list() == rows.select(kept).to_list()
    assert {reason: numbers.tolist() for reason, numbers in dropped.items()} == {
        "exact duplicate": [2], "normalised duplicate": [1], "near duplicate": [3],
    }  # fmt: skip


def labelled() -> Dataset:
    return Dataset.from_dict({"text": list(map(str, range(100))), "label": ["a"] * 70 + ["b"] * 20 + ["c"] * 10})


def test_cap_and_balance() -> None:
    rows, dropped = cap_labels(labelled(), "label", 15, seed=1)
    assert [rows["label"][:].count(label) for label in "abc"] == [15, 15, 10]
    assert rows["label"][:] == sorted(rows["label"])
    assert len(dropped["over 15 rows of its label"]) == 60
    rows, _ = balance_labels(labelled(), "label", seed=1)
    assert [rows["label"][:].count(label) for label in "abc"] == [10, 10, 10]
    assert balance_labels(labelled(), "label", seed=1)[0]["text"][:] == rows["text"][:]
    assert balance_labels(labelled(), "label", seed=2)[0]["text"][:] != rows["text"][:]
    assert balance_labels(labelled().select([]), "label", seed=1)[1] == {}


def test_label_map() -> None:
    rows, counts = map_labels(labelled(), "label", {"a": "alpha", "b": "alpha"})
    assert rows["label"][:] == ["alpha"] * 90 + ["c"] * 10
    assert counts == {"a": 70, "b": 20}
    with pytest.raises(UserError, match="no row has the label 'aa'; the nearest is 'a'"):
        map_labels(labelled(), "label", {"aa": "b"})


def test_label_map_of_numbers_and_classes() -> None:
    numbers = Dataset.from_dict({"label": [0, 1, None]})
    assert map_labels(numbers, "label", {"1": "yes"})[0]["label"][:] == ["0", "yes", None]
    classes = Dataset.from_dict({"label": [0, 1]}, Features({"label": ClassLabel(names=["neg", "pos"])}))
    rows, counts = map_labels(classes, "label", {"pos": "positive"})
    assert rows["label"][:] == ["neg", "positive"]
    assert rows.features["label"] == Value("string")
    assert counts == {"pos": 1}


def test_a_second_start_finds_the_steps_in_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "rows.csv").write_text("text,label\n a ,pos\nb,neg\n c,pos\n")

    def clean() -> Dataset:
        rows = load_dataset("csv", data_files=str(tmp_path / "rows.csv"), cache_dir=str(tmp_path / "cache"), split="train")
        rows = strip_texts(normalise_unicode(rows, ["text"], "NFC")[0], ["text"])[0]
        return map_labels(cap_labels(rows, "label", 1, seed=1)[0], "label", {"pos": "positive"})[0]

    first = clean()

    @functools.wraps(Dataset._map_single)  # its name is part of the fingerprint
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the step is not in the cache")

    monkeypatch.setattr(Dataset, "_map_single", refuse)
    assert clean()._fingerprint == first._fingerprint


def test_positions_are_those_of_the_input() -> None:
    dropped = cap_labels(labelled(), "label", 1, seed=3)[1]["over 1 rows of its label"]
    assert dropped.dtype == np.int64
    assert (np.diff(dropped) > 0).all()


def test_duplicates_are_looked_for_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "rows.csv").write_text("text\n" + "a good film\na bad film\n" * 3)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    found = []
    for _ in range(2):
        rows = load_dataset("csv", data_files=str(tmp_path / "rows.csv"), split="train", cache_dir=str(tmp_path / "cache"))
        found.append(drop_duplicates(rows, rows, "near"))
        monkeypatch.setattr("ftkit.data.steps.exact_duplicates", lambda *_: pytest.fail("looked for again"))
    (left, dropped), (again, same) = found
    assert left.to_list() == again.to_list() == [{"text": "a good film"}, {"text": "a bad film"}]
    assert dropped["exact duplicate"].tolist() == same["exact duplicate"].tolist() == [2, 3, 4, 5]
