"""The files of a run as they are read, each kind in one place: what cannot be read is one line that names the file.

A file that is written whole is refused where it is damaged; of one that grows by lines those that can be read are taken.
"""

import json
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ftkit import console
from ftkit.errors import UserError

LOOK = "look at the disk, and who may read the file"
COPY = "put a whole copy of it back, or train the run again"
MISSING = "missing"
DAMAGED = "damaged: "  # and then what is wrong
UNREADABLE = "it cannot be read"  # for what the disk or the rights say
WORDS: dict[type, str] = {dict: "an object", list: "a list", str: "a text", int: "a whole number", bool: "true or false"}
Types = Mapping[str, type]


class Damaged(UserError):
    """A file of a run is gone, or does not hold what was written into it.

    Args:
        file: which.
        what: is wrong with it.
        hint: what to do about it.
    """

    def __init__(self, file: Path, what: str, hint: str = COPY) -> None:
        self.file, self.what = file, what
        super().__init__(what if what == MISSING else f"{DAMAGED}{what}", hint, str(file))

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.file, self.what, self.hint)


def read_text(file: Path) -> str:
    """A whole file of text.

    Raises:
        Damaged: it is not there, cannot be read, or is no UTF-8.
    """
    return decoded(read_bytes(file), file)


def read_bytes(file: Path) -> bytes:
    """A whole file; a pipe or a device under its name is never waited for.

    Raises:
        Damaged: it is not there, or cannot be read.
    """
    try:
        require_no_pipe(file)
        return file.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise Damaged(file, MISSING) from None
    except OSError as error:
        raise unreadable(file, error) from error


def require_no_pipe(file: Path) -> None:
    """Raises Damaged where something stands under a file's name that would be waited for; OSError where nothing does."""
    mode = file.stat().st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise Damaged(file, "no file, but a pipe, a socket or a device")


def unreadable(file: Path, error: OSError) -> Damaged:
    """Of a file that is there, or may be: the disk or the rights keep it from being read."""
    return Damaged(file, f"{UNREADABLE}: {error.strerror}", LOOK)


def decoded(content: bytes, file: Path) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Damaged(file, f"not UTF-8 at byte {error.start}") from None


def read_json(file: Path) -> Any:
    """What stands in a file of JSON.

    Raises:
        Damaged: as `read_text`, or it is no JSON.
    """
    text = read_text(file)
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise Damaged(file, f"not JSON: {error.msg} in line {error.lineno}" if text else "empty") from None
    except RecursionError:
        raise Damaged(file, "not JSON of this program: it is nested too deep") from None
    except ValueError as error:  # a number of more digits than Python reads
        raise Damaged(file, f"not JSON of this program: {first_words(error)}") from None


def read_object(file: Path, types: Types | None = None, needs: Iterable[str] = ()) -> dict[str, Any]:
    """The JSON object in a file.

    Args:
        types: what stands under a key, where the object has it.
        needs: keys that it must have.

    Raises:
        Damaged: as `read_json`, or it is no object, lacks a key, or has something else there.
    """
    found = read_json(file)
    if not isinstance(found, dict):
        raise Damaged(file, f"not an object but {WORDS.get(type(found), 'something else')}")
    if lacking := [key for key in needs if key not in found]:
        raise Damaged(file, f"it has no '{lacking[0]}'")
    for key, kind in (types or {}).items():
        if key in found and not isinstance(found[key], kind):
            raise Damaged(file, f"its '{key}' is not {WORDS[kind]}")
    return found


def object_if_there(file: Path, types: Types | None = None, needs: Iterable[str] = ()) -> dict[str, Any]:
    """As `read_object`; empty where there is no file."""
    try:
        return read_object(file, types, needs)
    except Damaged as error:
        if error.what == MISSING:
            return {}
        raise


