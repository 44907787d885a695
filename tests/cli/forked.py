"""`ftkit` in a fork of this process, which has imported what commands need: a tenth of a second, not ten."""

import contextlib
import os
import sys
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ftkit import api  # noqa: F401, so that forks have it
from ftkit.cli.main import main


@dataclass(frozen=True)
class Done:
    """What a command ended with and printed."""

    status: int
    stdout: str
    stderr: str

    @property
    def errors(self) -> list[str]:
        return [line for line in self.stderr.splitlines() if line.startswith("error: ")]


def forked(words: Sequence[str], folder: Path, beside: Path, variables: Mapping[str, str] | None = None) -> Done:
    """Run one command.

    Args:
        folder: where it runs.
        beside: a folder for what it prints.
        variables: of the environment, besides.
    """
    sys.stdout.flush()
    if not (child := os.fork()):
        be_command(words, folder, beside, dict(variables or {}))
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return Done(status, *((beside / name).read_text(errors="replace") for name in ("stdout", "stderr")))


def be_command(words: Sequence[str], folder: Path, beside: Path, variables: dict[str, str]) -> None:
    """What the new process is; it does not return."""
    status = 1
    with contextlib.suppress(BaseException):
        os.environ.update({"COLUMNS": "400", "TOKENIZERS_PARALLELISM": "false", **variables})
        os.chdir(folder)
        os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
        for number, name in ((1, "stdout"), (2, "stderr")):
            os.dup2(os.open(beside / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
        encoding = variables.get("PYTHONIOENCODING", "utf-8")
        sys.stdout, sys.stderr = (os.fdopen(number, "w", encoding=encoding, closefd=False) for number in (1, 2))
        sys.argv = ["ftkit", *words]
        try:
            main()
            status = 0
        except SystemExit as stop:
            status = stop.code if isinstance(stop.code, int) else 1
        except BaseException:
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(status)
