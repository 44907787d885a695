"""Streaming: training rows read as they are needed, counted as they go by, and never the eval rows among them."""

import gzip
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ftkit import Recipe, RecipeError, UserError, check, train
from ftkit.recipe.load import load_values
from ftkit.run import Run, resolved_values, write_jsonl

RecipeMaker = Callable[..., Recipe]


def reviews(count: int, offset: int = 0) -> list[dict[str, Any]]:
    return [{"text": f"Review number {n} of many others", "label": "ab"[n % 2]} for n in range(offset, offset + count)]


@pytest.fixture
def streamed(recipe: RecipeMaker, tmp_path: Path) -> Callable[..., Recipe]:
    """A recipe whose training rows are streamed from a file, written before: `streamed("rows.csv")`."""

    def make(path: str, **blocks: Any) -> Recipe:
        write_jsonl(tmp_path / "eval.jsonl", reviews(10, 5000))
        values = recipe("transfer", **blocks).model_dump(exclude_unset=True)
        data = {"train": path, "eval": str(tmp_path / "eval.jsonl"), "streaming": True, "labels": ["a", "b"]}
        values["data"] = {key: value for key, value in values["data"].items() if key != "eval_size"} | data
        return load_values(values)

    return make


def write_csv(path: Path, rows: list[dict[str, Any]]) -> str:
    lines = ["text,label", *(f"{row['text']},{row['label']}" for row in rows)]
    text = "\n".join(lines) + "\n"
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text)
    return str(path)


def test_rows_are_counted_and_eval_rows_are_never_trained_on(streamed: Callable[..., Recipe], tmp_path: Path) -> None:
    rows = [*reviews(1990), *reviews(6, 5000), {"text": " ", "label": "a"}, {"text": "REVIEW NUMBER 5001 of many others!", "label": "b"},
            {"text": "x", "label": "c"}, {"text": "y", "label": "c"}]  # fmt: skip
    made = streamed(write_csv(tmp_path / "rows.csv", rows), training={"max_steps": 250})
    result = train(made, output_dir=tmp_path / "run")
    caveats = result.metrics["caveats"]
    assert any("streamed train rows were dropped, among the eval rows too" in caveat for caveat in caveats)
    counts = json.loads(Run(result.folder).data_report.read_text(encoding="utf-8"))["streamed"]
    expected = {"read": 2000, "kept whole": 1990, "dropped, among the eval rows too": 7, "dropped, empty field": 1,
                "dropped, unknown label": 2}  # fmt: skip
    assert {name: count // (counts["read"] // 2000) for name, count in counts.items()} == expected


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.csv", "rows.csv.gz"])
def test_formats_that_can_be_streamed(streamed: Callable[..., Recipe], tmp_path: Path, name: str) -> None:
    if name.endswith("jsonl"):
        write_jsonl(tmp_path / name, reviews(100))
    else:
        write_csv(tmp_path / name, reviews(100))
    assert check(streamed(str(tmp_path / name))).facts["train rows"].startswith("100 entries")


def test_a_list_of_json_cannot_be_streamed(streamed: Callable[..., Recipe], tmp_path: Path) -> None:
    (tmp_path / "rows.json").write_text(json.dumps(reviews(20)))
    with pytest.raises(UserError, match="no file of JSON lines, and only those can be streamed"):
        check(streamed(str(tmp_path / "rows.json")))


def test_the_gate_judges_the_first_rows(streamed: Callable[..., Recipe], tmp_path: Path) -> None:
    rows = [*reviews(50), *({"text": f"t {n}", "label": "c"} for n in range(50))]
    with pytest.raises(UserError, match="train: 50/100 rows have a label that the model does not know"):
        check(streamed(write_csv(tmp_path / "rows.csv", rows)))


def test_what_a_stream_needs_and_cannot_do_is_said_before_anything_is_read(recipe: RecipeMaker) -> None:
    values = resolved_values(recipe("full"))
    values["data"] = {"train": "x.csv", "streaming": True, "packing": True, "clean": {"duplicates": "exact"}}
    values["training"].pop("max_steps")
    with pytest.raises(RecipeError) as caught:
        load_values(values)
    words = str(caught.value)
    assert "data.streaming needs data.eval" in words
    assert "data.streaming needs training.max_steps" in words
    assert "'data.clean' has no effect with data.streaming" in words


def test_a_streamed_run_repeats_and_resumes(
    streamed: Callable[..., Recipe], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"max_steps": 6, "save_strategy": "steps", "save_steps": 3, "eval_strategy": "no"}
    made = streamed(write_csv(tmp_path / "rows.csv", reviews(200)), training=settings)
    whole = train(made, output_dir=tmp_path / "whole").metrics["tuned"]
    assert train(made, output_dir=tmp_path / "again").metrics["tuned"] == whole
    run = Run(tmp_path / "again")
    shutil.rmtree(run.checkpoints / "checkpoint-6")
    run.update(state="interrupted")
    assert train(made, output_dir=run.folder, resume=True).metrics["tuned"] == whole