def read_objects(file: Path) -> list[dict[str, Any]]:
    """The list of JSON objects in a file.

    Raises:
        Damaged: as `read_json`, or it is no such list.
    """
    found = read_json(file)
    if not (isinstance(found, list) and all(isinstance(one, dict) for one in found)):
        raise Damaged(file, "not a list of objects")
    return found


def read_jsonl(file: Path) -> list[dict[str, Any]]:
    """One object a line, of a file that was written whole; none where there is no file.

    Raises:
        Damaged: a line is no object.
    """
    found, bad = parsed_lines(file)
    if bad:
        raise Damaged(file, f"line {bad[0]} is no JSON object")
    return found


def read_log(file: Path) -> list[dict[str, Any]]:
    """One object a line, of a file that grows: what was broken off, or is damaged, is left out, and a warning says so."""
    found, bad = parsed_lines(file)
    if bad == [len(found) + 1]:
        console.warn(f"{file}: its last line is torn, and is left out")
    elif bad:
        what = "line is" if len(bad) == 1 else "lines are"
        console.warn(f"{file}: damaged: {len(bad)} {what} no JSON object (line {bad[0]}), and left out")
    return found


def parsed_lines(file: Path) -> tuple[list[dict[str, Any]], list[int]]:
    """The objects of a file, one a line, and which lines hold none, counted from 1; nothing where there is no file.

    Raises:
        Damaged: the file cannot be read.
    """
    found: list[dict[str, Any]] = []
    bad: list[int] = []
    try:
        content = read_bytes(file)
    except Damaged as error:
        if error.what == MISSING:
            return found, bad
        raise
    for number, line in enumerate(content.split(b"\n"), 1):
        if not line:
            continue
        try:
            value = json.loads(line.decode("utf-8"))
        except (ValueError, RecursionError):
            value = None
        if isinstance(value, dict):
            found.append(value)
        else:
            bad.append(number)
    return found, bad


def read_arrays(file: Path, *names: str) -> dict[str, Any]:
    """All arrays of an .npz file, whose checksums are compared on the way.

    Args:
        names: those that it must have.

    Raises:
        Damaged: it is not there, cannot be read, or lacks one.
    """
    import numpy as np  # a run's other files are read without it

    try:
        require_no_pipe(file)
        with np.load(file) as arrays:
            found = {name: arrays[name] for name in arrays}
    except FileNotFoundError:
        raise Damaged(file, MISSING) from None
    except (MemoryError, Damaged):
        raise
    except OSError as error:
        if error.errno is None:
            raise Damaged(file, f"no arrays can be read from it ({first_words(error)})") from error
        raise unreadable(file, error) from error
    except Exception as error:  # of a damaged archive numpy, zipfile and zlib raise whatever they stumble over
        raise Damaged(file, f"no arrays can be read from it ({first_words(error)})") from error
    if lacking := [name for name in names if name not in found]:
        raise Damaged(file, f"it has no '{lacking[0]}'")
    return found


@contextmanager
def opened_tensors(file: Path) -> Iterator[Any]:
    """A safetensors file, open while the block runs, as `safe_open` gives it.

    Raises:
        Damaged: it is not there or cannot be read, also where the block finds that out.
    """
    from safetensors import SafetensorError, safe_open  # as above

    try:
        require_no_pipe(file)
    except (FileNotFoundError, NotADirectoryError):
        raise Damaged(file, MISSING) from None
    except OSError as error:
        raise unreadable(file, error) from error
    try:
        with safe_open(file, framework="pt") as held:
            yield held
    except (SafetensorError, OSError) as error:
        raise Damaged(file, first_words(error)) from error


def read_tensors(file: Path) -> dict[str, Any]:
    """All tensors of a safetensors file, by name.

    Raises:
        Damaged: it is not there, or cannot be read.
    """
    with opened_tensors(file) as held:
        return {key: held.get_tensor(key) for key in held.keys()}  # noqa: SIM118, it is no mapping


def first_words(error: BaseException) -> str:
    """What a library says, in one line."""
    return " ".join(str(error).split())[:200] or type(error).__name__
