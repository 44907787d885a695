"""The run's README.md: a model card in the hub's format, with what was measured and what it stands on."""

import hashlib
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from ftkit.escapes import markdown, visible
from ftkit.evaluation.score import drawn_words
from ftkit.report.base_card import BaseCard, base_card
from ftkit.report.evidence import Evidence
from ftkit.report.page import between, comparisons, figure, other_comparisons, signed, verdict
from ftkit.report.summary import (
    example_rows,
    label_rows,
    markdown_table,
    model_name,
    run_facts,
    stand_in_words,
    unverified,
)
from ftkit.report.usage import usage

# The hub's name for what a model of a class does; of other classes it is left out.
PIPELINES = {
    "AutoModelForSequenceClassification": "text-classification",
    "AutoModelForTokenClassification": "token-classification",
    "AutoModelForQuestionAnswering": "question-answering",
    "AutoModelForCausalLM": "text-generation",
    "AutoModelForMaskedLM": "fill-mask",
    "AutoModelForSeq2SeqLM": "summarization",
}


def card(evidence: Evidence, *, address: str = "model", about: BaseCard | None = None) -> str:
    """The card: YAML for the hub, then the same facts in words.

    Args:
        address: by which the model is loaded: a folder or a hub id.
        about: what is known of the base; default what its own card on this machine says.
    """
    about = about or base_card(evidence.recipe.model)
    return visible(f"---\n{front_matter(evidence, about).to_yaml()}\n---\n\n{body(evidence, address)}")


def front_matter(evidence: Evidence, about: BaseCard) -> ModelCardData:
    """What the hub reads: base, libraries, data sets and results; what is not known to the hub is left out."""
    recipe, record = evidence.recipe, evidence.record
    base = recipe.model.name
    hub_ids = record.get("hub_ids", [])  # as they were when the run began: seen from another folder, a path looks like one
    return ModelCardData(
        base_model=base if base in hub_ids else None,
        base_model_relation=("adapter" if record["adapter"] else "finetune") if base in hub_ids else None,
        library_name="peft" if record["adapter"] else "transformers",
        license=about.license,
        license_name=about.license_name,
        license_link=about.license_link,
        language=about.language,
        pipeline_tag=PIPELINES.get(record["auto_class"]),
        datasets=sorted({source.path for source in recipe.data.train if source.path in hub_ids}) or None,
        tags=[*dict.fromkeys(["ftkit", recipe.task, recipe.strategy.name, *about.tags])],
        model_name=record.get("name", evidence.folder.name),
        eval_results=results(evidence),
    )


def results(evidence: Evidence) -> list[EvalResult]:
    """The tuned model's metrics, as the hub's leaderboards take them; of stand-ins none."""
    recipe = evidence.recipe
    if evidence.record.get("smoke"):
        return []
    hub_ids = evidence.record.get("hub_ids", [])
    paths = [source.path for source in recipe.data.eval or recipe.data.train]
    name = ", ".join(dict.fromkeys(path if path in hub_ids else Path(path).name for path in paths))
    task = PIPELINES.get(evidence.record["auto_class"], recipe.task)
    return [
        EvalResult(
            task_type=task,
            dataset_type=name,
            dataset_name=name,
            metric_type=metric,
            metric_name=evidence.shown(metric),
            metric_value=value,
        )
        for metric, value in evidence.metrics["tuned"].items()
        if value is not None
    ]


def body(evidence: Evidence, address: str = "model") -> str:
    recipe, record, metrics = evidence.recipe, evidence.record, evidence.metrics
    rows, words, name = comparisons(evidence), stand_in_words(record), markdown(model_name(record))
    lines = [
        f"# {'Smoke run, stand-ins: ' if words else ''}{name}, {recipe.strategy.name}, {recipe.task}", "",
        *([f"**{markdown(words)}**", ""] if words else []),
        f"Trained with ftkit {record['versions']['ftkit']} from {name}. The recipe: `recipe.yaml`.", "",
        f"**{markdown(verdict(evidence, rows)['sentence'])}**", "",
        f"## Measured on {metrics['rows']:,} eval rows", "",
        *metric_table(evidence), "",
        *generated_note(metrics),
        *(f"> {markdown(line)}\n" for line in unverified(record)),
        *(f"> {markdown(flag)}\n" for flag in metrics.get("flags") or []),
        *(f"> Read with care: {markdown(caveat)}\n" for caveat in metrics.get("caveats", [])),
    ]  # fmt: skip
    if shown := example_rows(evidence.rows):
        lines += ["## Generated before and after", "", *markdown_table(["asked", "wanted", "before", "after"], shown), ""]
    if counted := evidence.data.get("labels"):
        lines += ["## Labels", "", *markdown_table(["label", *counted], label_rows(counted)), ""]
    lines += ["## The run", "", *(f"- {name}: {markdown(value)}" for name, value in run_facts(record).items()), ""]
    lines += ["## Provenance", "", *(f"- {name}: {value}" for name, value in provenance(evidence).items()), ""]
    where = ["From the folder of this file:", ""] if address == "model" else []
    lines += ["## Use it", "", *where, "```python", *usage(evidence, address), "```", ""]
    return "\n".join(lines)


def generated_note(metrics: dict[str, Any]) -> list[str]:
    some = metrics.get("generated_rows")
    return [f"Metrics of generated text are over {drawn_words(some, metrics['rows'])}.", ""] if some else []


def metric_table(evidence: Evidence) -> list[str]:
    """Baseline, tuned and their difference with its interval; then the other baselines."""
    level = (evidence.metrics.get("intervals") or {}).get("level")
    columns = ["metric", "compared with", "its value", "tuned", "difference"]
    if level:
        columns.append(f"{100 * level:.0f} % interval")
    cells = []
    for line in [*comparisons(evidence), *other_comparisons(evidence)]:
        value = "-" if line.value is None else figure(line.value)
        row = [line.shown, line.against, value, figure(line.tuned), signed(line.difference) or "-"]
        cells.append([*row, between(line.interval) if line.interval else "-"][: len(columns)])
    return markdown_table(columns, cells)


def provenance(evidence: Evidence) -> dict[str, str]:
    """What the figures stand on, so that the run can be made again and told from another."""
    record = evidence.record
    facts = {"recipe": f"`recipe.yaml`, sha256 `{hashlib.sha256(evidence.recipe_text.encode()).hexdigest()}`"}
    for split, found in record.get("data", {}).items():
        facts[f"{split} data"] = f"{found['rows']:,} rows, sha256 `{found['sha256']}`"
    for pin in record.get("hub", []):
        facts[pin["name"]] = f"commit `{pin['commit']}`, {pin['asked'] or 'main'} when the run began"
    facts["seed"] = str(record.get("seed", "not recorded"))
    if git := record.get("git"):
        facts["git commit"] = f"`{git['commit']}`{'' if git['clean'] else ', with changes'}"
    facts["versions"] = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    return facts
