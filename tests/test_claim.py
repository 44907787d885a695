"""One lock for a folder: one process at a time, whatever the others do, and the truth about those that died."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ftkit import UserError, claim
from ftkit.claim import LOCK, Busy, claimed, sign_of
from ftkit.cli.main import app
from ftkit.recipe.schema import Recipe
from ftkit.run import Run, dump_recipe, finished_run, start_run, write_json, write_text
from ftkit.training.checkpoints import is_whole, keep_copies, seal
from ftkit.training.place import place_claimed

RecipeMaker = Callable[..., Recipe]
ROOT = Path(__file__).parent.parent
HOLDER = "import sys, time; from pathlib import Path; from ftkit.claim import claimed\nwith claimed(Path(sys.argv[1])) as held:\n held.at_step(40, 100); held.tell(); print(flush=True); time.sleep(60)"


def lock_steps(*words: str | Path, **variables: str) -> int:
    command = [sys.executable, "-m", "tests.lock_steps", *map(str, words)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=os.environ | variables)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


# Kind: a second process that comes while the first is anywhere in taking, holding or giving back the lock.
@pytest.mark.parametrize("how", ["two", "killed"])
def test_one_wins_at_every_line_of_the_lock(how: str, tmp_path: Path) -> None:
    assert lock_steps(how, tmp_path / "run") > 50


@pytest.mark.slow
def test_one_of_three_wins_at_every_line_of_the_lock(tmp_path: Path) -> None:
    assert lock_steps("three", tmp_path / "run") > 300


# Kind: a run that replaces another and is killed: while the former is set aside, before it began, after it ended.
@pytest.mark.slow
def test_a_replaced_run_is_never_lost(tmp_path: Path) -> None:
    assert lock_steps("replaced", tmp_path / "run", STEP="29") > 500


@contextmanager
def holder(folder: Path) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(folder)], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "\n"
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.fixture
def begun(recipe: RecipeMaker, tmp_path: Path) -> Run:
    """A run that is training, so far as its record says."""
    run = Run(tmp_path / "run")
    write_text(run.recipe_file, dump_recipe(recipe("lora")))
    write_json(run.record_file, {"state": "training", "load": {}, "task": "t", "strategy": "lora", "model": "m"})
    (run.checkpoints / "checkpoint-20").mkdir(parents=True)
    return run


def test_a_running_run_is_called_running_and_a_killed_one_dead_at_once(begun: Run, reviews: Path) -> None:
    words = r"another process is training into .*pid .* step 40 of 100"
    with holder(begun.folder) as process:
        assert begun.true_state == "running"
        for resume, overwrite in ((False, False), (True, False), (False, True)):
            with pytest.raises(UserError, match=words), place_claimed(begun.folder, resume=resume, overwrite=overwrite):
                pass
        with pytest.raises(UserError, match=rf"is running \(pid {process.pid} on .*step 40 of 100, last sign of life"):
            finished_run(begun.folder)
        process.send_signal(signal.SIGSTOP)
        assert begun.true_state == "running"
        process.kill()
        process.wait()
        assert begun.true_state == "dead"
    words = r"is dead: killed at step 40 of 100 .*; go on with `ftkit train .*recipe.yaml --resume --output-dir"
    with pytest.raises(UserError, match=words):
        finished_run(begun.folder)
    for command in (["predict", begun.folder, reviews], ["eval", begun.folder], ["verify", begun.folder], ["merge", begun.folder, "m"],
                    ["report", begun.folder], ["compare", begun.folder], ["chat", begun.folder]):  # fmt: skip
        done = CliRunner().invoke(app, list(map(str, command)))
        assert "is dead: killed at step 40 of 100" in str(done.exception), (command, done.output)
    with pytest.raises(UserError, match="holds a run that is dead, with checkpoints"), place_claimed(
        begun.folder, resume=False, overwrite=False
    ):  # fmt: skip
        pass


def test_nobody_is_told_of_an_option_that_the_command_lacks(begun: Run) -> None:
    begun.update(state="finished")
    with holder(begun.folder):
        said = str(CliRunner().invoke(app, ["report", str(begun.folder)]).exception)
    assert "wait for it" in said
    assert "--output-dir" not in said


def test_the_lock_leaves_no_file_and_takes_away_only_folders_that_it_made(tmp_path: Path) -> None:
    with claimed(tmp_path / "runs/deep/run"):
        assert sign_of(tmp_path / "runs/deep/run" / LOCK) is not None
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "mine").mkdir()
    with claimed(tmp_path / "mine"):
        pass
    assert list(tmp_path.rglob("*")) == [tmp_path / "mine"]


def test_a_link_to_a_folder_and_the_folder_are_one_place(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    with claimed(tmp_path / "link"), pytest.raises(Busy), claimed(tmp_path / "disk"):
        pass
    assert (tmp_path / "link").is_symlink()


@pytest.mark.parametrize("length", [240, 255])
def test_a_name_may_be_as_long_as_the_system_allows(length: int, tmp_path: Path) -> None:
    with claimed(tmp_path / ("x" * length)), pytest.raises(Busy), claimed(tmp_path / ("x" * length)):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_forked_worker_does_not_hold_the_lock_of_its_dead_parent(tmp_path: Path) -> None:
    code = "import os, sys, time; from pathlib import Path; from ftkit.claim import claimed\nwith claimed(Path(sys.argv[1])):\n child = os.fork()\n if not child: os.close(1); time.sleep(30)\n print(child, flush=True); os.kill(os.getpid(), 9)"
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "run"], stdout=subprocess.PIPE, text=True, cwd=ROOT, timeout=20
    )
    try:
        with claimed(tmp_path / "run"):
            pass
    finally:
        os.kill(int(done.stdout), signal.SIGKILL)


# Kind: what a start leaves that was killed before there was a run; what is not such a thing is the user's.
@pytest.mark.parametrize("left", [["checkpoints/"], [".lock"], [".lock", "checkpoints/"], [".run.json.abcdef12", ".lock"], ["run.json"]])  # fmt: skip
def test_what_a_killed_start_leaves_is_swept(left: list[str], tmp_path: Path) -> None:
    folder = tmp_path / "run"
    make(folder, left)
    with place_claimed(folder, overwrite=False, resume=False):
        assert [path.name for path in folder.iterdir()] == [LOCK]


@pytest.mark.parametrize(
    "held",
    [
        ["thesis.tex"],
        [".env.template"],
        ["checkpoints/a.bin"],
        ["recipe.yaml"],
        ["checkpoints/checkpoint-4/model.safetensors"],
    ],
)
@pytest.mark.parametrize("overwrite", [False, True])
def test_what_is_not_a_runs_is_refused_and_left(held: list[str], overwrite: bool, tmp_path: Path) -> None:
    make(tmp_path / "run", held)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UserError, match="files that are not a run's"), place_claimed(
        tmp_path / "run", overwrite=overwrite, resume=False
    ):  # fmt: skip
        pass
    assert sorted(tmp_path.rglob("*")) == before


def make(folder: Path, names: list[str]) -> None:
    folder.mkdir()
    for name in names:
        path = folder / name
        if name.endswith("/"):
            path.mkdir(parents=True)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text('{"state": "training"}' if name == "run.json" else "")


def said(folder: Path, **fields: object) -> None:
    """A lock file as a process of another machine leaves it."""
    values = {"pid": 7, "host": "far", "boot": "another", "born": "1", "doing": "training", "step": 3, "steps": 9, "time": time.time()}  # fmt: skip
    folder.mkdir(exist_ok=True)
    (folder / LOCK).write_bytes(json.dumps(values | fields).encode().ljust(claim.SIZE))


def test_of_another_machine_the_signs_of_life_tell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kind: locks that two machines do not share."""
    monkeypatch.setattr(claim, "BEAT", 0.1)
    said(tmp_path / "old", time=time.time() - 7200)
    sign = sign_of(tmp_path / "old" / LOCK)
    assert sign is not None
    assert not sign.running
    assert sign.words() == "pid 7 on far, step 3 of 9, last sign of life 2 h ago"
    said(tmp_path / "fresh")
    assert (sign := sign_of(tmp_path / "fresh" / LOCK)) is not None
    assert sign.running
    with claimed(tmp_path / "old"), claimed(tmp_path / "fresh"):  # it gave none while we waited
        pass
    said(tmp_path / "fresh")
    beating = subprocess.Popen([sys.executable, "-c", BEATING, str(tmp_path / "fresh" / LOCK)], stdout=subprocess.PIPE)
    try:
        assert beating.stdout is not None
        beating.stdout.readline()
        with pytest.raises(Busy, match="pid 7 on far"), claimed(tmp_path / "fresh"):
            pass
    finally:
        beating.kill()
        beating.communicate()


