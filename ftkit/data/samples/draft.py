"""What every sample draws: one row, and the content that decides on which side of the split the row falls."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Draft:
    """One drawn row, its values texts or tuples of texts.

    Equal rows must have equal identities, and so should rows that differ in wording alone.
    """

    identity: str
    row: dict[str, Any]
