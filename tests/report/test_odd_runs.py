"""Kind: one folder among many that holds what no run of ours holds, and that ends `ftkit runs` for all, or hangs it."""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ftkit.claim import sign_of
from ftkit.errors import UserError
from ftkit.prediction.rows import json_fields
from ftkit.reading import LOOK, Damaged, read_arrays, read_json, read_jsonl, read_log, read_tensors
from ftkit.report.listing import list_runs
from ftkit.run import Run, require_free

SIGN = {"pid": 7, "host": "h", "doing": "training", "step": 1, "steps": 2, "time": 1.7e9, "boot": "b", "born": "1"}
FIGURE = '{"state": "finished", "result": {"metric": "x", "tuned": %s}}'
RECORDS = {
    "a list": "[1, 2]",
    "a number of many digits": "9" * 5000,
    "nested": "[" * 100_000,
    "a state of another type": '{"state": ["a"]}',
    "a figure of many digits": FIGURE % ("9" * 5000),
    "a figure beyond floats": FIGURE % ("9" * 400),
    "an infinite figure": FIGURE % "1e999",
    "no number": FIGURE % "NaN",
    "half a character": '{"state": "\\ud800", "task": "\\udfff"}',
    "markup": '{"state": "[/x]", "task": "[red]", "error": {"a": 1}}',
}


def make_run(folder: Path, record: str = '{"state": "training"}') -> Path:
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(record)
    (folder / "recipe.yaml").write_text("task: x")
    return folder


@pytest.mark.parametrize("record", RECORDS.values(), ids=RECORDS)
def test_a_record_of_anything_is_listed(record: str, tmp_path: Path) -> None:
    make_run(tmp_path / "odd", record)
    make_run(tmp_path / "good", FIGURE % "0.5")
    entries = {entry.name: entry for entry in list_runs(tmp_path).entries}
    assert entries["good"].tuned == 0.5
    assert "odd" in entries
    json.dumps(list_runs(tmp_path).as_json(), allow_nan=False)
    list_runs(tmp_path).table(200)


@pytest.mark.parametrize(
    "other",
    [{"pid": -1e999}, {"pid": "7"}, {"step": 10**300}, {"time": 1e308}, {"time": float("nan")}, {"host": 5}, {"boot": None}],
    ids=str,
)
def test_a_sign_of_anything_is_none(other: dict[str, object], tmp_path: Path) -> None:
    run = make_run(tmp_path / "odd")
    (run / ".lock").write_text(json.dumps(SIGN | other))
    found = sign_of(run / ".lock")
    assert found is not None
    assert found.pid == 0
    assert [entry.state for entry in list_runs(tmp_path).entries] == ["dead"]


# A copy of a run that was made while it ran has the lock's file with it, and a machine whose clock was wrong may have written it.
@pytest.mark.parametrize("years", [-1, 1])
def test_a_sign_far_from_now_is_no_life(years: int, tmp_path: Path) -> None:

    run = make_run(tmp_path / "copied")
    (run / ".lock").write_text(json.dumps(SIGN | {"time": time.time() + years * 3.15e7}))
    assert [entry.state for entry in list_runs(tmp_path).entries] == ["dead"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="a system without named pipes")
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    run = make_run(tmp_path / "odd")
    (run / "run.json").unlink()
    (run / "checkpoints").mkdir()
    os.mkfifo(run / "run.json")
    assert [entry.state for entry in list_runs(tmp_path).entries] == ["damaged"]
    readers: tuple[Callable[[Path], object], ...] = (read_json, read_jsonl, read_log, read_arrays, read_tensors)
    for read in readers:
        with pytest.raises(Damaged, match="no file, but a pipe"):
            read(run / "run.json")


# Root is let into every folder: what the system says is said by hand.
def test_a_shut_folder_is_listed_and_hides_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shut = make_run(tmp_path / "shut")
    make_run(tmp_path / "good")
    real = Path.stat

    def stat(path: Path, *, follow_symlinks: bool = True) -> os.stat_result:
        if shut in path.parents:
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, follow_symlinks=follow_symlinks)

    monkeypatch.setattr(Path, "stat", stat)
    found = {entry.name: (entry.state, entry.detail) for entry in list_runs(tmp_path).entries}
    assert found["shut"] == ("damaged", "it cannot be read: Permission denied")
    assert found["good"][0] == "dead"


def test_who_may_not_read_a_record_is_not_told_to_resume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(make_run(tmp_path / "odd"))

    def read(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", read)
    with pytest.raises(Damaged) as caught:
        _ = run.record
    assert caught.value.hint == LOOK


# A run that was to replace a finished one and died: who starts anew without a word would have the finished one removed at the end.
@pytest.mark.parametrize("state", ["training", "interrupted", "failed"])
def test_a_finished_run_that_was_set_aside_is_replaced_by_the_word_alone(state: str, tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", json.dumps({"state": state}))
    (make_run(folder / "replaced", '{"state": "finished"}') / "model").mkdir()
    with pytest.raises(UserError, match=r"replaced/ the finished one that it was to replace; go on with --resume, or"):
        require_free(folder, overwrite=False, resume=False)
    require_free(folder, overwrite=True, resume=False)
    require_free(folder, overwrite=False, resume=True)


# The JSON of rows is as much anybody's as that of runs: what is wrong with it is said as it is.
@pytest.mark.parametrize(
    ("line", "words"), [("9" * 5000, "more digits"), ("[" * 100_000, "nested too deeply"), ("{", "character")]
)
def test_what_is_wrong_with_a_row_of_json_is_said(line: str, words: str) -> None:
    assert words in json_fields(line)[1]
