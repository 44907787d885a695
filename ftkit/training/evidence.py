"""What a run holds in the end: both models on the same rows, how sure the difference is, and what was forgotten.

All that is measured before training is kept in the run's folder, so that a resumed run does not measure it again.
"""

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from ftkit import console
from ftkit.data.ledger import ROW
from ftkit.data.paths import SAMPLE_PREFIX
from ftkit.data.sources import read_source
from ftkit.errors import UserError
from ftkit.evaluation.analysis import analyse
from ftkit.evaluation.evidence import BASELINE, TUNED, changes, intervals
from ftkit.evaluation.few_shot import with_shots
from ftkit.evaluation.forgetting import DRIFT, KEY, LOSS, TEXTS, GeneralText, forgetting, general_text, measure_general
from ftkit.evaluation.measure import Measurement, Outputs, assess, load_outputs, measure, one_shape, targets_of, write_arrays
from ftkit.evaluation.verdict import flags, verdict
from ftkit.metrics.custom import CustomMetric
from ftkit.metrics.estimates import estimate_all, to_arrays
from ftkit.metrics.text import signatures
from ftkit.models.architecture import named_positions
from ftkit.reading import Damaged, read_arrays
from ftkit.recipe.schema import Recipe, Source
from ftkit.recipe.tasks import HEALTH_METRICS
from ftkit.run import Run, write_json, write_jsonl
from ftkit.tasks.base import Encoded
from ftkit.training.baselines import compared, remarks
from ftkit.training.dispatcher import Parts
from ftkit.training.inputs import forced_words


@dataclass
class Before:
    """What was measured before training.

    Attributes:
        others: further baselines by name.
        text: what forgetting is measured on, and the untrained model's figures on it.
    """

    baseline: Measurement | None = None
    others: dict[str, Measurement] = field(default_factory=dict)
    text: GeneralText | None = None
    general: np.ndarray | None = None


def require_measurable(recipe: Recipe, parts: Parts) -> GeneralText | None:
    """Try, before anything is written, what else is read to measure: the user's metric, and the general text.

    Returns:
        The general text, or None where the recipe wants none.

    Raises:
        UserError: one of them cannot be read, or the metric's code fails on a pair of examples.
    """
    if recipe.evaluation.metric_file is not None:
        examples = ["one text", "another"] if parts.task.generates else [0, 1]
        CustomMetric(Path(recipe.evaluation.metric_file)).compute(examples, examples)
    return read_general_text(recipe, parts) if recipe.evaluation.baseline else None


def measure_before(recipe: Recipe, run: Run, parts: Parts, text: GeneralText | None, *, known: bool) -> Before:
    """The untrained model on the eval rows and on general text; what a resumed run knows is read from its folder."""
    before, block = Before(text=text), recipe.evaluation
    if not known:
        run.clear_outputs()
    if block.baseline:
        before.baseline = remembered(run.outputs / "baseline.npz", "baseline", recipe, parts)
        write_json(run.metrics_file, {"rows": before.baseline.count, "baseline": before.baseline.metrics})
        write_jsonl(run.predictions_file, one_shape([{"row": row["row"], "baseline": row} for row in before.baseline.rows]))
        before.general = remembered_general(run.outputs / "general.npz", parts, text)
    if block.few_shot:
        name = f"few-shot ({block.few_shot} examples)"
        encoded = few_shot_entries(recipe, parts)
        before.others[name] = remembered(run.outputs / "few_shot.npz", name, recipe, parts, encoded)
    return before


def remembered(file: Path, name: str, recipe: Recipe, parts: Parts, encoded: Encoded | None = None) -> Measurement:
    """A measurement, whose outputs are read from the file where it is whole, else kept there."""
    if file.is_file():
        try:
            with console.status(f"reading what was measured of the {name}", after=console.SOON):
                return assessed(load_outputs(file), recipe, parts)
        except Damaged as error:
            console.warn(f"{error.place}: {error.message}; the {name} is measured again")
    found = measured(name, recipe, parts, encoded)
    keep(found, file)
    return found


def keep(found: Measurement, file: Path) -> None:
    if found.outputs is not None:
        found.outputs.save(file)


def assessed(outputs: Outputs, recipe: Recipe, parts: Parts) -> Measurement:
    return assess(outputs, parts.task, recipe.evaluation, recipe.spec)


