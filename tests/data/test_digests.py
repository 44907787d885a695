"""Kind: a file that a run follows from and that was changed unseen: edited, shortened, reordered, replaced with its old times."""

import csv
import gzip
import io
import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ftkit.data import digests
from ftkit.data.digests import as_json, changed_base, changes, digests_of, from_json, packed
from ftkit.reading import Damaged
from ftkit.recipe.load import load_values
from ftkit.recipe.schema import Model, Recipe

Rows = list[dict[str, str]]
ROWS: Rows = [{"text": f"row {number} is here", "label": "ab"[number % 2]} for number in range(40)]


def csv_of(rows: Rows) -> bytes:
    stream = io.StringIO()
    writer = csv.DictWriter(stream, ["text", "label"])
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue().encode()


def lines_of(rows: Rows) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def parquet_of(rows: Rows) -> bytes:
    stream = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), stream)
    return stream.getvalue()


def zip_of(rows: Rows) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("inside/rows.jsonl", lines_of(rows))
    return stream.getvalue()


FORMATS: dict[str, tuple[str, str, Callable[[Rows], bytes]]] = {  # the file, what the recipe names, and how it is written
    "csv": ("rows.csv", "rows.csv", csv_of),
    "jsonl": ("rows.jsonl", "rows.jsonl", lines_of),
    "json list": ("rows.json", "rows.json", lambda rows: json.dumps(rows).encode()),
    "parquet": ("rows.parquet", "rows.parquet", parquet_of),
    "text": ("rows.txt", "rows.txt", lambda rows: "".join(row["text"] + "\n" for row in rows).encode()),
    "gz": ("rows.jsonl.gz", "rows.jsonl.gz", lambda rows: gzip.compress(lines_of(rows), mtime=0)),
    "zip": ("rows.zip", "rows.zip", zip_of),
    "member": ("rows.zip", "rows.zip/inside/*.jsonl", zip_of),
    "folder": ("folder/deep/rows.jsonl", "folder", lines_of),
    "glob": ("some/rows.jsonl", "some/*.jsonl", lines_of),
}
CHANGES: dict[str, tuple[Callable[[Rows], Rows], str]] = {  # what is done to the rows, and a part of what is said of jsonl
    "edited": (lambda rows: [*rows[:16], rows[16] | {"text": "Other"}, *rows[17:]], " 17 differs"),
    "two edited": (lambda rows: [*rows[:4], rows[4] | {"text": "Other"}, *rows[5:-1], {"text": "x", "label": "a"}], "2 UNITs differ, the first is UNIT 5"),
    "shortened": (lambda rows: rows[:-1], "1 UNIT fewer at its end"),
    "appended": (lambda rows: [*rows, {"text": "one more", "label": "a"}], "1 UNIT more at its end"),
    "one taken out": (lambda rows: rows[:7] + rows[8:], "the first that differs is UNIT 8"),
    "reordered": (lambda rows: [*rows[:2], *reversed(rows[2:])], "the same UNITs in another order, from UNIT 3 on"),
}  # fmt: skip


def written(name: str, content: bytes) -> Path:
    """The file, with the times that it had before."""
    file = Path(name)
    file.parent.mkdir(parents=True, exist_ok=True)
    before = file.stat() if file.exists() else None
    file.write_bytes(content)
    if before is not None:
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    return file


def recipe_of(path: str, **blocks: Any) -> Recipe:
    values = {"task": "text-classification", "model": "owner/model", "strategy": "full", "data": {"train": path}}
    return load_values({**values, **blocks})


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("kind", FORMATS)
def test_a_changed_data_file_is_named_with_its_row(kind: str, change: str) -> None:
    name, path, write = FORMATS[kind]
    alter, words = CHANGES[change]
    written(name, write(ROWS))
    recipe = recipe_of(path)
    then = from_json(json.loads(json.dumps(as_json(digests_of(recipe)))), Path("inputs.json"))
    assert changes(then, digests_of(recipe)) == []
    written(name, write(alter(ROWS)))
    (found,) = changes(then, digests_of(recipe))
    assert found.name.startswith(name)
    assert found.key == "data.train"
    unit = found.then.unit
    wanted = words.replace("UNIT", unit)
    if kind == "csv":  # the header is a line
        wanted = (
            wanted.replace("17", "18").replace("line 5", "line 6").replace("line 8", "line 9").replace("line 3", "line 4")
        )
    assert wanted in found.what


def test_a_file_that_came_or_went_is_named(tmp_path: Path) -> None:
    for name in ("some/a.jsonl", "some/b.jsonl"):
        written(name, lines_of(ROWS))
    recipe = recipe_of("some")
    then = digests_of(recipe)
    Path("some/a.jsonl").rename("some/c.jsonl")
    found = changes(then, digests_of(recipe))
    assert [(change.name, change.what) for change in found] == [
        ("some/a.jsonl", "missing"), ("some/c.jsonl", "it was not there"),
    ]  # fmt: skip


