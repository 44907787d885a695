"""The blocks of a recipe by where they stand, and which keys each has."""

from typing import Any

from pydantic import BaseModel

from ftkit.recipe.document import Document, Path
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

STRATEGY_CLASSES: dict[str, type[BaseModel]] = {
    "full": Full, "transfer": Transfer, "lora": Lora, "qlora": QLora, "auto": Auto,
}  # fmt: skip
BLOCKS: dict[str, type[BaseModel]] = {
    "model": Model, "data": Data, "training": Training, "evaluation": Evaluation, "speed": Speed,
}  # fmt: skip
INNER_BLOCKS: dict[tuple[str | int, ...], type[BaseModel]] = {
    ("data", "train"): Source, ("data", "eval"): Source, ("data", "test"): Source,
    ("data", "gate"): Gate, ("data", "clean"): Clean, ("data", "augment"): Augment,
    ("evaluation", "generation"): Generation,
}  # fmt: skip
# Blocks that may be written as one word, and which of their keys it is.
SHORT_FORMS: dict[Path, str] = {
    ("model",): "name", ("strategy",): "name", ("data", "train"): "path", ("data", "eval"): "path", ("data", "test"): "path",
}  # fmt: skip


def known_words() -> set[str]:
    """All keys of a recipe, and the roles of columns."""
    blocks: list[type[BaseModel]] = [Recipe, *BLOCKS.values(), *STRATEGY_CLASSES.values(), *INNER_BLOCKS.values()]
    return {key for block in blocks for key in block.model_fields} | {
        role for spec in TASK_SPECS.values() for role in spec.roles
    }


def key_homes(besides: str = "") -> dict[str, str]:
    """The block of each key; of a key that several have, the first.

    Args:
        besides: a block that is not looked into.
    """
    blocks: dict[str, type[BaseModel]] = {**BLOCKS, "strategy": Lora}
    return {field: name for name, model in reversed(blocks.items()) if name != besides for field in model.model_fields}


def inner_homes() -> dict[str, str]:
    """The inner block of each key that no block itself has, as `data.train` of format; of several, the first."""
    blocks = {".".join(map(str, path)): model for path, model in INNER_BLOCKS.items()}
    homes = {field: name for name, model in reversed(blocks.items()) for field in model.model_fields}
    return {field: home for field, home in homes.items() if field not in key_homes()}


def keys_at(document: Document, block: Path) -> list[str]:
    if not block:
        return list(Recipe.model_fields)
    if block == ("strategy",):
        return list(STRATEGY_CLASSES[document.value["strategy"]["name"]].model_fields)
    if inner := INNER_BLOCKS.get(block[:2]):
        return list(inner.model_fields)
    return list(BLOCKS[str(block[0])].model_fields)


def value_at(value: Any, path: Path) -> Any:
    """What stands at a path of plain values."""
    for part in path:
        value = value[part]
    return value
