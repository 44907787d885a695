"""`ftkit runs`: what is running, dead, interrupted, failed and finished in a folder."""

import json
from pathlib import Path

import typer

from ftkit import console
from ftkit.report.listing import list_runs

ANY_WIDTH = 10_000  # of a file or a pipe, which fold nothing
EXAMPLES = """[bold]Examples[/bold]

ftkit runs

ftkit runs experiments --json
"""


def runs(
    folder: Path = typer.Argument(Path("runs"), metavar="FOLDER", help="Where the runs lie."),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON list."),
) -> None:
    """List runs, the one that changed last first: its state, what it trains, its result."""
    found = list_runs(folder)
    if as_json:
        console.out.print_json(json.dumps(found.as_json()))
        return
    if not found.entries:
        console.say(f"{folder} holds no runs")
        return
    if not console.out.is_terminal:
        console.out.width = ANY_WIDTH
    console.out.print(found.table(console.out.width))
