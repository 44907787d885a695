"""SIGTERM, SIGHUP and Ctrl-C in each phase of a run: it ends soon and in order, and its state is true."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ftkit import Interrupted, Recipe, api, train
from ftkit import run as run_folder
from ftkit.claim import Claim, sign_of
from ftkit.run import Run, dump_recipe, require_free
from ftkit.signals import Stopped, signals_heeded, signals_held
from tests.cli.command import heed_ctrl_c

RecipeMaker = Callable[..., Recipe]
SIGNALS = [signal.SIGTERM, signal.SIGHUP, signal.SIGINT]
BEFORE = ["building"]  # there is a run
BEHIND = ["measuring the baseline", "training", "saving and measuring", "writing the report"]
QUICK = {"verify": False, "general_text": False}
STEPS = {"max_steps": 4, "per_device_train_batch_size": 4, "save_strategy": "no", "eval_strategy": "no"}


@pytest.fixture(autouse=True)
def hang_up_is_not_ignored() -> Iterator[None]:
    """As whoever starts the tests may have had it, by `nohup`."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@contextmanager
def signalled(phase: str, number: int) -> Iterator[None]:
    """Inside the block a run gets a signal when it says that it is at a phase; Ctrl-C is heeded whoever runs the tests."""
    plain, before = Claim.at, signal.signal(signal.SIGINT, signal.default_int_handler)

    def at(self: Claim, doing: str) -> None:
        plain(self, doing)
        if doing == phase:
            os.kill(os.getpid(), number)
            time.sleep(0.01)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Claim, "at", at)
        yield
    signal.signal(signal.SIGINT, before)


# Kind: a phase in which a signal kills without a word, leaves files, or a state that is not true.
@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
@pytest.mark.parametrize("phase", BEFORE)
def test_before_there_is_a_run_nothing_is_left(phase: str, number: int, recipe: RecipeMaker, tmp_path: Path) -> None:
    made = recipe("lora", evaluation=QUICK, training=STEPS)
    with signalled(phase, number), pytest.raises(KeyboardInterrupt) as caught:
        train(made, output_dir=tmp_path / "runs/run")
    assert getattr(caught.value, "number", signal.SIGINT) == number
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
@pytest.mark.parametrize("phase", BEHIND)
def test_a_run_is_interrupted_in_every_phase(phase: str, number: int, recipe: RecipeMaker, tmp_path: Path) -> None:
    made, run = recipe("lora", evaluation=QUICK, training=STEPS), Run(tmp_path / "run")
    handlers = [signal.getsignal(each) for each in SIGNALS[:2]]
    with signalled(phase, number), pytest.raises((KeyboardInterrupt, Interrupted)):
        train(made, output_dir=run.folder)
    assert run.true_state == "interrupted"
    assert [path.name for path in run.folder.iterdir() if path.name.startswith(".")] == []
    require_free(run.folder, overwrite=False, resume=True)
    assert [signal.getsignal(each) for each in SIGNALS[:2]] == handlers


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
def test_a_stop_while_training_says_which_signal_it_was(
    number: int, recipe: RecipeMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = Claim.at_step

    def at_step(self: Claim, step: int, steps: int) -> None:
        plain(self, step, steps)
        if step == 2:
            os.kill(os.getpid(), number)
            time.sleep(0.01)

    monkeypatch.setattr(Claim, "at_step", at_step)
    with pytest.raises(Interrupted) as caught:
        train(recipe("lora", evaluation=QUICK, training=STEPS), output_dir=tmp_path / "run")
    assert caught.value.exit_status == 128 + number


def test_what_comes_after_the_end_leaves_the_run_finished(
    recipe: RecipeMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = run_folder.end_run

    def end_and_stop(run: Run) -> None:
        plain(run)
        raise Stopped(signal.SIGTERM)

    monkeypatch.setattr(api, "end_run", end_and_stop)
    with pytest.raises(Stopped):
        train(recipe("lora", evaluation=QUICK, training=STEPS), output_dir=tmp_path / "run")
    assert Run(tmp_path / "run").state == "finished"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("phase", "number", "status"),
    [
        ("loading torch and transformers", signal.SIGTERM, 143),
        ("building", signal.SIGHUP, 129),
        ("measuring the baseline", signal.SIGTERM, 143),
        ("training", signal.SIGHUP, 129),
        ("saving and measuring", signal.SIGTERM, 143),
    ],
)
def test_a_process_ends_soon_with_the_signals_status(
    phase: str, number: int, status: int, recipe: RecipeMaker, tmp_path: Path
) -> None:
    file, run = tmp_path / "r.yaml", Run(tmp_path / "runs/run")
    made = recipe("lora", training={**STEPS, "max_steps": 4 if phase == BEHIND[2] else 4000})
    file.write_text(dump_recipe(made), encoding="utf-8")
    words = [sys.executable, "-m", "ftkit", "train", str(file), "--output-dir", str(run.folder)]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, preexec_fn=heed_signals)
    while process.poll() is None and ((sign := sign_of(run.lock)) is None or sign.doing != phase):
        time.sleep(0.002)
    process.send_signal(number)
    printed = process.communicate(timeout=100)[1]
    assert process.returncode == status, printed
    assert "Traceback" not in printed
    assert not run.lock.exists()
    if phase in BEHIND:
        assert run.true_state == "interrupted"
        assert "go on with" in printed
    else:
        assert not (tmp_path / "runs").exists()


