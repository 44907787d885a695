"""Whether the hub is left alone is settled for one call, and the caller's process stays as it was."""

import os
from collections.abc import Callable

import datasets.config
import huggingface_hub.constants
import pytest

from ftkit import check
from ftkit.errors import UserError
from ftkit.hub.door import fetching, pinned_model
from ftkit.hub.names import Repository
from ftkit.hub.offline import offline_by_choice, offline_mode_kept
from ftkit.recipe.schema import Model, Recipe
from tests.hub.server import Hub

LIBRARIES = (huggingface_hub.constants, datasets.config)
FILES = {"config.json": b"{}", "model.safetensors": b"weights"}


def told() -> list[bool]:
    """What the libraries know, and what a process that starts now would."""
    return [os.environ.get("HF_HUB_OFFLINE") == "1", *(library.HF_HUB_OFFLINE for library in LIBRARIES)]


def test_the_libraries_are_offline_after_the_door_and_as_before_after_the_call(hub: Hub) -> None:
    hub.publish("models", "some/model", FILES)
    with offline_mode_kept():
        pinned_model(Model(name="some/model"))
        assert all(told())
        assert not offline_by_choice()
        with fetching(Repository("some/model", "model")):
            assert not any(told())
        assert all(told())
    assert not any(told())


@pytest.mark.parametrize("before", [None, "0"])
def test_the_environment_is_as_it_was(hub: Hub, before: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.publish("models", "some/model", FILES)
    monkeypatch.setenv("HF_HUB_OFFLINE", before) if before else monkeypatch.delenv("HF_HUB_OFFLINE")
    with offline_mode_kept():
        pinned_model(Model(name="some/model"))
    assert os.environ.get("HF_HUB_OFFLINE") == before


def test_who_has_chosen_to_be_offline_stays_so(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.publish("models", "some/model", FILES)
    for library in LIBRARIES:
        monkeypatch.setattr(library, "HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match="HF_HUB_OFFLINE is set"), offline_mode_kept():
        pinned_model(Model(name="some/model"))
    with fetching(Repository("some/model", "model")):
        assert offline_by_choice()
    assert not hub.requests


def test_the_library_leaves_the_callers_process_as_it_was(
    hub: Hub, recipe: Callable[..., Recipe], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = recipe("full")
    with pytest.raises(UserError, match="none of that name"):
        check(made.model_copy(update={"model": made.model.model_copy(update={"name": "no/such"})}))
    assert not any(told())
