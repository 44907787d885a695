"""What `ftkit doctor` finds, a line each, and how it is shown: plain text that can be pasted into an issue.

Nothing here, nor in `examine.py`, needs more than Python itself: what is to be looked at may be broken.
"""

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from ftkit.secrets import without_secrets

GOOD, NOTE, BROKEN = "good", "note", "broken"
MARKS = {GOOD: " ", NOTE: "?", BROKEN: "!"}
WIDTH = 18  # of a name
HOMES = re.compile(r"(?<![\w.-])/(home|Users)/[^/\s'\"]+")


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        part: the heading that it stands under.
        state: good, a note, or broken, where it is required and does not work.
        hint: what to do about it.
    """

    part: str
    name: str
    value: str
    state: str = GOOD
    hint: str = ""

    def public(self) -> "Finding":
        """Without what tells whose machine it is, or a secret."""
        return replace(self, value=public(self.value), hint=public(self.hint))


def public(text: str) -> str:
    """The text with home folders as `~`, and without secrets."""
    text = without_secrets(text)
    for home in sorted({str(Path.home()), os.path.realpath(Path.home())}, key=len, reverse=True):
        if home != "/":
            text = re.sub(rf"(?<![\w.-]){re.escape(home)}(?=/|\W|$)", "~", text)
    return HOMES.sub("~", text)


def error_words(error: BaseException) -> str:
    """An error on one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}".rstrip(": ")


def lines(findings: Iterable[Finding]) -> Iterator[str]:
    """The findings as text, under their headings, each as it comes; `?` is a note, `!` is broken."""
    part, broken = "", []
    for finding in findings:
        if finding.part != part:
            part = finding.part
            yield part
        hint = f"; {finding.hint}" if finding.hint else ""
        yield f"{MARKS[finding.state]} {finding.name:{WIDTH}} {finding.value}{hint}"
        broken += [finding.name] * (finding.state == BROKEN)
    yield f"broken: {', '.join(dict.fromkeys(broken))}" if broken else "all that is required works"
