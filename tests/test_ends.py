"""What run.json says when something ends a run, wherever that comes: before it began, in the midst, behind its end.

Kind: the word of one run in the record of another; a second fault that takes the place of the first.
"""

import errno
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from ftkit import UserError
from ftkit.api import recorded
from ftkit.recipe.schema import Recipe
from ftkit.run import FINISHED, Run, dump_recipe, start_run, state_words, write_json, write_text

RecipeMaker = Callable[..., Recipe]
MOST = 20  # files and folders that are moved when a run is set aside


@pytest.fixture
def finished(recipe: RecipeMaker, tmp_path: Path) -> Run:
    run = Run(tmp_path / "run")
    write_text(run.recipe_file, dump_recipe(recipe("lora")))
    write_json(run.record_file, {"state": FINISHED, "load": {}})
    for file in (run.model / "config.json", run.outputs / "tuned.npz", run.metrics_file, run.seal, run.inputs):
        write_text(file, "{}")
    return run


def contents(run: Run) -> dict[str, str]:
    return {str(path.relative_to(run.folder)): path.read_text() for path in run.folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("kind", [OSError, KeyboardInterrupt, ValueError])
def test_what_ends_before_it_began_leaves_the_run_that_it_was_to_replace(finished: Run, kind: type[BaseException]) -> None:
    before = contents(finished)
    with pytest.raises(kind), recorded(finished):
        raise kind("no")
    assert contents(finished) == before


def test_a_disk_that_fails_at_each_file_that_is_set_aside_loses_none(
    finished: Run, recipe: RecipeMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, rename = contents(finished), Path.rename
    for number in range(MOST):
        left = [number]

        def fails(path: Path, target: Path, left: list[int] = left) -> Path:
            left[0] -= 1
            if left[0] == -1:
                raise OSError(errno.ENOSPC, "No space left on device", str(path))
            return rename(path, target)

        monkeypatch.setattr(Path, "rename", fails)
        try:
            with recorded(finished):
                start_run(finished, recipe("lora"), {})
                monkeypatch.setattr(Path, "rename", rename)
                break
        except UserError as error:
            assert "is as it was" in str(error)  # noqa: PT017 the last of them ends none
        monkeypatch.setattr(Path, "rename", rename)
        assert contents(finished) == before, number
    assert number > 5
    assert finished.replaced.is_dir()


@pytest.mark.parametrize("kind", [KeyboardInterrupt, ValueError])
def test_a_record_that_is_damaged_meanwhile_hides_nothing(finished: Run, kind: type[BaseException]) -> None:
    with pytest.raises(kind), recorded(finished):
        write_and_raise(finished, "{", kind("no"))


def test_what_fails_behind_the_end_leaves_the_run_finished(finished: Run) -> None:
    with pytest.raises(ValueError, match="no"), recorded(finished):
        write_and_raise(finished, json.dumps({"state": FINISHED, "load": {}, "steps": 9}), ValueError("no"))
    assert finished.state == FINISHED


def write_and_raise(run: Run, record: str, error: BaseException) -> None:
    run.record_file.write_text(record)
    raise error


# Kind: a hint that does not hold: what is finished does not go on with --resume.
def test_a_finished_run_without_its_model_is_not_told_to_go_on(tmp_path: Path) -> None:
    run = Run(tmp_path)
    write_text(run.recipe_file, "task: text-classification\n")
    write_json(run.record_file, {"state": "finished"})
    what, hint = state_words(run)
    assert what == "finished, but has no model/"
    assert "--overwrite" in hint
    assert "--resume" not in hint
