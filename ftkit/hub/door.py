"""The one door to the hub: each repository's commit is looked up when a command begins, and all that is loaded is of it.

One request a repository says its commit and its files. What is small is fetched at once, weights when the data are sound.
Where the hub does not answer, the commit that the cache has is taken, and a line says so. Afterwards the libraries are kept
offline: nothing is asked at checkpoints, at saving or at verifying.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from ftkit import console
from ftkit.errors import UserError
from ftkit.hub.cache import cached, commit_of, commits_of, files_known, lacking, note_commit, note_files
from ftkit.hub.client import use_client
from ftkit.hub.files import CONFIG, fetch, fetch_model, require_model, small_files
from ftkit.hub.lookup import Listing, look_up
from ftkit.hub.names import Kind, Repository, hub_names, is_commit, model_names
from ftkit.hub.offline import is_closed, may_ask, online, stay_offline, why_offline
from ftkit.hub.pins import as_begun, pin_of, with_model_revisions, with_revisions
from ftkit.hub.reasons import ELSEWHERE, is_refusal, one_line, reason_of, words_of
from ftkit.recipe.schema import Model, Recipe

KINDS: tuple[Kind, ...] = ("model", "dataset")
TOKENIZER = "tokenizer"  # how the names of its files begin
SHORT = 10  # letters of a commit that a line shows


@dataclass(frozen=True)
class Found:
    """What a repository is at, and why that is not what the hub says it is now, if so.

    Attributes:
        commit: None where the cache has something of it that tells no commit.
        files: None where nobody has told them.
    """

    repository: Repository
    commit: str | None
    files: tuple[str, ...] | None
    why_cached: str = ""

    @property
    def pinned(self) -> Repository:
        return replace(self.repository, revision=self.commit or self.repository.revision)


def pinned(recipe: Recipe, kinds: Sequence[Kind] = KINDS, *, weights: bool = True, needed: Sequence[Kind] = KINDS) -> Recipe:
    """The recipe with the commit of each repository in place of its revision; whatever loads by it loads that commit.

    The libraries are kept offline afterwards: call it before they are imported, or within `offline_mode_kept`.

    Args:
        weights: a model without weights is refused.
        needed: of other kinds no more is asked than that the hub does not refuse them.

    Raises:
        UserError: something is neither in the cache nor can it be had from the hub.
    """
    wanted = [repository for repository in hub_names(recipe) if repository.kind in kinds]
    found = _settled(wanted, weights=weights, code=recipe.model.trust_remote_code, needed=needed)
    made = with_revisions(recipe, lambda asked: found.get(asked, asked).revision)
    made.keep_pins(pin_of(asked, str(at.revision)) for asked, at in found.items() if is_commit(at.revision))
    return made


def pinned_model(block: Model, key: str = "model.name") -> Model:
    """The block of a model alone with the commits in place of its revisions, as `pinned`."""
    found = _settled([*model_names(block, key)], weights=True, code=block.trust_remote_code)
    return with_model_revisions(block, lambda asked: found.get(asked, asked).revision, key)


def looked_up(repositories: Iterable[Repository]) -> list[Repository]:
    """The repositories at the commits that their revisions are now; as `pinned`."""
    wanted = list(repositories)
    found = _settled(wanted, weights=True, code=False)
    return [found[repository] for repository in wanted]


@contextmanager
def fetching(repository: Repository) -> Iterator[None]:
    """Inside the block libraries may ask the hub, unless it is not to be asked; what they raise leaves it as one line."""
    use_client()
    with one_line(repository), online():
        yield


def fetch_weights(block: Model) -> None:
    """Fetch the model's weights, where it is a repository at a commit whose weights are not in the cache.

    Raises:
        UserError: they cannot be had.
    """
    repository = next(model_names(block.model_copy(update={"tokenizer": None})), None)
    if repository is None or not is_commit(repository.revision):
        return
    files = files_known(repository, str(repository.revision))
    if files is not None and may_ask():
        with online():
            fetch_model(repository, files)


def as_it_began(recipe: Recipe, pins: Sequence[Mapping[str, Any]]) -> Recipe:
    """The recipe of a run that goes on, at the commits that it began with; a line says of each what is newer by now.

    Args:
        pins: `hub` of run.json.
    """
    if pins and not recipe.pins:
        for line in what_moved(pins):
            console.say(f"{line}; the run goes on with its own")
    return as_begun(recipe, pins)


def what_moved(pins: Iterable[Mapping[str, Any]]) -> list[str]:
    """A line for each branch or tag that a run asked for and that is another commit by now; the hub has seconds for it."""
    asked = {
        Repository(pin["name"], pin["kind"], pin["asked"], pin["key"]): pin["commit"]
        for pin in pins
        if not is_commit(pin["asked"])
    }
    if not asked or not may_ask():
        return []
    use_client()
    with online():
        answers = look_up(asked, in_cache=lambda repository: True)
    return [line for repository, commit in asked.items() if (line := _moved(repository, commit, answers[repository]))]


def _moved(repository: Repository, commit: str, answer: Listing | Exception) -> str:
    if isinstance(answer, Listing):
        now = f"{repository}: {repository.ref} is now {answer.commit[:SHORT]}, the run's own is {commit[:SHORT]}"
        return now if answer.commit != commit else ""
    return f"{repository}: {words_of(answer, repository)[0]}" if is_refusal(answer) else ""


def _settled(
    repositories: Sequence[Repository], *, weights: bool, code: bool, needed: Sequence[Kind] = KINDS
) -> dict[Repository, Repository]:
    """Of each repository itself at the commit that is to be loaded, with what is small of it in the cache."""
    wanted = list(dict.fromkeys(repositories))
    if not wanted:
        return {}
    use_client()
    asked = [repository for repository in wanted if not _is_here(repository, code=code)]
    with online():
        answers = look_up(asked, in_cache=_can_do_without) if may_ask() else {}
        found = [_settle(repository, answers.get(repository), needed=repository.kind in needed) for repository in wanted]
        found = [_with_small_files(one, weights=weights, code=code) for one in found]
        if code:
            _fetch_foreign_code(found)
    _tell_cached(found)
    if asked or not is_closed():
        stay_offline(answered=not asked or any(isinstance(answer, Listing) for answer in answers.values()))
    return {one.repository: one.pinned for one in found}


def _is_here(repository: Repository, *, code: bool) -> bool:
    """Whether there is nothing to ask: it is a commit, which never moves, and what is small of it is in the cache."""
    commit = repository.revision
    if commit is None or not is_commit(commit):
        return False
    if _is_dataset_at_commit(repository):
        return True
    files = files_known(repository, commit)
    return files is not None and not lacking(repository, commit, small_files(files, code=code))


def _can_do_without(repository: Repository) -> bool:
    commit = commit_of(repository)
    return cached(replace(repository, revision=commit) if commit else repository)


def _settle(repository: Repository, answer: Listing | Exception | None, *, needed: bool = True) -> Found:
    """The commit that the hub says; where it does not, the cache's.

    Raises:
        UserError: the hub refuses it, or it is in neither.
    """
    if isinstance(answer, Listing):
        note_files(repository, answer.commit, answer.files)
        return Found(repository, answer.commit, answer.files)
    if answer is not None and is_refusal(answer):
        raise reason_of(answer, repository) from answer
    commit = repository.revision if is_commit(repository.revision) else commit_of(repository)
    at_commit = replace(repository, revision=commit or repository.revision)
    if not cached(at_commit) and not (_is_dataset_at_commit(repository) and may_ask()):
        if needed:
            raise _not_here(repository, answer)
        return Found(repository, None, None)
    why = "" if answer is None else words_of(answer, repository)[0]
    return Found(repository, commit, files_known(repository, commit) if commit else None, why)


def _is_dataset_at_commit(repository: Repository) -> bool:
    """Of such a one nothing is asked: whoever reads its rows fetches what the cache lacks."""
    return repository.kind == "dataset" and is_commit(repository.revision)


def _not_here(repository: Repository, answer: Exception | None) -> UserError:
    if answer is not None:
        return reason_of(answer, repository)
    message = f"'{repository.name}' is no local path, is not in the cache, and {why_offline()}"
    return UserError(message, ELSEWHERE[repository.kind], key=repository.key)


def _with_small_files(found: Found, *, weights: bool, code: bool) -> Found:
    """The same, with the files that say what the model is in the cache; an older commit where they cannot be had.

    Raises:
        UserError: it is no model, or they cannot be had.
    """
    repository, commit = found.repository, found.commit
    if repository.kind == "dataset" or commit is None or found.files is None:
        if found.files is not None and commit is not None:
            note_commit(repository, commit)
        return found
    if not repository.is_tokenizer:
        require_model(found.pinned, found.files, weights=weights)
    if found.why_cached or not may_ask():
        _require_whole(found)
        return found
    try:
        fetch(found.pinned, small_files(found.files, code=code))
    except UserError as error:
        before = commit_of(repository)
        cause = error.__cause__
        if cause is None or is_refusal(cause) or before in (None, commit) or before not in commits_of(repository):
            raise
        return Found(repository, before, files_known(repository, str(before)), words_of(cause, repository)[0])
    note_commit(repository, commit)
    return found


def _require_whole(found: Found) -> None:
    """Raises UserError where the cache lacks what a tokenizer or a config is made of: a library would make an empty one."""
    names = [name for name in found.files or () if name == CONFIG or name.startswith(TOKENIZER)]
    if missing := lacking(found.repository, str(found.commit), names):
        why = found.why_cached or why_offline()
        message = f"{found.repository}: {missing[0]} is not in the cache, and {why}"
        raise UserError(message, ELSEWHERE["model"], key=found.repository.key)


def _fetch_foreign_code(found: Sequence[Found]) -> None:
    """The code that a model's config takes from another repository, as it is there now."""
    names = {name for one in found if one.repository.kind == "model" for name in _code_elsewhere(one)}
    foreign = [Repository(name, "model", key="model.trust_remote_code") for name in sorted(names)]
    answers = look_up(foreign, in_cache=_can_do_without) if may_ask() else {}
    for repository in foreign:
        one = _settle(repository, answers.get(repository))
        if one.files is not None and one.commit is not None:
            fetch(one.pinned, [name for name in one.files if name.endswith(".py")])
            note_commit(repository, one.commit)


def _code_elsewhere(found: Found) -> list[str]:
    """The repositories that `auto_map` names."""
    if found.files is None or CONFIG not in found.files:
        return []
    (file,) = fetch(found.pinned, [CONFIG])
    try:
        values = dict(json.loads(file.read_text(encoding="utf-8")).get("auto_map") or {})
    except (ValueError, TypeError, AttributeError):
        return []  # whoever loads the config says what is wrong with it
    return [word.partition("--")[0] for word in values.values() if isinstance(word, str) and "--" in word]


def _tell_cached(found: Sequence[Found]) -> None:
    """A line for each reason why what the cache has is taken."""
    for why in dict.fromkeys(one.why_cached for one in found if one.why_cached):
        names = [
            f"{one.repository.name} at {(one.commit or 'what is there')[:SHORT]}" for one in found if one.why_cached == why
        ]
        console.say(f"{why}: what the cache has is taken, {', '.join(names)}")
