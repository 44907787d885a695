"""The plan of evaluation, beside every storage that a real one makes; and the time that a run tells of itself."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import TrainerControl, TrainerState, TrainingArguments

from ftkit import api
from ftkit.evaluation.forgetting import measure_general
from ftkit.recipe.schema import Recipe
from ftkit.report.planned import planned_rows
from ftkit.run import Run
from ftkit.training.dispatcher import Parts, build
from ftkit.training.evidence import read_general_text
from ftkit.training.plan import GIB
from ftkit.training.planner import Planner
from ftkit.training.rehearsal import MemoryLedger
from ftkit.training.setup import figures_of
from ftkit.training.time_forecast import ForecastTime, evaluations_left, told_after

RecipeMaker = Callable[..., Recipe]
CASES = [
    ("full", "text-classification", "distilbert", True),
    ("lora", "instruction", "llama", True),
    ("full", "instruction", "gpt2", False),
    ("qlora", "language-modeling", "llama", True),
]


def planned(made: Recipe, parts: Parts) -> Any:
    """What the plan says of measuring."""
    planner = Planner(made, parts.task.auto_class(parts.config), parts.config, "cpu", new_head=parts.task.new_head)
    found = planner.measure(planner.setup(figures_of(parts.data)))
    assert planner.unmeasured == ""
    return found


def held(parts: Parts, call: Callable[[], Any]) -> int:
    """The most bytes that a call holds beside the model, storage by storage."""
    with MemoryLedger([*parts.model.parameters(), *parts.model.buffers()], set()) as ledger:
        call()
    return ledger.peak


@pytest.mark.parametrize("apart", [True, False])
@pytest.mark.parametrize(("strategy", "task", "kind", "bf16"), CASES)
def test_evaluation_takes_what_is_planned(
    recipe: RecipeMaker, tmp_path: Path, strategy: str, task: str, kind: str, bf16: bool, apart: bool
) -> None:
    """Of the longest eval rows and of general text, within a tenth."""
    data = {"train": "sample:text"} if task == "language-modeling" else {}
    made = recipe(
        strategy, task=task, kind=kind, data=data, speed={"supervised_logits": apart},
        training={"bf16": bf16, "use_cpu": True, "per_device_eval_batch_size": 12},
    )  # fmt: skip
    parts = build(made, tmp_path / "out", [])
    rows = parts.data.encoded["eval"].dataset
    order = sorted(range(len(rows)), key=lambda index: -len(rows[index]["input_ids"]))[:12]
    found, longest = planned(made, parts), rows.select(order)
    parts.trainer.predict(longest)  # wraps the model
    assert found.rows == pytest.approx(held(parts, lambda: parts.trainer.predict(longest)), rel=0.1)
    text = read_general_text(made, parts)
    if task == "text-classification":
        assert found.texts == 0
        return
    assert text is not None
    longest_first = sorted(range(len(text.ids)), key=lambda index: -len(text.ids[index]))
    text.ids[:], text.labels[:] = [text.ids[i] for i in longest_first], [text.labels[i] for i in longest_first]
    real = held(parts, lambda: measure_general(parts.model, text, 0, bf16=bf16))
    shortfall = 128 / max(map(len, text.ids))  # a stand-in's texts may be shorter than the plan takes them to be
    assert real <= 1.02 * found.texts <= 1.15 * shortfall**2 * real


def test_evaluation_that_takes_most_is_the_peak_and_has_its_remedy(recipe: RecipeMaker) -> None:
    values: dict[str, Any] = {"training": {"per_device_train_batch_size": 1, "per_device_eval_batch_size": 20}}
    values |= {"task": "instruction", "kind": "llama", "speed": {"supervised_logits": False}}
    wide = api.plan(recipe("lora", **values), device="cpu", measure=False)
    assert wide.memory["peak"] > wide.memory["training"]
    assert wide.memory["evaluation"] > 0
    tight = api.plan(recipe("lora", **values), device="cpu", measure=False, vram=(wide.needed - 2**12) / GIB)
    assert tight.remedies[0].change.startswith("training.per_device_eval_batch_size=")
    values["training"]["per_device_eval_batch_size"] = 2
    narrow = api.plan(recipe("lora", **values), device="cpu", measure=False)
    assert narrow.memory["evaluation"] < wide.memory["evaluation"]
    assert narrow.memory["training"] == wide.memory["training"]


def test_a_run_tells_its_time_after_a_few_steps(recipe: RecipeMaker, tmp_path: Path) -> None:
    training = {"max_steps": 12, "eval_strategy": "steps", "eval_steps": 6, "save_strategy": "no"}
    result = api.train(recipe("lora", training=training, evaluation={"general_text": False}), output_dir=tmp_path / "run")
    told = result.record["plan"]["seconds"]
    assert told["after_step"] == 5
    assert 12 * told["step"] * 0.5 < told["training"]
    lines = {line["name"]: line for line in planned_rows(result.record)}
    assert set(lines) >= {"training, told after step 5"}
    assert len(lines) == 3
    page = (tmp_path / "run" / "report.html").read_text()
    assert all(line["planned"] in page and line["measured"] in page for line in lines.values())
    assert "Planned and measured" in page


def test_a_short_run_tells_none(recipe: RecipeMaker, tmp_path: Path) -> None:
    result = api.train(recipe("lora", evaluation={"general_text": False, "baseline": False}), output_dir=tmp_path / "run")
    assert "seconds" not in result.record["plan"]
    assert [line["name"] for line in planned_rows(result.record) if "told" in line["name"]] == []
    assert planned_rows({"peak_memory_bytes": {"process": 1}}) == []


def test_the_forecast_counts_steps_and_evaluations(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.update(plan={"peak_memory_bytes": {"process": 7}})
    forecast, control = ForecastTime(run), TrainerControl()
    args = TrainingArguments(str(tmp_path / "out"), eval_strategy="epoch", use_cpu=True)
    state = TrainerState(max_steps=100, global_step=20, num_train_epochs=3, epoch=0.6)
    forecast.on_predict(args, state, control, {"test_runtime": 4.0})
    forecast.on_predict(args, state, control, {"test_runtime": 9.0})  # of other rows
    forecast.trained, forecast.warm = lambda: 40.0, 102.0
    forecast.tell(state, args, now=140.0, made=20)
    assert run.record["plan"]["seconds"] == {"training": 40 + 2 * 80 + 3 * 4, "step": 2.0, "after_step": 20}
    assert run.record["plan"]["peak_memory_bytes"] == {"process": 7}
    forecast.trained = lambda: 70.0  # a process that goes on has the time of those before it behind it
    forecast.tell(state, args, now=140.0, made=20)
    assert run.record["plan"]["seconds"]["training"] == 30 + 40 + 2 * 80 + 3 * 4
    assert json.loads(run.record_file.read_text())["plan"] == run.record["plan"]


def test_when_and_how_often() -> None:
    assert [told_after(steps) for steps in (3, 100, 1000)] == [5, 5, 20]
    state = TrainerState(max_steps=100, global_step=5, eval_steps=20, num_train_epochs=2, epoch=0.1)
    left = {
        kind: evaluations_left(state, TrainingArguments("out", eval_strategy=kind, eval_steps=20))
        for kind in ("no", "steps", "epoch")
    }
    assert left == {"no": 0, "steps": 5, "epoch": 2}
