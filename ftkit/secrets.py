"""What nobody may read later: tokens of the environment, passwords in addresses, keys in queries and headers.

A text that leaves the process, to a screen, a log or a record, goes through `without_secrets`; texts of rows do not change
unless one of the environment's own tokens stands in them.
"""

import os
import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

HIDDEN = "***"
WORD = 12  # small letters of a value below which it is a word, as `accuracy`
LEAST = 6  # letters of a value from which on it is no word that stands in texts by chance
# Names of variables whose values are secret, as HF_TOKEN, OPENAI_API_KEY, AWS_SECRET_ACCESS_KEY, WANDB_API_KEY.
_NAMED = re.compile(r"(TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|APIKEY|(^|_)(PASS|PWD|KEY|KEY_ID|AUTH|CREDENTIALS?))$", re.I)
_ORDINARY = {"PWD", "OLDPWD"}
# Bounds, without which a text of many such words would take the square of its length.
_WORDS = r"[\w.-]{0,40}(?:token|secret|passw(?:or)?d|api_?key|apikey|access_?key|signature|credential|auth|sig)[\w.-]{0,40}"
_SIGN = re.compile(r"[:=]|Bearer|Basic|hf_")  # one of which stands in whatever a pattern finds
_GIVEN = r"['\"]?\s*[:=]\s*['\"]?"  # between a header's name and its value
_PATTERNS = (
    # a name and password before a host; a password alone; of an address that was taken for a path one slash is left
    (re.compile(r"(?<=\w\w:/)(/?)[^\s/@'\"<>]+@"), rf"\1{HIDDEN}@"),
    # ?token=…, &api_key=…, X-Amz-Signature=…; "key" alone is too ordinary a word but for a query
    (re.compile(rf"(?i)([?&;](?:{_WORDS}|key)=)[^\s&;#'\"<>]+"), rf"\1{HIDDEN}"),
    # headers as libraries show them
    (re.compile(rf"(?i)\b((?:proxy-)?authorization{_GIVEN}(?:(?:bearer|basic|token)\s+)?)[^\s'\",}}]+"), rf"\1{HIDDEN}"),
    (re.compile(r"(?i)\b(x-api-key|api-key)(['\"]?\s*[:=]\s*['\"]?)[^\s'\",}]+"), rf"\1\2{HIDDEN}"),
    (re.compile(r"\b(Bearer|Basic) (?=\S*\d)[\w.~+/=-]{12,}"), rf"\1 {HIDDEN}"),
    # tokens of the hub, which may come from a file
    (re.compile(r"\bhf_[A-Za-z0-9]{16,}\b"), f"hf_{HIDDEN}"),
)  # fmt: skip


def without_secrets(text: str) -> str:
    """The text with `***` in place of each secret that is known, or that its surroundings tell."""
    if len(text) < LEAST or text.isspace():  # most of what a table is made of
        return text
    for value in _of_environment():
        text = text.replace(value, HIDDEN)
    if _SIGN.search(text):
        for pattern, shown in _PATTERNS:
            text = pattern.sub(shown, text)
    return text


def all_without_secrets(value: Any) -> Any:
    """A value of JSON with every text in it as `without_secrets` has it."""
    if isinstance(value, dict):
        return {key: all_without_secrets(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [all_without_secrets(item) for item in value]
    return without_secrets(value) if isinstance(value, str) else value


def names_secret(text: str) -> bool:
    """Whether one of the environment's own secrets stands in a text."""
    return any(value in text for value in _of_environment())


def _of_environment() -> Iterator[str]:
    """Secret values of the environment, the longest first, so that none is cut by another."""
    named = (os.environ[name].strip() for name in os.environ if _is_secret(name))
    found = {value for value in named if len(value) >= LEAST and not _is_ordinary(value)}
    yield from sorted(found, key=len, reverse=True)


@lru_cache(maxsize=1024)
def _is_secret(name: str) -> bool:
    """Whether a variable's name says that its value is secret."""
    return _NAMED.search(name) is not None and name not in _ORDINARY


def _is_ordinary(value: str) -> bool:
    """A path or a word, as of SSH_AUTH or of a switch: nothing that is secret by itself, and may stand in any text."""
    word = value.isalpha() and value.islower() and len(value) < WORD
    return (
        word
        or value.startswith(("/", "~", "./"))
        or value.lower() in ("false", "enabled", "disabled", "required", "optional")
    )
