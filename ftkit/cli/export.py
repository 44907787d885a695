"""`ftkit export`: a run's model in the format that others take."""

import json
from dataclasses import asdict
from pathlib import Path

import typer

from ftkit import console
from ftkit.cli.arguments import Quiet, TrustCode
from ftkit.cli.libraries import loading_libraries

EXAMPLES = """[bold]Examples[/bold]

ftkit export runs/lora_distilbert exported/distilbert --format safetensors

ftkit export runs/lora_distilbert exported/onnx --format onnx
"""


def export(
    run: Path = typer.Argument(..., help="A run's folder, or OWNER/NAME on the hub."),
    folder: Path = typer.Argument(..., metavar="DIR", help="Where it goes; it must not exist."),
    kind: str = typer.Option("safetensors", "--format", help="safetensors (one whole model folder), onnx or gguf."),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON object."),
    trust_code: TrustCode = False,
    quiet: Quiet = False,
) -> None:
    """Write a run's model in a format, and compare it with the model as it was trained; exit status 3 if it is not."""
    console.set_quiet(quiet or as_json)
    with loading_libraries():
        from ftkit.delivery.export import export as export_run  # torch and transformers

    found = export_run(run, folder, kind=kind, trust_code=trust_code)
    if as_json:
        console.out.print_json(json.dumps(asdict(found)))
    else:
        console.out.print(console.facts("", {"exported": str(folder), **found.facts()}))
