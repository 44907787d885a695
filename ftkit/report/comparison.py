"""Finished runs side by side: metrics with their intervals, and what each cost.."""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Group
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from ftkit import console
from ftkit.errors import UserError
from ftkit.metrics.estimates import Estimates, from_arrays
from ftkit.metrics.intervals import difference_interval
from ftkit.metrics.names import by_shown_name
from ftkit.reading import Damaged, read_arrays, read_object
from ftkit.recipe.tasks import TASK_SPECS
from ftkit.report.summary import model_name
from ftkit.run import METRICS, Run, blaming_damage, finished_run
from ftkit.units import number, size_words, time_words

BEST = " *"
ABSENT = "-"
COSTS = ("trained\nparameters", "peak\nmemory", "time", "disk", "forgetting")
ANY_WIDTH = 1000


@dataclass(frozen=True)
class Entry:
    """One run of a comparison.

    Attributes:
        tuned: metrics of the tuned model, by the names under which they are shown; None where one is not a number.
        intervals: of those metrics, each from low to high; without those that the run does not know.
        higher: of each metric, whether higher is better.
        data: the fingerprint of its eval rows.
        draws: each metric over the draws of its interval, and `seed` that of the draws.
        peak_memory: in bytes, by place; `disk`: bytes of the saved model; `seconds`: of the whole run, without those of
            going on where it was resumed.
    """

    name: str
    folder: str
    task: str
    model: str
    strategy: str
    baseline: dict[str, float | None]
    tuned: dict[str, float | None]
    intervals: dict[str, tuple[float, float]]
    higher: dict[str, bool]
    trainable: int
    total: int
    peak_memory: dict[str, int]
    seconds: float
    disk: int
    forgetting: dict[str, Any] | None
    rows: int
    data: str
    caveats: list[str]
    flags: list[str] = field(default_factory=list)
    seed: int | None = None
    generated: tuple[int, int | None] = (0, None)  # rows that answers were generated for, and the seed that drew them
    draws: Estimates = field(default_factory=dict, repr=False, compare=False)

    def score(self, metric: str, mark: str) -> str:
        value = self.tuned.get(metric)
        if value is None:
            return ABSENT
        interval = self.intervals.get(metric)
        return f"{number(value)}{mark}" + (f"\n[{number(interval[0])}, {number(interval[1])}]" if interval else "")

    def title(self) -> str:
        return self.name if self.name == self.strategy else f"{self.name}\n({self.strategy})"

    def costs(self) -> list[str]:
        """What the run cost and what it forgot, in the order of COSTS."""
        place, peak = max(self.peak_memory.items(), key=lambda item: item[0] == "gpu", default=("", 0))
        return [
            f"{self.trainable:,}\nof {self.total:,}",
            f"{size_words(peak)}\n({place})" if place else ABSENT,
            time_words(self.seconds),
            size_words(self.disk),
            forgotten(self.forgetting),
        ]


@dataclass(frozen=True)
class Comparison:
    """Runs in the order in which they were named.

    Attributes:
        best: the run that leads in a metric, where its interval allows to say so.
        warnings: why figures may not be set side by side.
    """

    entries: list[Entry]
    best: dict[str, str | None]
    warnings: list[str]

    def as_json(self) -> dict[str, Any]:
        runs = [{key: value for key, value in asdict(entry).items() if key != "draws"} for entry in self.entries]
        return {"runs": runs, "best": self.best, "warnings": self.warnings}

    def table(self, width: int = ANY_WIDTH) -> Group:
        """A row a run; where that is wider than `width` characters, a column a run."""
        lines = [["run", *self.best, *COSTS], *map(self._cells, self.entries)]
        grid = self._grid(lines)
        if Measurement.get(console.out, console.out.options.update(width=ANY_WIDTH), grid).maximum > width:
            grid = self._grid([list(column) for column in zip(*lines, strict=True)])
        return Group(grid, Text(self.legend(), style="dim"), *self._remarks())

    def _cells(self, entry: Entry) -> list[str]:
        marks = {metric: BEST if leader == entry.name else "" for metric, leader in self.best.items()}
        return [entry.title(), *(entry.score(metric, mark) for metric, mark in marks.items()), *entry.costs()]

    def _grid(self, lines: list[list[str]]) -> Table:
        kinds = " and ".join(dict.fromkeys(f"{entry.task} · {entry.model}" for entry in self.entries))
        grid = console.table(f"{kinds}, {self.entries[0].rows:,} eval rows", lines[0], lines[1:])
        grid.show_lines = True
        return grid

    def legend(self) -> str:
        """What the mark says, and why there is none."""
        if len(self.entries) < 2 or self.warnings:
            return ""
        leaders = [metric for metric, leader in self.best.items() if leader]
        ranked = [metric for metric in self.best if metric in self.entries[0].higher and metric not in leaders]
        known = [metric for metric in ranked if all(metric in entry.intervals for entry in self.entries)]
        unknown = [metric for metric in ranked if metric not in known]
        parts = [f"{BEST.strip()} best: its difference from each of the others has an interval without 0"] if leaders else []
        if known:
            parts.append(f"no best in {', '.join(known)}: the differences may be chance")
        if unknown:
            parts.append(f"no best in {', '.join(unknown)}: not every run has an interval")
        return "; ".join(parts)

    def _remarks(self) -> list[Text]:
        caveats = [f"{entry.name}: {caveat}" for entry in self.entries for caveat in entry.caveats]
        flags = [f"look into this: {entry.name}: {flag}" for entry in self.entries for flag in entry.flags]
        lines = [*(f"read with care: {remark}" for remark in [*self.warnings, *caveats]), *flags]
        return [Text(line, style="yellow") for line in lines]


