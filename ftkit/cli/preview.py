"""`ftkit preview`: rows as the model will get them, token by token."""

import os
from pathlib import Path

import typer

from ftkit import console
from ftkit.cli.arguments import Overrides, Quiet, RecipePath
from ftkit.cli.libraries import loading_libraries
from ftkit.errors import UserError
from ftkit.hub.door import pinned
from ftkit.recipe.load import load_recipe

EXAMPLES = """[bold]Examples[/bold]

ftkit preview my.yaml

ftkit preview my.yaml model.max_length=256 --split eval --rows 20 --html preview.html
"""


def preview(
    recipe: RecipePath,
    overrides: Overrides = None,
    rows: int = typer.Option(5, "--rows", help="How many rows to show."),
    split: str = typer.Option("train", "--split", help="Which split: train, eval or test."),
    html: Path | None = typer.Option(None, "--html", help="Write a page with the same to this file.", show_default=False),
    anyway: bool = typer.Option(False, "--anyway", help="Show rows that the gate refuses, and those first."),
    smoke: bool = typer.Option(False, "--smoke", help="With the stand-in and sample data of a smoke run."),
    quiet: Quiet = False,
) -> None:
    """Show rows as the model will get them: tokens, which of them are learnt, lengths and padding; nothing is trained."""
    console.set_quiet(quiet)
    if html is not None:
        _require_writable(html)
    loaded = load_recipe(recipe, overrides)
    if not smoke:
        with loaded.located():
            loaded = pinned(loaded, weights=False)
    with loading_libraries():
        from ftkit import api  # torch and transformers, once the recipe is known to be sound
    from ftkit.report.preview_views import page, terminal

    found = api.preview(loaded, rows=rows, split=split, smoke=smoke, anyway=anyway)
    outcomes = quiet or not console.out.is_terminal  # else they stand among the messages right above
    colours = console.out.color_system is not None and not console.out.no_color
    console.out.print(terminal(found, colours=colours, outcomes=outcomes), soft_wrap=False)
    if html is not None:
        try:
            html.write_text(page(found), encoding="utf-8")
        except OSError as error:
            raise UserError(f"{html} cannot be written: {error.strerror}", "name another file", "--html") from error
        console.say(f"written to {html}")


def _require_writable(file: Path) -> None:
    """Raises UserError where a file plainly cannot be written, before any work is done."""
    if file.is_dir():
        raise UserError(f"{file} is a folder", "name a file", "--html")
    if not file.parent.is_dir():
        raise UserError(f"there is no folder {file.parent}", "make it, or name another file", "--html")
    if not os.access(file if file.exists() else file.parent, os.W_OK):
        raise UserError(f"{file} cannot be written", "name another file", "--html")
