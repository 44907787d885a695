"""The hub of the tests is a hub for huggingface_hub: what goes up comes down, and each fault is the one that it says."""

from pathlib import Path
from typing import Any

import pytest
from datasets import load_dataset
from huggingface_hub import HfApi, hf_hub_download, snapshot_download
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError
from huggingface_hub.utils import EntryNotFoundError, LocalEntryNotFoundError

from tests.hub.server import Fault, Hub

FILES = {"config.json": b"{}", "model.safetensors": bytes(range(256)) * 40, "deep/er/words.txt": b"one\ntwo\n"}


def test_what_is_published_comes_down(hub: Hub) -> None:
    first = hub.publish("models", "some/model", FILES)
    second = hub.publish("models", "some/model", FILES | {"config.json": b'{"a": 1}'})
    for revision, commit, config in ((None, second, b'{"a": 1}'), (first[:8], first, b"{}"), (first, first, b"{}")):
        folder = Path(snapshot_download("some/model", revision=revision))
        assert folder.name == commit
        assert (folder / "config.json").read_bytes() == config
        assert (folder / "model.safetensors").read_bytes() == FILES["model.safetensors"]
        assert (folder / "deep/er/words.txt").read_bytes() == FILES["deep/er/words.txt"]


def test_what_goes_up_comes_down(hub: Hub, tmp_path: Path) -> None:
    for path, content in FILES.items():
        (tmp_path / "up" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "up" / path).write_bytes(content)
    api = HfApi(token="hf_good")
    assert api.whoami()["name"] == "tester"
    address = api.create_repo("tester/mine", private=True)
    assert address.repo_id == "tester/mine"
    api.upload_folder(repo_id="tester/mine", folder_path=tmp_path / "up")
    folder = Path(snapshot_download("tester/mine", token="hf_good"))
    assert {path: (folder / path).read_bytes() for path in FILES} == FILES
    with pytest.raises(HfHubHTTPError, match="already created"):
        api.create_repo("tester/mine")
    with pytest.raises(RepositoryNotFoundError):
        HfApi(token="hf_stranger").model_info("tester/mine")
    hub.requests.clear()
    api.upload_folder(repo_id="tester/mine", folder_path=tmp_path / "up")
    assert not [request for request in hub.requests if request.line.startswith("PUT")], "what is there is not sent again"


def test_a_data_set_is_read(hub: Hub) -> None:
    readme = (
        b"---\nconfigs:\n- config_name: one\n  data_files: one.jsonl\n- config_name: two\n  data_files: two.jsonl\n---\n"
    )
    hub.publish(
        "datasets",
        "some/rows",
        {"README.md": readme, "one.jsonl": b'{"text": "a"}\n', "two.jsonl": b'{"text": "b"}\n{"text": "c"}\n'},
    )
    assert load_dataset("some/rows", "one", split="train")["text"] == ["a"]
    assert load_dataset("some/rows", "two", split="train", streaming=True).take(1).to_list() == [{"text": "b"}]


@pytest.mark.parametrize(
    ("settings", "token", "error"),
    [
        ({"gated": True}, None, GatedRepoError), ({"gated": True}, "hf_stranger", GatedRepoError),
        ({"private": True}, "hf_stranger", RepositoryNotFoundError), ({"disabled": True}, "hf_good", LocalEntryNotFoundError),
        ({}, "hf_wrong", HfHubHTTPError),
    ],
)  # fmt: skip
def test_who_may_not_read(hub: Hub, settings: dict[str, bool], token: str | None, error: type[Exception]) -> None:
    hub.publish("models", "some/model", FILES)
    vars(hub.repositories["models", "some/model"]).update(settings)
    with pytest.raises(error):
        hf_hub_download("some/model", "config.json", token=token)


def test_what_is_not_there(hub: Hub) -> None:
    hub.publish("models", "some/model", FILES)
    with pytest.raises(EntryNotFoundError):
        hf_hub_download("some/model", "other.json")
    with pytest.raises(RevisionNotFoundError):
        hf_hub_download("some/model", "config.json", revision="v9")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"status": 500}, "500"), ({"gone": True}, "disconnected"), ({"cut": 100}, "Consistency check|peer closed"),
        ({"hang": True}, "timed out"), ({"login": True}, "Consistency check"),
    ],
)  # fmt: skip
def test_faults(hub: Hub, monkeypatch: pytest.MonkeyPatch, values: dict[str, Any], words: str) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DOWNLOAD_TIMEOUT", 0.3)
    monkeypatch.setattr("huggingface_hub.file_download.HF_HUB_DOWNLOAD_TIMEOUT", 0.3, raising=False)
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    hub.publish("models", "some/model", FILES)
    hub.fault = Fault("GET .*(resolve|large).*safetensors", **values)
    with pytest.raises(Exception, match=words):
        hf_hub_download("some/model", "model.safetensors", etag_timeout=0.3)
    hub.fault = None
    assert Path(hf_hub_download("some/model", "model.safetensors")).read_bytes() == FILES["model.safetensors"]
