"""What a run left behind, read from its folder: all that the page and the card are made of. Imports nothing heavy."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ftkit.errors import UserError
from ftkit.metrics.names import shown_name
from ftkit.reading import object_if_there, read_jsonl, read_log, read_object, read_text
from ftkit.recipe.schema import Recipe
from ftkit.report.summary import run_title
from ftkit.run import DATA_REPORT, FINISHED, METRICS, PROMPT_TEMPLATE, Run, require_files, require_finished


@dataclass(frozen=True)
class Evidence:
    """The files of one run.

    Attributes:
        analysis: analysis.json, or empty where the run has none, as runs of older versions.
        data: data_report.json, or empty.
        rows: predictions.jsonl, one object an eval row.
        prompt_forms: the forms that become a prompt when filled with a row's columns, by name.
    """

    folder: Path
    recipe: Recipe
    recipe_text: str
    record: dict[str, Any]
    metrics: dict[str, Any]
    analysis: dict[str, Any]
    data: dict[str, Any]
    log: list[dict[str, Any]]
    rows: list[dict[str, Any]]
    prompt_forms: dict[str, str]

    @property
    def title(self) -> str:
        return run_title(self.recipe.task, self.recipe.strategy.name, self.record)

    @property
    def main_metric(self) -> str:
        """The metric that the verdict is about, else the first that the recipe names."""
        named = (self.metrics.get("verdict") or {}).get("metric")
        return str(named or next(iter(self.metrics["tuned"])))

    def shown(self, metric: str) -> str:
        """The name under which a metric is shown."""
        return shown_name(metric, self.metrics.get("details"))

    @property
    def against(self) -> str:
        """What the verdict compares with, "baseline" or the name of another."""
        return (self.metrics.get("verdict") or {}).get("against") or "baseline"

    def higher_is_better(self, metric: str) -> bool | None:
        """Which way is up; None where neither is, as for a length ratio."""
        known: dict[str, bool] = self.metrics.get("higher_is_better") or self.recipe.spec.metrics
        return known.get(metric)

    def interval(self, kind: str, metric: str) -> tuple[float, float] | None:
        """The interval of `baseline`, `tuned` or their `difference`; None where the run measured none."""
        return as_interval((self.metrics.get("intervals") or {}).get(kind, {}).get(metric))

    def interval_over(self, other: str, metric: str) -> tuple[float, float] | None:
        """The interval of tuned minus another baseline."""
        found = (self.metrics.get("intervals") or {}).get("other_baselines", {})
        return as_interval(found.get(other, {}).get(metric))


def as_interval(value: Any) -> tuple[float, float] | None:
    """A pair of numbers; None where it is absent or an end of it is no number."""
    return (value[0], value[1]) if value and None not in value else None


def read_evidence(run: Run) -> Evidence:
    """Read a run's files.

    Raises:
        UserError: the folder holds no run that was measured, or a file is damaged.
    """
    require_files(run)
    record = run.record
    read = read_object if run.state == FINISHED else object_if_there
    metrics = read(run.metrics_file, METRICS)
    if not record or "tuned" not in metrics or "seconds" not in record:
        if record:
            require_finished(run)
        hint = "name the folder of a run that has ended, as runs/my_recipe"
        raise UserError(f"{run.folder} holds no finished run", hint)
    return Evidence(
        folder=run.folder,
        recipe=run.read_recipe(),
        recipe_text=read_text(run.recipe_file),
        record=record,
        metrics=metrics,
        analysis=object_if_there(run.analysis_file),
        data=object_if_there(run.data_report, DATA_REPORT),
        log=read_log(run.log_file),
        rows=read_jsonl(run.predictions_file),
        prompt_forms=object_if_there(run.model / PROMPT_TEMPLATE),
    )
