"""What the hub's cache on this machine has of a repository; the folders are those of huggingface_hub and datasets."""

import os
from pathlib import Path

from huggingface_hub import constants
from huggingface_hub.file_download import REGEX_COMMIT_HASH, repo_folder_name

from ftkit.hub.names import Kind, Repository


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
    """Whether the cache holds any file of the repository."""
    return any(folder.is_dir() and any(folder.rglob("*")) for folder in hub_folders(repository))


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


def snapshot(repository: Repository) -> Path | None:
    """The folder of the cache with the repository's files at its revision; None where it has none."""
    commit = commit_of(repository)
    folder = repository_folder(repository) / "snapshots" / (commit or "")
    return folder if commit and folder.is_dir() else None


def known_ids(kind: Kind) -> list[str]:
    """The ids of which the cache has something."""
    home, prefix = Path(constants.HF_HUB_CACHE), f"{kind}s--"
    names = [folder.name for folder in home.iterdir()] if home.is_dir() else []
    return sorted(name.removeprefix(prefix).replace("--", "/") for name in names if name.startswith(prefix))


def is_commit(ref: str | None) -> bool:
    """Whether a revision is a whole commit, which never moves."""
    return ref is not None and REGEX_COMMIT_HASH.fullmatch(ref) is not None
