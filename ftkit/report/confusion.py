"""The confusion matrix as the page shows it: tables whose cells have their share of the true label."""

from dataclasses import dataclass
from typing import Any

MAX_LABELS = 24  # more would not be legible


@dataclass(frozen=True)
class Cell:
    """Rows with one true label that were given one label.

    Attributes:
        share: of all rows with the true label, shown or not.
    """

    true: str
    predicted: str
    count: int
    share: float
    right: bool


@dataclass(frozen=True)
class Confusion:
    """What is shown.

    Attributes:
        of: how many labels there are.
        tables: a line of cells for each label shown, of the baseline, where it was counted, and of the tuned model.
    """

    labels: list[str]
    of: int
    tables: dict[str, list[list[Cell]]]

    @property
    def tilted(self) -> bool:
        """Whether the labels are too long or too many to stand side by side."""
        return len(self.labels) > 6 or max(map(len, self.labels)) > 12


def confusion(found: dict[str, Any] | None) -> Confusion | None:
    """The tables of analysis.json's counts; None where there are none."""
    if not found:
        return None
    labels, counts = found["labels"], found["counts"]
    shown = most_confused(counts) if len(labels) > MAX_LABELS else list(range(len(labels)))
    known = {"baseline": found.get("baseline_counts"), "tuned": counts}
    tables = {
        name: [[cell(labels, table, row, column) for column in shown] for row in shown]
        for name, table in known.items()
        if table
    }
    return Confusion([labels[index] for index in shown], len(labels), tables)


def most_confused(counts: list[list[int]]) -> list[int]:
    """The labels with the most wrong rows, theirs and taken for theirs, in the order of the labels."""
    wrong = [sum(counts[one]) + sum(row[one] for row in counts) - 2 * counts[one][one] for one in range(len(counts))]
    return sorted(sorted(range(len(counts)), key=lambda one: -wrong[one])[:MAX_LABELS])


def cell(labels: list[str], counts: list[list[int]], row: int, column: int) -> Cell:
    count = counts[row][column]
    return Cell(labels[row], labels[column], count, count / max(1, sum(counts[row])), row == column)
