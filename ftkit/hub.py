"""Is a name a local path or a hub id, and can the hub be reached? Answered in seconds, before anything heavy is loaded."""

import os
import re
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from ftkit.errors import UserError
from ftkit.recipe.schema import Recipe

DEFAULT_ENDPOINT = "https://huggingface.co"
HUB_ID = re.compile(r"^[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?$")
OFFLINE = "HF_HUB_OFFLINE"
LIBRARIES = ("huggingface_hub.constants", "datasets.config")  # keep their own note of it from when they are imported
TRUE_WORDS = {"1", "true", "yes", "on"}
DEADLINE_SECONDS = 4.0
FILE_ENDINGS = {  # of a file, not of a hub id
    ".csv", ".tsv", ".json", ".jsonl", ".ndjson", ".parquet", ".txt", ".text", ".conll", ".conllu", ".gz", ".zip",
}  # fmt: skip


def is_hub_id(name: str) -> bool:
    """Whether `name` can only be a hub id: no such path here, nor one within a file, and the form `name` or `owner/name`."""
    path = Path(name).expanduser()
    return bool(HUB_ID.match(name)) and not path.exists() and not any(parent.is_file() for parent in path.parents)


def offline_by_choice() -> bool:
    return os.environ.get(OFFLINE, "").lower() in TRUE_WORDS


def hub_reachable() -> bool:
    """Whether the hub, or the proxy that leads to it, takes a connection; False within a few seconds otherwise."""
    if offline_by_choice():
        return False
    proxy = os.environ.get("HTTPS_PROXY") or os.environ.get("https_proxy")
    address = urlsplit(proxy or os.environ.get("HF_ENDPOINT", DEFAULT_ENDPOINT))
    connected = threading.Event()

    def connect() -> None:
        try:
            with socket.create_connection((address.hostname or "", address.port or 443), timeout=DEADLINE_SECONDS):
                connected.set()
        except OSError:
            return

    # A thread, because looking up a name has no timeout of its own.
    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    thread.join(DEADLINE_SECONDS)
    return connected.is_set()


def cached(name: str, kind: str) -> bool:
    """Whether the hub's local cache holds something of this model or dataset."""
    return any(folder.is_dir() and any(folder.rglob("*")) for folder in hub_folders(name, kind))


def hub_folders(name: str, kind: str) -> list[Path]:
    """Where the hub's local cache has a model or dataset, if it has it; the variables are those of huggingface_hub."""
    given = os.environ
    home = Path(given.get("HF_HOME") or Path(given.get("XDG_CACHE_HOME", "~/.cache"), "huggingface")).expanduser()
    hub = given.get("HF_HUB_CACHE") or given.get("HUGGINGFACE_HUB_CACHE") or home / "hub"
    folders = [Path(hub).expanduser() / f"{kind}s--{name.replace('/', '--')}"]
    if kind == "dataset":
        folders.append(Path(given.get("HF_DATASETS_CACHE", home / "datasets")) / name.replace("/", "___"))
    return folders


@contextmanager
def offline_mode_kept() -> Iterator[None]:
    """Leaves the process as it was: what `require_reachable` sets within it is undone at its end."""
    known = os.environ.get(OFFLINE)
    flags = {module: vars(sys.modules[module])[OFFLINE] for module in LIBRARIES if module in sys.modules}
    try:
        yield
    finally:
        if known is None:
            os.environ.pop(OFFLINE, None)
        else:
            os.environ[OFFLINE] = known
        for module in LIBRARIES:
            if module in sys.modules:
                vars(sys.modules[module])[OFFLINE] = flags.get(module, offline_by_choice())


def require_reachable(names: list[tuple[str, str, str]]) -> None:
    """Make sure that every hub id can be had, from the cache or from the hub.

    Where the hub cannot be reached but the cache holds all, the libraries are told to stay offline, so that they do not
    wait for it. Call this before they are imported, or within `offline_mode_kept`.

    Args:
        names: (hub id, "model" or "dataset", place in the recipe).

    Raises:
        UserError: something is neither in the cache nor can the hub be reached.
    """
    wanted = [(name, kind, key) for name, kind, key in names if is_hub_id(name)]
    if not wanted or hub_reachable():
        return
    for name, kind, key in wanted:
        if not cached(name, kind):
            why = "HF_HUB_OFFLINE is set" if offline_by_choice() else "the hub cannot be reached"
            hint = f"name a local {'folder' if kind == 'model' else 'file or folder'}, or try the recipe with --smoke"
            raise UserError(f"'{name}' is no local path, is not in the cache, and {why}", hint, key=key)
    os.environ[OFFLINE] = "1"
    for module in LIBRARIES:
        if module in sys.modules:
            vars(sys.modules[module])[OFFLINE] = True


def hub_names(recipe: Recipe) -> list[tuple[str, str, str]]:
    """The names in a recipe that may be hub ids: (name, "model" or "dataset", recipe key)."""
    names = [(recipe.model.name, "model", "model.name")]
    if recipe.model.tokenizer:
        names.append((recipe.model.tokenizer, "model", "model.tokenizer"))
    sources = [(part, source) for part in ("train", "eval", "test") for source in getattr(recipe.data, part) or []]
    return names + [
        (source.path, "dataset", f"data.{part}")
        for part, source in sources
        if ":" not in source.path and Path(source.path).suffix.lower() not in FILE_ENDINGS
    ]
