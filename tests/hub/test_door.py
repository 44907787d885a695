"""The one door: one look-up a repository, then the cache, and an end to waiting.

Kinds: what is warm asks once and fetches nothing; a hub that does not answer is not waited for, and the commit that the cache
has is taken with a line; a refusal is no silence; what is no model is refused before anything is fetched; a download that takes
long is seen, and one that does not come as it is on the hub is not taken.
"""

import time
from dataclasses import replace
from pathlib import Path

import pytest

from ftkit.data.ledger import Ledger
from ftkit.data.streams import StreamedRows
from ftkit.errors import UserError
from ftkit.hub import client, lookup, progress
from ftkit.hub.cache import commit_of, snapshot
from ftkit.hub.door import fetch_weights, looked_up, pinned, pinned_model, what_moved
from ftkit.hub.names import Repository
from ftkit.hub.offline import offline_mode_kept
from ftkit.recipe.load import load_values
from ftkit.recipe.schema import Model, Recipe
from tests.hub.server import Fault, Hub

NAME = "some/model"
SMALL = {
    "config.json": b"{}",
    "tokenizer.json": b'{"version": "1.0"}',
    "README.md": b"# card",
    "additional_chat_templates/a.jinja": b"a",
}
CODE = {"modeling.py": b"# code", "notes.pdf": b"%PDF", "logs/events.json": b"{}"}
WHOLE = {**SMALL, **CODE, "model.safetensors": b"weights" * 1000}
INDEX = b'{"weight_map": {"a": "model-1-of-2.safetensors", "b": "model-2-of-2.safetensors"}}'
PARTS = {"model-1-of-2.safetensors": b"one", "model-2-of-2.safetensors": b"two"}


def door(revision: str | None = None, **values: object) -> Model:
    """A model's block behind the door, in a call of its own."""
    with offline_mode_kept():
        return pinned_model(Model(name=NAME, revision=revision, **values))  # type: ignore[arg-type]


def here(block: Model) -> set[str]:
    """The files that the cache has of a model."""
    folder = snapshot(Repository(block.name, "model", block.revision))
    assert folder is not None
    return {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}


def asked(hub: Hub) -> list[str]:
    lines = [request.line for request in hub.requests]
    hub.requests.clear()
    return lines


def test_what_is_small_is_fetched_once_and_a_warm_call_asks_once(hub: Hub) -> None:
    commit = hub.publish("models", NAME, WHOLE)
    block = door()
    assert block.revision == commit
    assert here(block) == set(SMALL)
    asked(hub)
    assert door().revision == commit
    assert asked(hub) == [f"GET /api/models/{NAME}"]
    assert door(commit).revision == commit
    assert asked(hub) == []


def test_code_is_fetched_where_it_is_trusted_alone(hub: Hub) -> None:
    hub.publish("models", NAME, WHOLE)
    assert "modeling.py" in here(door(trust_remote_code=True))


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"model.safetensors": b"a", "pytorch_model.bin": b"b", "tf_model.h5": b"c"}, {"model.safetensors"}),
        ({"model.safetensors.index.json": INDEX, **PARTS}, {"model.safetensors.index.json", *PARTS}),
        ({"pytorch_model.bin": b"b", "model.onnx": b"c"}, {"pytorch_model.bin"}),
    ],
    ids=["one file", "several", "torch's"],
)
def test_weights_are_those_that_transformers_reads(hub: Hub, files: dict[str, bytes], expected: set[str]) -> None:
    hub.publish("models", NAME, SMALL | files)
    with offline_mode_kept():
        block = pinned_model(Model(name=NAME))
        fetch_weights(block)
        assert here(block) - set(SMALL) == expected
        asked(hub)
        fetch_weights(block)
    assert asked(hub) == []


def test_a_branch_that_moves_is_followed_and_said_of_what_began_before(hub: Hub) -> None:
    first = hub.publish("models", NAME, WHOLE)
    pin = {"name": NAME, "kind": "model", "key": "model.name", "asked": None, "commit": door().revision}
    assert what_moved([pin]) == []
    second = hub.publish("models", NAME, WHOLE | {"config.json": b'{"new": 1}'})
    assert door().revision == second != first
    assert what_moved([pin]) == [f"the model {NAME}: main is now {second[:10]}, the run's own is {first[:10]}"]


