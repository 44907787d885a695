"""`ftkit init`: copy out a recipe that comes with ftkit, with its comments."""

from pathlib import Path

import typer

from ftkit import console
from ftkit.errors import UserError
from ftkit.recipe.packaged import find_packaged
from ftkit.run import write_text

EXAMPLES = """[bold]Examples[/bold]

ftkit init lora_distilbert

ftkit init lora_distilbert my.yaml
"""


def init(
    name: str = typer.Argument(metavar="NAME", help="One of `ftkit recipes`.", show_default=False),
    file: Path | None = typer.Argument(None, metavar="[FILE]", help="Where to; default NAME.yaml here.", show_default=False),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace the file if it is there."),
) -> None:
    """Copy a recipe out, with its comments, to make it your own."""
    source = find_packaged(name)
    target = file or Path(source.name)
    if target.is_dir():
        target /= source.name
    if target.exists() and not overwrite:
        raise UserError(f"{target} is there already", "name another file, or use --overwrite")
    try:
        write_text(target, source.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{target} cannot be written: {error.strerror}", "name another file") from None
    console.out.print(f"{target}: now edit it, then run: ftkit train {target}", markup=False)
