"""Write ftkit/recipe/library_fields.json: what `training` and `strategy` may say, read from the installed libraries.

    python scripts/library_fields.py            # rewrite the table, keeping the sentences that stand in it
    python scripts/library_fields.py --check    # exit 1 if the installed libraries differ from the table

The recipe is checked against this table, so that checking imports neither transformers nor peft. Names, types, choices
and defaults come from the libraries; the sentence of each field (`about`) is ours and is kept when the table is rewritten.
"""

import dataclasses
import enum
import json
import sys
import types
import typing
from pathlib import Path
from typing import Any

from peft import LoraConfig
from transformers import TrainingArguments

TABLE = Path(__file__).parent.parent / "ftkit" / "recipe" / "library_fields.json"
PLAIN_TYPES = {bool: "bool", int: "int", float: "float", str: "str", list: "list", dict: "dict", type(None): "null"}


def type_names(hint: Any) -> list[str]:
    """The recipe types that a library's annotation admits: bool, int, float, str, list, dict, null."""
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return ["str"]
    if hint in PLAIN_TYPES:
        return [PLAIN_TYPES[hint]]
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        return list(dict.fromkeys(name for part in typing.get_args(hint) for name in type_names(part)))
    if origin is typing.Literal:
        return list(dict.fromkeys(PLAIN_TYPES[type(value)] for value in typing.get_args(hint)))
    if origin in (list, tuple):
        return ["list"]
    return ["dict"]  # the libraries' own config classes are written as a mapping


def choices(hint: Any) -> list[str] | None:
    """The values of an enumeration, or of a Literal that stands alone."""
    parts = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
    for part in parts:
        if isinstance(part, type) and issubclass(part, enum.Enum):
            return [str(member.value) for member in part]
    if typing.get_origin(hint) is typing.Literal:
        return [str(value) for value in typing.get_args(hint)]
    return None


def default_value(field: "dataclasses.Field[Any]") -> Any:
    value = field.default_factory() if field.default_factory is not dataclasses.MISSING else field.default
    if isinstance(value, enum.Enum):
        return value.value
    return None if dataclasses.is_dataclass(value) else value


def read_fields(config: type, sentences: dict[str, Any]) -> dict[str, dict[str, Any]]:
    hints, table = typing.get_type_hints(config), {}
    for field in dataclasses.fields(config):
        entry: dict[str, Any] = {"type": " | ".join(type_names(hints[field.name])), "default": default_value(field)}
        if valid := choices(hints[field.name]):
            entry["choices"] = valid
        entry["about"] = sentences.get(field.name, {}).get("about", "")
        table[field.name] = entry
    return table


def read_libraries() -> dict[str, Any]:
    old = json.loads(TABLE.read_text()) if TABLE.exists() else {}
    return {
        "training": read_fields(TrainingArguments, old.get("training", {})),
        "lora": read_fields(LoraConfig, old.get("lora", {})),
    }


def main() -> int:
    table = json.dumps(read_libraries(), indent=1, ensure_ascii=False) + "\n"
    if "--check" in sys.argv:
        return int(TABLE.read_text() != table)
    TABLE.write_text(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
