"""What a repository is now: its commit and its files, by one request to the hub, with an end to waiting for it."""

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

from huggingface_hub import HfApi

from ftkit import console
from ftkit.hub.client import PATIENCE, NoAnswer
from ftkit.hub.names import Repository
from ftkit.hub.reasons import seconds_to_wait

DEADLINE = 5.0  # seconds for all look-ups together where the cache could do instead
LONGEST_WAIT = 5  # seconds that the hub may ask to wait and that are waited; of more a line tells

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Listing:
    """A repository's files at a commit."""

    commit: str
    files: tuple[str, ...]


def look_up(
    repositories: Iterable[Repository], *, in_cache: Callable[[Repository], bool]
) -> dict[Repository, Listing | Exception]:
    """Of each repository what it is now, or why that cannot be said; all are asked at the same time.

    Args:
        in_cache: whether the cache could do in place of the hub, so that no longer is waited than for that.
    """
    wanted = list(dict.fromkeys(repositories))
    if not wanted:
        return {}
    found: dict[Repository, Listing | Exception] = {}
    threads = [  # not of a pool, which would wait at the end of the process for one that hangs
        threading.Thread(target=_ask, args=(repository, found, not in_cache(repository)), daemon=True)
        for repository in wanted
    ]
    for thread in threads:
        thread.start()
    began = time.monotonic()
    with console.status("asking the hub", after=console.SOON):
        for repository, thread in zip(wanted, threads, strict=True):
            seconds = DEADLINE if in_cache(repository) else PATIENCE + LONGEST_WAIT
            thread.join(max(0.0, began + seconds - time.monotonic()))
    return {repository: found.get(repository, NoAnswer("the hub did not answer in time")) for repository in wanted}


def _ask(repository: Repository, found: dict[Repository, Listing | Exception], patient: bool) -> None:
    """Put into `found` what the hub says."""
    try:
        found[repository] = patiently(lambda: listing_of(repository)) if patient else listing_of(repository)
    except Exception as error:  # whatever it is: the one who asked makes a line of it
        found[repository] = error


def listing_of(repository: Repository) -> Listing:
    """By the one request that there is for it."""
    info: Any = HfApi().repo_info(repository.name, repo_type=repository.kind, revision=repository.revision, timeout=PATIENCE)
    return Listing(str(info.sha), tuple(sibling.rfilename for sibling in info.siblings or []))


def patiently(ask: Callable[[], Answer]) -> Answer:
    """What `ask` gives; where the hub wants a short while first, after that."""
    try:
        return ask()
    except Exception as error:
        seconds = seconds_to_wait(error)
        if seconds is None or seconds > LONGEST_WAIT:
            raise
        console.say(f"the hub asks to wait {seconds} s")
        time.sleep(seconds)
        return ask()
