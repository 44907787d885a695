"""A run that was pushed to the hub, as a run's folder on this machine: wherever one is named, its repository may be.

What comes from the hub is data: files of known names alone are taken, none of which is run. A recipe that asks for code is
refused, or the code is left out.
"""

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from ftkit import console
from ftkit.cache import cache_folder
from ftkit.classes import strange_adapter, strange_config, strange_load
from ftkit.errors import UserError
from ftkit.hub.cache import files_known, note_commit, note_files, snapshot
from ftkit.hub.client import use_client
from ftkit.hub.files import fetch
from ftkit.hub.layout import RECIPE, RECORD, is_run, place_in_run
from ftkit.hub.lookup import Listing, look_up
from ftkit.hub.names import Repository, is_hub_id
from ftkit.hub.offline import may_ask, offline_by_choice, online, why_offline
from ftkit.hub.reasons import is_refusal, reason_of, words_of
from ftkit.reading import Damaged, object_if_there, read_text

REVISION = "@"
VERIFICATION, ADAPTER, CONFIG = "verification/facts.json", "model/adapter_config.json", "model/config.json"


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
    listing = listed(repository)
    if not is_run(listing.files):
        return None
    wanted = [name for name in listing.files if place_in_run(name) is not None]
    with online():
        fetch(replace(repository, revision=listing.commit), wanted)
    note_commit(repository, listing.commit)
    return snapshot(replace(repository, revision=listing.commit))


def listed(repository: Repository) -> Listing:
    """The repository as it is now; where the hub does not answer, as the cache has it, and a line says so.

    Raises:
        UserError: the hub refuses it, or it is in neither.
    """
    here = snapshot(repository)
    if may_ask():
        use_client()
        with online():
            answer = look_up([repository], in_cache=lambda known: here is not None)[repository]
        if isinstance(answer, Listing):
            note_files(repository, answer.commit, answer.files)
            return answer
        if here is None or is_refusal(answer):
            raise reason_of(answer, repository) from answer
        console.say(f"{words_of(answer, repository)[0]}: what the cache has of {repository.name} is taken")
    if here is None:
        raise UserError(
            f"{repository.name} is no run's folder, is not in the cache, and {why_offline()}", key=repository.key
        )
    files = files_known(repository, here.name)
    return Listing(here.name, files or tuple(path.relative_to(here).as_posix() for path in here.rglob("*")))


def make_harmless(folder: Path, repository: Repository) -> None:
    """Take out of a run's files whatever would run code.

    Raises:
        UserError: without it the model cannot be loaded, or they are no files of a run.
    """
    try:
        recipe: Any = yaml.safe_load(read_text(folder / RECIPE))
        record, facts = object_if_there(folder / RECORD), object_if_there(folder / VERIFICATION)
        needs_code = bool(recipe["model"].get("trust_remote_code"))
        own_metric = (recipe.get("evaluation") or {}).pop("metric_file", None)
        found = [one["load"] for one in (record, facts) if one is record or one]
        strange = [words for load in found if (words := strange_load(load))]
        strange += [strange_adapter(object_if_there(folder / ADAPTER)), strange_config(object_if_there(folder / CONFIG))]
        for load in found:
            load["arguments"].pop("trust_remote_code", None)
    except Damaged as error:
        message = f"{repository}: its files are not those of a run: {error.file.relative_to(folder)}: {error.message}"
        raise UserError(message, key=repository.key) from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, yaml.YAMLError) as error:
        raise UserError(f"{repository}: its files are not those of a run", key=repository.key) from error
    if needs_code or any(strange):
        hint = f"fetch it with `hf download {repository.name}`, read the code, and load it by transformers"
        raise UserError(f"{repository} needs code of its own, which is not run from the hub", hint, key=repository.key)
    if own_metric:
        console.warn(f"{repository.name}: its own metric is code, and is left out")
    write_own(folder, recipe, record, facts)


def write_own(folder: Path, recipe: Any, record: dict[str, Any], facts: dict[str, Any]) -> None:
    """The files as they are to be read, in place of links to the cache's; the recipe's digest follows it."""
    text = yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True, width=120)
    recorded = record.get("fingerprints") or {}
    if recorded.get("recipe") == hashlib.sha256((folder / RECIPE).read_bytes()).hexdigest():
        record["fingerprints"] = {**recorded, "recipe": hashlib.sha256(text.encode()).hexdigest()}
    for name, content in ((RECIPE, text), (RECORD, json.dumps(record)), (VERIFICATION, json.dumps(facts))):
        if (folder / name).exists():
            (folder / name).unlink()
            (folder / name).write_text(content, encoding="utf-8")
