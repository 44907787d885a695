"""Kind: a metric is shown without what its name leaves open, as whose F1 it is, or with another name elsewhere.

One run of two labels, of which the recipe names the positive one, and one without: every view of each says it alike.
"""

from collections.abc import Callable
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard
from rich.console import Console

from ftkit import evaluate, train
from ftkit.api import Result
from ftkit.reading import read_jsonl
from ftkit.recipe.load import load_values
from ftkit.report.comparison import compare_runs
from ftkit.report.publish import write_report
from ftkit.run import Run, write_jsonl

pytestmark = pytest.mark.slow

ROWS = [{"text": f"text {i}", "label": ("fraud", "legit")[i % 5 > 0]} for i in range(80)]


@pytest.fixture(scope="module")
def runs(stand_in: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Result, str]]:
    """What each run gives, and what it said meanwhile."""
    folder = tmp_path_factory.mktemp("names")
    write_jsonl(folder / "rows.jsonl", ROWS)
    made = []
    for name, data in (("second", {}), ("named", {"positive_label": "fraud"})):
        values = {
            "task": "text-classification", "strategy": "full", "model": {"name": str(stand_in("distilbert")), "max_length": 32},
            "data": {"train": str(folder / "rows.jsonl"), "eval_size": 20, **data},
            "training": {"max_steps": 2, "per_device_train_batch_size": 8, "eval_strategy": "steps", "eval_steps": 1},
            "evaluation": {"metrics": ["f1", "f1_macro"], "verify": False, "general_text": False},
        }  # fmt: skip
        with redirect_stderr(StringIO()) as said:
            made.append((train(load_values(values), output_dir=folder / name), said.getvalue()))
    return made


def printed(shown: Any) -> str:
    console = Console(width=200)
    with console.capture() as capture:
        console.print(shown)
    return capture.get()


@pytest.mark.parametrize(("place", "label", "other"), [(0, "legit", "fraud"), (1, "fraud", "legit")])
def test_every_view_says_whose_f1_it_is(runs: list[tuple[Result, str]], place: int, label: str, other: str) -> None:
    (result, said), shown = runs[place], f"f1 (class {label})"
    assert f"eval {shown} " in said
    assert result.metrics["details"]["f1"] == f"class {label}"
    write_report(Run(result.folder))
    score = evaluate(result.folder)
    assert score.as_json()["details"]["f1"] == f"class {label}"
    card = (result.folder / "README.md").read_text()
    views = [printed(result.table()), (result.folder / "report.html").read_text(), card, printed(score.table())]
    views.append(printed(compare_runs([result.folder]).table()))
    for view in [*views, said]:
        assert shown in view
        assert f"f1 (class {other})" not in view
        assert "f1_macro (" not in view  # whose name says it
    found = ModelCard(card).data.eval_results or []
    assert {one.metric_name for one in found} == {shown, "f1_macro"}
    assert {one.metric_type for one in found} == {"f1", "f1_macro"}
    rows = read_jsonl(result.folder / "predictions.jsonl")
    hits = sum(row["label"] == row["tuned"]["predicted"] == label for row in rows)
    either = sum((row["label"] == label) + (row["tuned"]["predicted"] == label) for row in rows)
    assert result.metrics["tuned"]["f1"] == pytest.approx(2 * hits / either if either else 0)


def test_f1_of_two_classes_are_two_metrics(runs: list[tuple[Result, str]]) -> None:
    found = compare_runs([Path(result.folder) for result, _ in runs])
    assert list(found.best) == ["f1 (class legit)", "f1_macro", "f1 (class fraud)"]
