"""`ftkit eval`: the task's metrics for a run, or for any model; or public benchmarks."""

import json
from pathlib import Path
from typing import Any

import typer

from ftkit import console
from ftkit.cli.arguments import Quiet, TrustCode
from ftkit.cli.libraries import loading_libraries
from ftkit.errors import UserError

EXAMPLES = """[bold]Examples[/bold]

ftkit eval runs/lora_distilbert

ftkit eval runs/lora_distilbert --data reviews.csv --json

ftkit eval ./my-model --recipe my.yaml --split test

ftkit eval owner/model --revision v2 --task text-classification --data reviews.csv

ftkit eval ./my-model --task text-classification --data reviews.csv

ftkit eval runs/gpt2_instruction --benchmarks arc_easy,hellaswag --limit 200
"""


def evaluate(
    target: str = typer.Argument(
        metavar="RUN_OR_MODEL",
        help="A run's folder, a model folder or a hub id, be it a run's or a model's.",
        show_default=False,
    ),
    data: str | None = typer.Option(None, "--data", help="Measure these rows: file, glob, folder, hub id or sample:NAME."),
    split: str = typer.Option("eval", "--split", help="Which split of the recipe's data: eval, test or train."),
    recipe: Path | None = typer.Option(None, "--recipe", help="Task and data for a model that is no run."),
    revision: str | None = typer.Option(None, "--revision", help="Of a hub id: a branch, a tag or a commit."),
    task: str | None = typer.Option(None, "--task", help="The task, where there is no recipe."),
    benchmarks: str | None = typer.Option(
        None,
        "--benchmarks",
        help="By lm-evaluation-harness: arc_easy,arc_challenge,hellaswag,mmlu,truthfulqa_mc1,truthfulqa_mc2,gsm8k.",
    ),
    data_dir: Path | None = typer.Option(None, "--data-dir", help="The benchmarks' files, in place of the hub's."),
    limit: int | None = typer.Option(
        None, "--limit", help="The first N documents of each task; each subject of mmlu is one."
    ),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON object."),
    trust_code: TrustCode = False,
    quiet: Quiet = False,
) -> None:
    """Measure a run's model, or any local or hub model given a recipe, or a task and data."""
    console.set_quiet(quiet or as_json)
    if benchmarks is not None:
        refuse_idle({"--data": data, "--recipe": recipe, "--task": task}, "with --benchmarks")
        with loading_libraries():
            from ftkit import api

        show(
            api.benchmark(
                target, benchmarks.split(","), data_dir=data_dir, limit=limit, revision=revision, trust_code=trust_code
            ),
            as_json,
        )
        return
    refuse_idle({"--data-dir": data_dir, "--limit": limit}, "without --benchmarks")
    from ftkit.evaluation.target import resolve_target

    resolved = resolve_target(
        target, recipe=recipe, task=task, data=data, split=split, revision=revision, trust_code=trust_code
    )
    with loading_libraries():
        from ftkit import api  # torch and transformers, once the arguments are known to be sound

    show(api.evaluate_target(resolved), as_json)


def show(score: Any, as_json: bool) -> None:
    if as_json:
        console.out.print_json(json.dumps(score.as_json()))
    else:
        console.out.print(score.table())


def refuse_idle(options: dict[str, object], where: str) -> None:
    """Raises UserError where an option is given that would have no effect."""
    for name, value in options.items():
        if value is not None:
            raise UserError(f"{name} has no effect {where}", "leave it out", name)