BEATING = """
import json, sys, time
while True:
    with open(sys.argv[1], "r+b") as file:
        values = json.loads(file.read()) | {"time": time.time()}
        file.seek(0)
        file.write(json.dumps(values).encode().ljust(512))
    print(flush=True)
    time.sleep(0.02)
"""


def test_other_ranks_of_a_launch_take_no_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with claimed(tmp_path / "run"):
        monkeypatch.setenv("RANK", "1")
        monkeypatch.setenv("WORLD_SIZE", "2")
        with place_claimed(tmp_path / "run", overwrite=False, resume=False) as claim_of_rank:
            claim_of_rank.at_step(1, 2)
            assert claim_of_rank.handle is None


# Kind: a run that is to replace a finished one and has lost its record, or half of it; neither of the two is lost by that.
@pytest.mark.parametrize("left", ["", '{"state": '])
@pytest.mark.parametrize("resume", [True, False])
def test_a_lost_record_costs_neither_the_run_nor_the_one_before(
    begun: Run, recipe: RecipeMaker, left: str, resume: bool
) -> None:
    former, checkpoint = begun.replaced / "model/config.json", begun.checkpoints / "checkpoint-20"
    write_text(former, "of the former")
    write_json(begun.replaced / "run.json", {"state": "finished"})
    write_text(begun.model / "config.json", "{}")
    keep_copies(begun, checkpoint)
    seal(checkpoint)
    record = begun.record
    begun.record_file.write_text(left) if left else begun.record_file.unlink()
    with place_claimed(begun.folder, overwrite=not resume, resume=resume):
        if resume:
            assert begun.record == record
            assert is_whole(checkpoint)
        else:
            start_run(begun, recipe("lora"), {})
    assert former.read_text() == "of the former"