def heed_signals() -> None:
    """In the new process: none is ignored from outside."""
    heed_ctrl_c()
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def test_a_signal_that_is_ignored_stays_ignored() -> None:
    """As under nohup."""
    code = "import os, signal; signal.signal(signal.SIGHUP, signal.SIG_IGN); from ftkit.signals import heed_signals; heed_signals(); os.kill(os.getpid(), signal.SIGHUP); print('alive')"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "alive\n"


# Kind: a block that is to be whole, in a process with other threads, to which the system gives what this one does not take.
@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
def test_what_is_held_takes_effect_behind_the_block(number: int, fails: bool) -> None:
    ended, done = threading.Event(), []
    other = threading.Thread(target=ended.wait)
    other.start()
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            held(number, done, fails=fails)
    finally:
        signal.signal(signal.SIGINT, before)
        ended.set()
        other.join()
    assert done == [number]


def held(number: int, done: list[int], *, fails: bool) -> None:
    with signals_heeded(), signals_held():
        os.kill(os.getpid(), number)
        time.sleep(0.02)
        done.append(number)
        if fails:
            raise ValueError


def test_what_is_ignored_is_so_while_signals_are_held() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with signals_held():
        os.kill(os.getpid(), signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    signal.signal(signal.SIGHUP, before)


# Kind: a signal that is handed on, and comes again as to one who has not heard of it.
def test_a_signal_is_handed_on_once(tmp_path: Path) -> None:
    (tmp_path / "child.py").write_text(COUNTING)
    (tmp_path / "parent.py").write_text(HANDING_ON)
    done = subprocess.run([sys.executable, tmp_path / "parent.py", tmp_path / "child.py"], timeout=30, cwd=ROOT)
    assert done.returncode == 1


ROOT = Path(__file__).parent.parent.parent
COUNTING = """
import os, signal, sys, time
came = []
signal.signal(signal.SIGTERM, lambda number, frame: came.append(number))
os.kill(os.getppid(), signal.SIGTERM)
ended = time.monotonic() + 1
while time.monotonic() < ended:
    time.sleep(0.05)
sys.exit(len(came))
"""
HANDING_ON = """
import os, subprocess, sys
sys.path.insert(0, os.getcwd())
from ftkit import signals
from ftkit.training import children
signals.AGAIN, plain = 0.2, subprocess.Popen
children.subprocess.Popen = lambda words, **named: plain([sys.executable, sys.argv[1]], **named)
signals.heed_signals()
sys.exit(children.run_child([], quiet=True))
"""
