"""Rows of the hub are those of the commit that the recipe says, and whatever keeps them from coming is one line.

Kinds: rows in the cache are read without a request, exactly of their commit and configuration; whatever `datasets` raises is
a line with its own reason.
"""

import json
from typing import Any

import pytest

from ftkit.data.sources import read_source, stream_source
from ftkit.errors import UserError
from ftkit.recipe.schema import Source
from tests.hub.server import Fault, Hub

KEY = "data.train"
CONFIGURED = b"""---
configs:
- config_name: small
  data_files: [{split: train, path: small/train.jsonl}]
- config_name: large
  default: true
  data_files: [{split: train, path: large/train.jsonl}, {split: validation, path: large/validation.jsonl}]
---
"""


def lines(*texts: str) -> bytes:
    return b"".join(json.dumps({"text": text}).encode() + b"\n" for text in texts)


def configured(word: str) -> dict[str, bytes]:
    """A data set of two configurations whose rows begin with a word."""
    return {
        "README.md": CONFIGURED,
        "small/train.jsonl": lines(f"{word} small"),
        "large/train.jsonl": lines(f"{word} large", f"{word} larger"),
        "large/validation.jsonl": lines(f"{word} held"),
    }


def texts(source: Source, split: str = "train", streaming: bool = False) -> list[str]:
    if streaming:
        return [row["text"] for row in stream_source(source, sample_by="line", key=KEY)]
    return list(read_source(source, split=split, sample_by="line", seed=1, key=KEY)["text"])


def stop(hub: Hub) -> None:
    hub.fault = Fault(gone=True)
    hub.requests.clear()


@pytest.mark.parametrize(
    ("name", "expected"), [(None, ["large", "larger"]), ("large", ["large", "larger"]), ("small", ["small"])]
)
@pytest.mark.parametrize("streaming", [False, True])
def test_rows_in_the_cache_are_those_of_their_commit_without_a_request(
    hub: Hub, name: str | None, expected: list[str], streaming: bool
) -> None:
    commits = {word: hub.publish("datasets", "Some/CamelRows", configured(word)) for word in ("old", "new")}
    sources = {word: Source(path="Some/CamelRows", name=name, revision=commit) for word, commit in commits.items()}
    for source in sources.values():
        texts(source)
    stop(hub)
    for word, source in sources.items():
        assert texts(source, streaming=streaming) == [f"{word} {what}" for what in expected]
    assert not hub.requests


def test_other_splits_of_the_same_commit_are_in_the_cache_too(hub: Hub) -> None:
    source = Source(path="some/rows", revision=hub.publish("datasets", "some/rows", configured("one")))
    texts(source)
    stop(hub)
    assert texts(source.model_copy(update={"split": "validation"})) == ["one held"]
    assert not hub.requests


def test_another_commit_or_configuration_in_the_cache_is_none(hub: Hub) -> None:
    """The library would take whatever it made rows of last."""
    old = hub.publish("datasets", "some/rows", configured("old"))
    new = hub.publish("datasets", "some/rows", configured("new"))
    texts(Source(path="some/rows", revision=old, name="small"))
    hub.fault = Fault(status=500, words="not today")
    for source in (
        Source(path="some/rows", revision=new, name="small"),
        Source(path="some/rows", revision=old, name="large"),
        Source(path="some/rows", revision=old),
    ):
        with pytest.raises(UserError, match="500"):
            texts(source)
    hub.fault = None
    assert texts(Source(path="some/rows", revision=new, name="small")) == ["new small"]


def test_streamed_rows_are_those_of_the_commit(hub: Hub) -> None:
    old = hub.publish("datasets", "some/rows", configured("old"))
    hub.publish("datasets", "some/rows", configured("new"))
    assert texts(Source(path="some/rows", revision=old, name="small"), streaming=True) == ["old small"]


REFUSED: dict[str, tuple[dict[str, bytes], dict[str, Any], str]] = {
    "loading script": ({"rows.py": b"import datasets"}, {}, "scripts are no longer supported"),
    "no data files": ({"README.md": b"words"}, {}, "data files"),
    "nothing at all": ({".gitattributes": b""}, {}, "data files"),
    "unreadable rows": ({"train.jsonl": b"{ nothing"}, {}, "JSON"),
    "unreadable parquet": ({"train.parquet": b"PAR1 nothing"}, {}, "[Pp]arquet"),
    "broken card": ({"README.md": b"---\n{[\n---\n", "train.jsonl": lines("a")}, {}, "while parsing"),
    "files of other columns": ({"train-1.csv": b"a,b\n1,2\n", "train-2.csv": b"a,c\n1,2\n"}, {}, "column|[Ss]chema"),
    "unknown configuration": (configured("one"), {"name": "lagre"}, "lagre.*large"),
    "unknown split": (configured("one"), {"split": "valdation"}, "no split 'valdation'.*did you mean validation"),
    "no test split": (configured("one"), {"split": "test"}, "has no split 'test', it has train, validation"),
    "split beyond the rows": (configured("one"), {"split": "train[:oops]"}, "oops"),
    "files that are not there": ({"README.md": CONFIGURED}, {}, "small/train.jsonl"),
}


@pytest.mark.parametrize("kind", REFUSED)
@pytest.mark.parametrize("streaming", [False, True])
def test_whatever_the_library_raises_is_a_line(hub: Hub, kind: str, streaming: bool) -> None:
    files, values, words = REFUSED[kind]
    commit = hub.publish("datasets", "some/rows", files)
    with pytest.raises(UserError, match=words) as caught:
        texts(Source(path="some/rows", revision=commit, **values), streaming=streaming)
    line = str(caught.value)
    assert line.startswith("data.train: ")
    assert "some/rows" in line
    assert "\n" not in line


def test_who_has_no_access_learns_where_to_ask(hub: Hub) -> None:
    commit = hub.publish("datasets", "acme/closed", configured("closed"))
    hub.repositories["datasets", "acme/closed"].gated = True
    with pytest.raises(UserError, match=f"ask for access at {hub.address}/datasets/acme/closed, then `hf auth login`"):
        texts(Source(path="acme/closed", revision=commit))


def test_of_several_configurations_one_is_to_be_named_by_its_key(hub: Hub) -> None:
    files = configured("any") | {"README.md": CONFIGURED.replace(b"  default: true\n", b"")}
    commit = hub.publish("datasets", "acme/several", files)
    with pytest.raises(
        UserError, match=r"several configurations: small, large; name one: \{path: acme/several, name: small\}"
    ):
        texts(Source(path="acme/several", revision=commit))
