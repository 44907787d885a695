"""A table of results as csv, a row for each pair of what its first two columns say."""

import csv
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any


def write_table(path: Path, rows: Iterable[Mapping[str, Any]], order: Iterable[tuple[str, str]]) -> None:
    """Put rows into the table's file, in place of those of the same pair, in an order of pairs."""
    known = list(csv.DictReader(path.open())) if path.is_file() and path.stat().st_size else []
    made = {tuple(row.values())[:2]: row for row in [*known, *rows]}
    found = [made[pair] for pair in order if pair in made]
    with path.open("w", newline="") as file:
        table = csv.DictWriter(file, list(found[0]) if found else [], lineterminator="\n")
        table.writeheader()
        table.writerows(found)
