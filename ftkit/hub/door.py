"""The one door to the hub: a look-up of each repository's commit when a command begins, then only what is fetched by it."""

import os
import socket
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from urllib.parse import urlsplit

from ftkit.errors import UserError
from ftkit.hub.cache import cached
from ftkit.hub.names import Kind, Repository, hub_names, model_names
from ftkit.hub.reasons import one_line
from ftkit.recipe.schema import Model, Recipe

DEFAULT_ENDPOINT = "https://huggingface.co"
OFFLINE = "HF_HUB_OFFLINE"
LIBRARIES = ("huggingface_hub.constants", "datasets.config")  # keep their own note of it from when they are imported
TRUE_WORDS = {"1", "true", "yes", "on"}
DEADLINE_SECONDS = 4.0
KINDS: tuple[Kind, ...] = ("model", "dataset")


def pinned(recipe: Recipe, kinds: Sequence[Kind] = KINDS) -> Recipe:
    """The recipe with the commit of each repository in place of its revision; whatever loads by it loads that commit.

    The libraries are told to stay offline afterwards: call it before they are imported, or within `offline_mode_kept`.

    Raises:
        UserError: something is neither in the cache nor can it be had from the hub.
    """
    looked_up(repository for repository in hub_names(recipe) if repository.kind in kinds)
    return recipe


def pinned_model(block: Model, key: str = "model.name") -> Model:
    """The block of a model alone with the commits in place of its revisions, as `pinned`."""
    looked_up(model_names(block, key))
    return block


def looked_up(repositories: Iterable[Repository]) -> list[Repository]:
    """The repositories at the commits that their revisions are now; as `pinned`."""
    wanted = list(repositories)
    require_reachable(wanted)
    return wanted


@contextmanager
def fetching(repository: Repository) -> Iterator[None]:
    """Inside the block libraries may ask the hub, unless it is not to be asked; what they raise leaves it as one line."""
    with one_line(repository):
        yield


def fetch_weights(block: Model) -> None:
    """Fetch the model's weights, where it is a repository whose weights are not in the cache.

    Raises:
        UserError: they cannot be had.
    """


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


@contextmanager
def offline_mode_kept() -> Iterator[None]:
    """Leaves the process as it was: what is set within it is undone at its end."""
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


def require_reachable(wanted: list[Repository]) -> None:
    """Make sure that every repository can be had, from the cache or from the hub.

    Raises:
        UserError: something is neither in the cache nor can the hub be reached.
    """
    if not wanted or hub_reachable():
        return
    for repository in wanted:
        if not cached(repository):
            why = "HF_HUB_OFFLINE is set" if offline_by_choice() else "the hub cannot be reached"
            local = "folder" if repository.kind == "model" else "file or folder"
            hint = f"name a local {local}, or try the recipe with --smoke"
            raise UserError(
                f"'{repository.name}' is no local path, is not in the cache, and {why}", hint, key=repository.key
            )
    os.environ[OFFLINE] = "1"
    for module in LIBRARIES:
        if module in sys.modules:
            vars(sys.modules[module])[OFFLINE] = True
