"""Rows as they are read: formats, encodings, and which line is wrong."""

import io
from typing import Any

import pytest

from ftkit import UserError
from ftkit.prediction.rows import Source, read_rows


def read(data: bytes | str, path: str = "rows.jsonl", **options: Any) -> list[Any]:
    return list(read_rows(io.BytesIO(data.encode() if isinstance(data, str) else data), Source(path, **options)))


@pytest.mark.parametrize(
    ("path", "data", "fields"),
    [
        ("a.jsonl", '{"text": "x\u2028y"}\n\n{"text": "é", "id": 2}', [{"text": "x\u2028y"}, {"text": "é", "id": 2}]),
        ("a.csv", 'text,id\n"one, ""two""\nthree",1\n\nfour,2\n', [{"text": 'one, "two"\nthree', "id": "1"}, {"text": "four", "id": "2"}]),
        ("a.tsv", "text\tid\none\t1\n", [{"text": "one", "id": "1"}]),
        ("a.txt", "one \n\n two\r\n", [{"text": "one "}, {"text": " two"}]),
        ("-", '\n{"a": 1}\n{"a": 2}\n', [{"a": 1}, {"a": 2}]),
        ("-", "one\n{two}\n", [{"text": "one"}, {"text": "{two}"}]),
        ("-", "", []),
        ("a.jsonl", "\ufeff" + '{"a": 1}\n', [{"a": 1}]),
    ],
)  # fmt: skip
def test_formats(path: str, data: str, fields: list[dict[str, Any]]) -> None:
    assert [row.fields for row in read(data, path)] == fields
    assert [row.number for row in read(data, path)] == list(range(len(fields)))


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16", "cp1252"])
def test_encodings(encoding: str) -> None:
    assert [row.fields["text"] for row in read("né\nça\n".encode(encoding), "a.txt", encoding=encoding)] == ["né", "ça"]


@pytest.mark.parametrize(
    ("path", "data", "place", "problem"),
    [
        ("a.jsonl", '{"a": 1}\n\n{"a": \n', "a.jsonl:3", "this is no JSON"),
        ("a.jsonl", '{"a": 1}\n[1]\n', "a.jsonl:2", "this is a JSON list"),
        ("a.jsonl", '{"a": 1}\n{"a": "\\ud83d"}\n', "a.jsonl:2", "alone is half a character"),
        ("a.csv", 'a,b\n1,2\n"x\ny",2\n1,2,3\n', "a.csv:5", "3 fields where the header has 2"),
    ],
)
def test_a_bad_row_has_a_place_and_a_problem(path: str, data: str, place: str, problem: str) -> None:
    bad = read(data, path)[-1]
    assert bad.place == place
    assert problem in bad.problem
    assert not read(data, path)[0].problem


@pytest.mark.parametrize(
    ("path", "data", "words"),
    [
        ("a.txt", b"good\ncaf\xe9\n", "a.txt:2: this is not utf-8"),
        ("a.csv", b'a,b\n1,"2\n3,4\n', "this is no csv"),
        ("a.csv", b"a;b\n1;2\n", "a.csv:1: one column, 'a;b'; if it is several, give --separator ';'"),
        ("a.csv", b"a,a\n1,2\n", "names the column 'a' twice"),
    ],
)
def test_what_ends_the_reading(path: str, data: bytes, words: str) -> None:
    with pytest.raises(UserError) as raised:
        read(data, path)
    assert words in str(raised.value)
