"""What is made public names no folder of this machine and nobody who works on it: of local paths the last part is left."""

import getpass
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ftkit.errors import UserError
from ftkit.hub.names import is_hub_id
from ftkit.recipe.schema import Recipe
from ftkit.run import Run
from ftkit.secrets import names_secret

PART = r"[^\s\"'`,;:<>()\[\]{}|]*"  # of a path, as it stands in texts
KINDS = (".json", ".jsonl", ".yaml", ".md", ".html", ".txt", ".jinja", ".py")


def local_names(run: Run, recipe: Recipe) -> list[str]:
    """The paths that the recipe names, and the folders that must not be named; the longest first."""
    named = [recipe.model.name, recipe.model.tokenizer, recipe.evaluation.metric_file, recipe.evaluation.general_text]
    named += [source.path for part in ("train", "eval", "test") for source in getattr(recipe.data, part) or []]
    paths = [name for name in named if isinstance(name, str) and is_path(name)]
    return sorted({*paths, *map(str, (Path(path).expanduser().absolute() for path in paths)), *folders(run, recipe)},
                  key=len, reverse=True)  # fmt: skip


def is_path(name: str) -> bool:
    """Whether a name in a recipe is that of a file or folder here, in a folder that need not be known."""
    return "/" in name and not is_hub_id(name) and "://" not in name


def folders(run: Run, recipe: Recipe) -> set[str]:
    """Folders of this machine whose names tell of whom it is, or of the run's place."""
    own = {Path.home(), Path.cwd(), run.folder.absolute(), run.folder.resolve(), run.folder.absolute().parent}
    if recipe.source:
        own.add(Path(recipe.source).absolute().parent)
    own |= {Path(name).expanduser().absolute().parent for name in (recipe.model.name,) if is_path(name)}
    return {str(folder) for folder in own if len(folder.parts) > 1}


def scrubbed(value: Any, names: Iterable[str]) -> Any:
    """The value, with the last part of each local path in its place, in whatever text it stands."""
    if isinstance(value, dict):
        return {scrubbed(key, names): scrubbed(item, names) for key, item in value.items()}
    if isinstance(value, list):
        return [scrubbed(item, names) for item in value]
    return without_paths(value, names) if isinstance(value, str) else value


def without_paths(text: str, names: Iterable[str]) -> str:
    for name in names:
        if name in text:
            text = re.sub(rf"(?<![\w.-]){re.escape(name)}(?:/{PART}|(?![\w.-]))", _last_part, text)
    return text


def _last_part(found: re.Match[str]) -> str:
    return found[0].rstrip("/").rpartition("/")[2]


def require_scrubbed(files: Iterable[Path], run: Run, recipe: Recipe) -> None:
    """Look once more, at whatever is to be made public.

    Raises:
        UserError: a folder of this machine is still named somewhere, or a secret of its environment; nothing is pushed.
    """
    private = [f"{folder}/" for folder in folders(run, recipe)] + [f"/home/{_user()}/", f"/Users/{_user()}/"]
    for file in files:
        text = file.read_text(encoding="utf-8", errors="replace") if file.suffix in KINDS else ""
        if found := next((name for name in private if name in text), None):
            raise UserError(f"{file.name} would make the folder {found} public", "take it out of the file", str(run.folder))
        if names_secret(text):
            message = f"{file.name} would make a token or password of the environment public"
            raise UserError(message, "take it out of the file", str(run.folder))


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a process may run under a number that has no name
        return "?"
