"""A run that was pushed to the hub, as a run's folder on this machine: wherever one is named, its repository may be.

What comes from the hub is data: files of known names alone are taken, none of which is run. A recipe that asks for code is
refused, or the code is left out.
"""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import yaml

from ftkit import console
from ftkit.cache import cache_folder
from ftkit.errors import UserError
from ftkit.hub.cache import snapshot
from ftkit.hub.door import fetching, offline_by_choice
from ftkit.hub.layout import RECIPE, RECORD, is_run, place_in_run
from ftkit.hub.names import Repository, is_hub_id

REVISION = "@"
CODE_FIELDS = ("trust_remote_code",)  # by which libraries run code of a repository


def run_folder(name: str | Path, revision: str | None = None) -> Path:
    """The folder itself; or that of the run in a repository, `OWNER/NAME` or `OWNER/NAME@REVISION`.

    Raises:
        UserError: there is no such repository, or it holds no run.
    """
    repository = run_repository(str(name), revision)
    if repository is None:
        return Path(name).expanduser()
    found = pulled(repository)
    if found is None:
        raise UserError(
            f"{repository} is no run of ftkit", "measure it with `ftkit eval`, given --recipe or --task", str(name)
        )
    return found


def found_run(name: str, revision: str | None = None) -> Path | None:
    """The folder of a run that a folder or a repository is; None where it is something else, as a model."""
    repository = run_repository(name, revision)
    folder = Path(name).expanduser() if repository is None else pulled(repository)
    return folder if folder is not None and folder.is_dir() and is_run(path.name for path in folder.iterdir()) else None


def run_repository(name: str, revision: str | None = None) -> Repository | None:
    """The repository that is meant; None where a folder is, also one that is misspelt beside others."""
    own, _, behind = name.partition(REVISION)
    if Path(name).expanduser().exists() or "/" not in own or not is_hub_id(own) or Path(own).parent.exists():
        return None
    repository = Repository(own, "model", behind or revision, name)
    return None if offline_by_choice() and snapshot(repository) is None else repository


def pulled(repository: Repository) -> Path | None:
    """A run's folder in ftkit's cache, made of the repository's files; None where it holds no run.

    Raises:
        UserError: it cannot be had, or asks for code of its own to be run.
    """
    found = fetched(repository)
    if found is None:
        return None
    folder = cache_folder() / "pulled" / repository.name.replace("/", "--") / found.name
    beside = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(beside, ignore_errors=True)
    for file in sorted(path for path in found.rglob("*") if path.is_file()):
        if (place := place_in_run(file.relative_to(found).as_posix())) is not None:
            (beside / place).parent.mkdir(parents=True, exist_ok=True)
            (beside / place).symlink_to(file.resolve())
    make_harmless(beside, repository)
    shutil.rmtree(folder, ignore_errors=True)
    beside.rename(folder)
    return folder


def fetched(repository: Repository) -> Path | None:
    """Where the hub's cache has the files of a run; None where the repository holds none."""
    from huggingface_hub import HfApi, hf_hub_download

    if offline_by_choice():
        folder = snapshot(repository)
        return folder if folder is not None and is_run(path.name for path in folder.iterdir()) else None
    with fetching(repository):
        info: Any = HfApi().model_info(repository.name, revision=repository.revision, timeout=10)
        names = [sibling.rfilename for sibling in info.siblings or []]
        if not is_run(names):
            return None
        wanted = [name for name in names if place_in_run(name) is not None]
        with console.status(f"fetching the run {repository.name}"):
            paths = [hf_hub_download(repository.name, name, revision=info.sha) for name in wanted]
    return Path(paths[wanted.index(RECORD)]).parent


def make_harmless(folder: Path, repository: Repository) -> None:
    """Take out of recipe and record whatever would run code.

    Raises:
        UserError: without it the model cannot be loaded, or they are no files of a run.
    """
    try:
        recipe: Any = yaml.safe_load((folder / RECIPE).read_text(encoding="utf-8"))
        record: Any = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        wants_code = bool(recipe["model"].get("trust_remote_code"))
        record["load"]["arguments"] = {
            name: value for name, value in record["load"]["arguments"].items() if name not in CODE_FIELDS
        }
    except (ValueError, KeyError, TypeError, AttributeError, yaml.YAMLError) as error:
        raise UserError(f"{repository}: its recipe.yaml or run.json is not that of a run", key=repository.key) from error
    if wants_code:
        hint = f"fetch it with `hf download {repository.name}`, read the code, and load it by transformers"
        raise UserError(f"{repository} needs code of its own, which is not run from the hub", hint, key=repository.key)
    if (recipe.get("evaluation") or {}).pop("metric_file", None):
        console.warn(f"{repository.name}: its own metric is code, and is left out")
    write_own(folder, recipe, record)


def write_own(folder: Path, recipe: Any, record: Any) -> None:
    """The two files as they are to be read, in place of links to the cache's; the recipe's digest follows it."""
    text = yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True, width=120)
    before = hashlib.sha256((folder / RECIPE).read_bytes()).hexdigest()
    recorded = record.get("fingerprints") or {}
    if recorded.get("recipe") == before:
        record["fingerprints"] = {**recorded, "recipe": hashlib.sha256(text.encode()).hexdigest()}
    for name, content in ((RECIPE, text), (RECORD, json.dumps(record, indent=2, ensure_ascii=False) + "\n")):
        (folder / name).unlink()
        (folder / name).write_text(content, encoding="utf-8")
