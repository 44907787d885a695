"""`ftkit doctor`: what there is, what is missing, and whether a training works here."""

import json
from collections.abc import Iterator
from dataclasses import asdict

import typer

from ftkit import console
from ftkit.cli.arguments import Quiet
from ftkit.doctor.examine import examine
from ftkit.doctor.findings import BROKEN, Finding, lines

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
    found: list[Finding] = []
    findings = kept(examine(console.status), found)
    if as_json:
        told = [asdict(one) for one in findings]
        console.out.print_json(json.dumps({"good": not any_broken(found), "findings": told}))
    else:
        for line in lines(findings):
            console.out.print(console.Line(line))
    if any_broken(found):
        raise typer.Exit(1)


def kept(findings: Iterator[Finding], found: list[Finding]) -> Iterator[Finding]:
    """The findings as they come, put into the list as well."""
    for one in findings:
        found.append(one)
        yield one


def any_broken(found: list[Finding]) -> bool:
    return any(one.state == BROKEN for one in found)
