"""Streaming: training rows read as they are needed, counted as they go by, and never the eval rows among them."""

import gzip
import json
import shutil
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from ftkit import Recipe, RecipeError, UserError, check, train
from ftkit.data import streams
from ftkit.data.ledger import REMEMBERED, STREAMED, Counts
from ftkit.models.load import load_config, load_tokenizer
from ftkit.reading import read_jsonl
from ftkit.recipe.load import load_values
from ftkit.run import Run, resolved_values, write_jsonl
from ftkit.tasks.table import TASKS
from ftkit.training.prepare import Data, prepare

RecipeMaker = Callable[..., Recipe]


def reviews(count: int, offset: int = 0) -> list[dict[str, Any]]:
    """Texts whose numbers are spelt out: the tokenizer of the stand-in knows no digits."""
    names = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    spelt = ((n, " ".join(names[int(digit)] for digit in str(n))) for n in range(offset, offset + count))
    return [{"text": f"Review {text} of many others", "label": "ab"[n % 2]} for n, text in spelt]


@pytest.fixture
def streamed(recipe: RecipeMaker, tmp_path: Path) -> Callable[..., Recipe]:
    """A recipe whose training rows are streamed from a file, written before: `streamed("rows.csv")`."""

    def make(path: str, **blocks: Any) -> Recipe:
        write_jsonl(tmp_path / "eval.jsonl", reviews(10, 9870))
        given = {"train": path, "eval": str(tmp_path / "eval.jsonl"), "streaming": True, "labels": ["a", "b"]}
        data = given | blocks.pop("data", {})
        values = recipe("transfer", **blocks).model_dump(exclude_unset=True)
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


def data_report(folder: Path) -> dict[str, Any]:
    report: dict[str, Any] = json.loads(Run(folder).data_report.read_text(encoding="utf-8"))
    return report


def test_rows_are_counted_once_and_eval_rows_are_never_trained_on(streamed: Callable[..., Recipe], tmp_path: Path) -> None:
    rows = [*reviews(290), *reviews(6, 9870), {"text": " ", "label": "a"}, {"text": "REVIEW nine eight seven ONE of many others!", "label": "b"},
            {"text": "x", "label": "c"}, {"text": "y", "label": "c"}]  # fmt: skip
    gate = {"empty": 0.01, "unknown_label": 0.01}
    made = streamed(write_csv(tmp_path / "rows.csv", rows), training={"max_steps": 120}, data={"gate": gate})  # 3 passes
    result = train(made, output_dir=tmp_path / "run")
    report = data_report(result.folder)
    expected = {"train: kept whole": 290, "removed: among the eval rows too": 7, "train: dropped, empty field": 1,
                "train: dropped, unknown label": 2}  # fmt: skip
    assert report["streamed"] == {"read": 300, "whole_pass": True, "judged_before_step_0": 293, **expected}
    assert report["fates"] == {"eval: kept whole": 10, **expected}
    assert report["sum_of_fates"] == report["rows"] == 310
    assert report["row_ids"]["train: dropped, unknown label"] == {str(tmp_path / "rows.csv"): "299-300"}
    caveats = result.metrics["caveats"]
    assert "7 of 300 streamed train rows were removed: among the eval rows too" in caveats
    assert "1 of 293 train rows have an empty field (allowed by data.gate.empty)" in caveats


def test_rows_nearly_like_an_eval_row_are_dropped(streamed: Callable[..., Recipe], tmp_path: Path) -> None:
    text = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen"
    near = [{"text": f"{text} {word}", "label": "b"} for word in ("again", "once", "more")]
    made = streamed(write_csv(tmp_path / "rows.csv", [*reviews(1500), *near]))
    write_jsonl(tmp_path / "eval.jsonl", [*reviews(10, 9870), {"text": f"{text} eighteen", "label": "b"}])
    assert data_report(train(made, output_dir=tmp_path / "run").folder)["fates"]["removed: among the eval rows too"] == 3


