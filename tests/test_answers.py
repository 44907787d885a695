"""Answers that are kept: found again under all that they follow from, and never in the way."""

import os
import time
from pathlib import Path

import pytest

from ftkit import answers
from ftkit.answers import MOST, keep, key_of, known


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FTKIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_an_answer_is_found_again_under_its_key_alone() -> None:
    keep("sums", key_of(1, 2), {"sum": 3})
    assert known("sums", key_of(1, 2)) == {"sum": 3}
    assert known("sums", key_of(2, 1)) is None
    assert known("products", key_of(1, 2)) is None


def test_other_code_or_versions_are_another_key(monkeypatch: pytest.MonkeyPatch) -> None:
    key = key_of(1)
    with monkeypatch.context() as patched:
        patched.setattr(answers, "code_digest", lambda: "other")
        assert key_of(1) != key
    with monkeypatch.context() as patched:
        patched.setattr(answers, "package_versions", lambda: {"torch": "1.0"})
        assert key_of(1) != key
    assert key_of(1) == key


def test_a_broken_answer_is_none(cache: Path) -> None:
    keep("sums", "key", {"sum": 3})
    (cache / "sums/key.json").write_text('{"sum": ')
    assert known("sums", "key") is None


def test_a_cache_that_cannot_be_written_is_no_fault(cache: Path) -> None:
    cache.write_text("a file where a folder should be")
    keep("sums", "key", {"sum": 3})
    assert known("sums", "key") is None


def test_the_oldest_go(cache: Path) -> None:
    (cache / "sums").mkdir(parents=True)
    for age in range(MOST + 5):
        file = cache / f"sums/{age}.json"
        file.write_text("1")
        os.utime(file, (time.time() - 100 - age,) * 2)
    keep("sums", "new", 2)
    assert len(list((cache / "sums").iterdir())) == MOST
    assert known("sums", "new") == 2
    assert known("sums", "0") == 1
    assert known("sums", str(MOST + 4)) is None
