"""Whatever keeps something on the hub from coming is one line: the library's own reason, with the hint of that reason."""

import errno

import pytest

from ftkit.errors import UserError
from ftkit.hub.door import fetch_weights, pinned_model
from ftkit.hub.names import Repository
from ftkit.hub.offline import offline_mode_kept
from ftkit.hub.reasons import one_line
from ftkit.models.load import load_config, load_tokenizer
from ftkit.recipe.schema import Model
from tests.hub.server import Fault, Hub

NAME = "some/model"
FILES = {"config.json": b"{}", "model.safetensors": b"weights"}


def refusal(name: str = NAME, revision: str | None = None) -> str:
    """The one line about a model."""
    with pytest.raises(UserError) as found, offline_mode_kept():
        pinned_model(Model(name=name, revision=revision))
    line = str(found.value)
    assert "\n" not in line
    assert line.startswith("model.name: ")
    return line


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (Fault("api", status=401), "the hub answers 401; it wants to know who asks: `hf auth login`"),
        (
            Fault("config", status=403, words="Not you"),
            "the hub answers 403 for config.json: Not you; the token gives no right",
        ),
        (Fault("api", status=404), "there is none of that name on http://127.0.0.1"),
        (Fault("config", status=404), "it has no file config.json"),
        (Fault("api", status=429), "the hub answers 429 (too many requests); try again in a few minutes"),
        (Fault("config", status=500), "the hub answers 500 for config.json; the fault is on its side (http://127.0.0.1"),
        (Fault("api", status=418, words="Teapot"), "the hub answers 418: Teapot"),
        (Fault("", login=True), "answers with something else than a hub does, as a network's login page"),
        (Fault("api", gone=True), "is not reached: "),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_the_hub_says_is_in_the_line(hub: Hub, fault: Fault, words: str) -> None:
    hub.publish("models", NAME, FILES)
    hub.fault = fault
    assert words in refusal()


def test_a_token_that_is_not_valid_is_named(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.publish("models", NAME, FILES)
    monkeypatch.setenv("HF_TOKEN", "hf_old")
    assert "the token is not valid or has expired: `hf auth login` anew, or take HF_TOKEN away" in refusal()


@pytest.mark.parametrize(("token", "ending"), [(None, ", then `hf auth login`"), ("hf_stranger", "")])
def test_who_has_no_access_learns_where_to_ask(
    hub: Hub, token: str | None, ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.publish("models", NAME, FILES)
    hub.repositories["models", NAME].gated = True
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    assert refusal().endswith(f"; ask for access at {hub.address}/{NAME}{ending}")


@pytest.mark.parametrize(
    "index",
    [b"{", b"[]", b"{}", b'{"weight_map": null}', b'{"weight_map": [1]}', b'{"weight_map": {"a": 5}}',
     b'{"weight_map": {"a": {}}}'],
)  # fmt: skip
def test_an_index_that_names_no_files_is_one_line(hub: Hub, index: bytes) -> None:
    hub.publish("models", NAME, {"config.json": b"{}", "model.safetensors.index.json": index})
    with offline_mode_kept(), pytest.raises(UserError, match=r"its model.safetensors.index.json is no index of weights"):
        fetch_weights(pinned_model(Model(name=NAME)))


@pytest.mark.parametrize("config", [b"[]", b"5", b'{"auto_map": 5}', b'{"auto_map": ["x"]}', b'{"model_type": []}'])
@pytest.mark.parametrize("trust", [False, True])
def test_a_config_that_is_none_is_one_line(hub: Hub, config: bytes, trust: bool) -> None:
    hub.publish("models", NAME, {"config.json": config, "tokenizer.json": b"{}", "model.safetensors": b""})
    with offline_mode_kept():
        block = pinned_model(Model(name=NAME, trust_remote_code=trust))
        for load in (lambda: load_config(block, {}), lambda: load_tokenizer(block)):
            with pytest.raises(UserError, match=NAME):
                load()


def test_a_repository_that_is_disabled(hub: Hub) -> None:
    hub.publish("models", NAME, FILES)
    hub.repositories["models", NAME].disabled = True
    assert "Access to this resource is disabled" in refusal()


def test_revisions_that_there_are_are_named(hub: Hub) -> None:
    hub.publish("models", NAME, FILES)
    hub.publish("models", NAME, FILES, "v1")
    assert refusal(revision="v2").endswith("it has no revision 'v2'; there are main, v1")


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("some/modl", NAME),
        ("distilbert-base-uncase", "distilbert/distilbert-base-uncased"),
        ("bert-base-cased", "google-bert/bert-base-cased"),
        ("stanford/imdbb", None),
    ],
)
def test_a_misspelt_id_has_a_nearest_one(hub: Hub, name: str, near: str | None) -> None:
    hub.publish("models", NAME, FILES)
    with offline_mode_kept():
        pinned_model(Model(name=NAME))
    assert refusal(name).endswith(f"did you mean {near}?" if near else "check the id; for a private one `hf auth login`")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "no space is left in "),
        (PermissionError(errno.EACCES, "Permission denied", "/there"), "/there cannot be written"),
        (RuntimeError("Dataset scripts\n are no longer supported"), "some/rows: Dataset scripts are no longer supported"),
        (KeyError("odd"), "some/rows: 'odd'"),
        (AssertionError(), "some/rows: AssertionError"),
    ],
)
def test_whatever_a_library_raises_is_a_line(error: Exception, words: str) -> None:
    with pytest.raises(UserError) as found, one_line(Repository("some/rows", "dataset", key="data.train")):
        raise error
    assert words in str(found.value)


def test_a_reason_is_found_behind_what_a_library_says_in_its_place() -> None:
    def raise_hidden() -> None:
        try:
            raise OSError(errno.ENOSPC, "No space left on device")
        except OSError:
            raise ValueError("An error occurred while generating the dataset") from None

    with pytest.raises(UserError, match="no space is left in "), one_line(Repository("some/rows", "dataset")):
        raise_hidden()


@pytest.mark.parametrize("error", [UserError("mine"), MemoryError(), KeyboardInterrupt()])
def test_what_is_no_reason_of_the_hub_passes(error: BaseException) -> None:
    with pytest.raises(type(error)) as found, one_line(Repository("some/rows", "dataset")):
        raise error
    assert found.value is error


def test_the_password_of_a_proxy_is_not_shown(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.publish("models", NAME, FILES)
    monkeypatch.setenv("HTTP_PROXY", "http://me:secret@127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    line = refusal()
    assert "by HTTP_PROXY=http://127.0.0.1:9" in line
    assert "secret" not in line
