"""Measure a model on encoded rows: the task's metrics, those of generated text, and what was predicted for each row."""

import hashlib
import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from transformers import EvalPrediction, PreTrainedTokenizerBase, Trainer

from ftkit.data.encode import longest_first
from ftkit.data.ledger import ROW
from ftkit.disk import whole_or_absent
from ftkit.evaluation.generation import generate_answers
from ftkit.metrics.custom import CustomMetric
from ftkit.metrics.resampling import Resampler, by_group, of_nothing
from ftkit.metrics.text import health_scores, references_of, text_details, text_metrics, text_resamplers, text_scores
from ftkit.reading import MISSING, Damaged, read_arrays, read_jsonl
from ftkit.recipe.schema import Evaluation
from ftkit.recipe.tasks import HEALTH_METRICS, TaskSpec
from ftkit.run import finite, write_jsonl
from ftkit.tasks.base import Encoded, Task

ANSWERS = "answers_sha256"  # in an .npz file, of what lies beside it


@dataclass
class Outputs:
    """What a model made of the entries: reduced logits and labels of each, and an object an answer where it generated.

    Attributes:
        rows: which row of the split each entry is of.
    """

    prediction: EvalPrediction
    answers: list[dict[str, Any]]
    rows: list[int]

    def save(self, file: Path) -> None:
        """Write the arrays to an .npz file, and the answers beside it."""
        write_jsonl(file.with_suffix(".jsonl"), self.answers)
        found = {"predictions": self.prediction.predictions, "labels": self.prediction.label_ids, "rows": self.rows}
        write_arrays(file, **found, **{ANSWERS: digest_of(self.answers)})


def load_outputs(file: Path) -> Outputs:
    """What `Outputs.save` wrote.

    Raises:
        Damaged: one of the two files is not as it was written.
    """
    arrays, beside = read_arrays(file, "predictions", "labels"), file.with_suffix(".jsonl")
    prediction = EvalPrediction(arrays["predictions"], arrays["labels"])
    # runs of earlier versions kept neither: each row had one entry there
    rows = arrays["rows"].tolist() if "rows" in arrays else list(range(len(prediction.label_ids)))
    answers = read_jsonl(beside)
    if ANSWERS in arrays and str(arrays[ANSWERS]) != digest_of(answers):
        raise Damaged(beside, "its answers are not those that were written" if beside.is_file() else MISSING)
    return Outputs(prediction, answers, rows)


def digest_of(answers: list[dict[str, Any]]) -> str:
    return hashlib.sha256(json.dumps(finite(answers), sort_keys=True).encode()).hexdigest()


def write_arrays(file: Path, **arrays: Any) -> None:
    """An .npz file, whole or absent."""
    with whole_or_absent(file, file.with_suffix(".part.npz")) as beside:
        np.savez_compressed(beside, **arrays)


@dataclass
class Measurement:
    """What was found for one model.

    Attributes:
        metrics: by name, in the recipe's order.
        rows: one object a row with what was predicted, or one an entry where a row's entries are answers of their own.
        resamplers: those metrics for any weights of the user's rows; of generated text, of those that were generated for.
        right: whether each row is right, shape (rows,), or of the generated rows; None where the task knows no right.
        quality: how good each row is, the same rows, more being better; for the analysis of errors.
        judged: which of `rows` right and quality are about.
        quality_name: of which metric it is each row's value, or its negative.
        by_label: precision, recall, F1 and number of each label or type of entity, where the task has such.
        outputs: what the figures were computed from.
        details: what the names of metrics leave open, by metric.
    """

    metrics: dict[str, float]
    rows: list[dict[str, Any]]
    resamplers: dict[str, Resampler] = field(default_factory=dict)
    right: np.ndarray | None = None
    quality: np.ndarray = field(default_factory=lambda: np.zeros(0))
    quality_name: str = ""
    by_label: list[dict[str, Any]] | None = None
    outputs: Outputs | None = None
    judged: list[int] = field(default_factory=list)
    details: dict[str, str] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """How many of the user's rows were measured."""
        return len({row["row"] for row in self.rows})


