"""Runs whose files are damaged: what is done to a file, which commands read it, and what each of them makes of it."""

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from ftkit import Interrupted, Recipe, train
from ftkit.cli.main import app
from ftkit.errors import FtkitError
from ftkit.evaluation import verification
from ftkit.evaluation.reload import ROWS, auto_class_of, examine
from ftkit.run import Run, dump_recipe

RecipeMaker = Callable[..., Recipe]
TRACEBACK, REFUSED, RAN = "TRACEBACK", "refused", "ran"


def half(content: bytes, name: str) -> bytes:
    return content[: len(content) // 2]


def empty(content: bytes, name: str) -> bytes:
    return b""


def flipped(content: bytes, name: str) -> bytes:
    """One bit of the byte in the middle is another."""
    place = len(content) // 2
    if not content:
        return b"\4"
    return content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :]


def not_utf8(content: bytes, name: str) -> bytes:
    return content[: len(content) // 2] + b"\xff\xfe" + content[len(content) // 2 :]


def wrong_type(content: bytes, name: str) -> bytes:
    """Sound in itself, and not what belongs there."""
    return b"5\n" if name.endswith(".jsonl") else b'["a"]\n' if name.endswith((".json", ".yaml")) else b"text\n"


DAMAGES = {damage.__name__: damage for damage in (half, empty, flipped, not_utf8, wrong_type)}
MISSING = "missing"
COMMANDS = {
    "verify": ["verify", "RUN"],
    "eval": ["eval", "RUN"],
    "predict": ["predict", "RUN", "TEXTS"],
    "compare": ["compare", "RUN", "OTHER"],
    "report": ["report", "RUN"],
    "merge": ["merge", "RUN", "MERGED"],
}
FURTHER = {
    "chat": ["chat", "RUN", "--max-new-tokens", "2"],
    "export": ["export", "RUN", "MERGED"],
    "push": ["push", "RUN", "someone/something"],  # nobody says yes
}
RESUME = ["train", "RECIPE", "--output-dir", "RUN", "--resume"]
ANEW = ["train", "RECIPE", "--output-dir", "RUN", "--overwrite"]


def damage(file: Path, kind: str) -> None:
    if kind == MISSING:
        file.unlink()
    else:
        file.write_bytes(DAMAGES[kind](file.read_bytes(), file.name))


def files_of(folder: Path) -> list[str]:
    """All files of a run, by their names in its folder; of what the libraries read, each kind."""
    return sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())


def make_runs(recipe: RecipeMaker, place: Path, **blocks: Any) -> None:
    """Into a folder: a finished run, `other` like it, one that a signal stopped, and one that was killed at its very end."""
    blocks = {
        "training": {
            "save_strategy": "steps",
            "save_steps": 2,
            "max_steps": 6,
            "logging_steps": 1,
            "per_device_train_batch_size": 8,
        },
        **blocks,
    }
    made = recipe("lora", evaluation={"verify": True, "general_text": False, **blocks.pop("evaluation", {})}, **blocks)
    train(made, output_dir=place / "finished")
    shutil.copytree(place / "finished", place / "other")
    shutil.copytree(place / "finished", place / "ended")
    Run(place / "ended").update(state="failed")
    with stopped_at(3), pytest.raises(Interrupted):
        train(made, output_dir=place / "stopped")
    (place / "recipe.yaml").write_text(dump_recipe(made), encoding="utf-8")
    (place / "texts.txt").write_text("a good film\nno good\n", encoding="utf-8")


@contextmanager
def stopped_at(step: int) -> Iterator[None]:
    """Within the block a run gets a signal when it logs the step."""
    log = Run.log

    def log_and_stop(run: Run, event: dict[str, Any]) -> None:
        log(run, event)
        if event["step"] == step:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Run, "log", log_and_stop)
        yield


class ReloaderHere(verification.Reloader):
    """Answers what the verifying process would, without the seconds that its start takes."""

    def _start(self) -> None:
        return None

    def answer(self) -> dict[str, Any]:
        found: dict[str, Any] = {"missing": []}
        facts = verification.read_facts(self.verification)
        try:
            examine(auto_class_of(facts["load"]), self.model, self.verification / ROWS, facts, found)
        except Exception as error:  # as the process does
            found["error"] = f"{type(error).__name__}: {error}"
        return found


def invoke(words: list[str], run: Path, place: Path) -> tuple[str, str]:
    """What becomes of a command: a traceback, a refusal with its words, or that it ran, with what it said."""
    named = {"RUN": run, "OTHER": place / "other", "RECIPE": place / "recipe.yaml", "TEXTS": place / "texts.txt"}
    named["MERGED"] = run.with_name("merged")
    shutil.rmtree(named["MERGED"], ignore_errors=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(verification, "Reloader", ReloaderHere)
        done = CliRunner().invoke(app, [str(named.get(word, word)) for word in words], input="hello\n")
    if isinstance(done.exception, FtkitError):
        return REFUSED, f"{done.exception.exit_status} {done.exception}"
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        return TRACEBACK, f"{type(done.exception).__name__}: {done.exception}"
    return (RAN if done.exit_code == 0 else f"{REFUSED} {done.exit_code}"), done.output
