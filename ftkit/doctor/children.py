"""Processes of the doctor's own: what ends or breaks one of them is a finding, and not the doctor's end."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ftkit

LIMIT = 180.0  # seconds that a process may take
COMMAND = (
    "import sys; sys.path[:0] = [place for place in {paths!r} if place not in sys.path]; from {module} import main; main()"
)


@contextmanager
def answering() -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """In the child: a function that tells the parent something; what libraries print is kept apart from it."""
    answer = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

    def tell(what: Mapping[str, Any]) -> None:
        answer.write(json.dumps(what) + "\n")
        answer.flush()

    yield tell


def answers(
    module: str, *words: str, folder: Path | None = None, variables: Mapping[str, str] | None = None
) -> Iterator[Any]:
    """What the `main` of a module tells, run in a process of its own; the last is `{"ended": why}`, empty if all is well.

    Args:
        folder: where it runs.
        variables: that it has beside those of this process.
    """
    home = str(Path(ftkit.__file__).parent.parent)
    paths = [os.path.abspath(place) for place in sys.path if place] + [home]
    command = [sys.executable, "-c", COMMAND.format(paths=paths, module=module), *words]
    environment = os.environ | dict(variables or {})
    process = subprocess.Popen(
        command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        text=True, encoding="utf-8",
    )  # fmt: skip
    timer = threading.Timer(LIMIT, process.kill)
    timer.start()
    try:
        yield from map(json.loads, process.stdout or ())
        process.wait()
        overdue = not timer.is_alive()
    finally:
        timer.cancel()
        process.kill()
        process.communicate()
    yield {"ended": ending(process.returncode, overdue=overdue)}


def ending(status: int, *, overdue: bool) -> str:
    """Why a process did not end well."""
    if overdue:
        return f"it did not end within {LIMIT:.0f} s"
    if status < 0:
        return f"it was ended by {signal.Signals(-status).name}"
    return f"it ended with status {status}" if status else ""
