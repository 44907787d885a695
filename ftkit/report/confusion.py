"""The confusion matrix as the page draws it: cells with their share of the true label, the most confused labels first."""

from typing import Any

MAX_LABELS = 24  # more would not be legible


def confusion(found: dict[str, Any] | None) -> dict[str, Any] | None:
    """Cells before and after for the plot.

    Returns:
        labels shown, how many there are, and `tables`: after, and before where it was counted; None where there is none.
    """
    if not found:
        return None
    labels, counts = found["labels"], found["counts"]
    shown = most_confused(counts) if len(labels) > MAX_LABELS else list(range(len(labels)))
    tables = [{"name": "tuned", "cells": cells(labels, counts, shown)}]
    if before := found.get("baseline_counts"):
        tables.insert(0, {"name": "baseline", "cells": cells(labels, before, shown)})
    return {"labels": [labels[index] for index in shown], "of": len(labels), "tables": tables}


def most_confused(counts: list[list[int]]) -> list[int]:
    """The labels with the most wrong rows, theirs and taken for theirs, in the order of the labels."""
    wrong = [sum(counts[one]) + sum(row[one] for row in counts) - 2 * counts[one][one] for one in range(len(counts))]
    return sorted(sorted(range(len(counts)), key=lambda one: -wrong[one])[:MAX_LABELS])


def cells(labels: list[str], counts: list[list[int]], shown: list[int]) -> list[dict[str, Any]]:
    """One object a cell; the share is of all rows with the true label, shown or not."""
    return [
        {
            "true": labels[row], "predicted": labels[column], "count": counts[row][column],
            "share": counts[row][column] / max(1, sum(counts[row])), "right": row == column,
        }
        for row in shown
        for column in shown
    ]  # fmt: skip
