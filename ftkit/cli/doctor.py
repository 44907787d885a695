"""`ftkit doctor`: what there is, what is missing, and whether a training works here."""

import json
from dataclasses import asdict

import typer

from ftkit import console
from ftkit.cli.arguments import Quiet
from ftkit.doctor.examine import examine
from ftkit.doctor.findings import BROKEN, lines

EXAMPLES = """[bold]Examples[/bold]

ftkit doctor

ftkit doctor --json
"""


def doctor(as_json: bool = typer.Option(False, "--json", help="Print one JSON object."), quiet: Quiet = False) -> None:
    """Look at versions, disk, hub, hardware and extras, and train for some seconds without a network.

    A line with `!` is broken, and the exit status is then 1; one with `?` is worth a look. Nothing is asked of the hub, no
    token is shown, and home folders are written as `~`: what is printed can go into an issue.
    """
    console.set_quiet(quiet or as_json)
    findings, found = examine(console.status), []

    if as_json:
        found = list(findings)
        good = all(one.state != BROKEN for one in found)
        console.out.print_json(json.dumps({"good": good, "findings": [asdict(one) for one in found]}))
    else:
        for line in lines(one for one in findings if not found.append(one)):
            console.out.print(console.Line(line))
    if any(one.state == BROKEN for one in found):
        raise typer.Exit(1)
