"""Whether the hub is left alone is settled for one call, and the caller's process stays as it was."""

import os
from collections.abc import Callable
from pathlib import Path

import huggingface_hub.constants
import pytest

from ftkit import check
from ftkit.errors import UserError
from ftkit.hub.door import offline_mode_kept, require_reachable
from ftkit.hub.names import Repository
from ftkit.recipe.schema import Recipe


@pytest.mark.parametrize("before", [None, "0"])
def test_offline_mode_ends_with_the_call(before: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("ftkit.hub.door.hub_reachable", lambda: False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "0") if before else monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    (tmp_path / "models--some--model").mkdir()
    (tmp_path / "models--some--model" / "config.json").touch()
    with offline_mode_kept():
        require_reachable([Repository("some/model", "model", key="model.name")])
        assert os.environ["HF_HUB_OFFLINE"] == "1"
        assert huggingface_hub.constants.HF_HUB_OFFLINE
    assert os.environ.get("HF_HUB_OFFLINE") == before
    assert not huggingface_hub.constants.HF_HUB_OFFLINE


def test_the_library_leaves_the_callers_process_as_it_was(
    recipe: Callable[..., Recipe], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setattr("ftkit.api.pinned", lambda recipe: os.environ.update(HF_HUB_OFFLINE="1") or recipe)
    made = recipe("full")
    check(made)
    assert os.environ["HF_HUB_OFFLINE"] == "0"
    with pytest.raises(UserError):
        check(made.model_copy(update={"data": made.data.model_copy(update={"eval_size": 10**6})}))
    assert os.environ["HF_HUB_OFFLINE"] == "0"
