"""Every command of the documentation runs, each page in a reader's folder, on small models under the names that pages use.

What needs more than a CPU without a network is skipped by what it needs. That the site builds without a warning.
"""

import csv
import importlib.util
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from pages import PAGES, ROOT, Block, blocks

from ftkit import console
from ftkit.cli.main import app
from ftkit.run import Run

ENCODER = "distilbert/distilbert-base-uncased"
NOT_HERE = {"make", "pip", "hf", "sbatch"}  # they install, or need a network
RUN = [page for page in PAGES if any(block.kind == "sh" for block in blocks(page))]


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory, stand_in: Callable[[str], Path]) -> Path:
    """A reader's folder: rows of their own, and the pages' model where a local folder of that name is."""
    folder = tmp_path_factory.mktemp("reader")
    shutil.copytree(stand_in("distilbert"), folder / ENCODER)
    (folder / "recipes").symlink_to(ROOT / "recipes")
    for name in ("reviews", "mine"):
        write_reviews(folder / f"{name}.csv", 100)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        app(["init", "reviews.csv", "--model", ENCODER], standalone_mode=False)
    return folder


@pytest.fixture
def folder(reader: Path, tmp_path: Path) -> Path:
    """That folder as it is before a page is read."""
    return shutil.copytree(reader, tmp_path / "reader", symlinks=True)


def write_reviews(file: Path, rows: int) -> None:
    random.seed(1)
    words = {"good": ["fine", "lovely", "bright"], "bad": ["dull", "grim", "awful"]}
    with file.open("w", newline="") as opened:
        table = csv.writer(opened)
        table.writerow(["review", "stars"])
        for number in range(rows):
            label = "good" if number % 5 else "bad"
            table.writerow([" ".join(random.choices(words[label], k=random.randint(3, 20))) + f" {number}", label])


def run(block: Block) -> None:
    if block.kind == "python" and "tickets.csv" in block.text:
        exec(compile(block.text, str(block.page), "exec"), {})
    for words in block.commands() if block.kind == "sh" else ():
        if words[0] == "ftkit":
            if "--resume" in words:  # as a power cut behind the last checkpoint leaves it
                Run(Path(words[words.index("--output-dir") + 1])).update(state="training")
            app(words[1:], standalone_mode=False)
            console.set_quiet(False)
        else:
            assert words[0] in NOT_HERE, words


@pytest.mark.slow
@pytest.mark.parametrize("page", RUN, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_the_commands_of_a_page_run(page: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    for block in blocks(page):
        if block.needs is None:
            run(block)


@pytest.mark.parametrize(
    "block",
    [block for page in RUN for block in blocks(page) if block.needs],
    ids=lambda block: f"{block.page.name}-{block.needs}",
)
def test_what_needs_more(block: Block) -> None:
    assert block.needs in ("gpu", "hub", "slurm")
    pytest.skip(f"needs a {block.needs}: {block.text}")


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    if not all(importlib.util.find_spec(name) for name in ("mkdocs", "material", "mkdocstrings")):
        pytest.skip("needs the extra docs: pip install 'ftkit[docs]'")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"})
    assert built.returncode == 0, built.stderr
    pages = {path.name for path in (tmp_path / "site").rglob("*.html")}
    assert {page.with_suffix(".html").name for page in PAGES if page.is_relative_to(ROOT / "docs")} <= pages
    assert "Raises" in (tmp_path / "site" / "api.html").read_text()
    assert (tmp_path / "site" / "llms.txt").is_file()
