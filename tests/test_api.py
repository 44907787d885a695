"""A run from recipe to folder: what it holds, that it repeats, resumes, stops and loads elsewhere."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from ftkit import Interrupted, Recipe, UserError, check, evaluate, load_recipe, train
from ftkit.claim import claimed
from ftkit.run import Run, dump_recipe, write_json
from ftkit.training import callbacks
from ftkit.training.checkpoints import SEAL, is_whole, last_whole_checkpoint

RecipeMaker = Callable[..., Recipe]


def tuned(folder: Path) -> Any:
    return json.loads((folder / "metrics.json").read_text())["tuned"]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(next((folder / "model").glob("*.safetensors")))


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.slow
def test_a_finished_run_holds_all_it_should(recipe: RecipeMaker, tmp_path: Path) -> None:
    result = train(recipe("lora", evaluation={"verify": True}), output_dir=tmp_path / "run")
    run = Run(result.folder)
    names = {path.name for path in run.folder.iterdir()} - {"tensorboard"}  # where it is installed
    assert names == {
        "recipe.yaml",
        "run.json",
        "log.jsonl",
        "checkpoints",
        "model",
        "metrics.json",
        "data_report.json",
        "analysis.json",
        "predictions.jsonl",
        "outputs",
        "verification",
        "README.md",
        "report.html",
        "inputs.json",
        "seal.json",
    }
    assert run.state == "finished"
    assert {
        "versions",
        "machine",
        "seed",
        "data",
        "parameters",
        "seconds",
        "peak_memory_bytes",
        "command",
    } <= run.record.keys()
    assert set(result.metrics["baseline"]) == set(result.metrics["tuned"]) == {"accuracy", "f1"}
    rows = [json.loads(line) for line in run.predictions_file.read_text().splitlines()]
    assert len(rows) == result.metrics["rows"] == 20
    assert {"row", "text", "label", "baseline", "tuned"} <= rows[0].keys()
    right = sum(row["label"] == row["tuned"]["predicted"] for row in rows) / 20
    assert right == result.metrics["tuned"]["accuracy"]
    assert [json.loads(line)["step"] for line in run.log_file.read_text().splitlines()][:4] == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("strategy", "task"), [("lora", "text-classification"), ("full", "instruction"), ("qlora", "instruction")]
)
@pytest.mark.slow
def test_the_same_recipe_twice_gives_the_same(recipe: RecipeMaker, tmp_path: Path, strategy: str, task: str) -> None:
    made = recipe(strategy, task=task)
    for name in ("a", "b"):
        train(made, output_dir=tmp_path / name)
    assert (tmp_path / "a/metrics.json").read_text() == (tmp_path / "b/metrics.json").read_text()
    assert (tmp_path / "a/predictions.jsonl").read_text() == (tmp_path / "b/predictions.jsonl").read_text()
    assert same(weights(tmp_path / "a"), weights(tmp_path / "b"))


LOAD_PLAIN = """
import json, sys, torch
from transformers import AutoTokenizer, AutoModelForSequenceClassification
from peft import AutoPeftModelForSequenceClassification
folder, rows = sys.argv[1], json.load(open(sys.argv[2]))
adapter = sys.argv[3] == "lora"
model = (AutoPeftModelForSequenceClassification if adapter else AutoModelForSequenceClassification).from_pretrained(folder).eval()
tokenizer = AutoTokenizer.from_pretrained(folder)
labels = json.load(open(folder + "/config.json"))["id2label"]
with torch.no_grad():
    logits = model(**tokenizer(rows, padding=True, return_tensors="pt")).logits
