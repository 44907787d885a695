"""`ftkit recipes`: the recipes that come with ftkit, a line each."""

from ftkit import console
from ftkit.recipe.packaged import packaged_recipes, summary

EXAMPLES = """[bold]Example[/bold]

ftkit recipes
"""


def recipes() -> None:
    """List the recipes that come with ftkit; `ftkit init NAME` copies one."""
    rows = [[name, summary(path)] for name, path in packaged_recipes().items()]
    console.out.print(console.table("", ["recipe", "what it does"], rows, numbers=False))
