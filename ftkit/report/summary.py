"""The closing table of a run, and the facts that its page and its card share with it."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Group

from ftkit import console
from ftkit.escapes import markdown
from ftkit.evaluation.score import drawn_words
from ftkit.metrics.names import shown_name
from ftkit.recipe.schema import Recipe
from ftkit.units import number, scale_words, signed, size_words, time_words

EXAMPLES = 3
LABELS = 50


def model_name(record: dict[str, Any]) -> str:
    """A hub id as it is, of a local folder its name."""
    name = str(record["model"])
    return Path(name).name if Path(name).is_absolute() or name.startswith(".") else name


def run_title(task: str, strategy: str, record: dict[str, Any]) -> str:
    """What a run is called: task, strategy and model; of a smoke run that it is one."""
    return f"{'smoke run, stand-ins · ' if record.get('smoke') else ''}{task} · {strategy} · {model_name(record)}"


def stand_in_words(record: dict[str, Any]) -> str:
    """What the figures of a smoke run are worth, in one sentence; nothing of other runs."""
    if not record.get("smoke"):
        return ""
    meant = model_name({"model": record["smoke"]["stands_for"]})
    return (
        f"A smoke run: a tiny stand-in took the place of {meant}, and sample rows that of the data. It shows that the "
        "recipe runs to its end; its figures say nothing of the model or the data."
    )


def metric_rows(metrics: dict[str, Any]) -> list[list[str]]:
    """Metric, baseline, tuned, difference and its interval, as text."""
    baseline, drawn = metrics.get("baseline") or {}, metrics.get("intervals", {}).get("difference", {})
    details = metrics.get("details")
    return [
        comparison_row(shown_name(name, details), baseline.get(name), value, drawn.get(name))
        for name, value in metrics["tuned"].items()
    ]


def comparison_row(name: str, before: float | None, after: float, interval: Sequence[float | None] | None) -> list[str]:
    """One line of the table, with the digits that its numbers are worth: two where they are whole, or hundreds."""
    if before is None:
        return [name, "-", number(after, decimals([after])), "-", "-"]
    digits = decimals([before, after, *(end for end in interval or () if end is not None)])
    doubt = between_words(interval, digits)
    return [name, number(before, digits), number(after, digits), signed(after - before, digits), doubt]


def between_words(interval: Sequence[float | None] | None, digits: int = 4) -> str:
    """An interval of a difference, in words; a dash where nothing could be said."""
    low, high = interval or (None, None)
    if low is None or high is None or not math.isfinite(low + high):
        return "-"
    return f"{signed(low, digits)} to {signed(high, digits)}"


def decimals(values: Sequence[float]) -> int:
    known = [value for value in values if math.isfinite(value)]
    return 2 if all(value == round(value) for value in known) or any(abs(value) >= 100 for value in known) else 4


def other_baselines(metrics: dict[str, Any]) -> list[list[str]]:
    """Further baselines on the metric of the verdict: name, value, and how far the tuned model is above it."""
    others = metrics.get("other_baselines", {})
    name = (metrics.get("verdict") or {}).get("metric") or next(iter(metrics["tuned"]))
    drawn = metrics.get("intervals", {}).get("other_baselines", {})
    found = []
    for other, values in others.items():
        if name in values:
            name_here = f"{shown_name(name, metrics.get('details'))}, {other}"
            interval = drawn.get(other, {}).get(name)
            found.append(comparison_row(name_here, values[name], metrics["tuned"][name], interval))
    return found


def forgetting_words(metrics: dict[str, Any]) -> str:
    """What was forgotten, in one line; nothing where it was not measured."""
    found = metrics.get("forgetting")
    if not found:
        return ""
    doubt = f"95 % interval {between_words(found['interval'])}, {found['rows']} texts of {found['text']}"
    if found["kind"] == "drift":
        return f"the body's representations moved by {found['tuned']:.4f} (cosine distance; {doubt})"
    return f"loss on general text {found['baseline']:.4f} → {found['tuned']:.4f} ({found['difference']:+.4f}; {doubt})"


def run_facts(record: dict[str, Any]) -> dict[str, str]:
    """What the run learnt and cost, and whether what it saved is that."""
    counts, seconds = record["parameters"], record["seconds"]
    again = f"; going on took {time_words(record['resuming']['seconds'])} more" if "resuming" in record else ""
    facts = {
        "parameters": f"{counts['trainable']:,} trainable of {counts['total']:,} ({counts['trainable_percent']:.4f} %)",
        "peak memory": peak_words(record),
        "time": f"{time_words(seconds['total'])} (training {time_words(seconds['training'])}{again})",
    }
    if lowered := record.get("lowered_rate"):
        facts["learning rate"] = lowered_words(lowered)
    if head := record.get("head"):
        facts["head"] = "that of the base, which goes on learning" if head["kept"] else f"new: {head['reason']}"
    if scale := record.get("label_scale"):
        facts["labels"] = scale_words(scale)
    if counts["stored"] != counts["total"]:
        facts["parameters"] += f", {counts['stored']:,} as stored"
    return facts | ({"saved model": found} if (found := verified_words(record)) else {})


def lowered_words(lowered: dict[str, Any]) -> str:
    """The learning rate at the end of a run that diverged and went back, beside the recipe's."""
    rate, asked, step = lowered["learning_rate"], lowered["recipe"], lowered["after_step"]
    where = f"after step {step:,}" if step else "from the start"
    return f"{rate:g} {where}, in place of the recipe's {asked:g}, with which the training diverged"


