"""`ftkit merge`: a run's adapter and its base as one whole model."""

import json
from dataclasses import asdict
from pathlib import Path

import typer

from ftkit import console
from ftkit.cli.arguments import Quiet, TrustCode
from ftkit.cli.libraries import loading_libraries

EXAMPLES = """[bold]Examples[/bold]

ftkit merge runs/lora_distilbert merged/distilbert

ftkit merge runs/qlora_llama2_summarization merged/llama2 --dtype float16
"""


def merge(
    run: Path = typer.Argument(..., help="A run's folder, or OWNER/NAME on the hub."),
    folder: Path = typer.Argument(..., metavar="DIR", help="Where the whole model goes; it must not exist."),
    dtype: str | None = typer.Option(
        None, "--dtype", help="float32, bfloat16 or float16. [default: bfloat16 for a 4-bit base, else the base's]"
    ),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON object."),
    trust_code: TrustCode = False,
    quiet: Quiet = False,
) -> None:
    """Add a run's adapter into its base, and compare the result with both; exit status 3 if it is not what was trained."""
    console.set_quiet(quiet or as_json)
    with loading_libraries():
        from ftkit.delivery.merge import merge as merge_run  # torch and transformers

    found = merge_run(run, folder, dtype=dtype, trust_code=trust_code)
    if as_json:
        console.out.print_json(json.dumps(asdict(found)))
    else:
        console.out.print(console.facts("", {"merged": str(folder), **found.facts()}))
