"""Rows are named as their owner finds them: the file of a folder, the member of an archive, the row in it and its line.

The kind: a row that is named by a place that its owner cannot look up, as a position in a shuffled split.
"""

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ftkit.api import check
from ftkit.data.ledger import Ledger
from ftkit.data.sources import places_of, read_source
from ftkit.errors import UserError
from ftkit.recipe.schema import Recipe, Source
from ftkit.run import write_jsonl

RecipeMaker = Callable[..., Recipe]


def write_csv(path: Path, rows: list[tuple[str, str]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("text,label\n" + "".join(f'"{text}",{label}\n' for text, label in rows))
    return path


def name(path: Path | str, *positions: int, **options: Any) -> str:
    """The rows at these positions of a source, in words."""
    source = Source(path=str(path), **options)
    rows = read_source(source, split="train", sample_by="line", seed=0, key="data.train")
    ledger = Ledger()
    numbers = ledger.enter(source.path, "train", len(rows), places_of(source, "line", "data.train"))
    return ledger.name(numbers[list(positions)], lines=True)


def test_lines_are_said_where_they_are_no_rows(tmp_path: Path) -> None:
    (tmp_path / "blank.jsonl").write_text('{"text": "a"}\n\n\n{"text": "b"}\n')
    assert name(tmp_path / "blank.jsonl", 0) == "blank.jsonl row 1"
    assert name(tmp_path / "blank.jsonl", 1) == "blank.jsonl row 2, line 4"
    write_csv(tmp_path / "long.csv", [("one\ntwo\nthree", "a"), ("four", "b"), ("five", "b")])
    assert name(tmp_path / "long.csv", 1) == "long.csv row 2, line 5"
    assert name(tmp_path / "long.csv", 1, 2) == "long.csv rows 2-3, from line 5"
    (tmp_path / "bare.csv").write_text("a,x\nb,y\n")
    assert name(tmp_path / "bare.csv", 1, header=["text", "label"]) == "bare.csv row 2"
    (tmp_path / "lines.txt").write_text("\none\n\ntwo\n")
    assert name(tmp_path / "lines.txt", 1) == "lines.txt row 2, line 4"
    (tmp_path / "words.conll").write_text("a O\nb O\n\nc O\n")
    assert name(tmp_path / "words.conll", 1) == "words.conll row 2, line 4"
    (tmp_path / "list.json").write_text(json.dumps([{"text": "a"}, {"text": "b"}], indent=1))
    assert name(tmp_path / "list.json", 1) == "list.json row 2"


@pytest.mark.parametrize("kind", ["csv", "jsonl", "json", "txt", "conll", "parquet"])
def test_the_file_of_a_folder_and_of_a_pattern(tmp_path: Path, kind: str) -> None:
    for file, rows in (("a", 3), ("b/a", 2), ("c", 4)):
        path = tmp_path / "rows" / f"{file}.{kind}"
        path.parent.mkdir(parents=True, exist_ok=True)
        texts = [f"{file} {number}" for number in range(rows)]
        if kind == "parquet":
            import pandas

            pandas.DataFrame({"text": texts}).to_parquet(path)
            continue
        lines = [json.dumps({"text": text}) for text in texts]
        sentences = "\n\n".join(text.replace(" ", "\n").replace("\n", " O\n") + " O" for text in texts)
        path.write_text({
            "csv": "\n".join(["text", *texts]), "jsonl": "\n".join(lines), "json": f"[{','.join(lines)}]",
            "txt": "\n\n".join(texts), "conll": sentences,
        }[kind])  # fmt: skip
    assert name(tmp_path / "rows", 4).startswith(f"rows/b/a.{kind} row 2")
    assert name(tmp_path / "rows", 5).startswith(f"rows/c.{kind} row 1")
    assert name(tmp_path / "rows" / f"*.{kind}", 3).startswith(f"c.{kind} row 1")


def test_the_member_of_an_archive(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "rows.zip", "w") as archive:
        archive.writestr("a/one.csv", "text\nx\ny\n")
        archive.writestr("b.csv", "text\nz\n")
    assert name(tmp_path / "rows.zip", 2) == "rows.zip/b.csv row 1, line 2"
    assert name(tmp_path / "rows.zip", 0, 2) == "rows.zip/a/one.csv row 1, line 2; rows.zip/b.csv row 1, line 2"


def test_many_rows_are_named_without_their_lines(tmp_path: Path) -> None:
    for file in "ab":
        write_csv(tmp_path / "rows" / f"{file}.csv", [("x", "1"), ("y", "2")])
    source = Source(path=str(tmp_path / "rows"))
    ledger = Ledger()
    numbers = ledger.enter(source.path, "train", 4, places_of(source, "line", "data.train"))
    assert ledger.names(numbers[[3, 0]]) == ["rows/b.csv row 2", "rows/a.csv row 1"]
    assert ledger.by_source(np.array([1, 2])) == {
        str(tmp_path / "rows/a.csv"): "2", str(tmp_path / "rows/b.csv"): "1"
    }  # fmt: skip


FAULTY = {
    "token-classification": (
        {"tokens": ["a", "b"], "tags": ["O"]}, {"tokens": ["{}", "b"], "tags": ["O", "B"]}, "2 tokens and 1 tags"
    ),
    "instruction": (
        {"messages": [{"role": "user", "content": "what?"}]},
        {"messages": [{"role": "user", "content": "{}"}, {"role": "assistant", "content": "{}"}]}, "the chat has no assistant's turn",
    ),
}  # fmt: skip


@pytest.mark.parametrize("task", [*FAULTY])
def test_every_encoder_names_the_row_of_the_file_and_not_its_place_in_the_split(
    recipe: RecipeMaker, tmp_path: Path, task: str
) -> None:
    fault, sound, words = FAULTY[task]
    rows = [json.loads(json.dumps(sound).replace("{}", f"word{number}")) for number in range(40)]
    write_jsonl(tmp_path / "rows" / "a.jsonl", rows[:20])
    write_jsonl(tmp_path / "rows" / "b.jsonl", [*rows[20:36], fault, *rows[36:]])
    kind = "distilbert" if task == "token-classification" else "llama"
    data = {"train": str(tmp_path / "rows"), "eval_size": 10}
    data |= {"chat_template": "chatml"} if task == "instruction" else {}
    with pytest.raises(UserError) as raised:
        check(recipe(task=task, kind=kind, data=data))
    assert f"rows/b.jsonl row 17: {words}" in str(raised.value)
