"""Keys of a source do what they say, or are refused; the split or member of an archive or folder is found.

The kind: a key that is read and dropped, so that other rows are learnt or measured than the recipe names.
"""

import zipfile
from pathlib import Path
from typing import Any

import pytest

from ftkit.data.paths import require_local, split_in
from ftkit.data.sources import read_source
from ftkit.errors import UserError
from ftkit.hub.names import is_hub_id
from ftkit.recipe.load import load_values
from ftkit.recipe.schema import Source

MEMBERS = {"train.csv": "text\na\n", "test.csv": "text\nb\nc\n", "dev.csv": "text\nd\n"}


def texts(path: Path | str, **keys: Any) -> list[str]:
    rows = read_source(Source(path=str(path), **keys), split="train", sample_by="line", seed=1, key="data.train")
    return list(rows["text"])


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    with zipfile.ZipFile(tmp_path / "corpus.zip", "w") as archive:
        for name, content in MEMBERS.items():
            archive.writestr(f"data/{name}", content)
            (tmp_path / "folder").mkdir(exist_ok=True)
            (tmp_path / "folder" / name).write_text(content)
    return tmp_path


@pytest.mark.parametrize("name", ["corpus.zip", "folder"])
def test_the_files_of_a_split(corpus: Path, name: str) -> None:
    assert texts(corpus / name, split="test") == ["b", "c"]
    assert texts(corpus / name, split="dev") == texts(corpus / name, split="validation") == ["d"]
    with pytest.raises(UserError, match=r"is named after the split 'tets'; it holds .*test.csv"):
        texts(corpus / name, split="tets")
    with pytest.raises(UserError, match=r"holds the files of several splits: .*; say which, as \{path: …, split: train\}"):
        texts(corpus / name)
    assert sorted(texts(corpus / name / "*")) == ["a", "b", "c", "d"]


def test_the_member_of_an_archive(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert texts(corpus / "corpus.zip" / "data" / "test.csv") == ["b", "c"]
    assert texts(corpus / "corpus.zip" / "data" / "t*.csv", split="train") == ["a"]
    monkeypatch.chdir(corpus)
    assert not is_hub_id("corpus.zip/data")
    with pytest.raises(UserError, match=r"holds no data/tset.csv; did you mean .*data/test.csv"):
        texts(corpus / "corpus.zip" / "data" / "tset.csv")


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("train.csv", "train"), ("data/test-00000-of-00002.parquet", "test"), ("dev/pos/1.txt", "eval"),
        ("wnut_train.conll", "train"), ("valid.jsonl.gz", "eval"), ("contest.csv", ""), ("testing.csv", ""), ("a.csv", ""),
    ],
)  # fmt: skip
def test_the_split_in_a_name(name: str, part: str) -> None:
    assert split_in(name) == part


LOCAL = [("split", "test", "which is one file; remove split"), ("name", "plain", "which is a local file"),
         ("revision", "main", "which is a local file")]  # fmt: skip
SAMPLE = [("name", "plain"), ("revision", "main"), ("separator", ";"), ("format", "csv"), ("field", "data")]


@pytest.mark.parametrize(("key", "value", "words"), LOCAL)
def test_keys_without_effect_on_local_files(tmp_path: Path, key: str, value: str, words: str) -> None:
    (tmp_path / "rows.csv").write_text("text\na\n")
    with pytest.raises(UserError, match=rf"'{key}' has no effect on .*rows.csv, {words}"):
        texts(tmp_path / "rows.csv", **{key: value})


@pytest.mark.parametrize(("key", "value"), SAMPLE)
def test_keys_without_effect_on_samples(key: str, value: str) -> None:
    with pytest.raises(UserError, match=f"'{key}' has no effect on sample:sentiment, which is a sample; remove {key}"):
        texts("sample:sentiment", **{key: value})


@pytest.mark.parametrize("key", ["header", "separator", "format"])
def test_keys_without_effect_on_the_hub_are_found_before_it_is_asked(tmp_path: Path, key: str) -> None:
    value = ["a", "b"] if key == "header" else "csv" if key == "format" else ";"
    recipe = load_values({
        "task": "text-classification", "model": str(tmp_path), "strategy": "full",
        "data": {"train": {"path": "org/rows", key: value}},
    })  # fmt: skip
    with pytest.raises(UserError, match=f"'{key}' has no effect on org/rows, which is a data set on the hub"):
        require_local(recipe)
