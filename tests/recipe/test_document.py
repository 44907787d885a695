"""YAML 1.2 with places."""

import pytest

from ftkit.errors import RecipeError
from ftkit.recipe.document import parse, parse_value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2e-5", 2e-5), ("2E-5", 2e-5), ("1.0e-3", 1e-3), ("-3", -3), ("0x10", 16), ("007", 7), ("1_000", "1_000"),
        ("no", "no"), ("on", "on"), ("off", "off"), ("yes", "yes"), ("true", True), ("False", False),
        ("null", None), ("~", None), ("", None), ("'8'", "8"), ("12:30", "12:30"), ("2024-01-01", "2024-01-01"),
        (".inf", float("inf")), ("-.inf", float("-inf")), ("[1, no]", [1, "no"]), ("{a: 1}", {"a": 1}),
    ],
)  # fmt: skip
def test_scalars_are_those_of_yaml_1_2(text: str, value: object) -> None:
    assert parse_value(text) == value


def test_places_are_line_and_column() -> None:
    document = parse("a: 1\nb:\n  c: [x, y]\n", "r.yaml")
    assert document.place(("a",)) == "r.yaml:1:1"
    assert document.place(("b", "c")) == "r.yaml:3:3"
    assert document.place(("b", "c", 1)) == "r.yaml:3:10"
    assert document.place(("b", "c", 1, "unknown")) == "r.yaml:3:10"


def test_a_key_written_twice_is_a_mistake_with_both_lines() -> None:
    document = parse("a: 1\nb: 2\na: 3\n", "r.yaml")
    assert str(document.mistakes[0]) == "r.yaml:3:1: key 'a' stands twice, first in line 1; remove one of the two"


def test_tabs_are_named() -> None:
    with pytest.raises(RecipeError, match=r"r\.yaml:2:1: not YAML.*spaces, not tabs"):
        parse("a:\n\tb: 1\n", "r.yaml")


@pytest.mark.parametrize("text", ["a: [1, 2", "a: 'x", "a: b: c", "{", "%YAML 9.9 x\n---\n"])
def test_what_is_not_yaml_has_a_place(text: str) -> None:
    with pytest.raises(RecipeError, match=r"r\.yaml"):
        parse(text, "r.yaml")


@pytest.mark.parametrize("text", ["a: \x00", "a: \x07"])
def test_control_characters_are_refused(text: str) -> None:
    with pytest.raises(RecipeError, match="not YAML"):
        parse(text, "r.yaml")


def test_aliases_that_unfold_without_end_are_refused() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]
    with pytest.raises(RecipeError, match="without end"):
        parse("\n".join(lines), "r.yaml")
