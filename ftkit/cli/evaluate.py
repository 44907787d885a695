"""`ftkit eval`: the task's metrics for a run, or for any model."""

import json
from pathlib import Path

import typer

from ftkit import console
from ftkit.cli.arguments import Quiet

EXAMPLES = """[bold]Examples[/bold]

ftkit eval runs/lora_distilbert

ftkit eval runs/lora_distilbert --data reviews.csv --json

ftkit eval ./my-model --recipe my.yaml --split test

ftkit eval ./my-model --task text-classification --data reviews.csv
"""


def evaluate(
    target: str = typer.Argument(
        metavar="RUN_OR_MODEL", help="A run's folder, a model folder or a hub id.", show_default=False
    ),
    data: str | None = typer.Option(None, "--data", help="Measure these rows: file, glob, folder, hub id or sample:NAME."),
    split: str = typer.Option("eval", "--split", help="Which split of the recipe's data: eval, test or train."),
    recipe: Path | None = typer.Option(None, "--recipe", help="Task and data for a model that is no run."),
    task: str | None = typer.Option(None, "--task", help="The task, where there is no recipe."),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON object."),
    quiet: Quiet = False,
) -> None:
    """Measure a run's model, or any local or hub model given a recipe, or a task and data."""
    console.set_quiet(quiet or as_json)
    from ftkit.evaluation.target import resolve_target

    resolved = resolve_target(target, recipe=recipe, task=task, data=data, split=split)
    from ftkit import api  # torch and transformers, once the arguments are known to be sound

    score = api.evaluate_target(resolved)
    if as_json:
        console.out.print_json(json.dumps(score.as_json()))
    else:
        console.out.print(score.table())
