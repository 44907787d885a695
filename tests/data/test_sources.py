"""Rows from every kind of source, and one clear line for every kind of bad one."""

import gzip
import json
import os
from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset

from ftkit.data.columns import map_columns
from ftkit.data.sources import read_source
from ftkit.data.split import split_rows
from ftkit.errors import UserError
from ftkit.recipe.schema import Source
from ftkit.recipe.tasks import TASK_SPECS

ROWS = [{"text": "good", "label": "1"}, {"text": "NA", "label": "0"}, {"text": 'nül, "x"', "label": "1"}]


def read(path: str | Path, *, split: str = "train", sample_by: str = "line", **options: object) -> Dataset:
    return read_source(Source(path=str(path), **options), split=split, sample_by=sample_by, seed=1, key="data.train")


def write(path: Path, kind: str) -> Path:
    file = path / f"rows.{kind}"
    if kind in ("csv", "tsv"):
        separator = "\t" if kind == "tsv" else ","
        lines = [f"text{separator}label"] + [
            f'"{row["text"].replace(chr(34), chr(34) * 2)}"{separator}{row["label"]}' for row in ROWS
        ]
        file.write_text("\n".join(lines))
    elif kind == "json":
        file.write_text(json.dumps(ROWS))
    elif kind == "jsonl":
        file.write_text("\n".join(map(json.dumps, ROWS)))
    else:
        Dataset.from_list(ROWS).to_parquet(file)
    return file


@pytest.mark.parametrize("kind", ["csv", "tsv", "json", "jsonl", "parquet"])
def test_every_kind_of_file_gives_the_same_rows(tmp_path: Path, kind: str) -> None:
    assert read(write(tmp_path, kind)).to_list() == ROWS


