"""A YAML document as plain values, with the place of every key and value in the file.

YAML 1.2's core schema is read, not the 1.1 that PyYAML resolves by default: `2e-5` is a number, `no`, `on` and `off` are
text. A key written twice is a mistake, since YAML would keep the last one without a word.
"""

import re
from collections.abc import Container
from dataclasses import dataclass, field
from typing import Any

import yaml

from ftkit.errors import Mistake, RecipeError

Path = tuple[str | int, ...]
NO_COLON = re.compile(
    r"\s*(?P<key>[A-Za-z_]\w*)\s*(?:(?<!\s)[:=](?=\S)|[ \t]=|[ \t])\s*(?P<value>[^\s:=#][^:]*|[^\s:=#]\S*)$"
)
MAX_NODES = 100_000  # a recipe has some hundred; aliases nested in aliases would unfold without end


class _CoreLoader(yaml.SafeLoader):
    """PyYAML's parser with the implicit types of YAML 1.2's core schema (yaml.org/spec/1.2.2, section 10.3.2)."""


_CoreLoader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("null", r"null|Null|NULL|~|", ["n", "N", "~", ""]),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        "-+.0123456789",
    ),
):
    _CoreLoader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), list(_first))


@dataclass
class Document:
    """Plain values, and `path → "file:line:column"` for each key and list item."""

    name: str
    value: Any = None
    places: dict[Path, str] = field(default_factory=dict)
    mistakes: list[Mistake] = field(default_factory=list)

    def place(self, path: Path) -> str:
        """The place of `path`, or of the nearest part of it that stands in the document."""
        while path and path not in self.places:
            path = path[:-1]
        return self.places.get(path, self.name)


def parse(text: str, name: str, known: Container[str] = ()) -> Document:
    """Read one YAML document.

    Args:
        known: words that are keys, for a message on one that lacks its colon.

    Raises:
        RecipeError: the text is not YAML; the place is where the parser gave up.
    """
    document = Document(name)
    try:
        root = yaml.compose(text, _CoreLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{name}:{mark.line + 1}:{mark.column + 1}" if mark else name
        if found := line_without_colon(text, mark.line if mark else 0, name, known):
            raise RecipeError([found]) from None
        raise RecipeError([Mistake(place, f"not YAML: {_yaml_problem(error)}", _yaml_hint(error))]) from None
    except yaml.YAMLError as error:  # a character that YAML forbids
        raise RecipeError([Mistake(name, f"not YAML: {' '.join(str(error).split())}")]) from None
    except RecursionError:
        raise RecipeError([Mistake(name, "nested too deep")]) from None
    if isinstance(root, yaml.ScalarNode) and (found := line_without_colon(text, root.end_mark.line, name, known)):
        raise RecipeError([found])
    if root is not None:
        document.value = _Builder(document).build(root, (), ())
    return document


def with_colon(line: str, known: Container[str]) -> str:
    """A line that is a known key and a value without `: ` between them, as it should be; of other lines nothing."""
    found = NO_COLON.match(line)
    return f"{found['key']}: {found['value'].split(' #')[0].strip()[:60]}" if found and found["key"] in known else ""


def line_without_colon(text: str, last: int, name: str, known: Container[str]) -> Mistake | None:
    """The line at which a document stops being a mapping, where that is a known key without its colon.

    Args:
        last: the line, counted from 0, at which the parser gave up; the fault is there or above.
    """
    for number, line in reversed(list(enumerate(text.splitlines()[: last + 1], 1))):
        if meant := with_colon(line, known):
            message = f"not YAML: '{line.strip()[:60]}' has no colon with a space behind it"
            return Mistake(f"{name}:{number}:{len(line) - len(line.lstrip()) + 1}", message, f"write {meant}")
    return None


def parse_value(text: str) -> Any:
    """The value of an override, read as it would be in the file."""
    document = parse(text, text)
    if document.mistakes:
        raise RecipeError(document.mistakes)
    return document.value


class _Builder:
    def __init__(self, document: Document) -> None:
        self.document, self.nodes = document, 0

    def place(self, node: yaml.Node) -> str:
        return f"{self.document.name}:{node.start_mark.line + 1}:{node.start_mark.column + 1}"

    def build(self, node: yaml.Node, path: Path, parents: tuple[int, ...]) -> Any:
        self.nodes += 1
        if self.nodes > MAX_NODES or id(node) in parents:
            raise RecipeError([Mistake(self.place(node), "an alias (*) that unfolds without end", "write the value out")])
        self.document.places.setdefault(path, self.place(node))
        parents = (*parents, id(node))
        if isinstance(node, yaml.MappingNode):
            return self.build_mapping(node, path, parents)
        if isinstance(node, yaml.SequenceNode):
            return [self.build(item, (*path, index), parents) for index, item in enumerate(node.value)]
        assert isinstance(node, yaml.ScalarNode)
        try:
            return self.build_scalar(node)
        except (ValueError, IndexError):
            self.document.mistakes.append(
                Mistake(self.place(node), f"'{node.value[:40]}' is no {node.tag.rpartition(':')[2]}")
            )
            return None

    def build_mapping(self, node: yaml.MappingNode, path: Path, parents: tuple[int, ...]) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = str(key_node.value) if isinstance(key_node, yaml.ScalarNode) else ""
            place = self.place(key_node)
            if not key:
                self.document.mistakes.append(Mistake(place, "a key must be a word"))
            elif key == "<<":
                self.document.mistakes.append(Mistake(place, "merge keys (<<) are not read", "write the keys out"))
            elif key in values:
                first = self.document.places[(*path, key)].removeprefix(f"{self.document.name}:").split(":")[0]
                self.document.mistakes.append(
                    Mistake(place, f"key '{key}' stands twice, first in line {first}", "remove one of the two")
                )
            else:
                self.document.places[(*path, key)] = place
                values[key] = self.build(value_node, (*path, key), parents)
        return values

    def build_scalar(self, node: yaml.ScalarNode) -> Any:
        text, kind = node.value, node.tag.rpartition(":")[2]
        if kind == "null":
            return None
        if kind == "bool":
            return text.lower() == "true"
        if kind == "int":
            return int(text, 0) if text.startswith(("0o", "0x")) else int(text)
        if kind == "float":
            return float(text.replace(".inf", "inf").replace(".nan", "nan")) if text[-1].isalpha() else float(text)
        return text


def _yaml_problem(error: yaml.MarkedYAMLError) -> str:
    return " ".join(filter(None, [error.context, error.problem])) or "it cannot be parsed"


def _yaml_hint(error: yaml.MarkedYAMLError) -> str:
    if "'\\t'" in (error.problem or ""):
        return "indent with spaces, not tabs"
    if "mapping values are not allowed" in (error.problem or ""):
        return "check the indentation, and quote text that contains ': '"
    return ""
