"""Which local files and folders a recipe's names mean: found, or refused, before anything heavy is loaded."""

import difflib
import glob
import os
import re
from collections.abc import Iterable
from pathlib import Path

from ftkit.errors import UserError
from ftkit.hub.names import is_hub_id
from ftkit.recipe.schema import Recipe, Source

SAMPLE_PREFIX = "sample:"
PART_NAMES = {  # what splits are called
    "train": "train", "training": "train",
    "eval": "eval", "validation": "eval", "valid": "eval", "dev": "eval", "val": "eval",
    "test": "test",
}  # fmt: skip
OF_FILES = (
    "format",
    "header",
    "separator",
    "quoting",
    "field",
    "sample_by",
    "label_from",
)  # keys of a source that say how files are read
KINDS = {
    ".csv": "csv", ".tsv": "tsv", ".json": "json", ".jsonl": "json", ".ndjson": "json", ".parquet": "parquet",
    ".txt": "text", ".text": "text", ".conll": "conll", ".conllu": "conll",
}  # fmt: skip
PACKED = {".gz", ".zip"}
ELSEWHERE = {  # what other files are to be saved as, by the program that reads them
    **dict.fromkeys((".xlsx", ".xls", ".ods"), "a sheet: save it as csv"),
    **dict.fromkeys(
        (".feather", ".arrow", ".orc", ".avro", ".h5", ".pkl", ".pickle"),
        "save it as parquet, with pandas.DataFrame.to_parquet",
    ),
    **dict.fromkeys((".sqlite", ".db"), "a data base: save the table as csv or parquet"),
    **dict.fromkeys((".docx", ".pdf", ".html"), "save its text as .txt"),
    **dict.fromkeys((".tar", ".tgz", ".7z", ".rar", ".bz2", ".xz", ".zst"), "unpack it, or pack it as .zip or .gz"),
}
READABLE = f"{', '.join(KINDS)}, each also as .gz or in a .zip"
GLOB_CHARACTERS = frozenset("*?[")


def require_local(recipe: Recipe) -> None:
    """Make sure that every path in a recipe leads somewhere; hub ids and samples are looked for later.

    Raises:
        UserError: there is no such file or folder, or files of several kinds.
    """
    locate(recipe.model.name)
    if recipe.model.tokenizer:
        locate(recipe.model.tokenizer, "model.tokenizer")
    for part, sources in (("train", recipe.data.train), ("eval", recipe.data.eval), ("test", recipe.data.test)):
        for source in sources or []:
            local = not source.path.startswith(SAMPLE_PREFIX) and find_files(source.path, f"data.{part}", source.format)
            require_effect(source, bool(local), f"data.{part}")


def require_effect(source: Source, local: bool, key: str) -> None:
    """Raises UserError where a key of a source says something that has no effect on what it names."""
    idle: tuple[str, ...] = ("name", "revision")
    if local:
        kind = "a local file, and configurations and revisions are of data sets on the hub"
    elif source.path.startswith(SAMPLE_PREFIX):
        idle, kind = (*idle, *OF_FILES), "a sample"
    else:
        idle, kind = OF_FILES, "a data set on the hub"
    said = next((name for name in idle if getattr(source, name) is not None), None)
    if said is not None:
        raise UserError(f"'{said}' has no effect on {source.path}, which is {kind}", f"remove {said}", key=key)


def archive_of(path: str) -> tuple[Path, str] | None:
    """The .zip that a path leads into, as `rows.zip/test.csv` or `rows.zip/*.csv`, and what it says of the members."""
    place = Path(path).expanduser()
    for parent in place.parents:
        if parent.suffix.lower() == ".zip" and parent.is_file():
            return parent, place.relative_to(parent).as_posix()
    return None


