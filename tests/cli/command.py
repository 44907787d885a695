"""`ftkit` as a command in a process of its own, and what its refusals look like."""

import os
import signal
import subprocess
import sys
from pathlib import Path


def heed_ctrl_c() -> None:
    """In the new process: a shell's background jobs ignore Ctrl-C, and hand that on."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def ftkit(*words: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"COLUMNS": "200"} | variables
    return subprocess.run([sys.executable, "-m", "ftkit", *map(str, words)], capture_output=True, text=True, env=environment)


def one_line(done: subprocess.CompletedProcess[str]) -> str:
    """The single error line of a command that was refused."""
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, done.stderr
    return lines[0]
