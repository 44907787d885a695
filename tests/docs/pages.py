"""The fenced blocks of the documentation, in their order."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
PAGES = sorted([ROOT / "README.md", ROOT / "recipes" / "README.md", *(ROOT / "docs").rglob("*.md")])
_BLOCK = re.compile(
    r"(?:<!-- needs: (?P<needs>\w+) -->\n)?^(?P<indent> *)```(?P<kind>\w+)\n(?P<text>.*?)^ *```$", re.M | re.S
)


@dataclass(frozen=True)
class Block:
    """One fenced block; `needs` says what it cannot run without, as gpu or hub."""

    page: Path
    kind: str
    text: str
    needs: str | None

    def commands(self) -> list[list[str]]:
        """Its lines as words, without comments."""
        return [words for line in self.text.splitlines() if (words := shlex.split(line, comments=True))]


def blocks(page: Path) -> Iterator[Block]:
    for found in _BLOCK.finditer(page.read_text(encoding="utf-8")):
        text = "\n".join(line.removeprefix(found["indent"]) for line in found["text"].splitlines())
        yield Block(page, found["kind"], text, found["needs"])


def all_blocks(kind: str) -> list[Block]:
    return [block for page in PAGES for block in blocks(page) if block.kind == kind]
