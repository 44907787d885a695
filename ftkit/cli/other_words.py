"""Command lines as they are written for other tools: refused with the command, option or key that they mean here."""

import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ftkit.errors import UserError
from ftkit.hub.names import FILE_ENDINGS
from ftkit.recipe.blocks import key_homes
from ftkit.recipe.hints import nearest, override_hint
from ftkit.recipe.words import COMMANDS, NO_COMMANDS, OPTIONS, plain

HOME = re.compile(r"(^|=)~(?=/)")
ENDS_OPTIONS = "--"
OVERRIDES = {"overrides", "targets"}  # arguments that take keys of the recipe


def at_home(words: Sequence[str]) -> list[str]:
    """The words with `~/` at the beginning of a path, also behind `=`, where shells leave it, as the user's own folder."""
    home = str(Path.home()).replace("\\", r"\\")
    return [HOME.sub(rf"\g<1>{home}", word) for word in words]


def require_text(words: Sequence[str]) -> None:
    """Raises UserError where a word is not UTF-8, in which recipes and all that is written of a run are."""
    for word in words:
        try:
            word.encode()
        except UnicodeEncodeError:
            shown = word.encode(errors="backslashreplace").decode()
            raise UserError(f"{shown} is not UTF-8", "give the file or folder another name") from None


def refuse_other_words(words: Sequence[str], commands: dict[str, Any]) -> None:
    """Raises UserError where the command line names a command or an option that there is not.

    Args:
        commands: typer's commands by name, each with its `params`.
    """
    if not words or words[0].startswith("-"):
        return
    if words[0] not in commands:
        raise unknown_command(words, list(commands))
    command, takes_value = words[0], dict[str, bool]()
    for parameter in commands[command].params:
        takes_value |= dict.fromkeys(
            [*parameter.opts, *parameter.secondary_opts], not getattr(parameter, "is_flag", False)
        )  # arguments have no flag; their names are no options
    rest = iter(range(1, len(words)))
    for at in rest:
        name, equals, value = words[at].partition("=")
        if name == ENDS_OPTIONS:
            return
        if name in takes_value:
            if takes_value[name] and not equals:
                next(rest, None)
        elif name.startswith("--") and name not in ("--help", "--version"):
            following = words[at + 1] if not equals and at + 1 < len(words) else ""
            raise unknown_option(command, name, value or ("" if following.startswith("-") else following), takes_value)


def unknown_command(words: Sequence[str], commands: list[str]) -> UserError:
    word, typed = words[0], shlex.quote(words[0])
    if Path(word).suffix in (".yaml", ".yml"):
        hint = f"write ftkit train {typed}"
    elif Path(word).suffix.lower() in FILE_ENDINGS:
        hint = f"write ftkit init {typed} for a recipe of it, or ftkit train {typed}"
    elif (meant := plain(word)) in NO_COMMANDS:
        hint = NO_COMMANDS[meant]
    elif near := nearest(word, commands):
        hint = f"did you mean ftkit {near}?"
    elif meant := meant if meant in COMMANDS else nearest(word, COMMANDS):
        file = next((other for other in words[1:] if Path(other).suffix in (".yaml", ".yml")), "FILE.yaml")
        hint = f"write ftkit {COMMANDS[meant].replace('FILE.yaml', shlex.quote(file))}"
    else:
        hint = f"there are {', '.join(sorted(commands))}"
    return UserError(f"no command '{word}'", hint)


def unknown_option(command: str, name: str, value: str, known: dict[str, bool]) -> UserError:
    """What an option was meant to be: one of the command's own, a key of the recipe, or nothing that there is."""
    word = plain(name)
    if word in map(plain, known):
        hint = f"write {next(option for option in known if plain(option) == word)}"
    elif word in OPTIONS and ("--" not in OPTIONS[word] or _option_of(OPTIONS[word]) in known):
        hint = OPTIONS[word].format(command=command).replace("FILE.yaml", shlex.quote(value or "FILE.yaml"))
    elif near := nearest(name, known):
        hint = f"did you mean {near}?"
    else:
        hint = override_hint(name.lstrip("-"), value or True, key_homes()) if OVERRIDES & set(known) else ""
        hint = hint or next((f"did you mean {option}?" for option in known if _begins(option, name)), "")
    return UserError(f"`ftkit {command}` has no option {name}", hint or f"`ftkit {command} --help` lists those there are")


def _begins(option: str, name: str) -> bool:
    """Whether an option is the beginning of what was written, as --out of --output."""
    return option.startswith("--") and plain(name).startswith(plain(option))


def _option_of(hint: str) -> str:
    return next(word for word in hint.replace(",", " ").split() if word.startswith("--"))
