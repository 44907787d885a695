"""What is said of the data on screen beside what became of each row: its labels, and the columns that are not read."""

from collections.abc import Mapping
from pathlib import Path

from datasets import Dataset
from rich.table import Table

from ftkit import console
from ftkit.tasks.base import Task

SHOWN_LABELS = 20


def count_labels(task: Task, splits: Mapping[str, Dataset]) -> dict[str, dict[str, int]]:
    """How often each label occurs in each split; nothing where rows have none."""
    found = {name: task.members(rows) for name, rows in splits.items()}
    return {name: members.counts for name, members in found.items() if members is not None}


def label_table(counted: Mapping[str, Mapping[str, int]]) -> Table:
    """How often each label occurs, the most frequent in training first."""
    names = list(dict.fromkeys(name for counts in counted.values() for name in counts))
    rows = [[name, *(f"{counts.get(name, 0):,}" for counts in counted.values())] for name in names]
    if len(rows) > SHOWN_LABELS:
        rows = [*rows[:SHOWN_LABELS], [f"… {len(rows) - SHOWN_LABELS:,} more", *("" for _ in counted)]]
    return console.table("", ["label", *counted], rows)


def say_unread(unread: Mapping[str, list[str]]) -> None:
    """Name the columns that are not read, each list of them once."""
    sources: dict[str, list[str]] = {}
    for path, names in unread.items():
        sources.setdefault(", ".join(names), []).append(Path(path).name)
    for listed, paths in sources.items():
        more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
        console.say(f"columns that are not read: {listed[:300]} ({paths[0]}{more})")
