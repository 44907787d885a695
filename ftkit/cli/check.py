"""`ftkit check`: everything that can be found wrong without training."""

import typer

from ftkit import console
from ftkit.cli.arguments import Overrides, Quiet, RecipePath
from ftkit.data.paths import require_local
from ftkit.hub import hub_names, require_reachable
from ftkit.recipe.load import load_recipe

EXAMPLES = """[bold]Examples[/bold]

ftkit check my.yaml

ftkit check my.yaml data.train=reviews.csv
"""


def check(
    recipe: RecipePath,
    overrides: Overrides = None,
    smoke: bool = typer.Option(False, "--smoke", help="With the stand-in and sample data of a smoke run."),
    quiet: Quiet = False,
) -> None:
    """Find what is wrong with a recipe without training: keys, data, model, and one real batch forward and backward."""
    console.set_quiet(quiet)
    loaded = load_recipe(recipe, overrides)
    if not smoke:
        with loaded.located():
            require_local(loaded)
            require_reachable(hub_names(loaded))
    from ftkit import api  # torch and transformers, once the recipe is known to be sound

    console.out.print(api.check(loaded, smoke=smoke).table())
