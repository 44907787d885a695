"""The recipe's reference, generated from its schema: the JSON Schema, and the tables in docs/recipe.md.

python -m ftkit.recipe.reference > docs/recipe.md
"""

import json
from typing import Any

from pydantic import BaseModel

from ftkit.recipe.schema import (
    Augment,
    Auto,
    Clean,
    Data,
    Evaluation,
    Full,
    Gate,
    Generation,
    Lora,
    Model,
    QLora,
    Recipe,
    Source,
    Speed,
    Training,
    Transfer,
)
from ftkit.recipe.tasks import TASK_SPECS

BLOCKS: tuple[tuple[str, type[BaseModel]], ...] = (
    ("model", Model), ("strategy: full", Full), ("strategy: transfer", Transfer), ("strategy: lora", Lora),
    ("strategy: qlora", QLora), ("strategy: auto", Auto), ("data", Data),
    ("a source, in data.train, data.eval and data.test", Source),
    ("data.clean", Clean), ("data.augment", Augment), ("data.gate", Gate), ("training", Training),
    ("evaluation", Evaluation), ("evaluation.generation", Generation),
    ("speed", Speed),
)  # fmt: skip
LIKE_LORA = (QLora, Auto)  # they have its keys too


def json_schema() -> dict[str, Any]:
    """The JSON Schema of a recipe, with the short forms that a recipe may use."""
    schema = Recipe.model_json_schema()
    _allow_text(schema["properties"], "model", "strategy")
    _allow_text(schema["$defs"]["Data"]["properties"], "train", "eval", "test")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "ftkit recipe"}


def _allow_text(properties: dict[str, Any], *names: str) -> None:
    """`model: NAME`, `strategy: NAME` and `train: PATH` stand for a block with only that; a source for a list of one."""
    for name in names:
        long_form = properties[name]
        single = [{"$ref": "#/$defs/Source"}] if name in ("train", "eval", "test") else []
        about = long_form.pop("description", "")
        properties[name] = {"anyOf": [{"type": "string"}, *single, long_form], "description": about}


def markdown() -> str:
    """The reference as Markdown."""
    lines = [
        "# The recipe", "",
        "Generated from the schema by `python -m ftkit.recipe.reference > docs/recipe.md`. A key may be set on the command",
        "line as `block.key=value`. `model: NAME`, `strategy: NAME` and `data.train: PATH` are short for a block that says",
        "only that.", "", "## Tasks", "",
        "| task | what it is | columns | metrics | strategies |", "| --- | --- | --- | --- | --- |",
    ]  # fmt: skip
    for name, spec in TASK_SPECS.items():
        columns = "; ".join(
            ", ".join([*form.required, *(f"{role} (optional)" for role in form.optional)]) for form in spec.formats
        )
        lines.append(f"| `{name}` | {spec.about} | {columns} | {', '.join(spec.metrics)} | {', '.join(spec.strategies)} |")
    for title, model in BLOCKS:
        lines += ["", f"## {title}", "", *_section(model)]
    return "\n".join(lines) + "\n"


def _section(model: type[BaseModel]) -> list[str]:
    about = " ".join((model.__doc__ or "").split())
    lines = [about, "", "| key | type | default | what it is |", "| --- | --- | --- | --- |"]
    schema = model.model_json_schema()
    for name, field in schema["properties"].items():
        if model in LIKE_LORA and name in Lora.model_fields and name != "name":
            continue
        required = name in schema.get("required", ())
        default = "required" if required else f"`{json.dumps(field.get('default'))}`"
        text = (field.get("description") or "").replace("|", "\\|")
        lines.append(f"| `{name}` | {_type(field)} | {default} | {text} |")
    return [*lines, "", "The other keys are those of `lora`."] if model in LIKE_LORA else lines


def _type(field: dict[str, Any]) -> str:
    if "const" in field:
        return f"`{field['const']}`"
    if "enum" in field:
        return ", ".join(f"`{json.dumps(value).strip(chr(34))}`" for value in field["enum"])
    if "anyOf" in field:
        return " or ".join(_type(part) for part in field["anyOf"])
    if "$ref" in field:
        return "block"
    kind = field.get("type", "any")
    if kind == "array" and "items" in field:
        return f"list of {_type(field['items'])}"
    return " or ".join(kind) if isinstance(kind, list) else str(kind)


if __name__ == "__main__":
    print(markdown(), end="")
