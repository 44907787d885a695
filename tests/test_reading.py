"""Files of a run that are damaged: each reader refuses in one line that names the file, or leaves out what is torn and says so.

Kind: a half-written, emptied, flipped, mistyped or missing file that ends a command in a library's traceback, or in a figure
that nobody measured.
"""

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from damaged_runs import DAMAGES, MISSING, damage
from safetensors.torch import save_file
from transformers import EvalPrediction

from ftkit.errors import UserError
from ftkit.evaluation.measure import Outputs, load_outputs
from ftkit.reading import Damaged, object_if_there, read_arrays, read_json, read_jsonl, read_log, read_object, read_tensors
from ftkit.recipe.load import load_values
from ftkit.report.next_steps import latest_beside
from ftkit.run import (
    Run,
    changed_files,
    end_run,
    finished_run,
    require_free,
    start_run,
    write_json,
    write_jsonl,
    write_text,
)
from ftkit.seals import seal_of, unlike
from ftkit.training.checkpoints import keep_copies, last_whole_checkpoint, put_back, seal

ROWS = [{"step": step, "loss": step / 7, "words": "größer"} for step in range(1, 9)]


def write_arrays(file: Path) -> None:
    np.savez_compressed(file, predictions=np.arange(2000.0) ** 0.5, labels=np.arange(2000) % 3)


def write_tensors(file: Path) -> None:
    save_file({name: torch.arange(300.0) for name in ("one", "two", "three")}, file)


KINDS: dict[str, tuple[Callable[[Path], Any], Callable[[Path], Any]]] = {
    "one.json": (lambda file: write_json(file, {"state": "finished", "rows": list(range(50)), "ä": "ö"}), read_object),
    "lines.jsonl": (lambda file: write_jsonl(file, ROWS), read_jsonl),
    "arrays.npz": (write_arrays, lambda file: read_arrays(file, "predictions", "labels")),
    "tensors.safetensors": (write_tensors, read_tensors),
}
# What no reader can know: nothing of a file of lines, one byte of a text or of a weight. The seal of the run does.
SOUND = {("lines.jsonl", "empty"), ("lines.jsonl", MISSING), ("one.json", "flipped"), ("lines.jsonl", "flipped"), ("tensors.safetensors", "flipped")}  # fmt: skip


@pytest.mark.parametrize("kind", [*DAMAGES, MISSING])
@pytest.mark.parametrize("name", KINDS)
def test_a_damaged_file_is_one_line_that_names_it(tmp_path: Path, name: str, kind: str) -> None:
    write, read = KINDS[name]
    write(tmp_path / name)
    before = seal_of(tmp_path, [tmp_path / name])
    read(tmp_path / name)
    damage(tmp_path / name, kind)
    assert list(unlike(tmp_path, before)) == [name]
    if (name, kind) in SOUND:
        read(tmp_path / name)
        return
    with pytest.raises(Damaged) as caught:
        read(tmp_path / name)
    error = caught.value
    assert error.file == tmp_path / name
    assert str(error).startswith(f"{tmp_path / name}: ")
    assert "\n" not in str(error)
    assert error.hint
    assert str(pickle.loads(pickle.dumps(error))) == str(error)  # as from another process


@pytest.mark.parametrize("place", range(0, 400, 7))
def test_any_flipped_byte_of_arrays_is_found_or_harmless(tmp_path: Path, place: int) -> None:
    np.savez_compressed(tmp_path / "a.npz", values=np.arange(40.0), rows=np.arange(40))
    content = bytearray((tmp_path / "a.npz").read_bytes())
    content[place % len(content)] ^= 0x21
    (tmp_path / "a.npz").write_bytes(content)
    try:
        found = read_arrays(tmp_path / "a.npz", "values", "rows")
    except Damaged:
        return
    assert np.array_equal(found["values"], np.arange(40.0))
    assert np.array_equal(found["rows"], np.arange(40))