def test_of_very_many_rows_several_have_one_digest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digests, "MOST_DIGESTS", 8)
    written("rows.jsonl", lines_of(ROWS))
    then = digests_of(recipe_of("rows.jsonl"))
    assert len(then["rows.jsonl"].rows) <= 8
    written("rows.jsonl", lines_of([*ROWS[:16], ROWS[16] | {"text": "Other"}, *ROWS[17:]]))
    (found,) = changes(then, digests_of(recipe_of("rows.jsonl")))
    assert found.what == "the first difference is in lines 17-24"
    written("rows.parquet", parquet_of(ROWS))
    then = digests_of(recipe_of("rows.parquet"))
    written("rows.parquet", parquet_of([*ROWS[:16], ROWS[16] | {"text": "Other"}, *ROWS[17:]]))
    (found,) = changes(then, digests_of(recipe_of("rows.parquet")))
    assert found.what == "the first difference is in rows 1-4,096"
    assert packed("line", [1, 2])[1] == 1


# Kind: what a model is loaded from, and what lies beside it.
LOADED = (
    "config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "vocab.txt",
    "merges.txt", "spiece.model", "chat_template.jinja", "additional_chat_templates/tool.jinja",
)  # fmt: skip
BESIDE = ("README.md", "trainer_state.json", "notes.txt", "pytorch_model.bin", "optimizer.pt", "modeling_own.py")


def model_at(folder: str, names: tuple[str, ...] = LOADED + BESIDE) -> Path:
    for name in names:
        written(f"{folder}/{name}", f"{{}} of {name}".encode())
    return Path(folder)


@pytest.mark.parametrize("name", LOADED + BESIDE)
def test_a_base_that_was_replaced_in_place_is_found_by_what_it_holds(name: str) -> None:
    written("rows.jsonl", lines_of(ROWS))
    base, recipe = model_at("base"), recipe_of("rows.jsonl", model="base")
    then = digests_of(recipe)
    written(f"base/{name}", (base / name).read_bytes()[::-1])  # of the same size, with the same time
    found = [change.name for change in changes(then, digests_of(recipe))]
    assert found == ([f"base/{name}"] if name in LOADED else [])


def test_code_and_parts_of_a_model_are_looked_at_where_they_are_loaded() -> None:
    written("rows.jsonl", lines_of(ROWS))
    model_at("base", ("config.json", "a-1.safetensors", "a-2.safetensors", "old.safetensors", "modeling_own.py"))
    written(
        "base/model.safetensors.index.json",
        json.dumps({"weight_map": {"x": "a-1.safetensors", "y": "a-2.safetensors"}}).encode(),
    )
    plain = digests_of(recipe_of("rows.jsonl", model="base"))
    assert {"base/a-1.safetensors", "base/a-2.safetensors"} < plain.keys()
    assert not {"base/old.safetensors", "base/modeling_own.py"} & plain.keys()
    trusting = digests_of(recipe_of("rows.jsonl", model={"name": "base", "trust_remote_code": True}))
    assert "base/modeling_own.py" in trusting


def test_the_metric_the_general_text_and_another_tokenizer_count() -> None:
    for name in ("rows.jsonl", "metric.py", "text.txt"):
        written(name, lines_of(ROWS))
    model_at("base"), model_at("words")
    more = {"metric_file": "metric.py", "general_text": "text.txt"}
    recipe = recipe_of("rows.jsonl", model={"name": "base", "tokenizer": "words"}, evaluation=more)
    then = digests_of(recipe)
    for name in ("metric.py", "text.txt", "words/tokenizer.json"):
        written(name, b"other")
    found = {change.name: change.key for change in changes(then, digests_of(recipe))}
    assert found == {
        "metric.py": "evaluation.metric_file", "text.txt": "evaluation.general_text", "words/tokenizer.json": "model.tokenizer",
    }  # fmt: skip
    assert "words/model.safetensors" not in then


def test_an_adapter_asks_for_its_weights_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digests, "LARGE", 1)  # also what is kept of large files tells
    monkeypatch.setattr(digests, "SETTLED_NS", -1)
    written("rows.jsonl", lines_of(ROWS))
    model_at("base")
    then, block = digests_of(recipe_of("rows.jsonl", model="base")), Model(name="base")
    assert changed_base(block, then) == []
    written("base/tokenizer.json", b"other")  # its own is saved with it
    assert changed_base(block, then) == []
    written("base/model.safetensors", Path("base/model.safetensors").read_bytes()[::-1])
    assert [change.name for change in changed_base(block, then)] == ["base/model.safetensors"]
    Path("base").rename("elsewhere")
    assert changed_base(block, then) == []  # whoever loads it says that it is not there


@pytest.mark.parametrize(
    "values",
    [
        {"a": 1},
        {"a": {"key": 1, "size": "x", "sha256": "0"}},
        {"a": {"other": 1}},
        {"a": {"key": "k", "size": 1, "sha256": "0", "digests": "?"}},
    ],
)
def test_what_was_noted_and_is_none_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(Damaged):
        from_json(values, Path("inputs.json"))
