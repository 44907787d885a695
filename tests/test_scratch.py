"""Folders for a while: none of a killed process stays, none of a living one is taken away."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from ftkit.scratch import PREFIX, SETTLED, scratch, sweep_scratch

HOLDER = """
import sys, tempfile, time
tempfile.tempdir = sys.argv[1]
from ftkit.scratch import scratch
with scratch() as folder:
    open(folder + "/file", "w").close()
    print(folder, flush=True)
    time.sleep(60)
"""


def test_only_folders_of_the_dead_are_swept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    process = subprocess.Popen([sys.executable, "-c", HOLDER, tmp_path], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    held = Path(process.stdout.readline().strip())
    # What a user may call a run's folder is no folder of ours, though it lies there and nobody holds it.
    names = [f"{PREFIX}{'n' * 8}", "of-another", "ftkit-run", f"{PREFIX}new", f"{PREFIX}mine_now"]
    others = [tmp_path / name for name in names]
    for folder in others:
        folder.mkdir(mode=0o755 if folder == others[-1] else 0o700)
    long_ago = time.time() - 2 * SETTLED
    for folder in (held, *others[1:]):
        os.utime(folder, (long_ago, long_ago))
    sweep_scratch()
    assert (held / "file").is_file()
    process.send_signal(signal.SIGKILL)
    process.communicate()
    sweep_scratch()
    assert sorted(tmp_path.iterdir()) == sorted(others)
    with scratch() as made:
        assert list(Path(made).iterdir()) == []
    assert not Path(made).exists()