def test_deep_nesting_and_other_types_are_refused(tmp_path: Path) -> None:
    (tmp_path / "deep.json").write_text("[" * 100_000)
    with pytest.raises(Damaged, match="nested"):
        read_json(tmp_path / "deep.json")
    write_json(tmp_path / "other.json", {"prompts": {}})
    with pytest.raises(Damaged, match="its 'prompts' is not a list"):
        read_object(tmp_path / "other.json", {"prompts": list})
    with pytest.raises(Damaged, match="it has no 'tuned'"):
        read_object(tmp_path / "other.json", needs=["tuned"])
    assert object_if_there(tmp_path / "none.json") == {}


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_that_may_not_be_read_is_one_line(tmp_path: Path) -> None:
    write_json(tmp_path / "one.json", {})
    (tmp_path / "one.json").chmod(0)
    with pytest.raises(Damaged, match="cannot be read: Permission denied"):
        read_object(tmp_path / "one.json")


def test_a_folder_in_place_of_a_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "run.json").mkdir()
    with pytest.raises(Damaged, match="cannot be read: Is a directory"):
        read_object(tmp_path / "run.json")


@pytest.mark.parametrize("cut", range(1, 60, 3))
def test_the_torn_last_line_of_a_log_goes_and_that_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], cut: int
) -> None:
    write_jsonl(tmp_path / "log.jsonl", ROWS)
    whole = (tmp_path / "log.jsonl").read_bytes()
    (tmp_path / "log.jsonl").write_bytes(whole[:-cut])
    found = read_log(tmp_path / "log.jsonl")
    assert found == ROWS[: len(found)]
    assert len(found) >= len(ROWS) - 2
    last_is_torn = not whole[:-cut].endswith((b"\n", b"}"))
    assert ("its last line is torn" in capsys.readouterr().err) == last_is_torn


def test_a_log_that_is_gone_on_with_is_whole_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = Run(tmp_path / "run")
    write_jsonl(run.log_file, ROWS)
    with run.log_file.open("ab") as file:
        file.write(b'{"step": 9, "lo')
    run.forget_steps(6)
    assert "last line is torn" in capsys.readouterr().err
    run.log({"step": 7})
    assert [row["step"] for row in read_jsonl(run.log_file)] == [1, 2, 3, 4, 5, 6, 7]


def test_answers_that_are_not_those_of_the_arrays_are_refused(tmp_path: Path) -> None:
    """One letter of an answer is a figure that nobody measured."""
    made = Outputs(EvalPrediction(np.zeros((2, 2)), np.zeros(2)), [{"generated": "yes", "entry": 0}], [0, 1])
    made.save(tmp_path / "tuned.npz")
    assert load_outputs(tmp_path / "tuned.npz").answers == made.answers
    for text in ('{"generated": "yet", "entry": 0}\n', ""):
        (tmp_path / "tuned.jsonl").write_text(text)
        with pytest.raises(Damaged, match=r"tuned\.jsonl"):
            load_outputs(tmp_path / "tuned.npz")


def small_run(folder: Path, **fields: Any) -> Run:
    """The files of a run whose training nobody did."""
    run = Run(folder)
    run.model.mkdir(parents=True)
    write_text(run.recipe_file, "task: text-classification\n")
    run.update(**{"state": "training", "load": {}, **fields})
    write_json(run.metrics_file, {"tuned": {"f1": 0.5}, "rows": 2})
    return run


@pytest.mark.parametrize("kind", [*DAMAGES, MISSING])
@pytest.mark.parametrize("name", ["run.json", "recipe.yaml"])
def test_record_and_recipe_come_back_from_the_last_whole_checkpoint(tmp_path: Path, name: str, kind: str) -> None:
    run = small_run(tmp_path / "run")
    run.update(fingerprints={"recipe": seal_of(run.folder, [run.recipe_file])["recipe.yaml"][1]})
    for step in (2, 4, 6):
        (run.checkpoints / f"checkpoint-{step}").mkdir(parents=True)
        keep_copies(run, run.checkpoints / f"checkpoint-{step}")
        seal(run.checkpoints / f"checkpoint-{step}")
    damage(run.checkpoints / "checkpoint-6/ftkit_run.json", "half")
    before = {file.name: file.read_bytes() for file in (run.record_file, run.recipe_file)}
    damage(run.folder / name, kind)
    put_back(run)
    assert {file.name: file.read_bytes() for file in (run.record_file, run.recipe_file)} == before or kind == "flipped"
    require_free(run.folder, overwrite=False, resume=True)
    last = last_whole_checkpoint(run.checkpoints)
    assert last == run.checkpoints / "checkpoint-4"