def measure(
    trainer: Trainer,
    task: Task,
    tokenizer: PreTrainedTokenizerBase,
    encoded: Encoded,
    block: Evaluation,
    spec: TaskSpec,
    kept: Any = None,
    *,
    seed: int,
) -> Measurement:
    """Score every row in batches, and generate for some rows where the task does so.

    Args:
        seed: of the draw of those rows.
        kept: the same rows with a part of the model computed already, where there are such.
    """
    with without_metrics(trainer):
        output = predict_by_length(trainer, encoded.dataset) if kept is None else trainer.predict(kept)
    prediction = EvalPrediction(predictions=output.predictions, label_ids=output.label_ids)
    prediction = task.complete(prediction, encoded, tokenizer)
    answers = []
    if task.generates and block.generation.rows:
        answers = generate_answers(
            trainer.model, tokenizer, encoded, block.generation,
            batch_size=trainer.args.per_device_eval_batch_size, end_tokens=task.end_tokens(tokenizer),
            seed=seed,
        )  # fmt: skip
    return assess(Outputs(prediction, answers, encoded.rows), task, block, spec)


@contextmanager
def without_metrics(trainer: Trainer) -> Iterator[None]:
    """Inside the block the Trainer computes no metrics of what it predicts: its own are of the rows in their order."""
    before, trainer.compute_metrics = trainer.compute_metrics, None
    try:
        yield
    finally:
        trainer.compute_metrics = before


def predict_by_length(trainer: Trainer, dataset: Dataset) -> Any:
    """The Trainer's prediction of the rows in their order, made from the longest to the shortest: so least is padded."""
    order = longest_first(dataset)
    output = trainer.predict(dataset.select(order))
    back = np.argsort(order)
    return output._replace(predictions=output.predictions[back], label_ids=output.label_ids[back])


def assess(outputs: Outputs, task: Task, block: Evaluation, spec: TaskSpec) -> Measurement:
    """The figures that follow from what a model made of the rows."""
    answers = outputs.answers
    prediction, numbers = task.merge(outputs.prediction, outputs.rows)
    metrics = scores_of(task, prediction)
    resamplers = in_groups(resamplers_of(task, prediction), numbers)
    rows = [{"row": row, **task.describe(prediction, index)} for index, row in enumerate(numbers)]
    right, quality, quality_name = task.right(prediction), task.quality(prediction), task.quality_name
    details = task.metric_details()
    judged = list(range(len(rows)))
    if answers:
        # a run of an earlier version generated for the first entries
        judged = [answer.get("entry", place) for place, answer in enumerate(answers)]
        texts, targets = [row["generated"] for row in answers], [targets_of(row) for row in answers]
        scores = text_scores(texts, targets)
        health = health_scores(texts, targets, [row["stopped"] for row in answers])
        details |= text_details(targets)
        metrics |= text_metrics(texts, targets) | {name: metric.value() for name, metric in health.items()}
        resamplers |= in_groups(text_resamplers(texts, targets) | health, [numbers[entry] for entry in judged])
        right, quality, quality_name = scores["exact_match"] > 0, scores["rougeL"], "rougeL"
        for place, answer, score in zip(judged, answers, quality, strict=True):
            told = {key: value for key, value in answer.items() if key != "entry"}
            rows[place] |= {**told, "rougeL": round(float(score), 6)}
    names = wanted(metrics, block, spec, health=task.generates)
    metrics, found = {name: metrics[name] for name in names}, {name: resamplers[name] for name in names}
    if block.metric_file is not None:
        custom = CustomMetric(Path(block.metric_file))
        predicted, references = comparable(prediction, answers)
        metrics |= custom.compute(predicted, references)
        found |= in_groups(custom.resamplers(predicted, references), [numbers[entry] for entry in judged])
    by_label = task.by_label(prediction)
    return Measurement(metrics, rows, found, right, quality, quality_name, by_label, outputs, judged, details)


def scores_of(task: Task, prediction: EvalPrediction) -> dict[str, float]:
    """The task's metrics, none of them a number where an output is none."""
    found = task.score(with_numbers(prediction))
    return found if is_finite(prediction) else dict.fromkeys(found, math.nan)


def resamplers_of(task: Task, prediction: EvalPrediction) -> dict[str, Resampler]:
    """The same metrics for any weights of the rows."""
    found = task.resamplers(with_numbers(prediction))
    return found if is_finite(prediction) else dict.fromkeys(found, of_nothing(len(prediction.label_ids)))


