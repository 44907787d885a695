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
    return tmp_path / "r.yaml"


def checked(*words: str | Path) -> tuple[list[str], list[str], bool]:
    """What a check prints, its warnings, and whether it loaded torch."""
    done = ftkit("check", *words, PYTHONPROFILEIMPORTTIME="1")
    assert done.returncode == 0, done.stderr
    messages = done.stderr.splitlines()
    warned = [line for line in messages if line.startswith("warning: ")]
    return (
        [line.rstrip() for line in done.stdout.splitlines()],
        warned,
        any(line.split()[-1:] == ["torch"] for line in messages),
    )


@pytest.mark.slow
def test_a_sound_recipe_is_not_checked_twice(recipe_file: Path, tmp_path: Path) -> None:
    told, warned, loaded = checked(recipe_file)
    assert told
    assert warned
    assert loaded
    (*again, since), *others = checked(recipe_file)
    assert again == told
    assert since.endswith("ago, and nothing has changed since; --again checks it anew")
    assert others == [warned, False]
    assert checked(recipe_file, "--again")[2]
    write_jsonl(tmp_path / "rows.jsonl", [*ROWS, {"text": "no label", "label": None}])
    assert "rows.jsonl" in one_line(ftkit("check", recipe_file))