@pytest.mark.parametrize("kind", [*DAMAGES, MISSING])
def test_a_record_that_no_checkpoint_has_is_refused_and_left(tmp_path: Path, kind: str) -> None:
    run = small_run(tmp_path / "run", state="finished")
    damage(run.record_file, kind)
    if kind == "flipped":
        return
    before = sorted(tmp_path.rglob("*"))
    for act in (
        lambda: put_back(run),
        lambda: finished_run(run.folder),
        lambda: require_free(run.folder, overwrite=False, resume=False) if kind != MISSING else put_back(run),
    ):
        with pytest.raises(UserError, match=r"run\.json"):
            act()
    assert sorted(tmp_path.rglob("*")) == before


def test_a_checkpoint_that_is_not_whole_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders = [tmp_path / f"checkpoint-{step}" for step in (1, 2, 3, 4)]
    for folder in folders:
        write_text(folder / "weights", "weights")
        seal(folder)
    (folders[3] / "ftkit_seal.json").unlink()
    damage(folders[2] / "ftkit_seal.json", "not_utf8")
    damage(folders[1] / "weights", "flipped")
    assert last_whole_checkpoint(tmp_path) == folders[0]
    said = " ".join(capsys.readouterr().err.split())
    for words in ("broken off", "not UTF-8", "weights: it holds other bytes"):
        assert words in said


def test_the_seal_of_a_run_finds_each_file_that_changed(tmp_path: Path) -> None:
    """Also a digit of a figure, which no reader can know; but not page and card, which may be written again."""
    run = small_run(tmp_path / "run")
    write_text(run.model / "tokenizer.json", "{}")
    notes = run.folder / "slurm-17.out"  # the user's, as what a scheduler goes on to write
    notes.write_text("step 1")
    end_run(run)
    write_text(run.card, "again")
    notes.write_text("step 1, and more")
    run.update(published="owner/name")  # by ftkit itself
    assert changed_files(run) == {}
    damage(run.metrics_file, "flipped")
    damage(run.model / "tokenizer.json", MISSING)
    assert changed_files(run) == {
        "metrics.json": "it holds other bytes than it did",
        "model/tokenizer.json": "missing",
    }
    assert changed_files(run, within="model/") == {"model/tokenizer.json": "missing"}


@pytest.mark.parametrize("name", ["run.json", "recipe.yaml"])
@pytest.mark.parametrize("kind", [*DAMAGES, MISSING])
def test_a_damaged_run_is_replaced_where_its_user_says_so(tmp_path: Path, name: str, kind: str) -> None:
    """What the hint of a refusal names, works; a model that may be a finished run's is kept until the new run is finished."""
    run = small_run(tmp_path / "run", state="finished")
    write_text(run.model / "config.json", "{}")
    damage(run.folder / name, kind)
    require_free(run.folder, overwrite=True, resume=False)
    values = {
        "task": "text-classification",
        "model": {"name": "model"},
        "strategy": {"name": "full"},
        "data": {"train": "rows.csv"},
    }
    start_run(run, load_values(values), {})
    assert (run.replaced / "model/config.json").is_file()
    assert not run.model.exists()


def test_another_run_that_is_damaged_is_no_fault_of_this_one(tmp_path: Path) -> None:
    run, other = (small_run(tmp_path / name, state="finished") for name in ("run", "other"))
    assert latest_beside(run) == other.folder
    damage(other.record_file, "half")
    assert latest_beside(run) is None
