"""Arguments that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

RecipePath = Annotated[Path, typer.Argument(metavar="RECIPE", help="The recipe, a YAML file.", show_default=False)]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY=VALUE]...", help="Keys of the recipe to set, as training.seed=1.", show_default=False),
]
RecipeOrRows = Annotated[
    Path,
    typer.Argument(
        metavar="RECIPE|FILE", help="The recipe, a YAML file; or a data file, for a new one.", show_default=False
    ),
]
Limit = Annotated[
    int | None,
    typer.Option("--limit", help="Only so many of the rows, drawn with data.seed, for a first try.", show_default=False),
]
ModelName = Annotated[
    str | None, typer.Option("--model", help="Another model than the recipe's, or that of a data file.", show_default=False)
]
TaskName = Annotated[
    str | None, typer.Option("--task", help="The task of a data file; default guessed.", show_default=False)
]
TrustCode = Annotated[
    bool,
    typer.Option("--trust-code", help="Run the code that a run's folder brings; without it, only what you trained with."),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Results and errors only, no progress.")]
