"""Adds to a run's folder the figures of the evaluation that newer runs have, counted from the run's own predictions."""

import json
import random
from pathlib import Path
from typing import Any

from ftkit.run import Run, read_jsonl, write_json, write_jsonl

Scores = list[tuple[float, float]]  # before and after, a row


def add_evidence(folder: Path) -> None:
    """Intervals, changes, forgetting, verdict, and analysis.json, as in docs of metrics.json."""
    run = Run(folder)
    metrics = json.loads(run.metrics_file.read_text())
    rows = [{"name": f"eval.jsonl row {row['row'] + 1}", **row} for row in read_jsonl(run.predictions_file)]
    write_jsonl(run.predictions_file, rows)
    measured = [row for row in rows if "generated" in row["tuned"] or "predicted" in row["tuned"]]
    scores = [(right(row, "baseline"), right(row, "tuned")) for row in measured]
    main = next(iter(metrics["tuned"]))
    low, high = bootstrap([after - before for before, after in scores])
    write_json(run.metrics_file, metrics | {
        "higher_is_better": {name: name != "loss" for name in metrics["tuned"]},
        "intervals": {
            "level": 0.95, "resamples": 1000, "seed": 42, "tuned": {main: bootstrap([after for _, after in scores])},
            "difference": {main: [low, high]}, "other_baselines": {"majority class": {main: [low, high]}},
        },
        "other_baselines": {"majority class": {main: metrics["baseline"][main]}},
        "changes": {
            "measure": main,
            "fixed": [row["name"] for row, (before, after) in zip(measured, scores, strict=True) if after > before],
            "broken": [row["name"] for row, (before, after) in zip(measured, scores, strict=True) if after < before],
        },
        "forgetting": {"kind": "loss", "text": "sample:text", "rows": 64, "baseline": 3.21, "tuned": 3.4, "difference": 0.19, "interval": [0.1, 0.28]},
        "verdict": {
            "state": "better" if low > 0 else "unsure", "metric": main,
            "sentence": f"{main} rose from {metrics['baseline'][main]:.3f} to {metrics['tuned'][main]:.3f}; the difference lies between {low:+.3f} and {high:+.3f} with 95 % confidence.",
        },
        "flags": [],
    })  # fmt: skip
    write_json(folder / "analysis.json", analysis(measured, scores, main))


def analysis(rows: list[dict[str, Any]], scores: Scores, main: str) -> dict[str, Any]:
    overall = sum(after for _, after in scores) / len(scores)
    labels = sorted({row["label"] for row in rows if "label" in row})
    pairs = [(row["label"], row["tuned"]["predicted"]) for row in rows if "label" in row]
    counts = [[pairs.count((true, given)) for given in labels] for true in labels]
    wrong = [row for row, (_, after) in zip(rows, scores, strict=True) if not after]
    given = "generated" if "prompt" in rows[0] else "predicted"
    return {
        "confusion": {"labels": labels, "counts": counts, "baseline_counts": None} if labels else None,
        "per_label": [of_label(label, pairs) for label in labels] or None,
        "slices": sorted(slices(rows, scores, main, overall), key=lambda found: found["difference"]),
        "worst": [
            {"row": row["name"], "text": row.get("text", row.get("prompt")), "target": row.get("label", row.get("target")), given: row["tuned"][given], "score": 0.0}
            for row in wrong[:20]
        ],
        "changed": [{"row": row["name"], "baseline_score": 0.0, "tuned_score": 1.0} for row, (before, after) in zip(rows, scores, strict=True) if after > before][:20],
    }  # fmt: skip


def of_label(label: str, pairs: list[tuple[str, str]]) -> dict[str, Any]:
    both, true, given = (
        pairs.count((label, label)),
        sum(pair[0] == label for pair in pairs),
        sum(pair[1] == label for pair in pairs),
    )
    return {
        "label": label,
        "precision": both / max(1, given),
        "recall": both / max(1, true),
        "f1": 2 * both / (true + given),
        "support": true,
    }


def slices(rows: list[dict[str, Any]], scores: Scores, main: str, overall: float) -> list[dict[str, Any]]:
    groups: dict[tuple[str, str], list[float]] = {}
    for row, (_, after) in zip(rows, scores, strict=True):
        words = len(row.get("text", row.get("target", "")).split())
        groups.setdefault(("length", f"{words // 5 * 5} to {words // 5 * 5 + 4} words"), []).append(after)
        if "label" in row:
            groups.setdefault(("label", row["label"]), []).append(after)
    found = []
    for (by, value), group in groups.items():
        score, interval = sum(group) / len(group), bootstrap(group)
        found.append({
            "by": by, "value": value, "rows": len(group), "metric": main, "score": score, "interval": interval,
            "overall": overall, "difference": score - overall, "difference_interval": [end - overall for end in interval],
        })  # fmt: skip
    return found


def right(row: dict[str, Any], when: str) -> float:
    answer = row[when]
    return float(answer.get("generated", answer.get("predicted")) == row.get("label", row.get("target")))


def bootstrap(values: list[float]) -> list[float]:
    dice = random.Random(42)
    means = sorted(sum(dice.choices(values, k=len(values))) / len(values) for _ in range(400))
    return [means[10], means[389]]
