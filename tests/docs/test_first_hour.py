"""The tutorial and the pages after it, by a newcomer: a fresh environment with the wheel alone, an empty folder and home.

Kind: what works where the repository, its extras or a filled cache is at hand, and nowhere else. Models come from a hub on
127.0.0.1, by download. The package index must be reachable; `make test-wheel` runs this.
"""

import os
import subprocess
import venv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from pages import Block, blocks
from test_commands import ENCODER, NOT_HERE, write_reviews

from tests.hub.packaged import save_model
from tests.hub.repositories import files_of
from tests.hub.server import Hub
from tests.wheels import ROOT, build_repository

TUTORIAL = ROOT / "docs" / "tutorial.md"
PAGES = [TUTORIAL, ROOT / "docs" / "index.md", ROOT / "docs" / "howto" / "imbalance.md"]
INHERITED = ("LANG", "LC_ALL", "TMPDIR", "SYSTEMROOT", "OMP_NUM_THREADS", "OMP_WAIT_POLICY")


@dataclass(frozen=True)
class Newcomer:
    """Runs commands in the fresh environment, in a folder."""

    programs: Path
    variables: dict[str, str]

    def run(self, words: list[str], folder: Path, text: str | None = None) -> str:
        """One command, which must succeed and tell nothing of the inside; what it printed.

        Args:
            text: what it reads.
        """
        command = [str(self.programs / words[0]), *words[1:]]
        done = subprocess.run(command, cwd=folder, env=self.variables, input=text, capture_output=True, text=True)
        said = done.stdout + done.stderr
        assert done.returncode == 0, f"{' '.join(words)}\n{said}"
        assert "Traceback" not in said, said
        assert "Warning:" not in said, said
        return said


@pytest.fixture(scope="module")
def newcomer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Newcomer]:
    """A fresh environment in which the wheel was installed as a user does, and a hub that has the pages' model."""
    pytest.importorskip("hatchling", reason="what builds the package is not here (the extra dev)")
    folder = tmp_path_factory.mktemp("newcomer")
    (wheel,) = build_repository(folder).glob("*.whl")
    venv.create(folder / "fresh", with_pip=True)
    programs = folder / "fresh" / ("Scripts" if os.name == "nt" else "bin")
    (folder / "home").mkdir()
    limits = ROOT / "constraints.txt"
    torch = next(line for line in limits.read_text().splitlines() if line.startswith("torch=="))
    install = [str(programs / "python"), "-m", "pip", "install", "--quiet", "--constraint", str(limits), torch, str(wheel)]
    done = subprocess.run(install, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with Hub() as hub:
        hub.publish("models", ENCODER, files_of(save_model(ENCODER, folder / "model")))
        yield Newcomer(programs, {
            **{name: os.environ[name] for name in INHERITED if name in os.environ},
            "PATH": f"{programs}{os.pathsep}{os.defpath}", "HOME": str(folder / "home"), "HF_ENDPOINT": hub.address,
            "HF_HUB_DISABLE_XET": "1", "COLUMNS": "120",
        })  # fmt: skip


def follow(newcomer: Newcomer, block: Block, folder: Path) -> str:
    """What the commands of a block printed."""
    if block.kind == "python":
        return newcomer.run(["python", "-"], folder, block.text)
    return "".join(newcomer.run(words, folder) for words in block.commands() if words[0] not in NOT_HERE)


@pytest.mark.slow
@pytest.mark.wheel
@pytest.mark.timeout(1200)
def test_what_is_installed_is_the_wheel_and_all_that_it_needs(newcomer: Newcomer, tmp_path: Path) -> None:
    where = newcomer.run(["python", "-c", "import ftkit; print(ftkit.__file__)"], tmp_path)
    assert Path(where.strip()).is_relative_to(newcomer.programs.parent)
    assert "No broken requirements" in newcomer.run(["python", "-m", "pip", "check"], tmp_path)


@pytest.mark.slow
@pytest.mark.wheel
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_newcomer_follows_a_page(newcomer: Newcomer, page: Path, tmp_path: Path) -> None:
    if page != TUTORIAL:
        write_reviews(tmp_path / "reviews.csv", 100)
        newcomer.run(["ftkit", "init", "reviews.csv", "--model", ENCODER], tmp_path)
    told = [block for block in blocks(page) if block.kind in ("sh", "python") and block.needs is None]
    said = "".join(follow(newcomer, block, tmp_path) for block in told)
    if page == TUTORIAL:
        assert "runs/slower" in said
        assert {path.name for path in (tmp_path / "runs").iterdir()} == {"try", "tickets", "slower"}
        assert (tmp_path / "runs/tickets/report.html").stat().st_size > 1_000_000  # the plots' library is in it
        assert len((tmp_path / "answers.jsonl").read_text().splitlines()) == 200
