"""`ftkit verify`: is what was saved what was trained?"""

import json
from pathlib import Path

import typer

from ftkit import console
from ftkit.cli.arguments import Quiet, TrustCode
from ftkit.cli.libraries import loading_libraries
from ftkit.errors import Unverified

EXAMPLES = """[bold]Examples[/bold]

ftkit verify runs/gpt2_instruction

ftkit verify runs/gpt2_instruction --json
"""


def verify(
    run: Path = typer.Argument(..., help="A run's folder, or OWNER/NAME on the hub."),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON object."),
    trust_code: TrustCode = False,
    quiet: Quiet = False,
) -> None:
    """Load the saved model in a new process: its tensors, scores and prompts are those of training; exit status 3 if not.

    Recipe and data are compared with those that the run was made from.
    """
    console.set_quiet(quiet or as_json)
    with loading_libraries():
        from ftkit import api  # torch and transformers

    try:
        report = api.verify(run, trust_code=trust_code)
    except Unverified as error:
        if as_json:
            console.out.print_json(json.dumps({"sound": False, "failures": str(error).splitlines()}))
        raise
    if as_json:
        console.out.print_json(json.dumps({"sound": True, **report.facts}))
    else:
        console.out.print(report.table())
