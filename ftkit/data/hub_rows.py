"""Rows of a data set on the hub, of one commit and configuration: fetched once, and nothing is asked for them afterwards."""

import difflib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from glob import escape
from pathlib import Path
from typing import Any

import datasets.config
from datasets import DatasetBuilder, DownloadConfig, IterableDataset, load_dataset_builder
from datasets.naming import camelcase_to_snakecase
from datasets.packaged_modules.cache.cache import Cache
from huggingface_hub import HfApi, get_hf_file_metadata, hf_hub_url
from huggingface_hub.hf_api import RepoFile

from ftkit.errors import UserError
from ftkit.hub.cache import is_commit
from ftkit.hub.door import fetching
from ftkit.hub.names import Repository
from ftkit.hub.reasons import one_line
from ftkit.recipe.schema import Source
from ftkit.scratch import scratch

UNNAMED = "Config name is missing"  # how the library begins to say that one of several is to be chosen
DEFAULT_MARK = "default_configuration"  # a file beside prepared rows: they are those of a source that names no configuration


def read_hub(source: Source, split: str, key: str, *, streaming: bool = False) -> Any:
    """The rows of a source that is a data set on the hub.

    Args:
        split: "train", "eval" or "test": which is meant where the source names none.
        streaming: read as they are needed, as an IterableDataset, unless they are in the cache.
        key: the recipe key of the source, for messages.

    Raises:
        UserError: they cannot be had, for whatever reason.
    """
    part = source.split or ("train" if split == "train" else "test")
    repository = Repository(source.path, "dataset", source.revision, key)
    with one_line(repository):
        if builder := prepared(source):
            return _stream(builder, part, source, key) if streaming else _rows(builder, part, source, key)
    with fetching(repository), scratch() as empty:
        # With rows of the data set in its cache the library takes those of any commit and configuration rather than say why
        # it cannot have the ones that it is asked for.
        with _listed(source, key):
            builder = load_dataset_builder(source.path, source.name, revision=source.revision, cache_dir=empty)
        if streaming:
            return _stream(builder, part, source, key)
        folder = Path(datasets.config.HF_DATASETS_CACHE).expanduser() / Path(builder.cache_dir).relative_to(empty)
        downloads = DownloadConfig(cache_dir=datasets.config.DOWNLOADED_DATASETS_PATH, use_etag=False)
        builder.download_and_prepare(str(folder), download_config=downloads)
        if source.name is None:
            (folder / DEFAULT_MARK).touch()
        return _rows(builder, part, source, key)


def prepared(source: Source) -> DatasetBuilder | None:
    """The builder of rows that were made before of exactly this commit and configuration; None where there are none."""
    if not is_commit(source.revision):
        return None
    *owner, name = source.path.split("/")
    home = Path(datasets.config.HF_DATASETS_CACHE).expanduser() / "___".join([*owner, camelcase_to_snakecase(name)])
    for folder in sorted(home.glob(f"{escape(source.name) if source.name else '*'}/*/{source.revision}")):
        if (folder / "dataset_info.json").is_file() and (source.name or (folder / DEFAULT_MARK).is_file()):
            configuration, version, commit = folder.parts[-3:]
            return Cache(repo_id=source.path, dataset_name=name, config_name=configuration, version=version, hash=commit)
    return None


@contextmanager
def _listed(source: Source, key: str) -> Iterator[None]:
    """Raises why the files of a data set cannot be listed or read, where the library does not say, and what is to be named.

    It takes files for absent that it cannot list, and says of a gated data set only that it is one.
    """
    try:
        yield
    except FileNotFoundError:
        found = HfApi().list_repo_tree(source.path, repo_type="dataset", revision=source.revision, recursive=True)
        if file := next((entry.path for entry in found if isinstance(entry, RepoFile)), None):
            get_hf_file_metadata(hf_hub_url(source.path, file, repo_type="dataset", revision=source.revision))
        raise
    except ValueError as error:
        if UNNAMED not in str(error):
            raise
        names = re.findall(r"'([^']+)'", str(error).partition("]")[0])
        hint = f"name one: {{path: {source.path}, name: {names[0]}}}" if names else "name one, as {path: ID, name: …}"
        raise UserError(f"{source.path} has several configurations: {', '.join(names)}", hint, key=key) from error


def _rows(builder: DatasetBuilder, split: str, source: Source, key: str) -> Any:
    if split.isidentifier():  # and no part of one, as train[:10%]
        _require_split(split, list(builder.info.splits or ()), source, key)
    return builder.as_dataset(split=split)


def _stream(builder: DatasetBuilder, split: str, source: Source, key: str) -> IterableDataset:
    streams = builder.as_streaming_dataset()
    _require_split(split, list(streams), source, key)
    return streams[split] if streams[split].features else streams[split]._resolve_features()


def _require_split(split: str, known: list[str], source: Source, key: str) -> None:
    if split not in known:
        near = difflib.get_close_matches(split, known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"say which: {{path: {source.path}, split: {known[0]}}}"
        raise UserError(f"{source.path} has no split '{split}', it has {', '.join(known)}", hint, key=key)
