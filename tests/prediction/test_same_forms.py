"""What training reads `predict` and `eval` read too, and predictions are in the form that their file's name says.

The kind: a file that one command takes and another refuses, or that holds something else than its name says.
"""

import csv
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset

from ftkit.errors import UserError
from ftkit.evaluation.target import replaced_data
from ftkit.prediction.files import opened_rows
from ftkit.prediction.output import require_output, writer_for
from ftkit.prediction.rows import Source, require_readable
from ftkit.recipe.load import load_values

ROWS = [{"text": "a, b"}, {"text": 'c "d"'}]


def recipe(**source: Any) -> Any:
    data = {"train": {"path": "train.csv", **source}}
    return load_values({"task": "text-classification", "model": "x", "strategy": "full", "data": data})


def read(path: Path | str, made: Any = None, **options: Any) -> list[Any]:
    source = Source(str(path), **options)
    require_readable(source)
    with opened_rows(source, made or recipe()) as rows:
        return list(rows)


def test_every_form_that_training_reads(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, ROWS)))
    (tmp_path / "a.json").write_text(json.dumps(ROWS, indent=1))
    (tmp_path / "a.txt").write_text('a, b\nc "d"\n')
    Dataset.from_list(ROWS).to_parquet(tmp_path / "a.parquet")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a.jsonl").write_text(json.dumps(ROWS[0]))
    (tmp_path / "folder" / "b.jsonl").write_text(json.dumps(ROWS[1]))
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(tmp_path / "a.jsonl", "rows.jsonl")
    for name in ("a.jsonl", "a.json", "a.txt", "a.parquet", "folder", "folder/*.jsonl", "a.zip", "a.zip/rows.jsonl"):
        found = read(tmp_path / name)
        assert [row.fields for row in found] == ROWS, name
        assert [row.number for row in found] == [0, 1]
    assert [row.place for row in read(tmp_path / "folder")] == ["folder/a.jsonl row 1", "folder/b.jsonl row 1"]
    assert read(tmp_path / "a.zip")[1].place == "a.zip/rows.jsonl row 2"
    (tmp_path / "a.conll").write_text("# x = y\nNew O\nYork O\n")
    assert read(tmp_path / "a.conll")[0].fields["tokens"] == ["New", "York"]
    (tmp_path / "a.xlsx").write_bytes(b"x")
    with pytest.raises(UserError, match="save it as csv"):
        read(tmp_path / "a.xlsx")


def test_files_are_read_as_those_of_training(tmp_path: Path) -> None:
    (tmp_path / "new.csv").write_text("good;1\nbad;2\n")
    made = recipe(header=["text", "id"], separator=";")
    assert [row.fields for row in read(tmp_path / "new.csv", made)] == [
        {"text": "good", "id": "1"},
        {"text": "bad", "id": "2"},
    ]
    block = {"train": [{"path": "a.csv", "header": ["text", "id"], "separator": ";"}, "b.jsonl"], "eval_size": 0.1}
    assert replaced_data(block, "new.csv")["eval"] == {"path": "new.csv", "header": ["text", "id"], "separator": ";"}
    assert replaced_data(block, "new.jsonl")["eval"] == {"path": "new.jsonl"}


def test_csv_out_is_csv() -> None:
    stream, write = io.BytesIO(), writer_for(Path("out.csv"))
    write(stream, [{"row": 0, "text": 'a "b",\nc', "predicted": ["x", "y"], "probabilities": {"x": 0.5}}])
    write(stream, [{"row": 1, "text": "é", "problem": "empty"}])
    rows = list(csv.DictReader(io.StringIO(stream.getvalue().decode(), newline="")))
    assert [row["text"] for row in rows] == ['a "b",\nc', "é"]
    assert json.loads(rows[0]["predicted"]) == ["x", "y"]
    assert json.loads(rows[0]["probabilities"]) == {"x": 0.5}
    assert [row["problem"] for row in rows] == ["", "empty"]
    with pytest.raises(UserError, match=r"row 2 has a field 'other' that earlier ones lack; write .jsonl"):
        write(stream, [{"row": 2, "other": 1}])
    stream, write = io.BytesIO(), writer_for(Path("out.tsv"))
    write(stream, [{"row": 0, "text": "a\tb"}])
    assert next(csv.DictReader(io.StringIO(stream.getvalue().decode()), delimiter="\t"))["text"] == "a\tb"
    stream, write = io.BytesIO(), writer_for(Path("out.jsonl"))
    write(stream, [{"row": 0}])
    assert stream.getvalue() == b'{"row": 0}\n'


def test_names_that_say_something_else_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"would hold JSON lines, and its name says otherwise; name it .jsonl, .csv or .tsv"):
        require_output(tmp_path / "out.parquet", "rows.csv", resume=False, overwrite=False)
    with pytest.raises(UserError, match=r"a .csv file cannot be gone on with; write .jsonl"):
        require_output(tmp_path / "out.csv", "rows.csv", resume=True, overwrite=False)
    require_output(tmp_path / "out.csv", "rows.csv", resume=False, overwrite=False)