SILENT = {
    "hangs": Fault(hang=True), "gone": Fault(gone=True), "500": Fault(status=500), "503": Fault(status=503),
    "429": Fault(status=429), "to wait": Fault(status=429, retry_after="3600"), "login page": Fault(login=True),
    "of files": Fault("resolve", status=500),
}  # fmt: skip


@pytest.mark.parametrize("fault", SILENT)
def test_where_the_hub_says_nothing_the_cache_does_with_a_line(
    hub: Hub, fault: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(lookup, "DEADLINE", 0.5)
    commit = hub.publish("models", NAME, WHOLE)
    door()
    hub.publish("models", NAME, WHOLE | {"config.json": b'{"new": 1}'})
    hub.fault = replace(SILENT[fault])
    began = time.monotonic()
    assert door().revision == commit
    assert time.monotonic() - began < 3
    assert f"what the cache has is taken, {NAME} at {commit[:10]}" in capsys.readouterr().err


@pytest.mark.parametrize("missing", ["config.json", "tokenizer.json"])
def test_a_cache_that_lacks_part_of_the_tokenizer_is_none(hub: Hub, missing: str) -> None:
    commit = hub.publish("models", NAME, WHOLE)
    door()
    (Path(str(snapshot(Repository(NAME, "model", commit)))) / missing).unlink()
    hub.fault = Fault(status=500)
    with pytest.raises(UserError, match=f"{missing} is not in the cache, and the hub answers 500"):
        door()


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_refusal_is_one_also_where_the_cache_has_it(hub: Hub, status: int) -> None:
    hub.publish("models", NAME, WHOLE)
    door()
    hub.fault = Fault(status=status, words="No.")
    with pytest.raises(UserError, match=r"No\.?|none of that name"):
        door()


@pytest.mark.parametrize("place", ["api/models", "HEAD .*config", "GET .*config"])
def test_nothing_hangs(hub: Hub, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "PATIENCE", 0.5)
    monkeypatch.setattr(lookup, "PATIENCE", 0.5)
    hub.publish("models", NAME, WHOLE)
    hub.fault = Fault(place, hang=True)
    began = time.monotonic()
    with pytest.raises(UserError, match="does not answer; check network, proxy and HF_ENDPOINT"):
        door()
    assert time.monotonic() - began < 3


@pytest.mark.parametrize("place", ["api/models", "resolve/.*config"])
def test_a_short_while_is_waited_where_nothing_else_can_be_done_and_a_long_one_said(
    hub: Hub, place: str, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.publish("models", NAME, WHOLE)
    hub.fault = Fault(place, status=429, retry_after="60")
    with pytest.raises(UserError, match="it asks to wait 60 s; try again in 60 s"):
        door()
    hub.fault = Fault(place, status=429, retry_after="1", times=2 if "resolve" in place else 1)  # the library asks twice
    assert here(door()) == set(SMALL)
    assert "the hub asks to wait 1 s" in capsys.readouterr().err


def test_where_a_look_up_failed_the_hub_is_not_asked_again_in_the_same_call(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lookup, "DEADLINE", 0.3)
    hub.publish("models", NAME, WHOLE)
    door()
    hub.fault = Fault(status=500)
    asked(hub)
    with offline_mode_kept():
        block = pinned_model(Model(name=NAME))
        pinned_model(block)
        fetch_weights(block)
    assert asked(hub) == [f"GET /api/models/{NAME}"]


def test_all_are_asked_at_once_and_each_once(hub: Hub) -> None:
    hub.publish("models", NAME, WHOLE)
    rows = hub.publish("datasets", "some/rows", {"train.csv": b"text,label\na,b\n"})
    hub.fault = Fault("api", delay=0.4)
    recipe = load_values(
        {
            "task": "text-classification", "strategy": "full", "model": {"name": NAME, "tokenizer": NAME},
            "data": {"train": ["some/rows", {"path": "some/rows", "split": "train"}], "eval": "some/rows"},
        }
    )  # fmt: skip
    began = time.monotonic()
    with offline_mode_kept():
        made = pinned(recipe)
    assert time.monotonic() - began < 1.5
    assert sorted(line for line in asked(hub) if "/api/" in line) == [
        "GET /api/datasets/some/rows",
        f"GET /api/models/{NAME}",
    ]
    assert {source.revision for source in [*made.data.train, *(made.data.eval or [])]} == {rows}
    assert made.model.revision == made.model.tokenizer_revision == commit_of(Repository(NAME, "model"))
    assert [(pin["name"], pin["asked"]) for pin in made.pins] == [(NAME, None), ("some/rows", None)]


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"config.json": b"{}", "model.gguf": b"a"}, "no weights that transformers reads; what it has is of GGUF"),
        ({"config.json": b"{}", "README.md": b"a"}, "no weights that transformers reads"),
        (
            {"adapter_config.json": b'{"base_model_name_or_path": "a/base"}'},
            "is an adapter, not a model; name its base, a/base",
        ),
        ({"model.safetensors": b"a"}, "it has no config.json"),
    ],
    ids=["gguf", "none", "adapter", "no config"],
)
def test_what_is_no_model_is_refused_before_anything_is_fetched(hub: Hub, files: dict[str, bytes], words: str) -> None:
    hub.publish("models", NAME, files)
    with pytest.raises(UserError, match=words):
        door()
    assert not [line for line in asked(hub) if "GET" in line and "resolve" in line and "adapter" not in line]


