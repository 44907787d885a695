"""Measure a model on encoded rows: the task's metrics, those of generated text, and what was predicted for each row."""

from dataclasses import dataclass
from typing import Any

from datasets import Dataset
from transformers import EvalPrediction, PreTrainedTokenizerBase, Trainer

from ftkit.data.ledger import ROW
from ftkit.evaluation.generation import generate_answers
from ftkit.metrics.text import text_metrics
from ftkit.recipe.schema import Evaluation
from ftkit.recipe.tasks import TaskSpec
from ftkit.tasks.base import Encoded, Task


@dataclass
class Measurement:
    """Metrics by name, and one object a row with what was predicted."""

    metrics: dict[str, float]
    rows: list[dict[str, Any]]


def measure(
    trainer: Trainer,
    task: Task,
    tokenizer: PreTrainedTokenizerBase,
    encoded: Encoded,
    block: Evaluation,
    spec: TaskSpec,
) -> Measurement:
    """Score every row in batches, and generate for the first rows where the task does so."""
    output = trainer.predict(encoded.dataset)
    prediction = EvalPrediction(predictions=output.predictions, label_ids=output.label_ids)
    metrics = task.score(prediction)
    rows = [{"row": row, **task.describe(prediction, index)} for index, row in enumerate(encoded.rows)]
    if task.generates and block.generation.rows:
        answers = generate_answers(
            trainer.model, tokenizer, encoded, block.generation,
            batch_size=trainer.args.per_device_eval_batch_size,
            end_tokens=task.end_tokens(tokenizer),
        )  # fmt: skip
        metrics |= text_metrics([row["generated"] for row in answers], [row["target"] for row in answers])
        metrics["stop_rate"] = sum(row["stopped"] for row in answers) / len(answers)
        for row, answer in zip(rows, answers, strict=False):
            row |= answer
    return Measurement(wanted(metrics, block, spec, stop_rate=task.generates), rows)


def wanted(metrics: dict[str, float], block: Evaluation, spec: TaskSpec, *, stop_rate: bool) -> dict[str, float]:
    """The metrics that the recipe names, or the task's own, in their order; generated text also has its stop rate."""
    names = [*(block.metrics or spec.default_metrics), *(["stop_rate"] if stop_rate else [])]
    return {name: metrics[name] for name in names if name in metrics}


def join_rows(source: Dataset, before: Measurement | None, after: Measurement) -> list[dict[str, Any]]:
    """One object an eval row for predictions.jsonl: the row itself, and what was predicted before and after."""
    shared = {"row", "prompt", "target"}
    joined = []
    for index, tuned in enumerate(after.rows):
        row: dict[str, Any] = {key: tuned[key] for key in ("row", "prompt", "target") if key in tuned}
        if "prompt" not in row:
            shown = {name: value for name, value in source[tuned["row"]].items() if name != ROW}
            row |= {name: value for name, value in shown.items() if isinstance(value, str | int | float | list)}
        if before is not None:
            row["baseline"] = {key: value for key, value in before.rows[index].items() if key not in shared}
        row["tuned"] = {key: value for key, value in tuned.items() if key not in shared}
        joined.append(row)
    return joined
