"""What is at hand is worked on without a network: in a namespace with none, and without a single attempt to reach one.

Kind: a library, or ftkit, that asks a host for what lies on the disk, be it for a version, a template or a count. Nothing tells the
commands to stay offline here. The namespace is Linux's (`unshare -rn`); attempts are what strace sees of all their processes.
"""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from ftkit.recipe.load import load_values
from ftkit.run import dump_recipe

pytestmark = pytest.mark.timeout(900)  # of which the first case waits for all commands

ALONE = ["unshare", "--map-root-user", "--net"]
WATCHED = ["strace", "--follow-forks", "--seccomp-bpf", "--trace=connect,sendto,sendmsg,sendmmsg", "--quiet=all"]
OUTSIDE = re.compile(r"AF_INET6?\b")
LIBRARIES = (
    "torch", "transformers", "datasets", "peft", "accelerate", "evaluate", "huggingface_hub", "bitsandbytes.nn", "onnxruntime",
    "onnxscript", "tensorboard", "lm_eval", "liger_kernel", "bokeh", "sklearn",
)  # fmt: skip
LONG_ENOUGH = 15  # seconds after which onnxruntime would have looked up its host
OFFLINE = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE")
COMMANDS = {
    "check": "my.yaml", "train": "my.yaml --output-dir run", "eval": "run", "predict": "run rows.csv --out answers.jsonl",
    "report": "run", "verify": "run", "doctor": "",
}  # fmt: skip


def works(words: list[str]) -> bool:
    return shutil.which(words[0]) is not None and subprocess.run([*words, "true"], capture_output=True).returncode == 0


@dataclass(frozen=True)
class Done:
    """How a command ended, what it printed, and what it asked of the network; None where nobody watched."""

    status: int
    printed: str
    asked: list[str] | None


def alone(words: list[str], notes: Path) -> Done:
    """Run a command without a network."""
    watched = [*WATCHED, f"--output={notes}"] if works([*WATCHED, "--output=/dev/null"]) else []
    environment = {name: value for name, value in os.environ.items() if name not in OFFLINE}
    done = subprocess.run([*ALONE, *watched, sys.executable, *words], capture_output=True, text=True, env=environment)
    asked = [line for line in notes.read_text().splitlines() if OUTSIDE.search(line)] if watched else None
    return Done(done.returncode, done.stdout + done.stderr, asked)


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory, stand_in: Callable[[str], Path], reviews: Path) -> dict[str, Done]:
    """Each command, on a model and data that are at hand."""
    if not works(ALONE):
        pytest.skip("this system lets nobody make a namespace without a network (unshare)")
    folder = tmp_path_factory.mktemp("alone")
    recipe = load_values({
        "task": "text-classification", "model": {"name": str(stand_in("distilbert")), "max_length": 32},
        "strategy": {"name": "lora", "r": 4, "target_modules": ["q_lin"]}, "data": {"train": str(reviews), "eval_size": 20},
        "training": {"max_steps": 2}, "evaluation": {"verify": True},
    })  # fmt: skip
    (folder / "my.yaml").write_text(dump_recipe(recipe))
    (folder / "rows.csv").write_text("text\nA good film.\n")
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for command, words in COMMANDS.items():
            found[command] = alone(["-m", "ftkit", command, *words.split()], folder / f"{command}.strace")
    return found


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_works_without_a_network(ended: dict[str, Done], command: str) -> None:
    assert ended[command].status == 0, ended[command].printed


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_attempts_nothing(ended: dict[str, Done], command: str) -> None:
    if ended[command].asked is None:
        pytest.skip("strace is not installed, or may not watch")
    assert ended[command].asked == []


@pytest.mark.slow
def test_no_library_tells_that_it_is_used(tmp_path: Path) -> None:
    """Kind: telemetry of a library, sent by a thread some seconds after it was imported."""
    if not works(ALONE) or not works([*WATCHED, "--output=/dev/null"]):
        pytest.skip("needs unshare and strace")
    here = [name for name in LIBRARIES if importlib.util.find_spec(name.partition(".")[0])]
    code = f"import ftkit, importlib, time; [importlib.import_module(name) for name in {here}]; time.sleep({LONG_ENOUGH})"
    done = alone(["-c", code], tmp_path / "notes")
    assert (done.status, done.asked) == (0, []), done.printed


def test_an_attempt_is_seen(tmp_path: Path) -> None:
    """The instrument: what is looked for is found where it is."""
    if not works(ALONE) or not works([*WATCHED, "--output=/dev/null"]):
        pytest.skip("needs unshare and strace")
    for address in ("127.0.0.1", "::1"):
        asks = f"import socket; socket.create_connection(('{address}', 9))"
        done = alone(["-c", asks], tmp_path / "notes")
        assert done.status != 0
        assert done.asked
