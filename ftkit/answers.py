"""What was found out before, kept in the cache under a digest of all that it follows from.

An answer that cannot be read is none, and one that cannot be written is found out again the next time.
"""

import hashlib
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from ftkit.cache import cache_folder
from ftkit.run import code_digest, package_versions, write_json

MOST = 200  # answers of a kind; the newest stay
NO_FAULT = (OSError, ValueError, RuntimeError)  # no right to write, a broken file, letters that UTF-8 has not; no home


def key_of(*parts: Any) -> str:
    """A digest of what an answer follows from, with ftkit's own code and the versions of the libraries."""
    words = json.dumps([code_digest(), package_versions(), *parts], sort_keys=True, default=str)
    return hashlib.sha256(words.encode()).hexdigest()[:32]


def known(kind: str, key: str) -> Any:
    """The answer, or None where there is none."""
    with suppress(*NO_FAULT):
        return json.loads(_file(kind, key).read_text(encoding="utf-8"))
    return None


def keep(kind: str, key: str, answer: Any) -> None:
    """Write an answer, and let the oldest go that are too many."""
    with suppress(*NO_FAULT):
        write_json(_file(kind, key), answer)
        found = sorted(_file(kind, key).parent.glob("*.json"), key=lambda file: file.stat().st_mtime, reverse=True)
        for file in found[MOST:]:
            file.unlink(missing_ok=True)


def _file(kind: str, key: str) -> Path:
    return cache_folder() / kind / f"{key}.json"
