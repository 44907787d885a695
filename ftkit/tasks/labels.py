"""Labels as they were written: the same one in several spellings is no two classes."""

import json
import re
import unicodedata
from collections.abc import Iterator, Mapping
from typing import Any

from ftkit.errors import UserError

PLAIN = re.compile(r"[A-Za-z][\w-]*")
MOST_SHOWN = 8
MISSING = {"nan", "n/a", "na", "<na>", "null", "none"}
NUMBER = re.compile(r"-?\d+(\.\d+)?")
MEND = "write each label in one way, or name all in data.labels if they differ"


def require_one_spelling(counts: Mapping[str, int], key: str, *, mapped: bool) -> None:
    """Make sure that no two labels differ in case, white space or a number's zeros alone.

    Args:
        counts: how often each label occurs.
        key: the recipe key of their column, for messages.
        mapped: whether data.clean.label_map can rename them.

    Raises:
        UserError: some do; the message has the label_map to write.
    """
    groups = [spellings for spellings in _groups(counts) if len(spellings) > 1]
    if not groups:
        return
    first = ", ".join(f"'{label}' ({counts[label]:,})" for label in groups[0][:MOST_SHOWN])
    more = f", and {len(groups) - 1} more so" if len(groups) > 1 else ""
    renamed = {label: spellings[0].strip() for spellings in groups for label in spellings}
    pairs = [f"{_yaml(old)}: {_yaml(new)}" for old, new in renamed.items() if old != new]
    cut = ", …" if len(pairs) > MOST_SHOWN else ""
    hint = f"say data.clean.label_map: {{{', '.join(pairs[:MOST_SHOWN])}{cut}}}, or name all in data.labels if they differ"
    raise UserError(f"one label in several spellings: {first}{more}", hint if mapped else MEND, key=key)


def require_no_missing(counts: Mapping[str, int], key: str) -> None:
    """Raises UserError where a label that says that there is none, as nan, stands among numbers."""
    missing = [label for label in counts if label.strip().lower() in MISSING]
    others = [label for label in counts if label not in missing]
    if missing and others and all(NUMBER.fullmatch(label) for label in others):
        message = f"'{missing[0]}' ({counts[missing[0]]:,}) stands among labels that are numbers: {', '.join(others[:5])}"
        hint = "leave such cells empty and say data.drop_empty: true, or name all in data.labels if it is one"
        raise UserError(message, hint, key=key)


def require_plain(feature: Any, key: str) -> None:
    """Raises UserError where labels are objects, whose text would be the name of a class."""
    inner = getattr(feature, "feature", feature)
    if isinstance(inner, dict) or type(inner).__name__ == "Json":
        hint = "write names, as a text or a list of texts"
        raise UserError("the labels are objects of several fields", hint, key=key)


def _groups(counts: Mapping[str, int]) -> Iterator[list[str]]:
    """Labels that are the same but for their spelling, the most frequent first."""
    found: dict[str, list[str]] = {}
    for label in counts:
        found.setdefault(_plain(label), []).append(label)
    for labels in found.values():
        yield sorted(labels, key=lambda label: (-counts[label], label))


def _plain(label: str) -> str:
    words = " ".join(unicodedata.normalize("NFKC", label).casefold().split())
    return re.sub(r"^(-?\d+)\.0+$", r"\1", words)


def _yaml(label: str) -> str:
    """A label as it is written in a recipe."""
    return (
        label
        if PLAIN.fullmatch(label) and label.lower() not in ("null", "true", "false")
        else json.dumps(label, ensure_ascii=False)
    )
