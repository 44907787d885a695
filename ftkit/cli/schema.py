"""`ftkit schema`: the JSON Schema of a recipe, so that editors complete and check it."""

import json

import typer

EXAMPLES = """[bold]Example[/bold]

ftkit schema > ftkit.schema.json

and as the first line of a recipe: # yaml-language-server: $schema=ftkit.schema.json
"""


def schema() -> None:
    """Print the JSON Schema of a recipe."""
    from ftkit.recipe.reference import json_schema

    typer.echo(json.dumps(json_schema(), indent=2))
