"""The recipes that come with ftkit: beside the package in a checkout, inside it once installed."""

import difflib
from pathlib import Path

from ftkit.errors import UserError

_PACKAGE = Path(__file__).parent.parent
FOLDERS = (_PACKAGE / "_recipes", _PACKAGE.parent / "recipes")


def packaged_recipes() -> dict[str, Path]:
    """Name → file, sorted by name."""
    folder = next((folder for folder in FOLDERS if folder.is_dir()), None)
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))} if folder else {}


def find_packaged(name: str) -> Path:
    """Raises UserError where there is no such recipe."""
    found = packaged_recipes()
    name = name.removesuffix(".yaml")
    if name not in found:
        near = difflib.get_close_matches(name, found, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(found)}"
        raise UserError(f"no recipe '{name}' comes with ftkit", hint)
    return found[name]


def summary(path: Path) -> str:
    """A recipe's first comment line."""
    first = path.read_text(encoding="utf-8").partition("\n")[0]
    return first.lstrip("# ").strip()
