"""What a word that a recipe does not know was meant to be: a word of another tool, or one that is nearly right.

A suggestion is made only where the loader would take it: each is tried first, by what `Trial` says of the recipe with it.
"""

import difflib
import shlex
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from ftkit.recipe.document import Document, Path, parse_value
from ftkit.recipe.words import ABSENT, CHOICES, COLUMNS, KEYS, METRICS, VALUES, plain

# What the loader says against a recipe with these settings in place of the key at the path; nothing where it takes them.
Trial = Callable[[Document, Path, dict[str, Any]], str]
NEAR = 0.75  # as learning_rte is to learning_rate; num_steps and max_steps are as near, and not the same
NEAR_ELSEWHERE = 0.85
SHORT = 0.65  # of words of two letters


def shown(value: Any) -> str:
    """A value as in the recipe, short enough for one line."""
    text = {True: "true", False: "false", None: "null"}.get(value) if isinstance(value, bool | None) else repr(value)
    text = text or ""
    return text if len(text) <= 60 else text[:57] + "…"


def nearest(word: object, valid: Iterable[str], cutoff: float = NEAR) -> str:
    """The valid word that is all but equal, whatever its case and what parts it; nothing where none is."""
    known = {plain(name): name for name in valid}
    cutoff = cutoff if len(plain(word)) > 2 else SHORT  # rr is r
    near = difflib.get_close_matches(plain(word), known, n=1, cutoff=cutoff)
    return known[near[0]] if near else ""


def did_you_mean(value: object, valid: Iterable[str], *words: str) -> str:
    """The beginning of a hint, with a space behind it.

    Args:
        words: what the word means elsewhere, the likeliest first; the first that is valid is meant.
    """
    valid = list(valid)
    near = next((word for word in words if word in valid), "") or nearest(value, valid)
    return f"did you mean {near}? " if near else ""


def role_hint(role: str, columns: dict[str, Any], roles: Sequence[str]) -> str:
    """What a name that is no role of the task was meant to be; columns may also have been written the wrong way round."""
    if columns[role] in roles and columns[role] not in columns:
        return f"it goes from the task's name to the data's: write {columns[role]}: {role}; "
    free = [name for name in roles if name not in columns]
    return did_you_mean(role, free, *COLUMNS.get(plain(role), "").split())


def metric_hint(metric: str, metrics: Iterable[str]) -> str:
    """What a name that is no metric of the task was meant to be."""
    return did_you_mean(metric, metrics, *METRICS.get(plain(metric), "").split())


def value_hint(field: str, value: object, valid: Iterable[str]) -> str:
    """What a value that a key does not take was meant to be, and what is valid."""
    listed = f"valid are {', '.join(valid)}"
    word = VALUES.get(field, {}).get(plain(value), "")
    if word.startswith("!"):
        return f"{word[1:]}; {listed}"
    if ";" in word:
        return f"write {_shown(settings(f'{field}: {word}', None))}; {listed}"
    return did_you_mean(value, valid, *word.split()) + listed


def settings(place: str, written: Any) -> dict[str, Any]:
    """A place of the tables as keys with their values; a key alone takes what was written."""
    found = {}
    for part in place.split("; "):
        key, colon, value = part.partition(": ")
        found[key] = parse_value(value) if colon else written
    return found


def word_hint(document: Document, path: Path, written: Any, trial: Trial) -> str:
    """What a key of another tool is called here, or what there is in its place; nothing where the word is not known."""
    block, word = ".".join(plain(part) for part in path[:-1] if isinstance(part, str)), plain(path[-1])
    chosen = CHOICES.get(word, {}).get(plain(written))
    place = chosen or KEYS.get(f"{block}.{word}") or KEYS.get(word)
    sentence = ABSENT.get(f"{block}.{word}") or ABSENT.get(word, "")
    if place is None or (word in CHOICES and place == KEYS.get(word) and sentence):
        return sentence
    if ": " in place and written in (False, None) and not chosen:
        return "leave it out"
    if isinstance(written, dict) and ":" not in place:  # a block: its keys are judged one by one
        return f"it is {place}" + (", as {name: lora, r: …}" if place == "strategy" else "")
    return _tried(document, path, place, written, trial)


def override_hint(word: str, written: str | bool, homes: dict[str, str]) -> str:
    """How a word of another tool is written on ftkit's command line; nothing where the word is not known.

    Args:
        homes: ftkit's own keys, each with its block.
    """
    if word.partition(".")[0] in homes.values() and "." in word:
        return f"write {word}={_text(written)}"
    name, own = plain(word), {plain(key): f"{block}.{key}" for key, block in homes.items()}
    chosen = CHOICES.get(name, {}).get(plain(written))
    place = chosen or KEYS.get(name) or own.get(plain(word.rpartition(".")[2]), "")
    if not place or (name in ABSENT and plain(written) not in VALUES.get(place, {})):
        return ABSENT.get(name, "")
    key, fixed, _ = place.split("; ")[-1].partition(": ")
    if fixed and plain(written) == "false" and not chosen:
        return "leave it out"
    value = written if fixed else _readings(key, written)[0]
    if isinstance(value, str) and value.startswith("!"):
        return value[1:]
    wanted = settings(f"{place}: {value}" if isinstance(value, str) and "; " in value else place, value)
    return "write " + " ".join(shlex.quote(f"{key}={_text(value)}") for key, value in wanted.items())


def _tried(document: Document, path: Path, place: str, written: Any, trial: Trial) -> str:
    """A place as a hint, with the value under which the loader takes it, or with what it says against it."""
    key, fixed, _ = place.split("; ")[-1].partition(": ")
    readings, against = [written] if fixed else _readings(key, written), ""
    if isinstance(readings[0], str) and readings[0].startswith("!"):
        return readings[0][1:]
    if _there(document.value, key) and key != "strategy.name":
        return f"it is {key}, which is there already: remove one of the two"
    for value in readings:
        wanted = settings(f"{place}: {value}" if isinstance(value, str) and "; " in value else place, value)
        found = trial(document, path, wanted)
        if not found:
            return f"it is {key}" if wanted == {key: written} and not fixed else f"write {_shown(wanted)}"
        named = key if wanted == {key: written} and not fixed else _shown(wanted)
        against = against or f"it is {named}, but {found}"
    return against


def _readings(key: str, written: Any) -> list[Any]:
    """What was written, what it is called here, and a list of it; names with commas between them are a list."""
    here = VALUES.get(key, {}).get(plain(written)) if isinstance(written, str | bool | int) else None
    listed = [name.strip() for name in written.split(",")] if isinstance(written, str) else []
    first = [listed] if len(listed) > 1 and key == "strategy.target_modules" else []
    return [*([here] if here else []), *first, written, *([listed] if listed and not first else [])]


def _shown(wanted: dict[str, Any]) -> str:
    names = {"strategy.name": "strategy", "model.name": "model"}  # their short forms
    return " and ".join(f"{names.get(key, key)}: {_text(value)}" for key, value in wanted.items())


def _text(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(str, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}: {_text(inner)}' for key, inner in value.items())}}}"
    return {True: "true", False: "false"}.get(value, str(value)) if isinstance(value, bool) else str(value)


def _there(value: Any, key: str) -> bool:
    """Whether a dotted key stands in the values already."""
    for part in key.split("."):
        if isinstance(value, str) and part == "name":  # the short form, as model: gpt2
            return True
        if not isinstance(value, dict) or part not in value:
            return False
        value = value[part]
    return True