def measured(name: str, recipe: Recipe, parts: Parts, encoded: Encoded | None = None) -> Measurement:
    """The model as it is now, on the eval rows or on others."""
    with console.status(f"measuring the {name}"):
        rows = encoded or parts.data.encoded["eval"]
        kept = parts.frozen.rows("eval") if parts.frozen and encoded is None else None
        return measure(
            parts.trainer, parts.task, parts.tokenizer, rows, recipe.evaluation, recipe.spec, kept,
            seed=recipe.data.seed,
        )  # fmt: skip


def few_shot_entries(recipe: Recipe, parts: Parts) -> Encoded:
    """The eval entries with training rows before their prompts.

    Raises:
        UserError: the model is no decoder, whose prompt cannot hold them.
    """
    if parts.config.is_encoder_decoder:
        raise UserError("few-shot prompts are for decoders", "set evaluation.few_shot: 0", key="evaluation.few_shot")
    room = named_positions(parts.config) or 10**9
    block = recipe.evaluation
    return with_shots(
        parts.data.encoded["eval"], parts.data.encoded["train"], parts.tokenizer,
        count=block.few_shot, room=room - block.generation.max_new_tokens, seed=recipe.data.seed,
    )  # fmt: skip


def read_general_text(recipe: Recipe, parts: Parts) -> GeneralText | None:
    """The text on which forgetting is measured, or None where the recipe wants none."""
    name = recipe.evaluation.general_text
    if not name:
        return None
    if not name.startswith(SAMPLE_PREFIX) and not Path(name).exists():
        raise UserError(f"there is no file {name}", "name a text file, sample:text, or false for none", key=KEY)
    # of a sample only as many rows are made as are read
    source = Source(path=name, rows=TEXTS if name.startswith(SAMPLE_PREFIX) else None)
    rows = read_source(source, split="eval", sample_by="paragraph", seed=recipe.data.seed, key=KEY)
    foretells = not parts.task.new_head and not parts.config.is_encoder_decoder
    return general_text(
        rows, name, parts.tokenizer, kind=LOSS if foretells else DRIFT,
        masked=parts.tokenizer.mask_token_id is not None, room=parts.data.max_length, seed=recipe.data.seed,
    )  # fmt: skip


def remembered_general(file: Path, parts: Parts, text: GeneralText | None) -> np.ndarray | None:
    if text is None:
        return None
    if file.is_file():
        try:
            return np.array(read_arrays(file, "values")["values"])
        except Damaged as error:
            console.warn(f"{error.place}: {error.message}; general text is measured again")
    values = on_general_text(parts, text)
    write_arrays(file, values=values)
    return values


def on_general_text(parts: Parts, text: GeneralText) -> np.ndarray:
    with console.status(f"measuring on general text ({text.name})"):
        return measure_general(parts.model, text, parts.tokenizer.pad_token_id or 0, bf16=parts.trainer.args.bf16)


def evidence(recipe: Recipe, run: Run, parts: Parts, before: Before, tuned: Measurement) -> dict[str, Any]:
    """What metrics.json says; the draws behind it are kept for `ftkit compare`."""
    baseline, seed = before.baseline, recipe.training.seed
    better: dict[str, bool | None] = {**recipe.spec.metrics, **HEALTH_METRICS}
    beside = compared(recipe, parts, baseline, before.others, tuned, better)
    others = beside.trivial | before.others
    with console.status("drawing rows for the intervals"):
        models = {TUNED: tuned, **({BASELINE: baseline} if baseline else {}), **others}
        estimates = estimate_all({name: model.resamplers for name, model in models.items()}, seed)
        found = intervals(estimates, seed)
    write_arrays(run.draws, **to_arrays(estimates[TUNED]))
    judged = verdict(tuned, beside.references, found, better, beside.metric, drawn_head=beside.drawn_head)
    judged = replace(judged, sentence=judged.sentence + beside.note(judged.against))
    after = on_general_text(parts, before.text) if before.text else None
    lost = forgetting(before.text, before.general, after, seed) if before.text and after is not None else None
    return {
        "rows": tuned.count,
        "generated_rows": (answered := sum("generated" in row for row in tuned.rows)),
        "generated_seed": recipe.data.seed if 0 < answered < len(tuned.rows) else None,
        "baseline": baseline.metrics if baseline else None,
        "tuned": tuned.metrics,
        "details": tuned.details,
        "other_baselines": {name: other.metrics for name, other in others.items()},
        "higher_is_better": {name: better[name] for name in tuned.metrics if better.get(name) is not None},
        "intervals": found,
        "changes": changes(baseline, tuned, row_names(parts, tuned)),
        "forgetting": lost,
        "verdict": asdict(judged),
        "flags": [
            *remarks(parts, beside, tuned),
            *flags(baseline, tuned, found, lost),
            *absent(recipe.evaluation.metrics, tuned),
        ],
        "signatures": written_signatures(tuned),
        "caveats": [*forced_words(run.record), *parts.data.caveats("eval")],
    }


