"""`ftkit check`: everything that can be found wrong without training."""

import time
from typing import Any

import typer

from ftkit import console
from ftkit.answers import keep, known
from ftkit.cli.arguments import Overrides, Quiet, RecipePath
from ftkit.data.inputs import inputs_key
from ftkit.data.paths import require_local
from ftkit.evaluation.score import CheckReport
from ftkit.hub import hub_names, require_reachable
from ftkit.recipe.load import load_recipe
from ftkit.units import time_words

EXAMPLES = """[bold]Examples[/bold]

ftkit check my.yaml

ftkit check my.yaml data.train=reviews.csv

ftkit check my.yaml --again
"""
KIND = "checks"


def check(
    recipe: RecipePath,
    overrides: Overrides = None,
    smoke: bool = typer.Option(False, "--smoke", help="With the stand-in and sample data of a smoke run."),
    again: bool = typer.Option(False, "--again", help="Check anew what was found sound before and has not changed."),
    quiet: Quiet = False,
) -> None:
    """Find what is wrong with a recipe without training: keys, data, model, and one real batch forward and backward.

    A recipe that was found sound is not checked once more until it changes, or its data, model, versions or machine.
    """
    console.set_quiet(quiet)
    loaded = load_recipe(recipe, overrides)
    if not smoke:
        with loaded.located():
            require_local(loaded)
            require_reachable(hub_names(loaded))
    key = None if smoke else inputs_key(loaded)
    if key and not again and (found := known(KIND, key)):
        console.out.print(told_again(found).table())
        return
    from ftkit import api  # torch and transformers, once the recipe is known to be sound

    with console.warnings_heard() as warnings:
        report = api.check(loaded, smoke=smoke)
    if key and key == inputs_key(loaded):  # nothing was changed or fetched meanwhile
        keep(KIND, key, {"facts": report.facts, "warnings": warnings, "time": time.time()})
    console.out.print(report.table())


def told_again(found: dict[str, Any]) -> CheckReport:
    """What was found before, with its warnings."""
    for warning in found["warnings"]:
        console.warn(warning)
    ago = time_words(max(0.0, time.time() - found["time"]))
    return CheckReport({**found["facts"], "checked": f"{ago} ago, and nothing has changed since; --again checks it anew"})
