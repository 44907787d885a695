"""What the hub's cache on this machine has of a repository; the folders are those of huggingface_hub and datasets."""

import json
import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from huggingface_hub import constants
from huggingface_hub.file_download import repo_folder_name

from ftkit.cache import cache_folder
from ftkit.hub.names import Kind, Repository
from ftkit.hub.names import is_commit as is_commit


def repository_folder(repository: Repository) -> Path:
    """Where the cache has the repository, if it has it."""
    return Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=repository.name, repo_type=repository.kind)


def hub_folders(repository: Repository) -> list[Path]:
    """All folders in which something of the repository may be: its files, and the rows that were made of a data set's."""
    folders = [repository_folder(repository)]
    if repository.kind == "dataset":
        made = Path(os.environ.get("HF_DATASETS_CACHE") or Path(constants.HF_HOME, "datasets"))
        folders.append(made / repository.name.replace("/", "___"))
    return folders


def cached(repository: Repository) -> bool:
    """Whether the cache holds any file of the repository; of one at a commit, any of that commit."""
    files, *made = hub_folders(repository)
    if is_commit(repository.revision):
        commit = str(repository.revision)
        return commit in commits_of(repository) or any(
            folder.is_dir() and any(folder.rglob(f"{commit}*")) for folder in made
        )
    places = [files / "snapshots", *made]
    return any(folder.is_dir() and any(folder.rglob("*")) for folder in places)


def commits_of(repository: Repository) -> list[str]:
    """The commits of which the cache has files."""
    snapshots = repository_folder(repository) / "snapshots"
    return sorted(folder.name for folder in snapshots.iterdir()) if snapshots.is_dir() else []


def commit_of(repository: Repository, ref: str | None = None) -> str | None:
    """The commit that a branch or tag was when it was looked up last, or the commit itself where the cache has it.

    Args:
        ref: default the repository's own.
    """
    ref = ref or repository.ref
    if is_commit(ref):
        return ref if ref in commits_of(repository) else None
    file = repository_folder(repository) / "refs" / ref
    return file.read_text(encoding="utf-8").strip() if file.is_file() else None


def refs_of(repository: Repository) -> list[str]:
    """The branches and tags of which the cache knows the commit."""
    refs = repository_folder(repository) / "refs"
    return sorted(file.relative_to(refs).as_posix() for file in refs.rglob("*") if file.is_file())


def note_commit(repository: Repository, commit: str) -> None:
    """Let the cache know which commit a branch or tag is now, as huggingface_hub does where it fetches by that name."""
    if not is_commit(repository.ref) and commit_of(repository) != commit:
        write_quietly(repository_folder(repository) / "refs" / repository.ref, commit)


def files_known(repository: Repository, commit: str) -> tuple[str, ...] | None:
    """The names of the repository's files at a commit, which never change; None where they were not noted."""
    try:
        return tuple(json.loads(_list_file(repository, commit).read_text(encoding="utf-8")))
    except (OSError, ValueError, RuntimeError):
        return None


def note_files(repository: Repository, commit: str, files: Sequence[str]) -> None:
    """Remember them."""
    write_quietly(_list_file(repository, commit), json.dumps(files))


def write_quietly(file: Path, text: str) -> None:
    """Whole or not at all; what cannot be written is asked again another time."""
    beside = file.with_name(f".{file.name}.{os.getpid()}")
    with suppress(OSError, RuntimeError):
        file.parent.mkdir(parents=True, exist_ok=True)
        beside.write_text(text, encoding="utf-8")
        beside.replace(file)


def _list_file(repository: Repository, commit: str) -> Path:
    return cache_folder() / "hub" / repository_folder(repository).name / f"{commit}.json"


def snapshot(repository: Repository) -> Path | None:
    """The folder of the cache with the repository's files at its revision; None where it has none."""
    commit = commit_of(repository)
    folder = repository_folder(repository) / "snapshots" / (commit or "")
    return folder if commit and folder.is_dir() else None


def lacking(repository: Repository, commit: str, files: Iterable[str]) -> list[str]:
    """Which of the files the cache does not have at that commit."""
    folder = repository_folder(repository) / "snapshots" / commit
    return [name for name in files if not (folder / name).is_file()]


def known_ids(kind: Kind) -> list[str]:
    """The ids of which the cache has something."""
    home, prefix = Path(constants.HF_HUB_CACHE), f"{kind}s--"
    names = [folder.name for folder in home.iterdir()] if home.is_dir() else []
    return sorted(name.removeprefix(prefix).replace("--", "/") for name in names if name.startswith(prefix))
