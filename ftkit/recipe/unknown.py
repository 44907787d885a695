"""What is said of a key or a strategy that there is not, and what was meant."""

from typing import Any

from ftkit.recipe.blocks import STRATEGY_CLASSES, inner_homes, key_homes, keys_at, known_words, value_at
from ftkit.recipe.document import Document, Path, with_colon
from ftkit.recipe.fields import OWNED_LORA, OWNED_TRAINING
from ftkit.recipe.hints import NEAR_ELSEWHERE, Trial, nearest, shown, value_hint, word_hint
from ftkit.recipe.words import KEYS, plain


def unknown_strategy(value: Any) -> tuple[str, str]:
    name = value.get("name") if isinstance(value, dict) else value
    names = list(STRATEGY_CLASSES)
    if name is None:
        meant = [key for key in value or () if KEYS.get(f"strategy.{plain(key)}", KEYS.get(plain(key))) == "strategy.name"]
        return "'strategy.name' is missing", f"write name in place of {meant[0]}" if meant else f"one of {', '.join(names)}"
    return f"strategy.name: {shown(name)} is not valid", value_hint("strategy.name", name, names)


def unknown_key(document: Document, path: Path, trial: Trial) -> tuple[str, str]:
    """What is wrong with a key that its block does not have, and what was meant."""
    block, key = path[:-1], str(path[-1])
    field = ".".join(map(str, path))
    if block == ("training",) and key in OWNED_TRAINING:
        return f"'{field}' has no effect", OWNED_TRAINING[key]
    if block == ("strategy",):
        strategy = document.value["strategy"].get("name")
        if key in OWNED_LORA and strategy in ("lora", "qlora", "auto"):
            return f"'{field}' has no effect", OWNED_LORA[key]
        if homes := _strategies_with(key):
            return f"'{field}' has no effect with strategy {strategy}", f"it belongs to {' and '.join(homes)}"
    return f"unknown key '{field}'", meant_key(document, path, trial)


def _strategies_with(key: str) -> list[str]:
    homes = [name for name, model in STRATEGY_CLASSES.items() if key in model.model_fields]
    return [name for name in homes if name != "auto"] or homes


def meant_key(document: Document, path: Path, trial: Trial) -> str:
    """A hint on a key that is unknown in its block: another tool's word, a key of another block, one that is near."""
    block, key = path[:-1], str(path[-1])
    written, valid = value_at(document.value, path), keys_at(document, block)
    if written is None and (meant := with_colon(key, known_words())):
        return f"write {meant}"
    if hint := word_hint(document, path, written, trial):
        return hint
    homes = key_homes(besides=str(block[0]) if len(block) == 1 else "")
    if homes.get(key) == "strategy":
        return f"{key} belongs under strategy, with lora or qlora"
    if key in homes:
        place, hint = f"{homes[key]}.{key}", f"{key} belongs under {homes[key]}"
    elif home := inner_homes().get(key):
        place, hint = f"{home}.{key}", f"{key} belongs under {home}"
    elif near := _near(document, path, valid, trial):
        place, hint = ".".join(map(str, (*block, near))), f"did you mean {near}?"
    elif near := nearest(key, homes, NEAR_ELSEWHERE):
        place, hint = f"{homes[near]}.{near}", f"did you mean {homes[near]}.{near}?"
    else:
        return OWNED_TRAINING.get(key) or f"valid here are {_listed(valid)}"
    return "; ".join(filter(None, [hint, trial(document, path, {place: written})]))


def _near(document: Document, path: Path, valid: list[str], trial: Trial) -> str:
    """The key that is meant by one that is nearly right; of one less near only if it takes what was written."""
    near, written = nearest(str(path[-1]), valid), value_at(document.value, path)
    if not near or near == nearest(str(path[-1]), valid, NEAR_ELSEWHERE):
        return near
    return "" if trial(document, path, {".".join(map(str, (*path[:-1], near))): written}) else near


def _listed(valid: list[str]) -> str:
    return ", ".join(valid[:12]) + (", … (`ftkit schema` lists all)" if len(valid) > 12 else "")
