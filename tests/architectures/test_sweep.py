"""Small models of every kind are trained as the plain Trainer trains them; the table of all types is what was found.

The kind that is guarded: what is read off a model, or done to it for speed, and holds for the models at hand only.
"""

import subprocess
import sys
from pathlib import Path

import pytest
from configurations import SELECTED, TYPES
from jobs import jobs_of
from matrix import Row, models_page, read_csv

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "models.md"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_selection_is_equal_or_refused(tmp_path: Path) -> None:
    table = tmp_path / "matrix.csv"
    command = [sys.executable, str(HERE / "sweep.py"), "--out", str(table), "--only", *SELECTED]
    finished = subprocess.run(command, capture_output=True, text=True)
    assert {row["type"] for row in read_csv(table)} == set(SELECTED)
    assert faults(read_csv(table)) == []
    assert finished.returncode == 0, finished.stderr[-2000:]


@pytest.mark.parametrize("name", ["matrix.csv", "matrix-bf16.csv", "matrix-dropout.csv"])
def test_the_table_has_every_job_and_no_fault(name: str) -> None:
    rows, brief = read_csv(HERE / name), name != "matrix.csv"
    found = [(row["type"], row["task"], row["strategy"], row["variant"]) for row in rows]
    jobs = [job for kind in (SELECTED if brief else TYPES) for job in jobs_of(kind, brief=brief)]
    assert found == [tuple(job) for job in jobs if name != "matrix-dropout.csv" or job.variant == "steps"]
    assert faults(rows) == []


def test_the_page_is_made_of_the_table() -> None:
    assert PAGE.read_text(encoding="utf-8") == models_page(read_csv(HERE / "matrix.csv"))


def faults(rows: list[Row]) -> list[str]:
    wrong = [row for row in rows if row["verdict"] in ("wrong", "crash")]
    return [
        f"{row['type']} {row['task']} {row['strategy']} {row['variant']}: {row['verdict']} {row['detail']}" for row in wrong
    ]
