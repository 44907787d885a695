"""`ftkit preview` as a user meets it."""

from collections.abc import Callable
from pathlib import Path

import pytest
from command import ftkit

from ftkit.recipe.schema import Recipe
from ftkit.run import dump_recipe


@pytest.fixture
def recipe_file(recipe: Callable[..., Recipe], tmp_path: Path) -> Path:
    path = tmp_path / "r.yaml"
    path.write_text(dump_recipe(recipe(task="instruction", model={"max_length": 256})))
    return path


def test_help_has_an_example() -> None:
    assert "ftkit preview my.yaml" in ftkit("preview", "--help").stdout.split("Example")[1]


@pytest.mark.slow
def test_rows_are_shown_and_the_page_is_written(recipe_file: Path, tmp_path: Path) -> None:
    done = ftkit("preview", recipe_file, "--rows", "2", "--html", tmp_path / "p.html", "--quiet")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert done.stdout.count("<|endoftext|>⟧") == 2
    assert "instructions.jsonl row" in done.stdout
    assert "kept whole" in done.stdout
    assert (tmp_path / "p.html").read_text(encoding="utf-8").count("<article") == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["p.html", "r.yaml"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--split", "tset"], "error: --split: no split 'tset'; there are eval, test, train"),
        (["--rows", "0"], "error: --rows: 0 rows cannot be shown; give 1 or more"),
        (["--html", "nowhere/p.html"], "error: --html: there is no folder nowhere; make it, or name another file"),
        (["--html", "."], "error: --html: . is a folder; name a file"),
    ],
)
@pytest.mark.slow
def test_refusals_are_one_line(words: list[str], expected: str, recipe_file: Path) -> None:
    done = ftkit("preview", recipe_file, *words)
    assert done.returncode == 2
    said = [line for line in done.stderr.splitlines() if not line.startswith("loading torch")]  # where that takes long
    assert said == [expected]
    assert done.stdout == ""


@pytest.mark.slow
def test_what_the_gate_refuses_is_shown_only_anyway(recipe_file: Path) -> None:
    words = ["preview", recipe_file, "model.max_length=64", "data.over_long=cut_answer", "--rows", "1"]
    refused = ftkit(*words)
    assert refused.returncode == 2
    assert "input rows" in refused.stderr
    assert "error: " in refused.stderr
    assert refused.stdout == ""
    shown = ftkit(*words, "--anyway")
    assert shown.returncode == 0, shown.stderr
    assert "refused by data.gate." in shown.stdout
