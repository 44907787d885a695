"""`ftkit check`: everything that can be found wrong without training."""

import typer

from ftkit import console
from ftkit.cli.arguments import Limit, ModelName, Overrides, Quiet, RecipeOrRows, TaskName
from ftkit.cli.drafting import recipe_of
from ftkit.cli.libraries import loading_libraries
from ftkit.data.paths import require_local
from ftkit.evaluation.checked import Checked
from ftkit.hub.door import pinned
from ftkit.recipe.limit import limited, require_limit
from ftkit.recipe.load import load_recipe

EXAMPLES = """[bold]Examples[/bold]

ftkit check my.yaml

ftkit check my.yaml data.train=reviews.csv

ftkit check my.yaml --again
"""


def check(
    recipe: RecipeOrRows,
    overrides: Overrides = None,
    model: ModelName = None,
    task: TaskName = None,
    limit: Limit = None,
    smoke: bool = typer.Option(False, "--smoke", help="With the stand-in and sample data of a smoke run."),
    again: bool = typer.Option(False, "--again", help="Check anew what was found sound before and has not changed."),
    quiet: Quiet = False,
) -> None:
    """Find what is wrong with a recipe without training: keys, data, model, and one real batch forward and backward.

    A recipe that was found sound is not checked once more until it changes, or its data, model, versions or machine.
    """
    console.set_quiet(quiet)
    require_limit(limit)
    file, more = recipe_of(recipe, task, model)
    loaded = limited(load_recipe(file, [*more, *(overrides or [])]), limit)
    if not smoke:
        with loaded.located():
            require_local(loaded)
            loaded = pinned(loaded)
    checked = None if smoke else Checked(loaded)
    if checked and not again and (report := checked.tell_again()):
        console.out.print(report.table())
        return
    with loading_libraries():
        from ftkit import api  # torch and transformers, once the recipe is known to be sound

    with console.warnings_heard() as warnings:
        report = api.check(loaded, smoke=smoke)
    console.out.print(report.table())
    if checked:
        checked.remember(report, warnings)
