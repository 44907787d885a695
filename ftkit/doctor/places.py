"""Folders that ftkit writes to, with what is free there, and what stands between this machine and the hub."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from ftkit.cache import cache_folder
from ftkit.doctor.findings import BROKEN, GOOD, NOTE, Finding, error_words
from ftkit.units import GIB, size_words

DISK, HUB = "disk", "hub"
LITTLE = 2 * GIB  # a small model with a few checkpoints takes more
SWITCHES = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE")


def disk() -> Iterator[Finding]:
    """The cache, where runs go by default, the hub's cache, and where temporary files go."""
    yield place("cache", cache_folder(), required=True, hint="FTKIT_CACHE names another folder")
    yield place("runs", Path("runs"), required=False, hint="--output-dir names another folder")
    if (folder := hub_cache()) is not None:
        yield place("hub cache", folder, required=False, hint="nothing can be fetched; HF_HOME names another folder")
    try:
        temporary = Path(tempfile.gettempdir())
    except OSError as error:
        yield Finding(DISK, "temporary", error_words(error), BROKEN, "TMPDIR names another folder")
    else:
        yield place("temporary", temporary, required=True, hint="TMPDIR names another folder")


def place(name: str, folder: Path, *, required: bool, hint: str) -> Finding:
    """What is free at a folder that need not be there yet, and whether it can be written to."""
    shown = str(folder)
    try:
        standing = next(one for one in (folder.absolute(), *folder.absolute().parents) if one.exists())
        with tempfile.TemporaryFile(dir=standing):
            free = shutil.disk_usage(standing).free
    except OSError as error:
        reason = error.strerror or error_words(error)
        return Finding(DISK, name, f"{shown} cannot be written to: {reason}", BROKEN if required else NOTE, hint)
    little = free < LITTLE
    return Finding(DISK, name, f"{shown}: {size_words(free)} free", NOTE if little else GOOD, "that is little" * little)


def hub_cache() -> Path | None:
    """Where huggingface_hub keeps what it fetched; None where it cannot be imported, which is told elsewhere."""
    try:
        from huggingface_hub import constants
    except Exception:  # a broken package may raise anything
        return None
    return Path(constants.HF_HUB_CACHE)


def hub() -> Iterator[Finding]:
    """Whether there is a token, never which; whether it is asked at all. Nothing is asked here."""
    try:
        from huggingface_hub import constants, get_token

        there, endpoint = get_token() is not None, constants.ENDPOINT
    except Exception as error:  # a broken package may raise anything
        yield Finding(HUB, "token", f"not known: {error_words(error)}", NOTE)
    else:
        yield Finding(HUB, "token", "yes" if there else "no")
        yield Finding(HUB, "endpoint", endpoint)
    found = [f"{name}={os.environ[name]}" for name in SWITCHES if name in os.environ]
    yield Finding(HUB, "offline switches", ", ".join(found) or "none")
