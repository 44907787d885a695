"""What the documentation says is there: commands and options, make's targets, extras, recipes, metrics, public names, pages.

That its commands run is what test_commands.py shows.
"""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest
import tomllib
import typer
import yaml
from pages import PAGES, ROOT, all_blocks

import ftkit
from ftkit.cli.main import app
from ftkit.recipe.load import load_recipe
from ftkit.recipe.packaged import packaged_recipes
from ftkit.recipe.tasks import HEALTH_METRICS, TASK_SPECS

COMMANDS = [words for kind in ("sh", "bash") for block in all_blocks(kind) for words in block.commands()]
INLINE = re.findall(r"`(ftkit [^`\n]+)`", "\n".join(page.read_text(encoding="utf-8") for page in PAGES))
COMMANDS += [shlex.split(line.partition(" && ")[0]) for line in INLINE]
FTKIT = {" ".join(words): words[1:] for words in COMMANDS if words[0] == "ftkit"}


@pytest.mark.parametrize("words", FTKIT.values(), ids=list(FTKIT))
def test_a_command_has_the_options_it_is_given(words: list[str]) -> None:
    commands = typer.main.get_command(app)
    assert isinstance(commands, click.Group) or hasattr(commands, "commands")
    if words[0].startswith("--"):
        return
    command = commands.commands[words[0]]  # type: ignore[attr-defined]
    context = command.context_class(command, info_name=words[0])
    command.make_parser(context).parse_args(list(words[1:]))


def test_targets_of_make_and_extras_of_the_package_are_there() -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.M))
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    assert {words[1] for words in COMMANDS if words[0] == "make"} | set(re.findall(r"`make ([\w-]+)", text)) <= targets
    assert {name for found in re.findall(r"ftkit\[([\w,]+)\]", text) for name in found.split(",")} <= set(extras)


@pytest.mark.parametrize(
    "block", [block for block in all_blocks("yaml") if block.text.startswith("task:")], ids=lambda b: b.page.name
)
def test_a_recipe_on_a_page_is_one(block, tmp_path: Path) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text(block.text)
    assert load_recipe(file).task == yaml.safe_load(block.text)["task"]


def test_every_metric_stands_on_its_page() -> None:
    named = set(re.findall(r"`(\w+)`", (ROOT / "docs" / "metrics.md").read_text()))
    assert {name for spec in TASK_SPECS.values() for name in spec.metrics} | set(HEALTH_METRICS) <= named


def test_every_public_name_has_its_docstring_on_the_page() -> None:
    shown = re.findall(r"^::: ([\w.]+)\.(\w+)$", (ROOT / "docs" / "api.md").read_text(), re.M)
    assert sorted(name for _, name in shown) == sorted(ftkit.__all__)
    assert all(getattr(ftkit, name).__module__ == module for module, name in shown)


def test_every_recipe_has_its_row() -> None:
    rows = re.findall(r"^\| `(\w+)` \|", (ROOT / "recipes" / "README.md").read_text(), re.M)
    assert sorted(rows) == sorted(packaged_recipes())


def test_every_recipe_has_its_smoke_run_measured() -> None:
    lines = re.findall(r"^\| `\w+` \|.*$", (ROOT / "recipes" / "README.md").read_text(), re.M)
    assert [line for line in lines if "-" in [cell.strip() for cell in line.split("|")[-4:-1]]] == []


def test_the_page_of_other_tools_is_made_of_the_words() -> None:
    made = subprocess.run([sys.executable, ROOT / "scripts" / "other_tools.py"], capture_output=True, text=True, check=True)
    assert made.stdout == (ROOT / "docs" / "howto" / "other-tools.md").read_text(encoding="utf-8")


def test_the_list_for_language_models_names_every_page() -> None:
    known = {
        page.relative_to(ROOT / "docs").with_suffix(".html").as_posix()
        for page in PAGES
        if page.is_relative_to(ROOT / "docs")
    }
    linked = set(re.findall(r"\]\(([\w/-]+\.html)\)", (ROOT / "docs" / "llms.txt").read_text()))
    assert linked == known - {"index.html"}