def split_in(name: str) -> str:
    """Which split the name of a file is of: train, eval or test, by itself or a folder of it; empty where it says none."""
    *folders, file = Path(name.lower()).parts or ("",)
    words = re.split(r"[-_.]", file)
    words = words[:-1] or words
    for word in (*folders, words[0], words[-1]):
        if word in PART_NAMES:
            return PART_NAMES[word]
    return ""


def ending_of(name: str) -> str:
    """The ending that says what is in a file: `.csv` of rows.csv and of rows.csv.gz, `.zip` of rows.zip."""
    path = Path(name.lower())
    return Path(path.stem).suffix if path.suffix == ".gz" else path.suffix


def locate(name: str, key: str = "model.name") -> str:
    """An absolute folder, or a hub id.

    Raises:
        UserError: there is no such folder, and it is no hub id.
    """
    folder = Path(name).expanduser()
    if os.path.isdir(folder):  # no error for a name that no file can have, unlike Path.is_dir
        return str(folder.resolve())
    if os.path.exists(folder):
        raise UserError(f"{name} is a file, not a model folder", "name the folder that holds config.json", key=key)
    if is_hub_id(name):
        return name
    near = (
        difflib.get_close_matches(str(folder), map(str, folder.parent.iterdir()), n=1)
        if os.path.isdir(folder.parent)
        else []
    )
    raise UserError(f"no model folder {name}", f"did you mean {near[0]}?" if near else "name a folder or a hub id", key=key)


def find_files(path: str, key: str, format: str | None = None) -> list[Path]:
    """The local files a path means: itself, a glob's matches, or a folder's data files; empty for a hub id.

    Raises:
        UserError: it is no hub id and there are no such files, or files of several kinds.
    """
    place = Path(path).expanduser()
    if os.path.isfile(place):
        files = [place]
    elif os.path.isdir(place):
        found = sorted(file for file in place.rglob("*") if file.is_file())
        files = found if format else [file for file in found if _is_data(file.name)]
        if not files:
            other = next(
                (hint for file in found if (hint := ELSEWHERE.get(file.suffix.lower()))), f"readable are {READABLE}"
            )
            raise UserError(f"the folder {path} holds no data files", other, key=key)
    elif GLOB_CHARACTERS & set(path) and not archive_of(path):
        files = sorted(Path(match) for match in glob.glob(str(place), recursive=True) if Path(match).is_file())
        if not files:
            raise UserError(f"nothing matches {path}", "check the pattern; it starts from the current folder", key=key)
    elif archive := archive_of(path):
        return [archive[0]]
    elif is_hub_id(path) and not _is_data(path):
        return []
    else:
        if place.exists():
            raise UserError(f"{path} is no file", "name a file or a folder", key=key)
        raise UserError(f"no such file: {path}", _nearest_file(place), key=key)
    if not format:
        require_one_kind(path, [file.name for file in files if ending_of(file.name) != ".zip"], key)
    return files


def _is_data(name: str) -> bool:
    return ending_of(name) in KINDS or Path(name.lower()).suffix in PACKED


def _nearest_file(path: Path) -> str:
    names = [str(file) for file in path.parent.iterdir()] if os.path.isdir(path.parent) else []
    near = difflib.get_close_matches(str(path), names, n=1)
    return f"did you mean {near[0]}?" if near else "paths start from the current folder"


def require_one_kind(path: str, names: Iterable[str], key: str) -> None:
    kinds = {KINDS.get(ending_of(name), ending_of(name)) for name in names}
    unknown = sorted(kinds - set(KINDS.values()))
    if unknown:
        hint = ELSEWHERE.get(unknown[0], f"say what it is, as {{path: …, format: text}}; known are {READABLE}")
        raise UserError(f"{path}: files of kind '{unknown[0]}' cannot be read", hint, key=key)
    if len(kinds) > 1:
        hint = "name one kind by a glob, as folder/*.csv"
        raise UserError(f"{path} holds files of several kinds: {', '.join(sorted(kinds))}", hint, key=key)
