"""`ftkit init`: a recipe to make one's own: one that comes with ftkit, or one for a data file."""

import shlex
from pathlib import Path

import typer

from ftkit import console
from ftkit.cli.drafting import default_target, is_data, write_draft
from ftkit.errors import UserError
from ftkit.recipe.packaged import find_packaged, packaged_recipes
from ftkit.run import write_text

EXAMPLES = """[bold]Examples[/bold]

ftkit init lora_distilbert

ftkit init lora_distilbert my.yaml

ftkit init tickets.csv

ftkit init chats.jsonl --task instruction --model ./my-model -o chats.yaml
"""


def init(
    name: str = typer.Argument(
        metavar="NAME|FILE", help="One of `ftkit recipes`; or a data file, glob or folder.", show_default=False
    ),
    file: Path | None = typer.Argument(
        None, metavar="[RECIPE]", help="Where to; default NAME.yaml here.", show_default=False
    ),
    output: Path | None = typer.Option(None, "--output", "-o", help="The same as RECIPE.", show_default=False),
    task: str | None = typer.Option(None, "--task", help="The task of a data file; default guessed.", show_default=False),
    model: str | None = typer.Option(
        None, "--model", help="The model for a data file: a hub id or a folder; default a small one.", show_default=False
    ),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace the file if it is there."),
) -> None:
    """Write a recipe to make your own: a copy of one that comes with ftkit, or one that fits a data file.

    A data file is looked at: task, columns, separator, labels and lengths are guessed, and said.
    """
    if name.removesuffix(".yaml") not in packaged_recipes() and is_data(name):
        target = file or output or default_target(name)
        write_draft(name, task=task, model=model, target=target, overwrite=overwrite)
        word = shlex.quote(str(target))
        console.out.print(f"{target}: now check it: ftkit check {word}; then: ftkit train {word} --limit 200", markup=False)
        return
    for option, value in (("--task", task), ("--model", model)):
        if value is not None:
            raise UserError(f"{option} has no effect on a recipe that is copied", "leave it out, or name a data file")
    source = find_packaged(name)
    target = file or output or Path(source.name)
    if target.is_dir():
        target /= source.name
    if target.exists() and not overwrite:
        raise UserError(f"{target} is there already", "name another file, or use --overwrite")
    try:
        write_text(target, source.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{target} cannot be written: {error.strerror}", "name another file") from None
    console.out.print(f"{target}: now edit it, then run: ftkit train {shlex.quote(str(target))}", markup=False)
