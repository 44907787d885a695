"""Seals: size and SHA-256 of each file of a folder, noted when all are written; what is not so any more was changed."""

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path

from ftkit.reading import MISSING, UNREADABLE

CHUNK = 1 << 20
Seal = dict[str, list[int | str]]


def seal_of(folder: Path, files: Iterable[Path]) -> Seal:
    """Size and SHA-256 of each file, by its name in the folder."""
    return {file.relative_to(folder).as_posix(): describe(file) for file in sorted(files)}


def unlike(folder: Path, seal: Mapping[str, object], *, largest: int | None = None) -> dict[str, str]:
    """Files that are not as they were sealed, and what is wrong with each.

    Args:
        largest: of files of more bytes the size alone is compared.
    """
    found = {name: what for name, known in seal.items() if (what := difference(folder / name, known, largest))}
    return dict(sorted(found.items()))


def difference(file: Path, known: object, largest: int | None = None) -> str:
    """In words; empty where there is none."""
    try:
        size = file.stat().st_size
        if not (isinstance(known, list) and len(known) == 2 and isinstance(known[0], int)):
            return "its seal is damaged"
        if size != known[0]:
            return f"it has {size:,} bytes where it had {known[0]:,}"
        same = (largest is not None and size > largest) or describe(file) == known
    except (FileNotFoundError, NotADirectoryError):
        return MISSING
    except OSError as error:
        return f"{UNREADABLE}: {error.strerror}"
    return "" if same else "it holds other bytes than it did"


def describe(file: Path) -> list[int | str]:
    """Size and SHA-256 of a file."""
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while chunk := stream.read(CHUNK):
            digest.update(chunk)
    return [file.stat().st_size, digest.hexdigest()]


def digest_of(content: bytes) -> list[int | str]:
    """Size and SHA-256 of what a file will hold."""
    return [len(content), hashlib.sha256(content).hexdigest()]
