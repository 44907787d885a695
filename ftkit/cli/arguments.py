"""Arguments that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

RecipePath = Annotated[Path, typer.Argument(metavar="RECIPE", help="The recipe, a YAML file.", show_default=False)]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY=VALUE]...", help="Keys of the recipe to set, as training.seed=1.", show_default=False),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Results and errors only, no progress.")]
