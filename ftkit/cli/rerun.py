"""`ftkit rerun`: does a run come out again as it did?"""

import json
from pathlib import Path

import typer

from ftkit import console
from ftkit.cli.arguments import Quiet, TrustCode
from ftkit.cli.libraries import loading_libraries
from ftkit.errors import NotReproduced
from ftkit.hub.runs import run_folder
from ftkit.run import Run
from ftkit.training.rerun import require_repeatable, require_same_files
from ftkit.trust import require_trust

EXAMPLES = """[bold]Examples[/bold]

ftkit rerun runs/lora_distilbert --check

ftkit rerun runs/lora_distilbert --check --steps 50

ftkit rerun runs/lora_distilbert --output-dir runs/again
"""


def rerun(
    run: Path = typer.Argument(..., help="A run's folder."),
    check: bool = typer.Option(False, "--check", help="The first steps alone, which leave nothing behind."),
    steps: int | None = typer.Option(
        None, "--steps", help="How many of them; as far as the next logged loss. [default: 10]", show_default=False
    ),
    output_dir: Path | None = typer.Option(
        None, "--output-dir", "-o", help="The new run's folder. [default: that of the run, and -rerun]"
    ),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON object."),
    trust_code: TrustCode = False,
    quiet: Quiet = False,
) -> None:
    """Run a run again from its own folder and compare losses and metrics; exit status 4 where something differs.

    Data, base weights and code are compared first, by their sums, then the tokenized rows: what changed is named.
    """
    console.set_quiet(quiet or as_json)
    try:
        known = Run(run_folder(run))
        require_repeatable(known, first_steps=check)
        require_trust(known.folder, trust_code, metric=True)
        require_same_files(known, known.read_recipe())
        with loading_libraries():
            from ftkit import api  # torch and transformers, once it is known to be the same run

        found = api.rerun_trusted(known, check=check, steps=steps, output_dir=output_dir)
    except NotReproduced as error:
        if as_json:
            console.out.print_json(json.dumps({"same": False, "failures": [str(error)]}))
        raise
    if as_json:
        console.out.print_json(json.dumps(found.describe()))
    else:
        console.out.print(found.table())