def absent(asked: list[str] | None, tuned: Measurement) -> list[str]:
    """The metrics that the recipe names and that the eval rows do not give, on a line; nothing where all are there."""
    names = [name for name in asked or () if name not in tuned.metrics]
    if not names:
        return []
    why = "as where all labels or predictions are alike, or a label has no row"
    return [f"{', '.join(names)} cannot be had from {tuned.count} eval rows like these, {why}"]


def written_signatures(tuned: Measurement) -> dict[str, str]:
    """How ROUGE, BLEU and chrF were computed, where they were."""
    measured = {name: name.startswith(("rouge", "bleu", "chrf")) for name in tuned.metrics}
    if not tuned.outputs or not any(measured.values()):
        return {}
    found = signatures([targets_of(answer) for answer in tuned.outputs.answers])
    return {name: words for name, words in found.items() if any(metric.startswith(name) for metric in measured)}


def error_analysis(
    recipe: Recipe, parts: Parts, rows: list[dict[str, Any]], baseline: Measurement | None, tuned: Measurement
) -> dict[str, Any]:
    """What analysis.json says.

    Args:
        rows: those of predictions.jsonl.
    """
    labels = parts.task.labelled(tuned.outputs.prediction) if tuned.outputs else None
    before = baseline.outputs and parts.task.labelled(baseline.outputs.prediction) if baseline else None
    higher = (recipe.spec.metrics | {"rougeL": True}).get(tuned.quality_name, True)
    properties = slice_properties(parts, tuned, rows, labels)
    sign, seed = 1 if higher else -1, recipe.training.seed
    return analyse(
        rows,
        row_names(parts, tuned),
        baseline,
        tuned,
        labels,
        before[2] if before else None,
        properties,
        sign=sign,
        seed=seed,
    )


def slice_properties(
    parts: Parts, tuned: Measurement, rows: list[dict[str, Any]], labels: tuple[list[str], np.ndarray, np.ndarray] | None
) -> dict[str, list[Any]]:
    """What each measured row has by which errors are sliced: label, length, confidence, source, the recipe's own columns."""
    numbers = measured_numbers(parts, tuned)
    found: dict[str, list[Any]] = {"length": measured_lengths(parts, tuned)}
    if labels and len(labels[1]) == len(rows):
        found["label"] = [labels[0][label] for label in labels[1]]
    if rows and "probability" in rows[0]["tuned"]:
        found["confidence"] = [row["tuned"]["probability"] for row in rows]
    found["source"] = parts.data.ledger.files(numbers)
    if columns := parts.data.splits.slices.get("eval"):
        places = {number: place for place, number in enumerate(columns[ROW])}
        chosen = columns.select([places[number] for number in numbers])
        found |= {name: chosen[name][:] for name in columns.column_names if name != ROW}
    return found


def measured_lengths(parts: Parts, tuned: Measurement) -> list[int]:
    """Tokens of each measured row; those that stand in two of its windows count in both."""
    lengths, entries = parts.data.facts["eval"].lengths, parts.data.encoded["eval"].rows
    if len(tuned.rows) == len(entries):
        return list(lengths.tolist())
    sums = np.bincount(entries, weights=lengths).astype(int)
    return [int(sums[row["row"]]) for row in tuned.rows]


def measured_numbers(parts: Parts, found: Measurement) -> np.ndarray:
    """The ledger's numbers of the measured rows."""
    return parts.data.splits.numbers("eval")[[row["row"] for row in found.rows]]


def row_names(parts: Parts, found: Measurement) -> list[str]:
    return parts.data.ledger.names(measured_numbers(parts, found))
