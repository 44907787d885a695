"""`ftkit check` as a command: what was found sound is told again at once, until something changes."""

from collections.abc import Callable
from pathlib import Path

import pytest
from command import ftkit, one_line

from ftkit.recipe.schema import Recipe
from ftkit.run import dump_recipe, write_jsonl

ROWS = [{"text": f"{word} and {number} more", "label": word} for word in ("good", "bad") for number in range(20)] * 2


@pytest.fixture
def recipe_file(recipe: Callable[..., Recipe], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A recipe on rows, each of which comes twice, so that there is something to be warned of."""
    monkeypatch.setenv("FTKIT_CACHE", str(tmp_path / "cache"))
    write_jsonl(tmp_path / "rows.jsonl", ROWS)
    made = recipe(data={"train": "rows.jsonl", "eval_size": 8, "gate": {"overlap": 1.0, "dropped": 1.0}})
    (tmp_path / "r.yaml").write_text(dump_recipe(made))
    (tmp_path / "no").mkdir()
    (tmp_path / "no/torch.py").write_text("raise SystemExit('torch was imported')")
    return tmp_path / "r.yaml"


def test_a_sound_recipe_is_not_checked_twice(recipe_file: Path, tmp_path: Path) -> None:
    without = {"PYTHONPATH": str(tmp_path / "no")}
    first = ftkit("check", recipe_file)
    assert first.returncode == 0, first.stderr
    again = ftkit("check", recipe_file, **without)
    assert again.returncode == 0, again.stderr
    *told, since = [line.rstrip() for line in again.stdout.splitlines()]
    assert told == [line.rstrip() for line in first.stdout.splitlines()]
    assert since.endswith("ago, and nothing has changed since; --again checks it anew")
    warned = [line for line in first.stderr.splitlines() if line.startswith("warning: ")]
    assert warned
    assert again.stderr.splitlines() == warned
    assert "torch was imported" in ftkit("check", recipe_file, "--again", **without).stderr
    assert "torch was imported" in ftkit("check", recipe_file, "training.learning_rate=0.25", **without).stderr
    write_jsonl(tmp_path / "rows.jsonl", [*ROWS, {"text": "no label", "label": None}])
    assert "rows.jsonl" in one_line(ftkit("check", recipe_file))
