"""The command where its own parts cannot be loaded: one line that says so, or `ftkit doctor` in plain text."""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from itertools import chain

from ftkit.doctor.examine import examine
from ftkit.doctor.findings import BROKEN, Finding, error_words, lines, public
from ftkit.escapes import visible


def without_libraries(words: Sequence[str], error: Exception) -> int:
    """Do what can be done of a command, and return its exit status.

    Args:
        words: behind `ftkit`.
        error: what was raised while the commands were imported.
    """
    if not words or words[0] != "doctor":
        say = f"error: ftkit cannot be loaded: {public(error_words(error))}; `ftkit doctor` says what is broken"
        print(visible(say), file=sys.stderr)
        return 1
    own = Finding("command", "ftkit", f"cannot be loaded: {error_words(error)}", BROKEN).public()
    if "--json" in words:
        print(json.dumps({"good": False, "findings": [asdict(one) for one in (own, *examine())]}, indent=2))
        return 1
    for line in lines(chain([own], examine())):
        print(visible(line), flush=True)
    return 1
