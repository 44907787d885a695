"""A hub of the test's own, and libraries that know no other: HF_HOME is empty, HF_ENDPOINT is the hub's address."""

import importlib
from collections.abc import Iterator
from pathlib import Path

import datasets.config
import huggingface_hub.constants
import pytest
from huggingface_hub import HfFileSystem, hf_api
from huggingface_hub.utils import _cache_manager, close_session

from tests.hub.server import Hub

UNSET = [
    "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_DATASETS_CACHE", "HF_DATASETS_OFFLINE",
    "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "all_proxy", "no_proxy",
]  # fmt: skip


def read_environment_again() -> None:
    """The libraries note the environment when they are imported, in two modules; a command would read it at its start."""
    close_session()
    for module in (huggingface_hub.constants, datasets.config):
        importlib.reload(module)
    hf_api.api.endpoint = huggingface_hub.constants.ENDPOINT
    _cache_manager.HF_HUB_CACHE = huggingface_hub.constants.HF_HUB_CACHE
    HfFileSystem.clear_instance_cache()


@pytest.fixture(scope="module")
def module_hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """One hub for all tests of a file, with the cache that fills up as they go; faults are the test's to take away."""
    with pytest.MonkeyPatch.context() as patch:
        yield from _serve(tmp_path_factory.mktemp("home"), patch)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub without repositories; the cache is empty."""
    yield from _serve(tmp_path / "home", monkeypatch)


def _serve(home: Path, patch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with Hub() as hub:
        for name in UNSET:
            patch.delenv(name, raising=False)
        settings = {"HF_ENDPOINT": hub.address, "HF_HOME": str(home), "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1"}
        for name, value in settings.items():
            patch.setenv(name, value)
        read_environment_again()
        yield hub
    patch.undo()
    read_environment_again()
