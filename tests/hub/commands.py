"""`ftkit` commands against a hub of the tests' own, each in a process that is forked when all is imported: a second, not ten."""

import contextlib
import os
import re
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ftkit.cli.main import main
from tests.hub.conftest import UNSET, read_environment_again
from tests.hub.server import Hub, Request

# Threads of the tokenizer do not come along into a forked process.
QUIET = {
    "HF_HUB_DISABLE_XET": "1",
    "HF_HUB_OFFLINE": "0",
    "COLUMNS": "400",
    "NO_COLOR": "1",
    "TOKENIZERS_PARALLELISM": "false",
}


@dataclass(frozen=True)
class Done:
    status: int
    seconds: float
    output: str
    requests: tuple[Request, ...]

    @property
    def error(self) -> str:
        """The line of an error; "" where there is none, or more than one."""
        lines = re.findall(r"^error: .*$", self.output, flags=re.MULTILINE)
        return lines[0] if len(lines) == 1 else ""

    @property
    def tracebacks(self) -> int:
        return self.output.count("Traceback (most recent call last)")

    def asked(self, pattern: str) -> list[str]:
        """The requests of a pattern."""
        return [request.line for request in self.requests if re.search(pattern, request.line)]


def ftkit(
    words: Sequence[str | Path], hub: Hub, home: Path, folder: Path, variables: Mapping[str, str] | None = None
) -> Done:
    """Run one command.

    Args:
        home: its HF_HOME.
        folder: where it runs.
        variables: of the environment, besides.
    """
    for place in (home, folder):
        place.mkdir(parents=True, exist_ok=True)
    output, before, started = folder / "output.txt", len(hub.requests), time.monotonic()
    sys.stdout.flush()
    if not (child := os.fork()):
        _be_command(words, {"HF_ENDPOINT": hub.address, "HF_HOME": str(home), **QUIET, **(variables or {})}, folder, output)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    seconds = time.monotonic() - started
    return Done(status, seconds, output.read_text(errors="replace"), tuple(hub.requests[before:]))


def _be_command(words: Sequence[str | Path], variables: Mapping[str, str], folder: Path, output: Path) -> None:
    """What the new process is; it does not return."""
    with contextlib.suppress(BaseException):
        for name in UNSET:
            os.environ.pop(name, None)
        os.environ.update(variables)
        os.chdir(folder)
        written = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for stream in (1, 2):
            os.dup2(written, stream)
        sys.argv = ["ftkit", *map(str, words)]
        status = 1
        try:
            read_environment_again()
            main()
            status = 0
        except SystemExit as stop:
            status = stop.code if isinstance(stop.code, int) else 1
        except BaseException:
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    os._exit(99)
