"""`ftkit compare`: finished runs side by side, or one recipe under several strategies."""

import json
import sys
from pathlib import Path

import typer

from ftkit import console
from ftkit.cli.arguments import Quiet
from ftkit.errors import UserError
from ftkit.hub.door import pinned
from ftkit.hub.offline import offline_mode_kept
from ftkit.hub.pins import as_begun
from ftkit.recipe.schema import Recipe
from ftkit.training.children import train_all
from ftkit.training.variants import LEARNING_RATES, strategy_recipes

INTERRUPTED = 130
RATES = ", ".join(f"{name} {rate:g}" for name, rate in LEARNING_RATES.items())
STRATEGIES = (
    "[bold]With --strategies[/bold] each strategy is trained into a sub-folder, and skipped where it is finished there. It "
    "takes its own keys of the recipe's strategy block, lora's being qlora's too; adapters without target_modules go on all "
    "linear layers. The recipe's learning rate stays with its strategy, one given here as KEY=VALUE holds for all; the "
    f"others get {RATES}."
)
EXAMPLES = f"""[bold]Examples[/bold]

ftkit compare runs/full_distilbert runs/lora_distilbert

ftkit compare my.yaml --strategies full,transfer,lora,qlora training.num_train_epochs=1

ftkit compare my.yaml --strategies lora,qlora strategy.r=8 --output-dir runs/adapters --json

{STRATEGIES}
"""


def compare(
    targets: list[str] = typer.Argument(
        ..., metavar="RUN... | RECIPE [KEY=VALUE]...", help="Folders of finished runs; or a recipe, with --strategies."
    ),
    strategies: str | None = typer.Option(None, "--strategies", help="Train the recipe under each, as full,lora."),
    output_dir: Path | None = typer.Option(
        None, "--output-dir", "-o", help="Where those runs go. (default: runs/NAME-OF-THE-RECIPE_strategies)"
    ),
    smoke: bool = typer.Option(False, "--smoke", help="Those runs with a tiny stand-in and sample data."),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace runs that are there."),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON object."),
    quiet: Quiet = False,
) -> None:
    """Set runs side by side: metrics with intervals, parameters, memory, time, disk and forgetting."""
    console.set_quiet(quiet or as_json)
    failed: list[str] = []
    if strategies is None:
        require_no_options(output_dir, smoke=smoke, overwrite=overwrite)
        folders = [Path(target) for target in targets]
    else:
        names = [name.strip() for name in strategies.split(",") if name.strip()]
        folder = output_dir or Path("runs") / f"{Path(targets[0]).stem}_strategies"
        failed = train_strategies(targets, names, folder, smoke=smoke, overwrite=overwrite, quiet=quiet or as_json)
        folders = [folder / name for name in names if name not in failed]
    if folders:
        with console.status("reading the runs", after=console.SOON):
            from ftkit.report.comparison import ANY_WIDTH, compare_runs  # numpy comes with it

            comparison = compare_runs(folders)
        if as_json:
            console.out.print_json(json.dumps(comparison.as_json()))
        else:
            if not console.out.is_terminal:
                console.out.width = ANY_WIDTH  # a file or a pipe folds nothing
            console.out.print(comparison.table(console.out.width))
    if failed:
        raise UserError(f"no run of {', '.join(failed)}", "why is said above; mend it, and the same command goes on")


@offline_mode_kept()
def at_one_commit(recipes: dict[str, Recipe]) -> dict[str, Recipe]:
    """The recipes with the commits of what they name: they differ by nothing that moves on the hub meanwhile."""
    pins = pinned(next(iter(recipes.values()))).pins
    return {name: as_begun(recipe, pins) for name, recipe in recipes.items()}


def require_no_options(output_dir: Path | None, *, smoke: bool, overwrite: bool) -> None:
    """Raises UserError where runs are compared and an option is of training."""
    given = {"--output-dir": output_dir is not None, "--smoke": smoke, "--overwrite": overwrite}
    for option in (option for option, is_given in given.items() if is_given):
        raise UserError("this has no effect on finished runs", "it goes with --strategies", option)


def train_strategies(
    targets: list[str], names: list[str], folder: Path, *, smoke: bool, overwrite: bool, quiet: bool
) -> list[str]:
    """Train the recipe under each strategy, and return the names of those that failed."""
    if not names:
        raise UserError("no strategy is named", "name some, as full,lora", "--strategies")
    recipes = strategy_recipes(Path(targets[0]), names, targets[1:])
    if not smoke:
        recipes = at_one_commit(recipes)
    try:
        return train_all(recipes, folder, smoke=smoke, overwrite=overwrite, quiet=quiet)
    except KeyboardInterrupt:
        console.say("interrupted; the same command goes on")
        sys.stderr.flush()
        raise typer.Exit(INTERRUPTED) from None
