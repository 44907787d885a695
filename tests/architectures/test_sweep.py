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


@pytest.mark.parametrize(
    ("name", "least"), [("matrix.csv", 60), ("matrix-bf16.csv", len(SELECTED)), ("matrix-dropout.csv", len(SELECTED))]
)
def test_the_table_has_every_job_of_its_types_and_no_fault(name: str, least: int) -> None:
    rows, brief, drawn = read_csv(HERE / name), name != "matrix.csv", "dropout" in name
    kinds = list(dict.fromkeys(row["type"] for row in rows))
    assert len(kinds) >= least
    assert set(kinds) <= set(TYPES)
    found = [(row["type"], row["task"], row["strategy"], row["variant"]) for row in rows]
    jobs = [job for kind in kinds for job in jobs_of(kind, brief=brief) if not drawn or job.variant == "steps"]
    assert found == [tuple(job) for job in jobs]
    assert faults(rows) == []


def test_levers_are_on_where_they_hold() -> None:
    """A table in which nothing is wrong since nothing is done would pass the others."""
    rows = [row for row in read_csv(HERE / "matrix.csv") if row["variant"] == "steps"]
    refused = [row for row in rows if row["verdict"] == "refused"]
    assert len(refused) < 0.06 * len(rows)
    levers = {(row["type"], row["task"], row["strategy"]): set(row["levers"].split()) for row in rows}
    assert levers["llama", "instruction", "full"] >= {"supervised_logits", "unpadded", "embedding_rows"}
    assert levers["llama", "instruction", "lora"] >= {"supervised_logits", "unpadded", "fused_adapters"}
    assert levers["gemma2", "instruction", "full"] >= {"supervised_logits", "unpadded", "embedding_rows"}
    assert levers["bert", "pairs", "full"] >= {"unpadded", "embedding_rows"}


def test_dropout_is_drawn_by_the_lever_where_its_means_are_compared() -> None:
    rows = [row for row in read_csv(HERE / "matrix-dropout.csv") if "fast_dropout" in row["levers"].split()]
    assert len({row["type"] for row in rows}) >= 5
    assert all(float(row["spread"]) for row in rows)


def test_the_page_is_made_of_the_table() -> None:
    assert PAGE.read_text(encoding="utf-8") == models_page(read_csv(HERE / "matrix.csv"))


def faults(rows: list[Row]) -> list[str]:
    wrong = [row for row in rows if row["verdict"] in ("wrong", "crash")]
    return [
        f"{row['type']} {row['task']} {row['strategy']} {row['variant']}: {row['verdict']} {row['detail']}" for row in wrong
    ]
