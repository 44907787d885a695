"""Data files as they can be read: themselves, or copies in the cache of what a .gz or .zip holds."""

import csv
import errno
import gzip
import hashlib
import os
import shutil
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import datasets.config
import pyarrow as pa  # type: ignore[import-untyped]
from datasets import exceptions as datasets_errors

from ftkit.data.paths import KINDS, ending_of
from ftkit.errors import UserError

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


def unpack(path: Path, format: str | None = None) -> list[DataFile]:
    """The readable files of a file: itself, or copies in the cache of what a .gz or .zip holds.

    A copy is kept, under a digest of what it was made from, beside the rows that `datasets` keeps.

    Raises:
        UserError: it is broken, locked, or holds no data files.
    """
    with path.open("rb") as stream:
        start = stream.read(4)
    ending = ending_of(path.name)
    try:
        if start[:2] == b"\x1f\x8b":
            return [DataFile(_unpacked(path, content_digest(path), "", lambda: gzip.open(path, "rb")), str(path), ending)]
        if path.suffix.lower() == ".gz":
            raise UserError(f"{path} is no gzip file", "give the file its true name")
        if path.suffix.lower() == ".zip":
            return _unzip(path, format)
    except (*LIBRARY_ERRORS, zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):  # a full disk, no broken archive
            raise
        raise UserError(f"{path} cannot be unpacked: {str(error)[:100] or 'it ends early'}", "check the file") from error
    return [DataFile(path, str(path), ending)]


def _unzip(path: Path, format: str | None) -> list[DataFile]:
    with zipfile.ZipFile(path) as archive:
        members = [name for name in sorted(archive.namelist()) if not name.endswith("/") and not _is_hidden(name)]
        data = [name for name in members if Path(name.lower()).suffix != ".zip" and ending_of(name) in KINDS]
        data = [name for name in data if KINDS[ending_of(name)] == format] or data or (members if format else [])
        if not data:
            raise UserError(f"{path} holds no data files", f"readable are {', '.join(KINDS)}")
        files, digest = [], content_digest(path)
        for name in data:
            copy = _unpacked(path, digest, name, lambda name=name: archive.open(name))  # type: ignore[misc]
            files += [DataFile(file.path, f"{path}/{name}", ending_of(name)) for file in unpack(copy)]
    return files


def _is_hidden(name: str) -> bool:
    return any(part.startswith((".", "__MACOSX")) for part in Path(name).parts)


def _unpacked(path: Path, digest: str, member: str, opened: Any) -> Path:
    key = f"{digest}\0{member}"
    folder = Path(datasets.config.HF_DATASETS_CACHE) / "ftkit-unpacked" / hashlib.sha256(key.encode()).hexdigest()[:24]
    packed = Path(member or path.name).name
    # A known ending, since `datasets` looks for other compressions in a file that has none.
    copy = folder / (packed if member else f"rows{ending_of(packed) if ending_of(packed) in KINDS else '.txt'}")
    if not copy.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        beside = folder / f".{os.getpid()}"
        try:
            with opened() as stream, beside.open("wb") as target:
                _copy(stream, target)
            beside.replace(copy)
        finally:
            beside.unlink(missing_ok=True)
    return copy


def _copy(stream: BinaryIO, target: BinaryIO) -> None:
    shutil.copyfileobj(stream, target, 1 << 20)