print(json.dumps({"labels": [labels[str(i)] for i in logits.argmax(-1).tolist()], "probability": logits.softmax(-1).max(-1).values.tolist()}))
"""


@pytest.mark.parametrize("strategy", ["full", "transfer", "lora"])
@pytest.mark.slow
def test_plain_libraries_in_a_new_process_predict_the_same(recipe: RecipeMaker, tmp_path: Path, strategy: str) -> None:
    train(recipe(strategy, training={"bf16": False}), output_dir=tmp_path / "run")
    rows = [json.loads(line) for line in (tmp_path / "run/predictions.jsonl").read_text().splitlines()]
    (tmp_path / "texts.json").write_text(json.dumps([row["text"] for row in rows]))
    words = [sys.executable, "-c", LOAD_PLAIN, str(tmp_path / "run/model"), str(tmp_path / "texts.json"), strategy]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    plain = json.loads(done.stdout.splitlines()[-1])
    assert plain["labels"] == [row["tuned"]["predicted"] for row in rows]
    assert plain["probability"] == pytest.approx([row["tuned"]["probability"] for row in rows], abs=1e-5)


@pytest.mark.parametrize("strategy", ["full", "transfer", "lora", "qlora"])
@pytest.mark.slow
def test_eval_of_a_run_gives_the_runs_own_figures(recipe: RecipeMaker, tmp_path: Path, strategy: str) -> None:
    result = train(recipe(strategy), output_dir=tmp_path / "run")
    assert evaluate(tmp_path / "run").metrics == result.metrics["tuned"]


@pytest.mark.parametrize("strategy", ["full", "transfer"])
def test_the_reloaded_model_computes_as_the_trained_one_did(recipe: RecipeMaker, tmp_path: Path, strategy: str) -> None:
    result = train(recipe(strategy, evaluation={"metrics": ["loss"]}), output_dir=tmp_path / "run")
    assert evaluate(result.folder).metrics == result.metrics["tuned"]


def test_eval_of_any_model_given_task_and_data(recipe: RecipeMaker, tmp_path: Path, reviews: Path) -> None:
    train(recipe("full"), output_dir=tmp_path / "run")
    score = evaluate(tmp_path / "run/model", task="text-classification", data=str(reviews))
    assert score.rows == 120
    assert 0 <= score.metrics["accuracy"] <= 1


def stop_at(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    original = callbacks.StopOnSignal.on_step_end

    def on_step_end(self: callbacks.StopOnSignal, args: Any, state: Any, control: Any, **rest: Any) -> None:
        self.asked = self.asked or state.global_step == step
        original(self, args, state, control, **rest)

    monkeypatch.setattr(callbacks.StopOnSignal, "on_step_end", on_step_end)


@pytest.mark.slow
def test_a_run_stopped_within_an_epoch_resumes_to_the_same_under_dropout(
    recipe: RecipeMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = recipe({"name": "lora", "lora_dropout": 0.3}, training={"max_steps": 20}, evaluation={"metrics": ["loss"]})
    train(made, output_dir=tmp_path / "unbroken")  # 13 steps an epoch
    with monkeypatch.context() as patch:
        stop_at(5, patch)
        with pytest.raises(Interrupted):
            train(made, output_dir=tmp_path / "broken")
    train(made, output_dir=tmp_path / "broken", resume=True)
    assert tuned(tmp_path / "broken") == tuned(tmp_path / "unbroken")


@pytest.mark.parametrize("strategy", ["full", "lora"])
@pytest.mark.slow
def test_a_resumed_run_ends_where_the_unbroken_one_ends(
    recipe: RecipeMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, strategy: str
) -> None:
    made = recipe(strategy, training={"max_steps": 6})
    train(made, output_dir=tmp_path / "unbroken")
    with monkeypatch.context() as patch:
        stop_at(3, patch)
        with pytest.raises(Interrupted, match="stopped at step 3"):
            train(made, output_dir=tmp_path / "broken")
    assert Run(tmp_path / "broken").state == "interrupted"
    with pytest.raises(UserError, match="holds a run that is interrupted, with checkpoints; go on with --resume"):
        train(made, output_dir=tmp_path / "broken")
    train(made, output_dir=tmp_path / "broken", resume=True)
    assert Run(tmp_path / "broken").record["resumed"] == [3]
    assert (tmp_path / "broken/metrics.json").read_text() == (tmp_path / "unbroken/metrics.json").read_text()
    assert (tmp_path / "broken/predictions.jsonl").read_text() == (tmp_path / "unbroken/predictions.jsonl").read_text()
    assert same(weights(tmp_path / "broken"), weights(tmp_path / "unbroken"))


@pytest.mark.slow
def test_a_run_that_was_cut_off_after_its_last_step_takes_no_step_more(
    recipe: RecipeMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = recipe("full")
    train(made, output_dir=tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr("ftkit.api.save_model", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            train(made, output_dir=tmp_path / "cut")
    result = train(made, output_dir=tmp_path / "cut", resume=True)
    assert result.record["steps"] == 4
    assert same(weights(tmp_path / "cut"), weights(tmp_path / "whole"))


@pytest.mark.slow
def test_a_damaged_checkpoint_is_passed_over_for_an_older_one(
    recipe: RecipeMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = recipe("lora", training={"max_steps": 6, "save_strategy": "steps", "save_steps": 2})
    with monkeypatch.context() as patch:
        stop_at(4, patch)
        with pytest.raises(Interrupted):
            train(made, output_dir=tmp_path / "run")
    checkpoints = tmp_path / "run/checkpoints"
    optimizer = checkpoints / "checkpoint-4/optimizer.pt"
    data = bytearray(optimizer.read_bytes())
    data[len(data) // 2] ^= 1
    optimizer.write_bytes(data)
    assert not is_whole(checkpoints / "checkpoint-4")
    train(made, output_dir=tmp_path / "run", resume=True)
    assert Run(tmp_path / "run").record["resumed"] == [2]


def test_a_checkpoint_without_a_seal_does_not_count(tmp_path: Path) -> None:
    (tmp_path / "checkpoint-5").mkdir()
    (tmp_path / "checkpoint-5/model.safetensors").write_bytes(b"half")
    assert last_whole_checkpoint(tmp_path) is None
    assert [path.name for path in tmp_path.iterdir()] == ["damaged-checkpoint-5"]  # until a new one is whole


def test_a_changed_recipe_is_not_resumed(recipe: RecipeMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        stop_at(2, patch)
        with pytest.raises(Interrupted):
            train(recipe("lora"), output_dir=tmp_path / "run")
    with pytest.raises(UserError, match=r"the recipe changed.*training.learning_rate \(0.001 → 0.5\)"):
        train(recipe("lora", training={"learning_rate": 0.5}), output_dir=tmp_path / "run", resume=True)


@pytest.mark.slow
def test_a_finished_run_is_not_overwritten_without_being_told(recipe: RecipeMaker, tmp_path: Path) -> None:
    train(recipe("full"), output_dir=tmp_path / "run")
    before = (tmp_path / "run/run.json").read_text()
    with pytest.raises(UserError, match="holds a finished run"):
        train(recipe("full"), output_dir=tmp_path / "run")
    with pytest.raises(UserError, match="no column"):
        train(recipe("full", data={"columns": {"text": "body"}}), output_dir=tmp_path / "run", overwrite=True)
    assert (tmp_path / "run/run.json").read_text() == before
    assert tuned(tmp_path / "run")
    train(recipe("lora"), output_dir=tmp_path / "run", overwrite=True)
    assert (tmp_path / "run/model/adapter_config.json").is_file()


def test_files_that_are_no_run_are_never_removed(recipe: RecipeMaker, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").write_text("precious")
    for overwrite in (False, True):
        with pytest.raises(UserError, match="files that are not a run's"):
            train(recipe("full"), output_dir=tmp_path / "mine", overwrite=overwrite)
    assert (tmp_path / "mine/thesis.txt").read_text() == "precious"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"data": {"columns": {"label": "text"}}}, "two roles name the same column"),
        ({"data": {"columns": {"label": "lable"}}}, "has no column 'lable'; did you mean label"),
        ({"data": {"labels": ["negative", "mixed"]}}, "have a label that the model does not know: 'positive'"),
        ({"data": {"eval_size": 500}}, "too few to split off"),
        ({"model": {"max_length": 100000}}, "more than the 256 positions"),
        ({"model": {"name": "./nowhere"}}, "no model folder ./nowhere"),
        ({"training": {"load_best_model_at_end": True, "save_strategy": "no"}}, "transformers refuses"),
    ],
)
def test_what_does_not_fit_is_one_line_and_nothing_is_written(
    recipe: RecipeMaker, tmp_path: Path, change: dict[str, Any], expected: str
) -> None:
    with pytest.raises(UserError, match=expected):
        train(recipe("full", **change), output_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([{"text": "a", "label": "x"}] * 30, "one label only, 'x'"),
        ([{"text": "a", "label": "x"}, {"text": "", "label": "y"}] * 20, "10/20 rows have an empty field"),
        ([{"text": None, "label": "x"}, {"text": "b", "label": "y"}] * 20, "10/20 rows have an empty field"),
        ([{"text": str(i), "label": str(i)} for i in range(40)], "these are no classes"),
    ],
)
def test_bad_rows_are_named(recipe: RecipeMaker, tmp_path: Path, rows: list[dict[str, Any]], expected: str) -> None:
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(UserError, match=expected):
        train(recipe("full", data={"train": str(tmp_path / "rows.jsonl")}), output_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_an_empty_label_becomes_no_class(recipe: RecipeMaker, tmp_path: Path) -> None:
    rows = [{"text": f"text {i}", "label": "xy"[i % 2]} for i in range(60)] + [{"text": "none", "label": None}]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    data = {"train": str(tmp_path / "rows.jsonl"), "drop_empty": True}
    result = train(recipe("full", data=data), output_dir=tmp_path / "run")
    assert set(json.loads((result.folder / "model/config.json").read_text())["label2id"]) == {"x", "y"}


def test_what_only_the_optimizer_lacks_is_known_before_anything_is_written(recipe: RecipeMaker, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="transformers refuses"):
        train(recipe("full", training={"optim": "galore_adamw"}), output_dir=tmp_path / "run")
    assert not (tmp_path / "run/run.json").exists()


def test_empty_rows_are_dropped_and_counted_on_wish(recipe: RecipeMaker, tmp_path: Path) -> None:
    rows = [{"text": f"good number {i}", "label": "x"} for i in range(20)] + [
        {"text": f"bad {i}", "label": "y"} for i in range(20)
    ]
    rows += [{"text": " ", "label": "y"}] * 4
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    result = train(
        recipe("full", data={"train": str(tmp_path / "rows.jsonl"), "drop_empty": True, "eval_size": 8}),
        output_dir=tmp_path / "run",
    )
    fates = json.loads(Run(result.folder).data_report.read_text(encoding="utf-8"))["fates"]
    assert sum(count for fate, count in fates.items() if fate.endswith("dropped, empty field")) == 4
    assert sum(fates.values()) == 44


@pytest.mark.parametrize("files", [["config.json"], ["tokenizer*", "vocab*"], ["model.safetensors"]])
def test_an_incomplete_model_folder_is_named(recipe: RecipeMaker, tmp_path: Path, files: list[str]) -> None:
    import shutil

    made = recipe("full")
    shutil.copytree(made.model.name, tmp_path / "model")
    for pattern in files:
        for file in (tmp_path / "model").glob(pattern):
            file.unlink()
    with pytest.raises(UserError, match="holds no "):
        train(recipe("full", model={"name": str(tmp_path / "model")}), output_dir=tmp_path / "run")


def test_damaged_weights_are_named(recipe: RecipeMaker, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(recipe("full").model.name, tmp_path / "model")
    weights_file = tmp_path / "model/model.safetensors"
    weights_file.write_bytes(weights_file.read_bytes()[:1000])
    with pytest.raises(UserError, match="damaged"):
        train(recipe("full", model={"name": str(tmp_path / "model")}), output_dir=tmp_path / "run")


def test_a_full_disk_is_one_line(recipe: RecipeMaker, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if (
        os.geteuid() != 0
        or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(disk)], capture_output=True).returncode
    ):
        pytest.skip("a small disk cannot be mounted here")
    try:
        with pytest.raises(UserError, match="no space is left"):
            train(recipe("full"), output_dir=disk / "run")
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_an_output_folder_that_cannot_be_written(recipe: RecipeMaker, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        train(recipe("full"), output_dir=tmp_path / "file/run")


@pytest.mark.parametrize("strategy", ["full", "transfer", "lora", "qlora"])
def test_check_runs_one_batch_and_writes_nothing(recipe: RecipeMaker, tmp_path: Path, strategy: str) -> None:
    before = set(tmp_path.rglob("*"))
    facts = check(recipe(strategy)).facts
    assert "longest batch" in facts
    assert set(tmp_path.rglob("*")) == before


def test_a_seal_lists_every_file(recipe: RecipeMaker, tmp_path: Path) -> None:
    train(recipe("lora"), output_dir=tmp_path / "run")
    checkpoint = next((tmp_path / "run/checkpoints").iterdir())
    sealed = json.loads((checkpoint / SEAL).read_text())
    assert sealed.keys() | {SEAL} == {path.name for path in checkpoint.iterdir()}


@pytest.mark.slow
def test_a_replaced_run_is_kept_until_the_new_one_is_finished(
    recipe: RecipeMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, replaced = tmp_path / "run", tmp_path / "run/replaced"
    first = train(recipe("lora"), output_dir=folder)
    with monkeypatch.context() as patch:
        patch.setattr("ftkit.api.fit", raise_a_fault)
        with pytest.raises(RuntimeError, match="a fault"):
            train(recipe("lora"), output_dir=folder, overwrite=True)
    assert Run(folder).state == "failed"
    assert json.loads((replaced / "metrics.json").read_text(encoding="utf-8")) == first.metrics
    with pytest.raises(UserError, match="and in replaced/ the finished one"):
        train(recipe("lora"), output_dir=folder)
    train(recipe("lora"), output_dir=folder, overwrite=True)
    assert Run(folder).state == "finished"
    assert not replaced.exists()


def raise_a_fault(*_: object) -> None:
    raise RuntimeError("a fault")


def test_two_runs_do_not_write_into_one_folder(recipe: RecipeMaker, tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    with claimed(run.folder), pytest.raises(UserError, match="another process is training into"):
        train(recipe("lora"), output_dir=run.folder)
    assert list(tmp_path.iterdir()) == []


def test_resume_and_overwrite_exclude_each_other(recipe: RecipeMaker, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="give one of them"):
        train(recipe("lora"), output_dir=tmp_path / "run", resume=True, overwrite=True)


def test_numbers_that_json_has_no_word_for_are_null(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"loss": float("nan"), "rows": [1.5, float("inf")]})
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == {"loss": None, "rows": [1.5, None]}


def test_a_recipe_that_was_read_runs_where_its_file_would(recipe: RecipeMaker, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(dump_recipe(recipe("lora")), encoding="utf-8")
    assert train(load_recipe(file)).folder == Path("runs/mine")
