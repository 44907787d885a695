"""Trainings in processes of their own, forked from one that has imported what they need: importing takes longer than steps.

The process that imports computes nothing, so that trainings share code and nothing else.
"""

import json
import multiprocessing
import os
import subprocess
import sys
import traceback
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

FORK = multiprocessing.get_context("fork")
UNSET = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")  # a user has not set them


def forked(work: Callable[[], Any], log: Path) -> Any:
    """What a process of its own finds, or as text what went wrong there; what is printed goes to the log."""
    receiver, sender = FORK.Pipe(duplex=False)
    process = FORK.Process(target=_report, args=(sender, work, log))
    process.start()
    sender.close()
    try:
        return receiver.recv()
    except EOFError:
        return f"the process ended without a word; what it printed is in {log}"
    finally:
        process.join()


def _report(sender: Connection, work: Callable[[], Any], log: Path) -> None:
    with log.open("w") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
        try:
            found = work()
        except BaseException:
            found = traceback.format_exc()
        sender.send(found)


def serve(work: Callable[..., Any]) -> None:
    """Answer each line of standard input, a log and words for `work`, with what a process of its own finds."""
    for line in sys.stdin:
        log, *words = json.loads(line)
        print(json.dumps(forked(partial(work, *words), Path(log))), flush=True)


class Server:
    """A script that serves.

    Args:
        script: with `--serve` it calls `serve`.
    """

    def __init__(self, script: Path) -> None:
        environment = os.environ | {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "true"}
        for name in UNSET:
            environment.pop(name, None)
        self.process = subprocess.Popen(
            [sys.executable, str(script), "--serve"], env=environment, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip

    def ask(self, log: Path, *words: str) -> dict[str, Any]:
        """What the script finds; it ends this process where that fails."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps([str(log), *words]) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        found = json.loads(answer) if answer else f"{self.process.args} ended"
        if isinstance(found, str):
            sys.exit(f"{' '.join(words)} failed:\n{found[-3000:]}")
        return dict(found)

    def close(self) -> None:
        self.process.communicate()