@pytest.mark.parametrize("fault", [Fault("resolve.*tokenizer", changed=2), Fault("resolve.*tokenizer", cut=1)])
def test_a_file_that_does_not_come_as_it_is_is_not_taken(hub: Hub, fault: Fault, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda seconds: None)
    hub.publish("models", NAME, WHOLE)
    hub.fault = replace(fault)
    with pytest.raises(UserError, match=r"broke off again|its digest is another"):
        door()
    hub.fault = None
    assert (Path(str(snapshot(Repository(NAME, "model", door().revision)))) / "tokenizer.json").read_bytes() == SMALL[
        "tokenizer.json"
    ]


def test_a_long_download_is_seen(hub: Hub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(progress, "SHOWN_AFTER", 0.2)
    hub.publish("models", NAME, WHOLE)
    door()
    assert "fetching" not in capsys.readouterr().err
    hub.publish("models", NAME, WHOLE | {"config.json": b'{"new": 1}'})
    hub.fault = Fault("GET .*config", delay=0.6)
    door()
    assert f"fetching {NAME}: " in capsys.readouterr().err


@pytest.mark.parametrize("spelling", ["127.0.0.1:9", "http://127.0.0.1:9"])
def test_proxies_are_read_as_the_library_reads_them(hub: Hub, spelling: str, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.publish("models", NAME, WHOLE)
    monkeypatch.setenv("HTTP_PROXY", spelling)
    client.set_client_factory(client.impatient_client)  # the one that is open has read the variables
    with pytest.raises(UserError, match=f"is not reached: .*, by HTTP_PROXY={spelling}"):
        door()
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    client.set_client_factory(client.impatient_client)
    assert door().revision


def test_a_data_set_at_a_commit_is_not_asked_for(hub: Hub) -> None:
    with offline_mode_kept():
        (found,) = looked_up([Repository("some/rows", "dataset", "a" * 40)])
    assert found.revision == "a" * 40
    assert asked(hub) == []


def test_a_stream_is_read_on_behind_the_door(hub: Hub) -> None:
    hub.publish("models", NAME, WHOLE)
    hub.publish("datasets", "some/rows", {"train.csv": b"text,label\na,b\nc,d\n"})
    values = {"train": "some/rows", "eval": "sample:sentiment", "streaming": True}
    training = {"max_steps": 1, "save_strategy": "no"}
    recipe = load_values(
        {"task": "text-classification", "strategy": "full", "model": NAME, "data": values, "training": training}
    )
    with offline_mode_kept():
        data = pinned(recipe).data
        rows = StreamedRows(data.train, data.columns, recipe.spec, data.seed, Ledger(), data.clean)
        assert rows.head(2)["text"][:] == ["a", "c"]


def test_a_recipe_of_local_files_asks_nothing(hub: Hub, recipe: object) -> None:
    made: Recipe = recipe("full")  # type: ignore[operator]
    with offline_mode_kept():
        assert pinned(made).model_dump() == made.model_dump()
    assert asked(hub) == []
