"""Fetching files of a repository at a commit into the hub's cache: those that say what a model is, and its weights."""

import hashlib
import json
import logging
import os
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from huggingface_hub import hf_hub_download

from ftkit.errors import UserError
from ftkit.hub.cache import lacking, repository_folder
from ftkit.hub.lookup import patiently
from ftkit.hub.names import Repository
from ftkit.hub.progress import download_shown
from ftkit.hub.reasons import address, one_line

AT_ONCE = 8
CONFIG, ADAPTER, CARD = "config.json", "adapter_config.json", "README.md"
SMALL = {".json", ".txt", ".model", ".jinja", ".spm", ".bpe", ".codes", ".vocab", ".tiktoken"}
TEMPLATES = "additional_chat_templates/"
WEIGHTS = (  # the first that a repository has is what transformers reads
    "model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json",
)  # fmt: skip
UNREADABLE = {  # files of weights that transformers does not read, by what is said of them
    ".gguf": "GGUF", ".h5": "TensorFlow", ".msgpack": "Flax", ".ckpt": "a checkpoint", ".onnx": "ONNX",
}  # fmt: skip
INDEX = ".index.json"
CHUNK = 2**22


def small_files(files: Sequence[str], *, code: bool) -> list[str]:
    """What says how a model and its tokenizer are made, and the repository's card.

    Args:
        code: the repository's own code too.
    """
    return [name for name in files if _is_small(name, code=code)]


def _is_small(name: str, *, code: bool) -> bool:
    ending = os.path.splitext(name)[1].lower()
    if "/" in name:
        return name.startswith(TEMPLATES) or (code and ending == ".py")
    return name == CARD or (ending in SMALL and not name.endswith(INDEX)) or (code and ending == ".py")


def weights_of(files: Sequence[str]) -> str | None:
    """The file of weights that transformers reads, or the index of several; None where there is none."""
    return next((name for name in WEIGHTS if name in files), None)


def require_model(repository: Repository, files: Sequence[str], *, weights: bool) -> None:
    """Raises UserError where a repository is no model that can be trained."""
    page = f"see {address(repository)}/tree/{repository.ref}"
    if CONFIG not in files:
        if ADAPTER in files:
            message = "it is an adapter, not a model"
            raise UserError(f"{repository}: {message}", _base_hint(repository), key=repository.key)
        other = next((f"it holds {kind}" for ending, kind in UNREADABLE.items() if _any(files, ending)), "")
        raise UserError(f"{repository}: it has no {CONFIG}{', ' * bool(other)}{other}", page, key=repository.key)
    if weights and weights_of(files) is None:
        other = next((f"; what it has is of {kind}" for ending, kind in UNREADABLE.items() if _any(files, ending)), "")
        raise UserError(f"{repository}: it has no weights that transformers reads{other}", page, key=repository.key)


def _any(files: Sequence[str], ending: str) -> bool:
    return any(name.endswith(ending) for name in files)


def _base_hint(repository: Repository) -> str:
    """Which model the adapter stands on."""
    with suppress(Exception):  # the hint is the poorer for it
        file = hf_hub_download(repository.name, ADAPTER, revision=repository.revision)
        return f"name its base, {json.loads(Path(file).read_text(encoding='utf-8'))['base_model_name_or_path']}"
    return "name the model that it stands on"


def fetch(repository: Repository, files: Sequence[str]) -> list[Path]:
    """The files at the repository's revision, which is a commit, in the cache; what is there already is not asked for.

    Raises:
        UserError: one of them cannot be had, or is not what the hub has.
    """
    commit = str(repository.revision)
    folder = repository_folder(repository) / "snapshots" / commit
    missing = lacking(repository, commit, files)
    if missing:
        with one_line(repository), download_shown(f"fetching {repository.name}") as download:
            bar = download.bar_class()
            logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # of what goes wrong there is one line, ours
            with ThreadPoolExecutor(min(AT_ONCE, len(missing))) as pool:
                for name, path in zip(
                    missing, pool.map(lambda name: _fetch_one(repository, name, bar), missing), strict=True
                ):
                    require_unchanged(repository, name, Path(path))
    return [folder / name for name in files]


def _fetch_one(repository: Repository, name: str, bar: type) -> str:
    return patiently(
        lambda: hf_hub_download(
            repository.name, name, repo_type=repository.kind, revision=repository.revision, tqdm_class=bar
        )
    )


def fetch_model(repository: Repository, files: Sequence[str]) -> None:
    """The weights that transformers reads, of one file or of several."""
    found = weights_of(files)
    if found is None:
        return
    (path,) = fetch(repository, [found])
    if found.endswith(INDEX):
        fetch(repository, parts_of(repository, path))


def parts_of(repository: Repository, index: Path) -> list[str]:
    """The files of weights that an index names.

    Raises:
        UserError: it is no such index.
    """
    try:
        parts = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        return sorted("" + part for part in parts)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        message = f"{repository}: its {index.name} is no index of weights"
        raise UserError(message, "its owner has to mend it; choose another model or revision", key=repository.key) from error


def require_unchanged(repository: Repository, name: str, path: Path) -> None:
    """Hold a file that was fetched against its digest, by which the cache has it; one that differs is taken away.

    Raises:
        UserError: it is not what the hub has.
    """
    blob = path.resolve()
    wanted = blob.name
    if not re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", wanted) or digest_of(blob, wanted) == wanted:
        return
    path.unlink(missing_ok=True)
    blob.unlink(missing_ok=True)
    message = f"{name} did not come as the hub has it: its digest is another"
    raise UserError(f"{repository}: {message}", "a proxy may have changed it; fetch it again", key=repository.key)


def digest_of(file: Path, like: str) -> str:
    """SHA-256 of a large file, or git's own digest of a small one, whichever `like` is."""
    digest = hashlib.sha256() if len(like) == 64 else hashlib.sha1(b"blob %d\0" % file.stat().st_size)
    with file.open("rb") as stream:
        while part := stream.read(CHUNK):
            digest.update(part)
    return digest.hexdigest()
