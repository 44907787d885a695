"""`ftkit plan`: what a run will take, known before it starts."""

import json

import typer

from ftkit import console
from ftkit.cli.arguments import Overrides, Quiet, RecipePath
from ftkit.cli.libraries import loading_libraries
from ftkit.hub.door import pinned
from ftkit.recipe.load import load_recipe

EXAMPLES = """[bold]Examples[/bold]

ftkit plan my.yaml

ftkit plan my.yaml training.per_device_train_batch_size=4 --device cuda --vram 24 --json
"""


def plan(
    recipe: RecipePath,
    overrides: Overrides = None,
    device: str | None = typer.Option(
        None, "--device", help="cpu or cuda; default what this machine has.", show_default=False
    ),
    vram: float | None = typer.Option(
        None, "--vram", help="GiB of memory there are; says whether it fits, and what would make it.", show_default=False
    ),
    measure: bool = typer.Option(
        True, "--measure/--no-measure", help="Make a few steps, where the model's weights are here, to tell the time."
    ),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON object."),
    quiet: Quiet = False,
) -> None:
    """Tell what a run will take: parameters, memory by part, steps, disk, time; no weights are fetched.

    Memory is computed from config.json alone; the time is measured in a few steps, where the weights are here already.
    """
    console.set_quiet(quiet or as_json)
    loaded = load_recipe(recipe, overrides)
    with loaded.located():
        loaded = pinned(loaded, weights=False, needed=("model",))
    with loading_libraries():
        from ftkit import api  # torch and transformers, once the recipe is known to be sound

    found = api.plan(loaded, device=device, vram=vram, measure=measure)
    if as_json:
        console.out.print_json(json.dumps(found.as_json()))
    else:
        console.out.print(found.table())