def verified_words(record: dict[str, Any]) -> str:
    """What verifying the saved model found, in one line; nothing where the run did not verify it."""
    found = record.get("verified")
    if not found:
        return ""
    if not found["good"]:
        return "NOT VERIFIED"
    words = f"verified: a new process scores {found['rows']} rows as memory did"
    return f"{words}, and its eval loss is that of plain transformers" if found.get("loss") else words


def unverified(record: dict[str, Any]) -> list[str]:
    """What speaks against the saved model, or against what is reported of it; each a line that must not be missed."""
    return [f"NOT VERIFIED: {failure}" for failure in (record.get("verified") or {}).get("failures", [])]


def peak_words(record: dict[str, Any]) -> str:
    """The peak of the run by place, beside what was predicted."""
    peaks = record["peak_memory_bytes"].items()
    return ", ".join(f"{size_words(size)} ({place})" for place, size in peaks) + planned(record)


def planned(record: dict[str, Any]) -> str:
    """The peak of training beside what was predicted, to stand behind the peak of the run; nothing without a prediction."""
    plan = record.get("plan") or {}
    found = plan.get("training_peak_bytes") or plan.get("peak_memory_bytes") or {}
    own = record.get("training_peak_bytes") or record["peak_memory_bytes"]
    parts = [(size_words(own[place]), size_words(size)) for place, size in found.items() if place in own]
    return "".join(f"; training {measured}, planned {size}" for measured, size in parts)


def closing_table(recipe: Recipe, metrics: dict[str, Any], record: dict[str, Any], rows: list[dict[str, Any]]) -> Group:
    """The table that ends a run."""
    title = run_title(recipe.task, recipe.strategy.name, record)
    entries = metrics["rows"]
    rows_with_doubt = metric_rows(metrics) + other_baselines(metrics)
    columns = [f"metric ({entries:,} eval rows)", "baseline", "tuned", "difference", "95 % interval"]
    parts: list[Any] = [console.table(title, columns, rows_with_doubt)]
    if words := stand_in_words(record):
        parts.append(console.Line(words, "yellow"))
    if sentence := metrics.get("verdict", {}).get("sentence"):
        parts.append(console.Line(sentence, "bold"))
    if metrics.get("generated_rows"):
        parts.append(console.Line(f"text metrics over {drawn_words(metrics['generated_rows'], entries)}", "dim"))
    parts += [console.Line(line, "red") for line in unverified(record)]
    parts += [console.Line(f"look into this: {flag}", "yellow") for flag in metrics.get("flags", [])]
    parts += [console.Line(f"read with care: {caveat}", "yellow") for caveat in metrics.get("caveats", [])]
    if shown := example_rows(rows):
        parts.append(console.table("", ["asked", "wanted", "before", "after"], shown, numbers=False))
    lost = forgetting_words(metrics)
    return Group(*parts, console.facts("", {**({"forgetting": lost} if lost else {}), **run_facts(record)}))


def example_rows(rows: list[dict[str, Any]]) -> list[list[str]]:
    """A few rows whose generated text changed: the end of the prompt, the target, before and after."""
    changed = [
        row for row in rows if row["tuned"].get("generated") is not None and row["tuned"]["generated"] != _before(row)
    ]
    return [
        [_tail(row["prompt"]), row["target"], _before(row) or "-", row["tuned"]["generated"]] for row in changed[:EXAMPLES]
    ]


def _before(row: dict[str, Any]) -> str:
    return str(row.get("baseline", {}).get("generated") or "")


def _tail(prompt: str, length: int = 160) -> str:
    lines = [line for line in prompt.strip().splitlines() if line.strip() and not line.startswith("###")]
    text = " ".join(lines[-2:])
    return text if len(text) <= length else "…" + text[-length:]


def label_rows(counted: dict[str, dict[str, int]], most: int = LABELS) -> list[list[str]]:
    """Each label with how often it occurs in each split, the most frequent in training first; of many the first."""
    names = list(dict.fromkeys(name for counts in counted.values() for name in counts))
    rows = [[name, *(f"{counts.get(name, 0):,}" for counts in counted.values())] for name in names[:most]]
    rest = [sum(count for name, count in counts.items() if name in names[most:]) for counts in counted.values()]
    return [*rows, [f"{len(names) - most:,} more", *(f"{count:,}" for count in rest)]] if names[most:] else rows


def markdown_table(columns: list[str], rows: list[list[str]]) -> list[str]:
    first, *others = [[markdown(cell) for cell in row] for row in [columns, *rows]]
    return [f"| {' | '.join(row)} |" for row in [first, ["---"] * len(columns), *others]]
