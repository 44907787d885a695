"""ftkit's own wheel, built from a copy of the repository."""

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def build(source: Path, target: Path) -> None:
    """Build wheel and sdist of a folder."""
    words = [sys.executable, "-m", "hatchling", "build", "-d", str(target)]
    done = subprocess.run(words, cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def build_repository(folder: Path) -> Path:
    """The folder in which wheel and sdist of the repository are, built from a copy of it inside `folder`."""
    source = folder / "source"
    shutil.copytree(ROOT, source, ignore=shutil.ignore_patterns(".*", "__pycache__", "benchmarks", "runs"))
    build(source, folder / "dist")
    return folder / "dist"
