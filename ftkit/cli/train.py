"""`ftkit train`: one recipe becomes one finished run."""

from pathlib import Path

import typer

from ftkit import console
from ftkit.cli.arguments import Limit, ModelName, Overrides, Quiet, RecipeOrRows, TaskName
from ftkit.cli.drafting import recipe_of
from ftkit.cli.libraries import loading_libraries
from ftkit.data.paths import require_local
from ftkit.hub.door import as_it_began, pinned
from ftkit.recipe.limit import limited, require_limit
from ftkit.recipe.load import load_recipe
from ftkit.run import Run, default_folder
from ftkit.training.inputs import require_resumed, require_same_inputs
from ftkit.training.place import place_claimed

EXAMPLES = """[bold]Examples[/bold]

ftkit train recipes/lora_distilbert.yaml --smoke

ftkit train my.yaml training.learning_rate=2e-5 data.train=reviews.csv

ftkit train my.yaml --limit 200

ftkit train tickets.csv --model ./my-model --limit 200

ftkit train my.yaml --resume
"""


def train(
    recipe: RecipeOrRows,
    overrides: Overrides = None,
    model: ModelName = None,
    task: TaskName = None,
    limit: Limit = None,
    output_dir: Path | None = typer.Option(
        None, "--output-dir", "-o", help="The run's folder. [default: runs/NAME-OF-THE-RECIPE]"
    ),
    smoke: bool = typer.Option(False, "--smoke", help="A tiny stand-in model, sample data, few steps; no network."),
    resume: bool = typer.Option(False, "--resume", help="Go on from the run's last checkpoint."),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace a run that is in the folder."),
    force: bool = typer.Option(
        False, "--force", help="With --resume: go on though data or base are not those of the run, which says so for ever."
    ),
    quiet: Quiet = False,
) -> None:
    """Train a recipe: data, model and strategy, training, evaluation, run folder."""
    console.set_quiet(quiet)
    require_limit(limit)
    require_resumed(force, resume)
    file, more = recipe_of(recipe, task, model)
    loaded = limited(load_recipe(file, [*more, *(overrides or [])]), limit)
    folder = output_dir or default_folder(loaded, smoke=smoke)
    with place_claimed(folder, overwrite=overwrite, resume=resume) as claim:
        if not smoke:
            with loaded.located():
                require_local(loaded)
                loaded = as_it_began(loaded, Run(folder).record.get("hub", [])) if resume else loaded
                loaded = pinned(loaded)
                if resume:
                    require_same_inputs(loaded, Run(folder), force=force)
        claim.at("loading torch and transformers")
        with loading_libraries():
            from ftkit import api  # torch and transformers, once the recipe is known to be sound

        result = api.train_into(folder, claim, loaded, smoke=smoke, resume=resume, force=force)
    console.out.print(result.table())
