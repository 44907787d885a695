"""What `ftkit eval` and `ftkit check` report: values that print as a table or as JSON."""

from dataclasses import dataclass, field
from math import isfinite
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from ftkit import console
from ftkit.metrics.names import shown_name


@dataclass(frozen=True)
class Score:
    """The metrics of one model on one split, each with its 95 % interval over the rows."""

    target: str
    task: str
    split: str
    rows: int
    generated_rows: int
    metrics: dict[str, float]
    intervals: dict[str, list[float]]
    predictions: list[dict[str, Any]]
    caveats: list[str]
    details: dict[str, str] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        names = ("target", "task", "split", "rows", "generated_rows", "metrics", "intervals", "details", "caveats")
        found = {name: getattr(self, name) for name in names}
        known = {name: [end if isfinite(end) else None for end in ends] for name, ends in self.intervals.items()}
        return found | {"intervals": known}

    def table(self) -> Group:
        rows = [
            [shown_name(name, self.details), f"{value:.4f}", self._interval(name)] for name, value in self.metrics.items()
        ]
        note = f", text metrics over {drawn_words(self.generated_rows, self.rows)}" if self.generated_rows else ""
        grid = console.table(
            f"{self.task} · {self.target}",
            [f"metric ({self.rows:,} {self.split} rows{note})", "value", "95 % interval"],
            rows,
        )
        return Group(grid, *(Text(f"read with care: {caveat}", style="yellow") for caveat in self.caveats))

    def _interval(self, name: str) -> str:
        ends = self.intervals.get(name, [])
        return "{:.4f} to {:.4f}".format(*ends) if ends and all(map(isfinite, ends)) else "-"


def drawn_words(some: int, rows: int) -> str:
    """Which rows answers were generated for, in words."""
    return f"{some:,} rows drawn with data.seed" if some < rows else "all rows"


@dataclass(frozen=True)
class CheckReport:
    """What `ftkit check` found: facts by name, all of them good."""

    facts: dict[str, str]

    def table(self) -> Table:
        return console.facts("", {"sound": "nothing wrong was found", **self.facts})
