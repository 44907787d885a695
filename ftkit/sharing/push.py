"""`ftkit push`: a finished run becomes a repository on the hub, once it was said what will be public."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, ModelCard, constants, get_token
from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError
from huggingface_hub.utils._validators import validate_repo_id

from ftkit.cache import cache_folder
from ftkit.errors import UserError
from ftkit.hub.door import fetching
from ftkit.hub.layout import CARD, OWN_FILES
from ftkit.hub.names import Repository, is_hub_id
from ftkit.run import Run, now
from ftkit.scratch import scratch
from ftkit.sharing.contents import Contents, gather


@dataclass(frozen=True)
class Publication:
    """What will be public, and where.

    Attributes:
        private: of the repository as it will be; as it is, where it is there already.
        present: its files as it is now; None where there is no such repository yet.
    """

    run: Run
    repository: Repository
    contents: Contents
    private: bool
    present: tuple[str, ...] | None

    @property
    def address(self) -> str:
        return f"{constants.ENDPOINT}/{self.repository.name}"

    @property
    def stale(self) -> list[str]:
        """Files of a run in the repository that this one has not, as rows that are not to be public now."""
        return sorted(OWN_FILES & {*(self.present or ())} - self.contents.files.keys())

    def send(self) -> str:
        """Push; what the hub has already is not sent again, so that the same call goes on. Returns the commit.

        Raises:
            UserError: the hub refuses it, or cannot be reached.
        """
        api, name = HfApi(), self.repository.name
        with fetching(self.repository):
            api.create_repo(name, private=self.private, exist_ok=True)
            sent = api.upload_folder(
                repo_id=name, folder_path=self.contents.folder, delete_patterns=self.stale or None,
                commit_message=f"{self.run.record.get('name', 'A run')}, by ftkit",
            )  # fmt: skip
        published = {"repository": name, "commit": str(sent.oid), "private": self.private, "at": now()}
        self.run.update(published=published)
        return str(sent.oid)


@contextmanager
def publication(run: Run, repository: Repository, *, private: bool, with_rows: bool) -> Iterator[Publication]:
    """All that is to be known before a run is pushed; nothing is sent yet.

    Args:
        private: asked for, of a new repository.
        with_rows: the texts of the eval rows are made public too.

    Raises:
        UserError: the hub does not let it be pushed.
    """
    present, is_private = what_is_there(repository)
    if private and is_private is False:
        hint = f"make it private at {constants.ENDPOINT}/{repository.name}/settings, or choose another name"
        raise UserError(f"{repository.name} is there already, and is public", hint, "--private")
    with scratch() as folder:
        contents = gather(run, Path(folder), repository.name, with_rows=with_rows)
        require_valid_card(repository, contents)
        yield Publication(run, repository, contents, private if is_private is None else is_private, present)


def require_usable(run: Run) -> None:
    """Raises UserError where nobody else could load what is pushed."""
    recipe = run.read_recipe()
    if run.record.get("adapter") and not is_hub_id(recipe.model.name):
        hint = "name it by its hub id in model.name, or push a run of the strategy full"
        raise UserError(f"the adapter stands on {recipe.model.name}, a folder that nobody else has", hint, str(run.folder))


def is_smoke(run: Run) -> bool:
    """Whether a stand-in was trained, which is of no use to anybody."""
    model = Path(run.read_recipe().model.name)
    return model.is_absolute() and model.is_relative_to((cache_folder() / "standins").absolute())


def repository_for(run: Run, name: str | None) -> Repository:
    """Where to push; without an owner to whoever is logged in, without a name by the run's.

    Raises:
        UserError: nobody is logged in, or the hub takes no such name.
    """
    if get_token() is None:
        raise UserError("you are not logged in to the hub", "`hf auth login`, or set HF_TOKEN")
    if name is None or "/" not in name:
        own = name or re.sub(r"[^\w.-]+", "-", str(run.record.get("name") or run.folder.resolve().name)).strip("-.")
        with fetching(Repository(own, "model")):
            name = f"{HfApi().whoami()['name']}/{own}"
    try:
        validate_repo_id(name)
    except HFValidationError as error:
        raise UserError(" ".join(str(error).split()), "name it OWNER/NAME", name) from None
    return Repository(name, "model")


def what_is_there(repository: Repository) -> tuple[tuple[str, ...] | None, bool | None]:
    """The files of a repository and whether it is private; (None, None) where there is none."""
    with fetching(repository):
        try:
            found: Any = HfApi().model_info(repository.name)
        except RepositoryNotFoundError:
            return None, None
    return tuple(sibling.rfilename for sibling in found.siblings or []), bool(found.private)


def require_valid_card(repository: Repository, contents: Contents) -> None:
    """Raises UserError where the hub would not take the card."""
    with fetching(repository):
        try:
            ModelCard.load(contents.folder / CARD).validate()
        except ValueError as error:
            words = " ".join(str(error).split())
            raise UserError(f"the hub does not take the run's {CARD}: {words}", "mend it", str(contents.folder)) from error
