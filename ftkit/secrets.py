"""What nobody may read later: tokens of the environment, passwords in addresses, keys in queries and headers.

A text that leaves the process, to a screen, a log or a record, goes through `without_secrets`; texts of rows do not change
unless one of the environment's own tokens stands in them.
"""

import os
import re
from collections.abc import Iterator
from typing import Any

HIDDEN = "***"
LEAST = 6  # letters of a value from which on it is no word that stands in texts by chance
# Names of variables whose values are secret, as HF_TOKEN, OPENAI_API_KEY, AWS_SECRET_ACCESS_KEY, WANDB_API_KEY.
_NAMED = re.compile(r"(TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|APIKEY|(^|_)(PASS|PWD|KEY|KEY_ID|AUTH|CREDENTIALS?))$", re.I)
_ORDINARY = {"PWD", "OLDPWD"}
_WORDS = r"[\w.-]*(?:token|secret|passw(?:or)?d|api_?key|apikey|access_?key|signature|credential|auth|sig)[\w.-]*"
_GIVEN = r"['\"]?\s*[:=]\s*['\"]?"  # between a header's name and its value
_PATTERNS = (
    # a name and password before a host; a password alone
    (re.compile(r"(?<=://)[^\s/@'\"<>]*@"), f"{HIDDEN}@"),
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
    for value in _of_environment():
        text = text.replace(value, HIDDEN)
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
    found = set()
    for name, value in os.environ.items():
        plain = value.strip()
        if _NAMED.search(name) and name not in _ORDINARY and len(plain) >= LEAST and not _is_ordinary(plain):
            found.add(plain)
    yield from sorted(found, key=len, reverse=True)


def _is_ordinary(value: str) -> bool:
    """A path or a word, as of SSH_AUTH or of a switch: nothing that is secret by itself."""
    return value.startswith(("/", "~", "./")) or value.lower() in ("false", "enabled", "disabled", "required", "optional")
