"""Data files as they can be read: themselves, or copies in the cache of what a .gz or .zip holds."""

import csv
import errno
import gzip
import hashlib
import os
import re
import zipfile
import zlib
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatch
from functools import partial
from pathlib import Path
from typing import Any

import datasets.config
import pyarrow as pa  # type: ignore[import-untyped]
from datasets import exceptions as datasets_errors

from ftkit.data.paths import GLOB_CHARACTERS, KINDS, PART_NAMES, archive_of, ending_of, split_in
from ftkit.data.room import Bounded, Room
from ftkit.errors import UserError
from ftkit.recipe.schema import Source

MOST_SHOWN = 10
LONGEST_NAME = 200  # bytes of a copy's name
GLOB_SIGN = re.compile(r"[*?\[]")  # of a pattern, behind which a path says no more

# What the libraries raise on data that they cannot read; each wraps some of them in its own.
LIBRARY_ERRORS = (
    datasets_errors.DatasetsError, pa.ArrowException, csv.Error, ValueError, OSError, TypeError, LookupError, AttributeError,
    ArithmeticError, NotImplementedError, RecursionError,
)  # fmt: skip


@dataclass(frozen=True)
class DataFile:
    """A file that can be read as it is.

    Attributes:
        path: where it lies; a copy in the cache for what was packed.
        name: what it is called in messages.
        ending: of the file that was packed, where it was.
    """

    path: Path
    name: str
    ending: str

    def __str__(self) -> str:
        return self.name


def content_digest(path: Path) -> str:
    """SHA-256 of what is in a file."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def data_files(source: Source, paths: list[Path]) -> list[DataFile]:
    """The readable files of a source: of archives the members that it names, of several those of its split.

    Args:
        paths: as `find_files` gives them.

    Raises:
        UserError: something is broken or locked, or nothing is of that split.
    """
    named = named_files(source, paths)
    if source.split:
        return _of_split(source, named)
    if parts_of(source, named):
        shown = ", ".join(list(named.values())[:MOST_SHOWN])
        hint = f"say which, as {{path: …, split: train}}; all of them are {source.path}/*"
        raise UserError(f"{source.path} holds the files of several splits: {shown}", hint)
    return list(named)


def named_files(source: Source, paths: list[Path]) -> dict[DataFile, str]:
    """The readable files of a source, of whatever split, each with its name within the source."""
    archive = archive_of(source.path)
    files = [file for path in paths for file in unpack(path, source.format, archive[1] if archive else "*")]
    return {file: relative_name(file, source.path) for file in files}


def parts_of(source: Source, named: dict[DataFile, str]) -> list[str]:
    """The splits that a folder or an archive holds files of: train, eval, test; none where it is read whole."""
    found = {part for name in named.values() if (part := split_in(name))}
    whole = archive_of(source.path) or GLOB_CHARACTERS & set(source.path) or len(found) < 2
    return [] if whole else [part for part in dict.fromkeys(PART_NAMES.values()) if part in found]


def relative_name(file: DataFile, path: str) -> str:
    """A file's name within the folder or archive that a path leads to; of a file itself its own."""
    name = os.path.relpath(file.name, GLOB_SIGN.split(path)[0])
    return Path(file.name).name if name == "." else name


def _of_split(source: Source, named: dict[DataFile, str]) -> list[DataFile]:
    if list(map(str, named)) == [source.path]:
        hint = "remove split; rows are split off with data.eval_size, or by a column with data.split_column"
        raise UserError(f"'split' has no effect on {source.path}, which is one file", hint)
    split = str(source.split).lower()
    exact = [file for file, name in named.items() if split in re.split(r"[-_./]", name.lower())]
    found = exact or [file for file, name in named.items() if split_in(name) and split_in(name) == PART_NAMES.get(split)]
    if not found:
        shown = ", ".join(list(named.values())[:MOST_SHOWN])
        raise UserError(f"no file in {source.path} is named after the split '{source.split}'", f"it holds {shown}")
    return found


def unpack(path: Path, format: str | None = None, member: str = "*", name: str = "") -> list[DataFile]:
    """The readable files of a file: itself, or copies in the cache of what a .gz or .zip holds.

    A copy is kept, under a digest of what it was made from, beside the rows that `datasets` keeps.

    Args:
        name: what it is called in messages, where that is not its path.

    Raises:
        UserError: it is broken, locked, or holds no data files.
    """
    with path.open("rb") as stream:
        start = stream.read(4)
    ending = ending_of(path.name)
    try:
        if start[:2] == b"\x1f\x8b":
            copy = _unpacked(path, content_digest(path), "", partial(gzip.open, path, "rb"), Room(path, name or str(path)))
            return [DataFile(copy, str(path), ending)]
        if path.suffix.lower() == ".gz":
            raise UserError(f"{name or path} is no gzip file", "give the file its true name")
        if path.suffix.lower() == ".zip":
            return _unzip(path, format, member)
    except (*LIBRARY_ERRORS, zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):  # a full disk, no broken archive
            raise
        raise UserError(
            f"{name or path} cannot be unpacked: {str(error)[:100] or 'it ends early'}", "check the file"
        ) from error
    return [DataFile(path, str(path), ending)]


def _unzip(path: Path, format: str | None, member: str) -> list[DataFile]:
    with zipfile.ZipFile(path) as archive:
        members = [name for name in sorted(archive.namelist()) if not name.endswith("/") and not _is_hidden(name)]
        data = [name for name in members if Path(name.lower()).suffix != ".zip" and ending_of(name) in KINDS]
        data = [name for name in data if KINDS[ending_of(name)] == format] or data or (members if format else [])
        if not data:
            raise UserError(f"{path} holds no data files", f"readable are {', '.join(KINDS)}")
        data = [name for name in data if fnmatch(name, member)] or _missing(path, member, data)
        files, digest, room = [], content_digest(path), Room(path, str(path))
        for name in data:
            copy = _unpacked(path, digest, name, lambda name=name: archive.open(name), room)  # type: ignore[misc]
            files += [DataFile(file.path, f"{path}/{name}", ending_of(name)) for file in unpack(copy, name=f"{path}/{name}")]
    return files


def _missing(path: Path, member: str, names: list[str]) -> list[str]:
    near = get_close_matches(member, names, n=1)
    hint = f"did you mean {path}/{near[0]}?" if near else f"it holds {', '.join(names[:MOST_SHOWN])}"
    raise UserError(f"{path} holds no {member}", hint)


def _is_hidden(name: str) -> bool:
    return any(part.startswith((".", "__MACOSX")) for part in Path(name).parts)


def _unpacked(path: Path, digest: str, member: str, opened: Any, room: Room) -> Path:
    key = f"{digest}\0{member}"
    folder = Path(datasets.config.HF_DATASETS_CACHE) / "ftkit-unpacked" / hashlib.sha256(key.encode()).hexdigest()[:24]
    packed = Path(member or path.name).name
    # A known ending, since `datasets` looks for other compressions in a file that has none.
    named = member and len(os.fsencode(packed)) <= LONGEST_NAME
    copy = folder / (packed if named else f"rows{ending_of(packed) if ending_of(packed) in KINDS else '.txt'}")
    if not copy.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        beside = folder / f".{os.getpid()}"
        try:
            with opened() as stream, beside.open("wb") as target:
                bounded = Bounded(stream, room)
                while block := bounded.read(1 << 20):
                    target.write(block)
            beside.replace(copy)
        finally:
            beside.unlink(missing_ok=True)
    return copy