def test_text_files_by_line_and_by_paragraph(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one\ntwo\n\nthree\n")
    assert read(tmp_path / "a.txt")["text"] == ["one", "two", "three"]
    assert read(tmp_path / "a.txt", sample_by="paragraph")["text"] == ["one\ntwo", "three\n"]


def test_globs_and_folders(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.csv").write_text(f"text,label\n{name},1\n")
    assert read(tmp_path / "*.csv")["text"] == ["a", "b"]
    assert read(tmp_path)["text"] == ["a", "b"]


def test_a_file_may_have_a_byte_order_mark_an_encoding_and_constant_columns(tmp_path: Path) -> None:
    (tmp_path / "bom.csv").write_bytes(b"\xef\xbb\xbftext,label\nx,1\n")
    assert read(tmp_path / "bom.csv").column_names == ["text", "label"]
    (tmp_path / "l.txt").write_bytes("café\n".encode("latin-1"))
    assert read(tmp_path / "l.txt", encoding="latin-1", values={"label": "pos"}).to_list() == [
        {"text": "café", "label": "pos"}
    ]


def test_names_with_brackets_and_headers_that_differ(tmp_path: Path) -> None:
    (tmp_path / "x[1].csv").write_text("text,label\na,1\n")
    assert len(read(tmp_path / "x[1].csv")) == 1
    (tmp_path / "y.csv").write_text("text,other\na,1\n")
    with pytest.raises(UserError, match=r"y\.csv:1: the columns text, other, in"):
        read(tmp_path)


def test_rows_are_drawn_with_the_seed(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("\n".join(map(str, range(100))))
    drawn = read(tmp_path / "a.txt", rows=10)["text"]
    assert len(set(drawn)) == 10
    assert drawn == read(tmp_path / "a.txt", rows=10)["text"]


@pytest.mark.parametrize("name", ["sentiment", "dialogues", "instructions", "text"])
def test_samples_of_any_size_with_eval_rows_that_are_not_in_train(name: str) -> None:
    train, held_out = read(f"sample:{name}", rows=500), read(f"sample:{name}", rows=100, split="eval")
    assert (len(train), len(held_out)) == (500, 100)
    assert not {json.dumps(row) for row in train} & {json.dumps(row) for row in held_out}


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.csv", b"", "is empty"),
        ("a.csv", b"text,label\n", "has no rows"),
        ("a.csv", b"text,text\na,b\n", "names the column 'text' twice"),
        ("a.csv", b"text,label\na,1\nb,2,3\n", r"a\.csv:3: 3 fields where the header has 2"),
        ("a.csv", b"text,label\ncaf\xe9,1\n", r"a\.csv:2: not utf-8 \(byte 0xe9\); say its encoding"),
        ("a.csv", b"text,label\na,b,1\nc,d,2\n", r"a\.csv:2: 3 fields where the header has 2"),
        ("a.txt", b"one\ntwo \xff\n", r"a\.txt:2: not utf-8 \(byte 0xff\)"),
        ("a.jsonl", b'{"text": "a"}\n{"text": "b', r"a\.jsonl:2: a truncated JSON line"),
        ("a.jsonl", b'{"text": "a"}\nnonsense\n', r"a\.jsonl:2: not JSON"),
        ("a.jsonl", b'{"text": "a"}\n[1]\n', r"a\.jsonl:2: a JSON list where an object is needed"),
        ("a.jsonl", b'{"text": "a"}\n{"text": 3}\n', r"a\.jsonl:2: 'text' is of type int, in earlier lines str"),
        ("a.json", b'[{"text": "a"},\n {"text"]', r"a\.json:2: not JSON"),
        ("a.parquet", b"PAR1nonsense", "cannot be read as parquet"),
        ("a.xlsx", b"x", "files of kind '.xlsx' cannot be read; a sheet: save it as csv"),
    ],
)  # fmt: skip
def test_bad_files_are_named_with_their_line(tmp_path: Path, name: str, content: bytes, expected: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=expected):
        read(tmp_path / name)


def test_missing_sources(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("text\na\n")
    with pytest.raises(UserError, match=r"no such file.*did you mean .*rows\.csv"):
        read(tmp_path / "row.csv")
    with pytest.raises(UserError, match="nothing matches"):
        read(tmp_path / "*.json")
    with pytest.raises(UserError, match="no sample 'sentimnt'; did you mean sample:sentiment"):
        read("sample:sentimnt")
    with pytest.raises(UserError, match="unknown encoding 'utf-9'"):
        read(tmp_path / "rows.csv", encoding="utf-9")


def test_columns_are_mapped_and_missing_ones_named() -> None:
    rows, spec = Dataset.from_dict({"review": ["a"], "stars": [1]}), TASK_SPECS["text-classification"]
    assert map_columns(rows, spec, {"text": "review", "label": "stars"}, "x")[1].to_list() == [{"text": "a", "label": 1}]
    with pytest.raises(
        UserError, match=r"no column 'text'; did you mean review\? it has review, stars; map it with data\.columns"
    ):
        map_columns(rows, spec, {"label": "stars"}, "x")
    with pytest.raises(UserError, match="x has no column 'reviw'; did you mean review"):
        map_columns(rows, spec, {"text": "reviw"}, "x")


def test_splits_are_seeded_stratified_and_disjoint() -> None:
    labels = np.repeat([0, 1], [90, 10])
    parts = split_rows(100, {"eval": 0.2, "test": 10}, seed=3, labels=labels)
    assert {name: len(rows) for name, rows in parts.items()} == {"eval": 20, "test": 10, "train": 70}
    assert sorted(row for rows in parts.values() for row in rows) == list(range(100))
    assert sum(labels[row] == 1 for row in parts["eval"]) == 2
    same, other = (split_rows(100, {"eval": 0.2, "test": 10}, seed=seed, labels=labels) for seed in (3, 4))
    assert parts["eval"].tolist() == same["eval"].tolist() != other["eval"].tolist()
    renamed = split_rows(100, {"eval": 0.2, "test": 10}, seed=3, labels=labels + 5)  # numbers of dropped labels lack
    assert parts["eval"].tolist() == renamed["eval"].tolist()


def test_a_split_is_the_same_on_every_machine() -> None:
    labels = np.arange(40) % 3
    assert split_rows(40, {"eval": 6}, seed=1, labels=labels)["eval"].tolist() == [0, 7, 9, 17, 23, 28]
    assert split_rows(40, {"eval": 6}, seed=1)["eval"].tolist() == [0, 7, 9, 17, 23, 28]


@pytest.mark.parametrize("kind", ["csv", "jsonl", "txt", "csv.gz"])
def test_a_file_rewritten_within_its_time_and_size_is_read_anew(tmp_path: Path, kind: str) -> None:
    file, found = tmp_path / f"rows.{kind}", []
    for word in ("good", "evil"):
        text = {"csv": f"text,label\n{word},1\n", "jsonl": f'{{"text": "{word}"}}\n', "txt": f"{word}\n"}[
            kind.removesuffix(".gz")
        ]
        file.write_bytes(gzip.compress(text.encode(), mtime=0) if kind.endswith("gz") else text.encode())
        os.utime(file, (10**9, 10**9))
        found.append(read(file)["text"][:])
    assert found == [["good"], ["evil"]]


def test_the_same_content_is_read_from_the_cache_wherever_it_lies(tmp_path: Path) -> None:
    for name, time in (("a", 10**9), ("b", 2 * 10**9)):
        (tmp_path / f"{name}.csv").write_text("text,label\nsome,1\n")
        os.utime(tmp_path / f"{name}.csv", (time, time))
    first, second = read(tmp_path / "a.csv"), read(tmp_path / "b.csv")
    assert first.cache_files == second.cache_files
    assert first._fingerprint == second._fingerprint
    assert read(tmp_path / "a.csv", header=["x", "y"]).column_names == ["x", "y"]


@pytest.mark.parametrize(("count", "size"), [(1, 0.1), (3, 0.1), (10, 10), (10, 11)])
def test_too_few_rows_to_split(count: int, size: float) -> None:
    with pytest.raises(UserError, match="too few to split off"):
        split_rows(count, {"eval": size}, seed=1)
