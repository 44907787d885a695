"""The seed rows: instructions written by people, from any source."""

from typing import Any

from ftkit import console
from ftkit.data.sources import read_source
from ftkit.errors import UserError
from ftkit.recipe.schema import Source
from ftkit.synthesis.prompt import Row


def read_seeds(path: str, commit: str | None = None) -> list[Row]:
    """The seed rows of any source: instruction, input and output, or Self-Instruct's instruction and instances.

    Of several instances the first is taken. Rows without an instruction or an output are passed over, with a warning.

    Args:
        commit: of a data set on the hub.

    Raises:
        UserError: it cannot be read, lacks the columns, or has no whole row.
    """
    if not path:
        raise UserError("no seeds are named", "name a file of instruction rows", "SEEDS")
    source = Source.model_validate({"path": path, "revision": commit})
    data = read_source(source, split="train", sample_by="line", seed=0, key="SEEDS")
    columns = set(data.column_names)
    if "instruction" not in columns or not columns & {"output", "instances"}:
        message = f"{path} has the columns {', '.join(data.column_names)}"
        raise UserError(
            message, "seeds need instruction and output (and may have input), or instruction and instances", "SEEDS"
        )
    rows = [_seed_row(number, values) for number, values in enumerate(data)]
    whole = [row for row in rows if row.instruction and row.output]
    if not whole:
        raise UserError(f"{path} has no row with an instruction and an output", "check the file", "SEEDS")
    if len(whole) < len(rows):
        console.warn(f"{path}: {len(rows) - len(whole)} of {len(rows)} rows lack an instruction or an output; passed over")
    return whole


def _seed_row(number: int, values: dict[str, Any]) -> Row:
    instances = values.get("instances")
    given = instances[0] if isinstance(instances, list) and instances and isinstance(instances[0], dict) else values
    name = values.get("id")
    texts = [values.get("instruction"), given.get("input"), given.get("output")]
    instruction, given_input, output = ("" if text is None else str(text).strip() for text in texts)
    return Row(f"seed_{number}" if name is None else str(name), instruction, given_input, output)