def test_a_fault_after_the_first_rows_is_refused_before_step_0(streamed: Callable[..., Recipe], tmp_path: Path) -> None:
    rows = [*reviews(4000), {"text": "", "label": "a"}, *reviews(1000, 7000)]
    made = streamed(write_csv(tmp_path / "rows.csv", rows))
    with pytest.raises(UserError, match=r"train: 1/5001 rows have an empty field \(rows.csv row 4001, line 4002\)"):
        train(made, output_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_fault_is_named_by_its_file(streamed: Callable[..., Recipe], tmp_path: Path) -> None:
    for number in range(4):
        faulty = [{"text": f"t {number}", "label": "c"}] if number == 2 else []
        write_csv(tmp_path / f"rows_{number}.csv", [*reviews(200, 1000 * number), *faulty])
    with pytest.raises(UserError, match=r"'c' \(rows_2.csv row 201, line 202\)"):
        check(streamed(str(tmp_path / "rows_*.csv")))


def test_answers_that_are_cut_late_in_a_stream_are_refused(recipe: RecipeMaker, tmp_path: Path) -> None:
    rows = [{"instruction": f"Say {n}", "output": f"{n}" + " and so on" * (100 if n >= 1500 else 0)} for n in range(1503)]
    write_jsonl(tmp_path / "rows.jsonl", rows)
    write_jsonl(tmp_path / "eval.jsonl", [{"instruction": f"Count to {n}", "output": str(n)} for n in range(10)])
    values = resolved_values(recipe("full", task="instruction"))
    data = {"train": str(tmp_path / "rows.jsonl"), "eval": str(tmp_path / "eval.jsonl"), "streaming": True}
    with pytest.raises(
        UserError, match=r"train: 3/1503 rows lose the end of their answer, .* \(rows.jsonl rows 1501-1503\)"
    ):
        check(load_values(values | {"data": data | {"over_long": "cut_answer"}}))
    made = load_values(values | {"data": data | {"over_long": "cut_answer", "gate": {"cut_answer": 0.01}}})
    assert check(made).facts


def test_a_fault_among_rows_not_judged_beforehand_stops_the_run(
    streamed: Callable[..., Recipe], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "BUFFER", 50)
    monkeypatch.setattr(streams, "BATCH", 50)
    rows = [*reviews(400), {"text": "t", "label": "c"}, *reviews(400, 7000)]
    settings = {"max_steps": 80, "save_strategy": "steps", "save_steps": 10}
    made = streamed(write_csv(tmp_path / "rows.csv", rows), training=settings, data={"judged_rows": 100})
    with pytest.raises(
        UserError, match=r"train: 1/450 rows have a label that the model does not know: 'c' \(rows.csv row 401"
    ):
        train(made, output_dir=tmp_path / "run")
    run = Run(tmp_path / "run")
    assert run.state == "failed"
    assert (run.checkpoints / "checkpoint-40").is_dir()
    allowed = streamed(write_csv(tmp_path / "rows.csv", rows), training=settings,
                       data={"judged_rows": 100, "gate": {"unknown_label": 0.01}})  # fmt: skip
    result = train(allowed, output_dir=tmp_path / "allowed")
    assert any("train rows have a label that the model does not know" in caveat for caveat in result.metrics["caveats"])
    assert data_report(result.folder)["streamed"]["judged_before_step_0"] == 100


def test_only_rows_that_the_training_reads_are_judged_beforehand(
    streamed: Callable[..., Recipe], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "BUFFER", 100)
    monkeypatch.setattr(streams, "BATCH", 20)
    rows = [*reviews(600), {"text": "t", "label": "c"}]
    made = streamed(write_csv(tmp_path / "rows.csv", rows), training={"max_steps": 10})
    report = data_report(train(made, output_dir=tmp_path / "run").folder)["streamed"]
    assert (
        report["read"] == report["judged_before_step_0"] == 200
    )  # 11 steps of 8 rows and a buffer of 100, in whole batches
    assert not report["whole_pass"]


def test_what_is_held_of_a_stream_does_not_grow() -> None:
    counts = Counts()
    for start in range(0, 1_000_000, 1000):
        numbers = STREAMED + np.arange(start, start + 1000)
        counts.enter(numbers)
        counts.mark(numbers, "train: dropped, empty field")
    assert counts.read == counts.fates["train: dropped, empty field"] == 1_000_000
    assert len(counts.first["train: dropped, empty field"]) == REMEMBERED


def test_steps_that_look_at_one_row_clean_a_stream(streamed: Callable[..., Recipe], tmp_path: Path) -> None:
    rows = [*reviews(1500), {"text": "  Wide open spaces ", "label": "good"}, {"text": "no", "label": "a"},
            {"text": "\ufb01ne words here", "label": "b"}]  # fmt: skip
    steps = {"unicode": "NFKC", "strip": True, "label_map": {"good": "a"}, "min_characters": 5}
    made = streamed(write_csv(tmp_path / "rows.csv", rows), data={"clean": steps})
    report = data_report(train(made, output_dir=tmp_path / "run").folder)
    assert report["changed"] == {"train: texts brought to NFKC": 1, "train: texts stripped": 1, "train: label good → a": 1}
    assert report["streamed"]["removed: under 5 characters"] == 1
    assert report["fates"]["train: kept whole"] == 1502
    entries = list(islice(prepared(made).stream or (), 1502))
    assert {tuple(entry["input_ids"]) for entry in entries} >= {tuple(ids_of(made, "Wide open spaces"))}
    values = resolved_values(made)
    values["data"]["clean"]["label_map"] = {"goood": "a"}
    with pytest.raises(UserError, match="no row has the label 'goood'"):
        check(load_values(values))


def prepared(made: Recipe) -> Data:
    task = TASKS[made.task](made.data)
    config = load_config(made.model, {})
    task.auto_class(config)
    return prepare(made, task, load_tokenizer(made.model), config)


def ids_of(made: Recipe, text: str) -> list[int]:
    ids: list[int] = load_tokenizer(made.model)(text)["input_ids"]
    return ids


@pytest.mark.parametrize("task", ["language-modeling", "masked-language-modeling"])
def test_plain_text_is_streamed(recipe: RecipeMaker, tmp_path: Path, task: str) -> None:
    texts = [f"Chapter {n}. The {n}th day was long, and nobody spoke of it again." for n in range(300)]
    (tmp_path / "rows.txt").write_text("\n\n".join(texts))
    (tmp_path / "eval.txt").write_text("\n\n".join(f"Another story of {n} hills and no valley." for n in range(40)))
    data = {"train": str(tmp_path / "rows.txt"), "eval": str(tmp_path / "eval.txt"), "streaming": True}
    kind = "gpt2" if task == "language-modeling" else "distilbert"
    values = resolved_values(recipe("full", task=task, kind=kind, model={"max_length": 32}, data={"train": "x.txt"})) | {
        "data": data
    }
    made = load_values(values)
    result = train(made, output_dir=tmp_path / "run")
    assert data_report(result.folder)["fates"]["train: kept whole"] == 300
    if task == "language-modeling":
        end = load_tokenizer(made.model).eos_token_id
        tokens = [token for text in texts for token in [*ids_of(made, text), end]]
        blocks = list(islice(prepared(made).stream or (), 2 * len(tokens) // 32))  # two passes
        assert {len(block["input_ids"]) for block in blocks} == {32}
        assert [token for block in blocks for token in block["input_ids"]].count(end) in range(597, 601)


def test_a_file_that_breaks_off_is_named(streamed: Callable[..., Recipe], tmp_path: Path) -> None:
    write_jsonl(tmp_path / "rows.jsonl", reviews(3000))
    with (tmp_path / "rows.jsonl").open("a") as file:
        file.write('{"text": "x", "label": \n')
    with pytest.raises(UserError, match="the stream cannot be read on"):
        check(streamed(str(tmp_path / "rows.jsonl")))


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
    assert "'data.clean.duplicates' needs all rows at once, and cannot be with data.streaming" in words
    assert "'data.packing' has no effect with data.streaming" in words


def test_judged_rows_is_for_streams(recipe: RecipeMaker) -> None:
    with pytest.raises(RecipeError, match=r"'data.judged_rows' is for data.streaming"):
        recipe("full", data={"judged_rows": 100})


def several(folder: Path, weights: bool) -> list[dict[str, Any]]:
    """Two sources of two files each."""
    for name, offset in (("first", 0), ("second", 1000)):
        for number in range(2):
            write_csv(folder / f"{name}_{number}.csv", reviews(30, offset + 100 * number))
    found = [{"path": str(folder / f"{name}_*.csv"), "weight": weight} for name, weight in (("first", 3), ("second", 1))]
    return found if weights else [{"path": source["path"]} for source in found]


def losses(folder: Path) -> dict[int, float]:
    return {line["step"]: line["loss"] for line in read_jsonl(Run(folder).log_file) if "loss" in line}


@pytest.mark.parametrize("kind", ["one file", "several files", "weights"])
def test_a_resumed_run_reads_the_rows_of_an_unbroken_one_in_a_later_pass_too(
    streamed: Callable[..., Recipe], tmp_path: Path, kind: str
) -> None:
    settings = {"max_steps": 24, "save_strategy": "steps", "save_steps": 20, "gradient_accumulation_steps": 2}
    path = write_csv(tmp_path / "rows.csv", reviews(100))
    made = streamed(path, training=settings)
    if kind != "one file":
        values = resolved_values(made)
        values["data"]["train"] = several(tmp_path, weights=kind == "weights")
        made = load_values(values)
    whole = train(made, output_dir=tmp_path / "whole")  # 384 rows: in the fourth pass, or beyond
    train(made, output_dir=tmp_path / "again")
    run = Run(tmp_path / "again")
    shutil.rmtree(run.checkpoints / "checkpoint-24")
    run.log_file.write_text("")
    run.update(state="interrupted")
    resumed = train(made, output_dir=run.folder, resume=True)
    expected = losses(whole.folder)
    assert losses(run.folder) == {step: expected[step] for step in range(21, 25)}
    assert resumed.metrics["tuned"] == whole.metrics["tuned"]
    ours, theirs = (load_file(folder / "model" / "model.safetensors") for folder in (resumed.folder, whole.folder))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert data_report(resumed.folder) == data_report(whole.folder)


def test_weights_decide_how_often_a_source_is_drawn_and_each_pass_has_its_own_order(
    streamed: Callable[..., Recipe], tmp_path: Path
) -> None:
    values = resolved_values(streamed(write_csv(tmp_path / "rows.csv", reviews(100))))
    values["data"]["train"] = several(tmp_path, weights=True)
    values["training"]["max_steps"] = 100
    data = prepared(load_values(values))
    counts, sources = data.ledger.streamed.by_source, data.ledger.sources
    of_first = sum(counts[source.first] for source in sources if "first" in source.path)
    assert 0.6 < of_first / counts.total() < 0.9
    assert data.stream is not None
    entries = [tuple(entry["input_ids"]) for entry in islice(data.stream, 2 * counts.total())]
    passes = entries[: counts.total()], entries[counts.total() :]
    assert len(set(passes[0])) == counts.total()  # no row twice
    assert passes[0] != passes[1]