def test_runs_lists_each_with_its_true_state(begun: Run, tmp_path: Path) -> None:
    """Kind: a state that is not true any more, and a record that cannot be read, which ends no listing."""
    records: dict[str, object] = {"done": {"state": "finished", "result": {"metric": "accuracy", "tuned": 0.75}}, "bad": None, "list": [],
                                  "failed": {"state": "failed", "error": "OSError: no\x1b[31m"}, "stopped": {"state": "interrupted"}}  # fmt: skip
    for name, record in records.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "recipe.yaml").write_text("")
        (tmp_path / name / "run.json").write_text(json.dumps(record) if record is not None else "{")
    (tmp_path / "notes").mkdir()
    for name in ("lost/recipe.yaml", "lost/checkpoints/checkpoint-4/model.safetensors"):
        write_text(tmp_path / name, "")
    with holder(begun.folder):
        done = CliRunner().invoke(app, ["runs", str(tmp_path), "--json"])
        found = {entry["name"]: entry["state"] for entry in json.loads(done.stdout)}
        assert found == {"run": "running", "done": "finished", "bad": "damaged", "list": "damaged", "lost": "damaged", "failed": "failed", "stopped": "interrupted"}  # fmt: skip
    table = CliRunner().invoke(app, ["runs", str(tmp_path)]).stdout
    assert "dead: at step 40 of 100" in table
    assert "damaged: run.json: not JSON" in table
    assert "damaged: run.json: missing" in table
    assert "t · lora · m" in table
    assert "accuracy 0.7500" in table
    assert "\x1b[31m" not in table
    with pytest.raises(UserError, match="there is no such folder"):
        CliRunner().invoke(app, ["runs", str(tmp_path / "none")], catch_exceptions=False)
