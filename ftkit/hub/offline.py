"""Whether the libraries may ask the hub: not where the user has chosen otherwise, nor once the door has asked for all."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from huggingface_hub import constants

OFFLINE = "HF_HUB_OFFLINE"
DATASETS_OFFLINE = "HF_DATASETS_OFFLINE"
LIBRARIES = ("huggingface_hub.constants", "datasets.config")  # keep their own note of it from when they are imported

_closed: list[bool] = []  # one entry, whether the hub answered, while the door keeps the libraries offline


def offline_by_choice() -> bool:
    """Whether the user has the hub left alone, as huggingface_hub read it."""
    return bool(constants.HF_HUB_OFFLINE) and not _closed


def may_ask() -> bool:
    """Whether the hub may be asked: the user has not chosen otherwise, and it did not fail to answer before."""
    return not offline_by_choice() and (not _closed or _closed[0])


def is_closed() -> bool:
    """Whether the door keeps the libraries offline."""
    return bool(_closed)


def stay_offline(*, answered: bool) -> None:
    """Keep the libraries from asking the hub, which was asked all that is to be asked.

    Args:
        answered: the hub did; else `online` does not open the way to it.
    """
    if offline_by_choice():
        return
    _closed[:] = [answered]
    _set(True)


def why_offline() -> str:
    """In words, after `and`."""
    if not _closed:
        return "HF_HUB_OFFLINE is set" if offline_by_choice() else "it cannot be fetched"
    return "the hub has no more of it" if _closed[0] else "the hub did not answer"


@contextmanager
def online() -> Iterator[None]:
    """Libraries may ask the hub within the block, unless the user does not want it or it did not answer before."""
    if not _closed or not _closed[0]:
        yield
        return
    _set(False)
    try:
        yield
    finally:
        _set(True)


@contextmanager
def offline_mode_kept() -> Iterator[None]:
    """Leaves the process as it was: that the door keeps the libraries offline is undone at the block's end."""
    before, known = list(_closed), os.environ.get(OFFLINE)
    flags = {module: vars(sys.modules[module])[OFFLINE] for module in LIBRARIES if module in sys.modules}
    try:
        yield
    finally:
        _closed[:] = before
        _set_variable(known)
        for module in LIBRARIES:
            if module in sys.modules:
                vars(sys.modules[module])[OFFLINE] = flags.get(module, _wanted(module))


def _set(offline: bool) -> None:
    _set_variable("1" if offline else "0")
    for module in LIBRARIES:
        if module in sys.modules:
            vars(sys.modules[module])[OFFLINE] = offline or _wanted(module)


def _set_variable(value: str | None) -> None:
    """For what reads it later: libraries that are imported then, and processes that are started."""
    if value is None:
        os.environ.pop(OFFLINE, None)
    else:
        os.environ[OFFLINE] = value


def _wanted(module: str) -> bool:
    """Whether a library that is imported now would be offline by the user's choice."""
    return module == "datasets.config" and constants._is_true(os.environ.get(DATASETS_OFFLINE))
