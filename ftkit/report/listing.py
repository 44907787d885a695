"""`ftkit runs`: what each run of a folder is, from its run.json and its lock alone."""

import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from ftkit import console
from ftkit.errors import UserError
from ftkit.reading import UNREADABLE, Damaged
from ftkit.run import DEAD, RUNNING, Run, require_files, was_run
from ftkit.units import ago, number

DAMAGED = "damaged"
COLUMNS = ("run", "state", "task · strategy · model", "result", "changed")
NARROW = ("run", "state", "changed")
ROOM = 100  # columns of a terminal that has room for all


@dataclass(frozen=True)
class Entry:
    """One run.

    Attributes:
        state: running, dead, interrupted, failed, finished or damaged.
        detail: how far it is, or what is wrong with it.
        what: task, strategy and model, so far as they are noted.
        metric: that its verdict is about, with the tuned model's figure.
        changed: when it last was, in seconds since 1970.
        replaced: the finished run that it is to replace, where that is still there.
    """

    name: str
    folder: str
    state: str
    detail: str = ""
    what: str = ""
    metric: str = ""
    tuned: float | None = None
    changed: float = 0.0
    replaced: str | None = None

    def cells(self) -> list[str]:
        state = f"{self.state}: {self.detail}" if self.detail else self.state
        result = f"{self.metric} {number(self.tuned)}" if self.tuned is not None else ""
        return [self.name, state, self.what, result, ago(time.time() - self.changed)]


@dataclass(frozen=True)
class Listing:
    """The runs of a folder, the one that changed last first."""

    folder: Path
    entries: list[Entry]

    def as_json(self) -> list[dict[str, Any]]:
        return [asdict(entry) for entry in self.entries]

    def table(self, width: int) -> Table:
        """Of a narrow screen the first two columns and the last."""
        columns = COLUMNS if width >= ROOM else NARROW
        shown = [COLUMNS.index(column) for column in columns]
        rows = [[entry.cells()[index] for index in shown] for entry in self.entries]
        return console.table("", columns, rows, numbers=False, lines=False)


def list_runs(folder: Path) -> Listing:
    """Every run that lies in a folder, or is the folder itself; one that cannot be read is listed as damaged.

    Raises:
        UserError: there is no such folder, or it cannot be read.
    """
    try:
        held = sorted(folder.iterdir())
    except OSError as error:
        reason = "there is no such folder" if isinstance(error, FileNotFoundError) else error.strerror
        raise UserError(f"{folder}: {reason}", "name a folder that runs lie in, as runs/", "FOLDER") from None
    places = [folder] if found_in(folder) else held
    entries = [entry for place in places if (entry := found_in(place))]
    return Listing(folder, sorted(entries, key=lambda entry: (-entry.changed, entry.name)))


def found_in(place: Path) -> Entry | None:
    """The run in a folder; None where none is, or was begun. A folder that nobody may look into is listed as damaged."""
    run = Run(place)
    try:
        return entry_of(run) if is_begun(run) else None
    except PermissionError as error:
        return Entry(place.name, str(place), DAMAGED, f"{UNREADABLE}: {error.strerror}")


def is_begun(run: Run) -> bool:
    """Whether a run is, or was begun, in a folder."""
    return was_run(run.folder) or run.lock.is_file()


def entry_of(run: Run) -> Entry:
    """What is known of a run."""
    known: dict[str, Any] = {"name": run.folder.name, "folder": str(run.folder), "changed": changed(run)}
    if run.replaced.is_dir():
        known["replaced"] = str(run.replaced)
    try:
        state, record, sign = run.true_state, run.record, run.sign
        if state != RUNNING:
            require_files(run)
    except Damaged as error:
        return Entry(**known, state=DAMAGED, detail=f"{error.file.name}: {error.what}")
    detail = ""
    if sign is not None and state == RUNNING:
        detail = f"{sign.where()}, last sign of life {ago(sign.age)}"
    elif state == DEAD:
        detail = f"at {sign.where()}" if sign is not None and sign.pid else ""
    elif state == "failed":
        detail = " ".join(str(record.get("error", "")).split())[:80]
    if "replaced" in known and state != RUNNING:
        detail = "; ".join(filter(None, (detail, f"the run before is in {run.replaced.name}/")))
    return Entry(**known, state=state or DAMAGED, detail=detail, what=what(record), **result(record))


def what(record: dict[str, Any]) -> str:
    """Task, strategy and model as run.json has them; a local model by its folder, a stand-in by what it is for."""
    smoke = record.get("smoke")
    stands_for = smoke.get("stands_for") if isinstance(smoke, dict) else None
    model = f"stand-in of {stands_for}" if stands_for else str(record.get("model", ""))
    shown = Path(model).name if Path(model).is_absolute() or model.startswith(".") else model
    return " · ".join(str(part) for part in (record.get("task"), record.get("strategy"), shown) if part)


def result(record: dict[str, Any]) -> dict[str, Any]:
    """The figure that the run's verdict is about."""
    found = record.get("result")
    if not isinstance(found, dict):
        return {}
    tuned = found.get("tuned")
    try:
        figure = float(tuned) if isinstance(tuned, int | float) else math.nan
    except OverflowError:  # a whole number that none of ours is
        return {}
    return {"metric": str(found.get("metric", "")), "tuned": figure} if math.isfinite(figure) else {}


def changed(run: Run) -> float:
    """When a run's record, log or sign of life was written last."""
    times = []
    for file in (run.record_file, run.log_file, run.lock):
        try:
            times.append(file.stat().st_mtime)
        except OSError:  # not there yet, or not any more
            continue
    return max(times, default=0.0)
