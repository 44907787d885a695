"""All that a recipe stands on as it is now: its values, the files that its names lead to, the versions, the machine."""

import itertools
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from ftkit.answers import key_of
from ftkit.data.paths import find_files
from ftkit.errors import UserError
from ftkit.hub import hub_folders, hub_names
from ftkit.recipe.schema import Recipe

MOST_FILES = 10_000  # of which size and time are looked up; it takes a tenth of a second
SETTINGS = ("BNB_", "CUDA_", "FTKIT_", "HF_", "HIP_", "ROCR_", "TRANSFORMERS_")


def inputs_key(recipe: Recipe) -> str | None:
    """A digest that changes when anything does from which a check of the recipe follows; None where none can tell.

    None can where a file of the user's own code is run, which may import others, and where what is chosen follows from the
    memory that is free. Files count by name, size and time of change.
    """
    if recipe.evaluation.metric_file or recipe.training.finds_batch or recipe.strategy.name == "auto":
        return None
    values = recipe.model_dump(mode="json")
    files = list(itertools.islice(files_behind(recipe, values), MOST_FILES + 1))
    if len(files) > MOST_FILES:
        return None
    settings = {name: value for name, value in os.environ.items() if name.startswith(SETTINGS)}
    return key_of(values, str(Path.cwd()), sorted(files), settings, sorted(map(str, Path("/dev").glob("nvidia*"))))


def files_behind(recipe: Recipe, values: Any) -> Iterator[tuple[str, int, int]]:
    """Name, size and time of change of each file that a word of the recipe leads to, here or in the hub's cache."""
    places = [path for word in words_in(values) if (path := _there(word))]
    places += [folder for name, kind, _ in hub_names(recipe) for folder in hub_folders(name, kind)]
    for sources in (recipe.data.train, recipe.data.eval, recipe.data.test):
        for source in sources or []:
            with suppress(UserError):  # what cannot be found is the check's to say
                places += find_files(source.path, "data", source.format)
    for place in dict.fromkeys(places):
        for file in place.rglob("*") if place.is_dir() else [place]:
            with suppress(OSError):
                state = file.stat()
                yield str(file), state.st_size, state.st_mtime_ns


def words_in(value: Any) -> Iterator[str]:
    """All texts of nested values."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from words_in(item)


def _there(word: str) -> Path | None:
    """The file or folder that a word names; most words name none, and some could not."""
    with suppress(OSError, ValueError, RuntimeError):
        path = Path(word).expanduser()
        return path if word and path.exists() else None
    return None
