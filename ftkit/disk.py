"""Disks that take no more: how that is told from other faults, in the words of Python, numpy, torch and safetensors."""

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ftkit.errors import FtkitError, UserError

FULL = (errno.ENOSPC, errno.EDQUOT)
REFUSING = (*FULL, errno.EFBIG, errno.EROFS, errno.EIO)
NUMBER = re.compile(r"\(os error (\d+)\)")  # as Rust writes it
SHORT = re.compile(r"\d+ requested and \d+ written")  # as numpy does
UNWRITTEN = "Not enough disk space"  # `datasets`, before it begins
NO_PLACE = "No usable temporary directory"  # `tempfile`, which tried to write
TORCH = ("PytorchStreamWriter", "inline_container", "iostream error")  # which mostly does not say why
READING = ("PytorchStreamReader", "failed finding")


def refusal(error: BaseException) -> str:
    """What a disk that takes no more says, where an error or what led to it is one; else empty."""
    found: BaseException | None = error
    while found is not None and not isinstance(found, FtkitError):
        if words := _words(found):
            return words
        found = found.__cause__ or found.__context__
    return ""


def _words(error: BaseException) -> str:
    if isinstance(error, OSError) and error.errno is not None:
        full = error.errno == errno.ENOENT and NO_PLACE in str(error)
        return os.strerror(error.errno) if error.errno in REFUSING else os.strerror(errno.ENOSPC) if full else ""
    said = str(error)
    if numbers := NUMBER.findall(said):
        number = int(numbers[-1])
        return os.strerror(number) if number in REFUSING else ""
    named = next((os.strerror(number) for number in REFUSING if os.strerror(number) in said), "")
    if named and isinstance(error, OSError | RuntimeError):
        return named
    if isinstance(error, OSError) and (SHORT.search(said) or UNWRITTEN in said):
        return os.strerror(errno.ENOSPC)
    written = isinstance(error, RuntimeError) and any(word in said for word in TORCH)
    return os.strerror(errno.ENOSPC) if written and not any(word in said for word in READING) else ""


@contextmanager
def whole_or_absent(file: Path, beside: Path) -> Iterator[Path]:
    """A file that is written beside its place, and renamed when the block ends well; else what is written of it goes."""
    try:
        yield beside
        os.replace(beside, file)
    except BaseException:  # a full disk gets its space back
        beside.unlink(missing_ok=True)
        raise


def place_of(error: BaseException) -> str:
    """The file that the error is about, so far as it names one."""
    found: BaseException | None = error
    while found is not None:
        if isinstance(found, OSError) and isinstance(found.filename, str | Path):
            return str(found.filename)
        found = found.__cause__ or found.__context__
    return ""


def refused(error: BaseException, place: str | Path, hint: str) -> UserError:
    """The error for the user, of one that is a refusal."""
    what = refusal(error)
    if what in map(os.strerror, (*FULL, errno.EFBIG)):
        return UserError(f"no space is left for {place}: {what}", hint)
    return UserError(f"the disk of {place} fails: {what}", hint)
