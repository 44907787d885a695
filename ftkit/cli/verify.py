"""`ftkit verify`: is what was saved what was trained?"""

from pathlib import Path

import typer

from ftkit import console
from ftkit.cli.arguments import Quiet

EXAMPLES = """[bold]Examples[/bold]

ftkit verify runs/gpt2_instruction
"""


def verify(
    run: Path = typer.Argument(..., help="A run's folder."),
    quiet: Quiet = False,
) -> None:
    """Check that plain transformers builds the prompts of training from the saved folder; exit status 3 if not."""
    console.set_quiet(quiet)
    from ftkit import api  # torch and transformers

    console.out.print(api.verify(run).table())