def compare_runs(folders: Sequence[Path]) -> Comparison:
    """Read the runs and set them side by side.

    Raises:
        UserError: one of them is no finished run.
    """
    names = [Path(os.path.realpath(folder)).name for folder in folders]  # Path.resolve fails where links go in a circle
    short = Counter(names)
    entries = [
        read_entry(folder, name if short[name] == 1 else str(folder)) for folder, name in zip(folders, names, strict=True)
    ]
    if repeated := [name for name, count in Counter(entry.name for entry in entries).items() if count > 1]:
        raise UserError(f"{repeated[0]} is named twice", "name each run once")
    warnings = differences(entries)
    metrics = dict.fromkeys(metric for entry in entries for metric in entry.tuned)
    best = {metric: None if warnings else best_run(entries, metric) for metric in metrics}
    return Comparison(entries, best, warnings)


def read_entry(folder: Path, name: str) -> Entry:
    """What a run's files say; what a run of an earlier version does not know is left out."""
    run = finished_run(folder)
    with blaming_damage(run):
        return entry_of(run, str(folder), name)


def entry_of(run: Run, folder: str, name: str) -> Entry:
    """As `read_entry`."""
    recipe, record = run.read_recipe(), run.record
    metrics = read_object(run.metrics_file, METRICS, METRICS)
    found = (metrics.get("intervals") or {}).get("tuned") or {}
    named = partial(by_shown_name, details=metrics.get("details"))
    return Entry(
        name=name,
        folder=folder,
        task=recipe.task,
        model=model_name(record),
        strategy=recipe.strategy.name,
        baseline=named(metrics.get("baseline") or {}),
        tuned=named(metrics["tuned"]),
        intervals={metric: (pair[0], pair[1]) for metric, pair in named(found).items() if pair and None not in pair},
        higher=named(metrics.get("higher_is_better") or TASK_SPECS[recipe.task].metrics),
        trainable=record["parameters"]["trainable"],
        total=record["parameters"]["total"],
        peak_memory=record.get("peak_memory_bytes", {}),
        seconds=record["seconds"]["total"],
        disk=sum(file.stat().st_size for file in run.model.rglob("*") if file.is_file()),
        forgetting=metrics.get("forgetting"),
        rows=metrics["rows"],
        data=record.get("data", {}).get("eval", {}).get("sha256", ""),
        caveats=metrics.get("caveats", []),
        flags=metrics.get("flags") or [],
        seed=(metrics.get("intervals") or {}).get("seed"),
        generated=(metrics.get("generated_rows", 0), metrics.get("generated_seed")),
        draws=named(read_draws(run.draws, metrics["rows"])),
    )


def read_draws(file: Path, rows: int) -> Estimates:
    """The draws of a run's metrics; none where there is no file, or where it cannot be read, and a warning says so."""
    if not file.is_file():
        return {}
    try:
        return from_arrays(read_arrays(file), rows)
    except Damaged as error:
        console.warn(f"{file}: {error.message}; the run's intervals are taken in place of its draws")
        return {}


def differences(entries: list[Entry]) -> list[str]:
    """What keeps the runs' figures from being set side by side."""
    found = []
    if len(tasks := dict.fromkeys(entry.task for entry in entries)) > 1:
        found.append(f"the runs are of different tasks: {', '.join(tasks)}")
    if len({(entry.data, entry.rows) for entry in entries}) > 1:
        groups: dict[tuple[str, int], list[str]] = {}
        for entry in entries:
            groups.setdefault((entry.data, entry.rows), []).append(entry.name)
        named = "; ".join(f"{', '.join(names)} ({rows:,} rows)" for (_, rows), names in groups.items())
        found.append(f"the runs were measured on different eval rows: {named}; no best is marked")
    elif len(drawn := {entry.generated for entry in entries}) > 1:
        sizes = " and ".join(f"{rows:,} rows (data.seed {seed})" for rows, seed in sorted(drawn, key=str))
        found.append(f"text metrics are of other rows in each run: {sizes}; no best is marked")
    return found


def best_run(entries: list[Entry], metric: str) -> str | None:
    """The run that is surely better than each of the others; none where it is not sure, or where one has no interval."""
    higher = entries[0].higher.get(metric)
    if higher is None or len(entries) < 2:
        return None
    for entry in entries:
        if all(surely_better(entry, other, metric, higher=higher) for other in entries if other is not entry):
            return entry.name
    return None


def surely_better(one: Entry, other: Entry, metric: str, *, higher: bool) -> bool:
    """Whether the interval of the two runs' difference leaves no doubt.

    Both were measured on the same rows. With the same draws of those rows the difference is that within each draw; without
    them the two intervals must lie apart, which asks for more.
    """
    if one.seed is not None and one.seed == other.seed and metric in one.draws and metric in other.draws:
        low, high = difference_interval(one.draws[metric], other.draws[metric])
        return low > 0 if higher else high < 0
    mine, theirs = one.intervals.get(metric), other.intervals.get(metric)
    if mine is None or theirs is None:
        return False
    return mine[0] > theirs[1] if higher else mine[1] < theirs[0]


def forgotten(found: dict[str, Any] | None) -> str:
    """The change of the loss on general text, or how far representations of it have moved."""
    if found is None:
        return ABSENT
    value = found.get("difference") if found["kind"] == "loss" else found.get("tuned")
    if value is None:
        return ABSENT
    interval = found.get("interval")
    inside = f"\n[{number(interval[0])}, {number(interval[1])}]" if interval and None not in interval else ""
    return f"{value:+.4f} loss{inside}" if found["kind"] == "loss" else f"{number(value)} {found['kind']}{inside}"
