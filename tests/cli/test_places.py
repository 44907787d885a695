"""The kind: a name that leads nowhere, is too long, goes in a circle or has signs of its own: one line, and nothing is written."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from forked import Done, forked

from ftkit.recipe.schema import Recipe
from ftkit.run import dump_recipe

NAMES = {
    "empty": "", "here": ".", "root": "/", "above": "..", "255 bytes": "x" * 255, "300 bytes": "x" * 300, "a path of 6,000": "/".join(["y" * 200] * 30),
    "a line end": "a\nb", "an escape": "\x1b[31m", "no UTF-8": "\udcff", "a file": "file.txt", "within a file": "file.txt/x", "empty folder": "empty",
    "a link to nowhere": "dangling", "a link to itself": "loop", "a full folder": "full", "a device": "/dev/null", "a hub id": "owner/name", "a blank": " ",
}  # fmt: skip
READING = [
    ["report", "{}"], ["verify", "{}"], ["eval", "{}"], ["predict", "{}", "file.txt"], ["chat", "{}"], ["merge", "{}", "m"], ["export", "{}", "e"],
    ["compare", "{}", "{}"], ["push", "{}", "owner/name", "--yes"], ["check", "{}"], ["plan", "{}"], ["preview", "{}"], ["train", "{}"],
    ["synth", "{}", "--output", "o.jsonl", "--rows", "2", "--endpoint", "http://127.0.0.1:1", "--endpoint-model", "m"],
]  # fmt: skip
FREE = {
    "255 bytes",
    "a line end",
    "an escape",
    "empty folder",
    "a link to nowhere",
    "a hub id",
    "a blank",
}  # a run may be there
WRITTEN = set(NAMES) - FREE


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "in"
    (made / "empty").mkdir(parents=True)
    (made / "full").mkdir()
    for name in ("file.txt", "full/x"):
        (made / name).write_text("x\n")
    (made / "dangling").symlink_to("nowhere")
    (made / "loop").symlink_to("loop")
    return made


def tree(folder: Path) -> list[tuple[str, bool]]:
    return sorted((str(path), path.is_symlink()) for path in folder.rglob("*"))


def require_one_line(done: Done) -> None:
    assert "Traceback" not in done.stderr
    assert done.status == 2, done.stderr
    assert len(done.errors) == 1, done.stderr
    assert "\x1b" not in done.stderr


def refused(words: list[str], name: str, folder: Path, beside: Path) -> None:
    """The command is refused in one line, and leaves all as it was."""
    before = tree(folder)
    require_one_line(
        forked([name if word == "{}" else word for word in words], folder, beside, {"FTKIT_CACHE": str(beside / "cache")})
    )
    assert tree(folder) == before


# Of each command a few names here, all of them among the slow tests.
@pytest.mark.parametrize("words", READING[:3], ids=lambda words: words[0])
@pytest.mark.parametrize("kind", ["root", "255 bytes", "a line end", "a link to itself"])
def test_a_place_that_is_no_run(words: list[str], kind: str, folder: Path, tmp_path: Path) -> None:
    refused(words, NAMES[kind], folder, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("words", READING, ids=lambda words: words[0])
def test_no_place_is_a_traceback(words: list[str], folder: Path, tmp_path: Path) -> None:
    for name in NAMES.values():
        refused(words, name, folder, tmp_path)


@pytest.fixture
def sound(recipe: Callable[..., Recipe], folder: Path) -> Path:
    (folder / "r.yaml").write_text(dump_recipe(recipe("lora", training={"max_steps": 1})))
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("more", [[], ["--overwrite"], ["--resume"]], ids=" ".join)
def test_a_run_goes_nowhere_else(more: list[str], sound: Path, tmp_path: Path) -> None:
    for kind in sorted(WRITTEN):
        refused(["train", "r.yaml", "-o", "{}", *more], NAMES[kind], sound, tmp_path)


@pytest.mark.slow
def test_an_output_folder_may_be_a_link(sound: Path, tmp_path: Path) -> None:
    """The run lies where the link leads, and so does what replaces it; the link stays."""
    (sound / "link").symlink_to("empty")
    for more in ([], ["--overwrite"]):
        done = forked(["train", "r.yaml", "-o", "link", *more], sound, tmp_path, {"FTKIT_CACHE": str(tmp_path / "cache")})
        assert done.status == 0, done.stderr
        assert (sound / "link").is_symlink()
        assert os.path.samefile(sound / "link", sound / "empty")
        assert (sound / "empty" / "run.json").is_file()
    assert {path.name for path in sound.iterdir()} == {"dangling", "empty", "file.txt", "full", "link", "loop", "r.yaml"}
    assert forked(["report", "link"], sound, tmp_path).status == 0