def with_numbers(prediction: EvalPrediction) -> EvalPrediction:
    """The prediction with noughts for what is no number, which the libraries' metrics refuse."""
    return EvalPrediction(np.nan_to_num(prediction.predictions), prediction.label_ids)


def is_finite(prediction: EvalPrediction) -> bool:
    return bool(np.isfinite(prediction.predictions).all())


def in_groups(metrics: dict[str, Resampler], rows: list[int]) -> dict[str, Resampler]:
    """The metrics over the user's rows, of which some have several entries: these are drawn together.

    Args:
        rows: which row each entry is of.
    """
    return {name: by_group(metric, rows) for name, metric in metrics.items()}


def targets_of(answer: dict[str, Any]) -> str | list[str]:
    """What an answer is held against: the target, or all references of a row that has several."""
    return answer.get("references") or answer["target"]


def comparable(prediction: EvalPrediction, answers: list[dict[str, Any]]) -> tuple[list[Any], list[Any]]:
    """Predictions and references as the `evaluate` package has them: texts where the task generates, else ids or numbers."""
    if answers:
        targets = [targets_of(row) for row in answers]
        plain = all(isinstance(target, str) for target in targets)
        return [row["generated"] for row in answers], targets if plain else [references_of(target) for target in targets]
    values, labels = np.asarray(prediction.predictions), np.asarray(prediction.label_ids)
    if values.ndim == 2 and labels.ndim == 1:
        return (values.argmax(-1) if values.shape[1] > 1 else values[:, 0]).tolist(), labels.tolist()
    return (values > 0).astype(int).tolist(), labels.astype(int).tolist()


def wanted(metrics: dict[str, float], block: Evaluation, spec: TaskSpec, *, health: bool) -> list[str]:
    """The metrics that the recipe names, or the task's own, in their order; generated text also has its health.

    Where none of them can be had, as a correlation of a model that says the same of all rows, the loss stands for them.
    """
    names = [*(block.metrics or spec.default_metrics), *(HEALTH_METRICS if health else ())]
    return [name for name in names if name in metrics] or ["loss"]


def own_texts(encoded: Encoded, found: Measurement, tokenizer: PreTrainedTokenizerBase) -> dict[int, str]:
    """The text of each entry that was measured by itself and is not the only one of its row, by the entry's number."""
    rows = [row["row"] for row in found.rows]
    counts = Counter(rows)
    chosen = [index for index, row in enumerate(rows) if counts[row] > 1]
    entries = encoded.dataset.select(chosen)["input_ids"]
    return {index: tokenizer.decode(ids, skip_special_tokens=True) for index, ids in zip(chosen, entries, strict=True)}


def join_rows(
    source: Dataset, before: Measurement | None, after: Measurement, names: list[str], texts: Mapping[int, str]
) -> list[dict[str, Any]]:
    """One object an eval row for predictions.jsonl: the row itself, and what was predicted before and after, all alike.

    Args:
        names: of the rows, as `eval.jsonl row 3`, by which metrics.json and analysis.json name them.
        texts: of entries that are a part of their row's text; else a long one would stand there as often as it has parts.
    """
    shared = {"row", "prompt", "target", "references"}
    joined = []
    for index, tuned in enumerate(after.rows):
        shown = {name: value for name, value in source[tuned["row"]].items() if name != ROW}
        row: dict[str, Any] = {name: value for name, value in shown.items() if isinstance(value, str | int | float | list)}
        row |= {key: tuned[key] for key in ("row", "prompt", "target", "references") if key in tuned}
        if index in texts:
            row["text"] = texts[index]
        row["name"] = names[index]
        if before is not None:
            row["baseline"] = {key: value for key, value in before.rows[index].items() if key not in shared}
        row["tuned"] = {key: value for key, value in tuned.items() if key not in shared}
        joined.append(row)
    return one_shape(joined)


def one_shape(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows with the same keys in each, and so in what each has of the models; null is what a row has nothing of."""
    shapes: dict[str, dict[str, None]] = {}
    for name in ("baseline", "tuned"):
        shapes[name] = dict.fromkeys(key for row in rows for key in row.get(name) or ())
    keys = dict.fromkeys(key for row in rows for key in row if key not in shapes)
    return [
        {key: row.get(key) for key in keys}
        | {name: shape | row[name] for name, shape in shapes.items() if row.get(name) is not None}
        for row in rows
    ]
