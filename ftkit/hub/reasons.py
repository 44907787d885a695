"""Why something could not be had from the hub, in one line: the library's own reason, and the hint of that reason."""

import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import unquote

from huggingface_hub import HfApi, constants
from huggingface_hub.errors import (
    DisabledRepoError,
    FileMetadataError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from ftkit.disk import FULL
from ftkit.errors import FtkitError, UserError
from ftkit.hub.cache import hub_folders, refs_of
from ftkit.hub.client import NoAnswer, NotTheHub, Timeout, TransportError
from ftkit.hub.names import Repository
from ftkit.hub.nearest import nearest_id
from ftkit.hub.offline import why_offline

LONGEST = 300  # letters of a library's words
PROXIES = ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY")
LOGIN = "`hf auth login`"
NETWORK_HINT = "check network, proxy and HF_ENDPOINT"
ELSEWHERE = {"model": "name a local folder, or try the recipe with --smoke", "dataset": "name a local file or folder"}

Words = tuple[str, str]  # what is wrong, and what to do about it


def reason_of(error: BaseException, repository: Repository) -> UserError:
    """What a library raised, as one line for the user."""
    message, hint = words_of(error, repository)
    return UserError(f"{repository}: {message}", hint, key=repository.key)


def words_of(error: BaseException, repository: Repository) -> Words:
    """Why, and what to do."""
    found = causes(error)
    for kind, words in REASONS:
        for cause in found:
            if isinstance(cause, kind) and (said := words(cause, repository)):
                return said
    return plain(first_cause(error)), ""


@contextmanager
def one_line(repository: Repository) -> Iterator[None]:
    """Whatever a library raises within the block leaves it as one line for the user."""
    try:
        yield
    except (FtkitError, MemoryError):
        raise
    except Exception as error:
        raise reason_of(error, repository) from error


def is_refusal(error: BaseException) -> bool:
    """Whether the hub has said no, and will say so again: what the cache has is not taken in its place."""
    said = next((cause for cause in causes(error) if isinstance(cause, HfHubHTTPError)), None)
    return said is not None and said.response.status_code in (400, 401, 403, 404, 410)


def seconds_to_wait(error: BaseException) -> int | None:
    """The seconds after which the hub may be asked again, if it says so."""
    for cause in causes(error):
        if isinstance(cause, HfHubHTTPError) and (seconds := _waiting(cause)) is not None:
            return seconds
    return None


def causes(error: BaseException | None) -> list[BaseException]:
    """An error and those that it came from, also where a library would hide them.

    A file that a library looked for, and did without, is none of them: `datasets` goes on within the handler of that.
    """
    found: list[BaseException] = []
    stated = True
    while error is not None and error not in found:
        if stated or not isinstance(error, RemoteEntryNotFoundError):
            found.append(error)
        stated = error.__cause__ is not None
        error = error.__cause__ or error.__context__
    return found


def first_cause(error: BaseException) -> BaseException:
    """The error that a library wrapped, whose words say more than the wrapper's."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def plain(error: BaseException) -> str:
    """A library's words on one line."""
    words = " ".join(str(error).split())
    return words[:LONGEST] or type(error).__name__


def address(repository: Repository) -> str:
    """Its page on the hub."""
    return f"{constants.ENDPOINT}/{'datasets/' if repository.kind == 'dataset' else ''}{repository.name}"


def _answered(error: HfHubHTTPError) -> str:
    """What the hub says itself, without the addresses and numbers that the library puts around it."""
    said = " ".join((error.server_message or "").split()).rstrip(".")[:LONGEST]
    file = _file_of(error)
    return f"the hub answers {error.response.status_code}{' for ' * bool(file)}{file}" + (f": {said}" if said else "")


def _file_of(error: HfHubHTTPError) -> str:
    """Which file of a repository was asked for; empty where it was none."""
    return unquote(str(error.response.request.url.path)).partition("/resolve/")[2].partition("/")[2]


def _has_token(error: HfHubHTTPError) -> bool:
    return "authorization" in error.response.request.headers


def _gated(error: GatedRepoError, repository: Repository) -> Words:
    ask = f"ask for access at {address(repository)}"
    return _answered(error), f"{ask}, then {LOGIN}" if error.response.status_code == 401 else ask


def _absent(error: HfHubHTTPError, repository: Repository) -> Words:
    near = nearest_id(repository)
    message = f"there is none of that name on {constants.ENDPOINT}, or it is private"
    return message, f"did you mean {near}?" if near else f"check the id; for a private one {LOGIN}"


def _no_revision(error: RevisionNotFoundError, repository: Repository) -> Words:
    known = set(refs_of(repository))
    with suppress(Exception):  # the hint is the poorer for it
        found = HfApi().list_repo_refs(repository.name, repo_type=repository.kind)
        known |= {ref.name for ref in (*found.branches, *found.tags)}
    return f"it has no revision '{repository.ref}'", f"there are {', '.join(sorted(known))}" if known else "check it"


def _no_file(error: HfHubHTTPError, repository: Repository) -> Words:
    return f"it has no file {_file_of(error) or 'of that name'}", f"see {address(repository)}/tree/{repository.ref}"


def _disabled(error: DisabledRepoError, repository: Repository) -> Words:
    return _answered(error), "its owner or the hub has disabled it; choose another"


def _refused(error: HfHubHTTPError, repository: Repository) -> Words | None:
    """By the status, of the answers that have no kind of their own."""
    status = error.response.status_code
    if status == 404:
        return _no_file(error, repository) if _file_of(error) else _absent(error, repository)
    if status == 401 and not _has_token(error):
        return _answered(error), f"it wants to know who asks: {LOGIN}"
    if status == 401:
        return _answered(error), f"the token is not valid or has expired: {LOGIN} anew, or take HF_TOKEN away"
    if status == 403:
        return _answered(error), f"the token gives no right to it: see {address(repository)}, or {LOGIN} with another"
    if status == 429:
        seconds = _waiting(error)
        when = f"try again in {seconds} s" if seconds is not None else "try again in a few minutes"
        wait = f"; it asks to wait {seconds} s" if seconds is not None else ""
        return f"{_answered(error)} (too many requests){wait}", f"{when}; with a token more are allowed ({LOGIN})"
    if status >= 500 or status == 408:
        return _answered(error), f"the fault is on its side ({constants.ENDPOINT}): try again in a few minutes"
    return _answered(error) if error.server_message else plain(error), f"see {address(repository)}"


def _silent(error: NoAnswer, repository: Repository) -> Words:
    proxies = {name: os.environ.get(name) or os.environ.get(name.lower()) for name in PROXIES}
    through = ", ".join(f"{name}={without_password(value)}" for name, value in proxies.items() if value)
    cause = error.__cause__
    if isinstance(cause, Timeout) or cause is None:
        message = f"{constants.ENDPOINT} does not answer"
    else:
        message = f"{constants.ENDPOINT} is not reached: {plain(cause)}"
    return message + (f", by {through}" if through else ""), f"{NETWORK_HINT}, or {ELSEWHERE[repository.kind]}"


def without_password(address: str) -> str:
    """An address without the name and password that stand before its host."""
    return re.sub(r"(^|//)[^/@]*@", r"\1", address)


def _cut(error: Exception, repository: Repository) -> Words:
    return f"the download broke off again and again: {plain(error)}", "run it once more; check network and proxy"


def _not_the_hub(error: Exception, repository: Repository) -> Words:
    message = f"{constants.ENDPOINT} answers with something else than a hub does, as a network's login page"
    return message, "open a page in a browser to log in to the network, and check HF_ENDPOINT and proxy"


def _full(error: OSError, repository: Repository) -> Words | None:
    if error.errno in FULL:
        return f"no space is left in {_fullest(repository)}", "free some, or set HF_HOME to a larger disk"
    if isinstance(error, PermissionError):
        return f"{error.filename or constants.HF_HUB_CACHE} cannot be written", "set HF_HOME to a folder of your own"
    return None


def _fullest(repository: Repository) -> Path:
    """Of the places where files of a repository go the one with the least room; a library does not say which it was."""
    places = [folder.parent for folder in hub_folders(repository) if folder.parent.is_dir()]
    return min(places, key=lambda place: shutil.disk_usage(place).free, default=Path(constants.HF_HUB_CACHE))


def _not_here(error: Exception, repository: Repository) -> Words:
    return f"it is no local path, not all of it is in the cache, and {why_offline()}", ELSEWHERE[repository.kind]


def _no_id(error: HFValidationError, repository: Repository) -> Words:
    return plain(error), "an id is owner/name"


def _waiting(error: HfHubHTTPError) -> int | None:
    value = error.response.headers.get("retry-after", "").strip()
    return int(value) if error.response.status_code in (429, 503) and value.isdigit() else None


# The first that fits, whichever of an error's causes it is.
REASONS: tuple[tuple[type[BaseException], Callable[..., Words | None]], ...] = (
    (GatedRepoError, _gated),
    (RevisionNotFoundError, _no_revision),
    (RemoteEntryNotFoundError, _no_file),
    (DisabledRepoError, _disabled),
    (RepositoryNotFoundError, _absent),
    (HfHubHTTPError, _refused),
    (NoAnswer, _silent),
    (TransportError, _cut),
    (NotTheHub, _not_the_hub),
    (FileMetadataError, _not_the_hub),
    (HFValidationError, _no_id),
    (OSError, _full),
    (LocalEntryNotFoundError, _not_here),
    (OfflineModeIsEnabled, _not_here),
)
