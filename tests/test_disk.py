"""Disks that take no more, as each library tells it; and what may go on all the same.

Kind: a refusal that is not known as one, and ends training or is a traceback; something else that is taken for one.
"""

import errno
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import config
from safetensors import safe_open
from safetensors.torch import save_file
from small_disks import filling, small_disk

from ftkit import console
from ftkit.data.sources import read_source
from ftkit.disk import refusal
from ftkit.errors import UserError
from ftkit.evaluation.measure import write_arrays
from ftkit.reading import Damaged, read_bytes, read_jsonl
from ftkit.recipe.schema import Source
from ftkit.run import Run, write_jsonl, write_text
from ftkit.training.checkpoints import sparing

BIG = 1 << 18
WRITERS: dict[str, Callable[[Path], Any]] = {
    "torch": lambda file: torch.save({"a": torch.zeros(BIG)}, file),
    "torch, small": lambda file: torch.save({"a": torch.zeros(1)}, file),
    "torch, a name": lambda file: torch.save({"a": torch.zeros(BIG)}, file.with_name("ö")),
    "safetensors": lambda file: save_file({"a": torch.zeros(BIG)}, file),
    "numpy": lambda file: np.savez(file.with_suffix(".npz"), a=np.zeros(BIG)),
    "numpy, one": lambda file: np.save(file.with_suffix(".npy"), np.zeros(BIG)),
    "text": lambda file: file.write_text("a" * BIG),
    "arrays": lambda file: write_arrays(file.with_suffix(".npz"), a=np.random.default_rng(0).random(BIG)),
}


@contextmanager
def full(folder: Path) -> Iterator[Path]:
    with small_disk(folder, "1m") as disk, filling(disk) as filled:
        filled.fill()
        yield disk


@contextmanager
def read_only(folder: Path) -> Iterator[Path]:
    with small_disk(folder, "1m") as disk:
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        yield disk


@contextmanager
def bounded(folder: Path) -> Iterator[Path]:
    """A place that takes files of a few bytes alone."""
    folder.mkdir()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        yield folder
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("place", [full, read_only, bounded])
def test_a_refusal_is_known_whoever_tells_it(tmp_path: Path, place: Any, writer: str) -> None:
    with place(tmp_path / "disk") as disk, pytest.raises(Exception) as found:  # noqa: PT011, of whatever class
        WRITERS[writer](disk / "file")
    said = refusal(found.value)
    assert said == os.strerror(errno.EROFS) if place is read_only else said
    assert refusal(RuntimeError("cannot go on")) == ""


@pytest.mark.parametrize("number", [errno.ENOENT, errno.EACCES, errno.ENOMEM])
def test_other_faults_are_no_refusals(tmp_path: Path, number: int) -> None:
    assert refusal(OSError(number, os.strerror(number))) == ""


def test_what_cannot_be_read_is_no_refusal(tmp_path: Path) -> None:
    (tmp_path / "damaged").write_bytes(b"PK\3\4 damaged")
    for read in (torch.load, lambda file: safe_open(file, "pt"), np.load, read_bytes):
        with pytest.raises(Exception) as found:  # noqa: PT011, of whatever class
            read(tmp_path / ("missing" if read is read_bytes else "damaged"))
        assert refusal(found.value) == ""
    try:
        raise OSError(errno.EIO, "of a file that is read")
    except OSError as error:
        damaged = Damaged(tmp_path, "it cannot be read")
        damaged.__cause__ = error
    assert refusal(damaged) == ""  # it has its line already


def test_record_and_log_wait_for_space(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with small_disk(tmp_path / "disk", "1m") as disk, filling(disk) as filled:
        run = Run(disk / "run")
        run.update(state="training")
        with run.patience():
            filled.fill()
            for step in range(200):  # more than the rest of a block
                run.log({"step": step, "loss": "x" * 100})
            run.update(steps=7)
            assert run.record["steps"] == 7
            with pytest.raises(OSError, match="No space"):
                run.settle()
            assert Run(run.folder).record == {"state": "training"}  # what lies there is whole
            filled.empty()
            run.log({"step": 200})
            run.settle()
        assert Run(run.folder).record["steps"] == 7
        assert [event["step"] for event in read_jsonl(run.log_file)] == list(range(201))
        filled.fill()
        with pytest.raises(OSError, match="No space"):  # outside of training the disk is told of at once
            run.update(text="x" * 8192)
    assert capsys.readouterr().err.count("waits in memory") == 2


def test_what_is_done_again_does_not_wait_for_space(tmp_path: Path) -> None:
    """Training that goes back to step 3 drops what was logged after it, written or not."""
    with small_disk(tmp_path / "disk", "1m") as disk, filling(disk) as filled:
        run = Run(disk / "run")
        run.update(state="training")
        with run.patience():
            filled.fill()
            for step in range(6):
                run.log({"step": step, "loss": "x" * 1000})
            filled.empty()
            write_text(run.log_file, run.log_file.read_text() if run.log_file.exists() else "")
            run.forget_steps(3)
        assert [event["step"] for event in read_jsonl(run.log_file)] == [0, 1, 2, 3]


def test_a_checkpoint_that_does_not_fit_gives_its_space_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with small_disk(tmp_path / "disk", "1m") as disk:
        with sparing(disk / "checkpoint-2"):
            (disk / "checkpoint-2").mkdir()
            save_file({"a": torch.zeros(BIG)}, disk / "checkpoint-2/model.safetensors")
        assert list(disk.iterdir()) == []
        with pytest.raises(ValueError, match="no disk"), sparing(disk / "checkpoint-4"):
            raise ValueError("no disk")
    assert "checkpoint-2 cannot be written: No space left on device; training goes on" in capsys.readouterr().err


def test_messages_that_do_not_fit_end_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """As of a run whose screen is a file on the disk that it fills."""
    with open("/dev/full", "w") as nowhere:
        monkeypatch.setattr(console.err, "_file", nowhere)
        console.say("a message")
        console.warn("another")
        with console.progress_bar() as bar:
            bar.tell(bar.add_task("step", total=2))
        monkeypatch.undo()
        os.dup2(os.open(os.devnull, os.O_WRONLY), nowhere.fileno())  # so that it can be closed


def test_a_command_whose_messages_do_not_fit_keeps_its_result_and_status(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("task: nothing\n")
    with open("/dev/full", "w") as nowhere:
        words = [sys.executable, "-m", "ftkit"]
        done = subprocess.run([*words, "recipes"], stdout=subprocess.PIPE, stderr=nowhere, text=True)
        bad = subprocess.run([*words, "check", "bad.yaml"], stdout=subprocess.PIPE, stderr=nowhere, cwd=tmp_path)
    assert (done.returncode, bad.returncode) == (0, 2)
    assert "lora_distilbert" in done.stdout


@pytest.mark.parametrize("size", ["4k", "64k"])
def test_a_cache_that_is_full_is_no_fault_of_the_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: str) -> None:
    file = tmp_path / "rows.jsonl"
    write_jsonl(file, [{"text": "x" * 1000, "label": "a"}] * 100)
    with small_disk(tmp_path / "disk", size) as disk, filling(disk) as filled:
        filled.fill()
        for name in ("HF_DATASETS_CACHE", "DOWNLOADED_DATASETS_PATH", "EXTRACTED_DATASETS_PATH"):
            monkeypatch.setattr(config, name, disk)
        with pytest.raises(UserError, match=f"no space is left for {disk}"):
            read_source(Source(path=str(file)), split="train", sample_by="line", seed=1, key="data.train")
