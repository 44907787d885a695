"""All that a check of a recipe follows from, as it is now: its values, the files behind its names, packages, machine."""

import glob
import itertools
import os
import platform
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from ftkit.answers import key_of
from ftkit.data.paths import find_files
from ftkit.errors import UserError
from ftkit.hub.cache import hub_folders
from ftkit.hub.names import hub_names, is_commit
from ftkit.hub.offline import offline_by_choice
from ftkit.recipe.schema import Recipe

MOST_FILES = 10_000  # of which size and time are looked up; it takes a tenth of a second
SETTINGS = (
    "ACCELERATE_", "BNB_", "CUDA_", "FTKIT_", "HF_", "HIP_", "LOCAL_RANK", "NCCL_", "RANK", "ROCR_", "TRANSFORMERS_",
    "WORLD_SIZE",
)  # fmt: skip
MACHINE = (  # files that tell of processor, memory and GPUs, where there are such files
    "/proc/cpuinfo", "/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes",
    "/proc/driver/nvidia/version", "/proc/driver/nvidia/gpus/*/information",
)  # fmt: skip
CLOCK = "cpu MHz"  # what changes in them from one moment to the next


def inputs_key(recipe: Recipe) -> str | None:
    """A digest that changes when anything does from which a check of the recipe follows; None where none can tell.

    None can where the user's own code is run, which may read anything, where the hub was not asked which commit is meant,
    and where something is chosen by the memory that is free. Files count by name, size and times of change.
    """
    own_code = recipe.evaluation.metric_file or recipe.model.trust_remote_code
    asks = not offline_by_choice() and not all(is_commit(repository.revision) for repository in hub_names(recipe))
    if own_code or asks or recipe.training.finds_batch or recipe.strategy.name == "auto":
        return None
    try:
        files = list(itertools.islice(files_behind(recipe), MOST_FILES + 1))
        beside = packages(), machine()
    except (OSError, RuntimeError):  # something is written or removed there now, or may not be read
        return None
    if len(files) > MOST_FILES:
        return None
    settings = {name: value for name, value in os.environ.items() if name.startswith(SETTINGS)}
    return key_of(recipe.model_dump(mode="json"), str(Path.cwd()), sorted(files), settings, beside)


def files_behind(recipe: Recipe) -> Iterator[tuple[str, int, int, int]]:
    """Name, size and times of change of each file that a word of the recipe leads to, here or in the hub's cache.

    Raises:
        OSError, RuntimeError: a folder cannot be read, or there is no home.
    """
    places = [path for word in words_in(recipe.model_dump(mode="json")) if (path := _there(word))]
    places.append(Path(recipe.model.name).expanduser())
    for repository in hub_names(recipe):
        places += hub_folders(repository)
    for source in itertools.chain(recipe.data.train, recipe.data.eval or [], recipe.data.test or []):
        with suppress(UserError):  # what cannot be found is the check's to say
            places += find_files(source.path, "data", source.format)
    for place in dict.fromkeys(places):
        for file in place.rglob("*") if place.is_dir() else [place]:
            with suppress(FileNotFoundError):
                state = file.stat()
                yield str(file), state.st_size, state.st_mtime_ns, state.st_ctime_ns


def packages() -> list[str]:
    """Python, where it looks for packages, and all that are installed there, with their versions."""
    folders = [Path(entry) for entry in sys.path if os.path.isdir(entry)]
    installed = {name for folder in folders for name in os.listdir(folder) if name.endswith((".dist-info", ".egg-info"))}
    return [sys.version, *sys.path, *sorted(installed)]


def machine() -> list[str]:
    """What there is of processors, memory and GPUs."""
    found = [platform.platform(), str(os.cpu_count())]
    if hasattr(os, "sysconf"):
        found.append(str(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")))
    for name in MACHINE:
        for file in sorted(glob.glob(name)):
            with suppress(OSError):
                found += [line for line in Path(file).read_text().splitlines() if not line.startswith(CLOCK)]
    return found


def words_in(value: Any) -> Iterator[str]:
    """All texts of nested values."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from words_in(item)


def _there(word: str) -> Path | None:
    """The file or folder that a word names; most words name none, and some could not."""
    if not any(character.isalnum() for character in word):  # a separator, as "/" or "."
        return None
    with suppress(OSError, ValueError, RuntimeError):
        path = Path(word).expanduser()
        return path if path.exists() else None
    return None
