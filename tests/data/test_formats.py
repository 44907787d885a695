"""Each file format: compressed, without a header, with lone quotes, nested, CoNLL and ShareGPT."""

import gzip
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset

from ftkit.data.files import header_hint
from ftkit.data.nested import to_messages
from ftkit.data.sources import read_source
from ftkit.errors import UserError
from ftkit.recipe.schema import Source

SHARED = Path(__file__).parents[3] / "shared" / "data"
CSV = b"text,label\na,1\nb,2\n"
ROWS = [{"text": "a", "label": "1"}, {"text": "b", "label": "2"}]
LINES = b"".join(json.dumps(row).encode() + b"\n" for row in ROWS)
CONTENTS = {
    "csv": CSV, "tsv": CSV.replace(b",", b"\t"), "jsonl": LINES, "json": json.dumps(ROWS).encode(), "txt": b"a\nb\n",
    "conll": b"a O\nb X\n\nc O\n",
}  # fmt: skip
COUNTS = dict.fromkeys(CONTENTS, 2)
SQUAD = {
    "data": [
        {"title": "T", "paragraphs": [{"context": "C", "qas": [
            {"id": "1", "question": "Q", "answers": [{"text": "x", "answer_start": 3}, {"text": "y", "answer_start": 4}]},
            {"id": "2", "question": "R", "answers": []},
        ]}]}
    ]
}  # fmt: skip


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))


def read(path: str | Path, **options: Any) -> Dataset:
    source = Source(path=str(path), **options)
    return read_source(source, split="train", sample_by="line", seed=1, key="data.train")


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("kind", CONTENTS)
@pytest.mark.parametrize("how", ["gz", "zip", "plain"])
def test_compressed_files_give_the_rows_of_plain_ones(tmp_path: Path, kind: str, how: str) -> None:
    plain = read(written(tmp_path / f"plain.{kind}", CONTENTS[kind])).to_list()
    file = tmp_path / "packed" / f"rows.{kind}{'.gz' if how == 'gz' else '.zip' if how == 'zip' else ''}"
    file.parent.mkdir()
    if how == "zip":
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr(f"inner/rows.{kind}", CONTENTS[kind])
            archive.writestr("__MACOSX/._rows.csv", b"x")
            archive.writestr("README.md", b"x")
    else:
        file.write_bytes(gzip.compress(CONTENTS[kind]) if how == "gz" else CONTENTS[kind])
    assert len(plain) == COUNTS[kind]
    assert read(file).to_list() == read(file.parent).to_list() == read(file.parent / "*").to_list() == plain


def test_zips_of_several_files_and_changed_ones(tmp_path: Path) -> None:
    for count in (1, 3):
        with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
            for number in range(count):
                archive.writestr(f"{number}[x].csv", CSV)
        assert len(read(tmp_path / "a.zip")) == 2 * count
    with zipfile.ZipFile(tmp_path / "a.zip", "a") as archive:
        archive.writestr("b.jsonl", LINES)
    with pytest.raises(UserError, match=r"a\.zip holds files of several kinds: csv, json"):
        read(tmp_path / "a.zip")
    assert len(read(tmp_path / "a.zip", format="json")) == 2


def test_broken_archives_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"a\.csv\.gz is no gzip file"):
        read(written(tmp_path / "a.csv.gz", CSV))
    with pytest.raises(UserError, match=r"b\.csv\.gz cannot be unpacked"):
        read(written(tmp_path / "b.csv.gz", gzip.compress(CSV)[:-9]))
    with pytest.raises(UserError, match=r"c\.zip cannot be unpacked: File is not a zip file"):
        read(written(tmp_path / "c.zip", CSV))
    with zipfile.ZipFile(tmp_path / "d.zip", "w") as archive:
        archive.writestr("a.png", CSV)
    with pytest.raises(UserError, match=r"d\.zip holds no data files"):
        read(tmp_path / "d.zip")
    with pytest.raises(UserError, match=r"e\.csv\.gz:3: 3 fields where the header has 2"):
        read(written(tmp_path / "e.csv.gz", gzip.compress(b"text,label\na,1\nb,2,3\n")))


def test_a_header_may_be_given_and_must_fit(tmp_path: Path) -> None:
    file = written(tmp_path / "a.csv", b"a,1\nb,2\n")
    assert read(file, header=["text", "label"]).to_list() == ROWS
    with pytest.raises(UserError, match=r"a\.csv:1: 2 fields where `header` names 1; .*first row is a, 1"):
        read(file, header=["text"])
    with pytest.raises(UserError, match=r"b\.csv:2: 3 fields where the header has 2"):
        read(written(tmp_path / "b.csv", b"a,1\nb,2,3\n"), header=["text", "label"])
    with pytest.raises(UserError, match=r"'header' has no effect on .* read as text"):
        read(written(tmp_path / "a.txt", b"a"), header=["text"])
    assert "header: [text, label]" in header_hint(["I liked it.", "1"])
    assert header_hint(["review", "stars"]) == ""


def test_columns_without_a_name_and_other_separators(tmp_path: Path) -> None:
    assert read(written(tmp_path / "i.csv", b",text\n0,a\n")).to_list() == [{"Unnamed: 0": "0", "text": "a"}]
    for name, sign in (("semicolon", ";"), ("bar", "|"), ("tab", "\t")):
        file = written(tmp_path / f"{name}.csv", CSV.replace(b",", sign.encode()))
        shown = sign.replace("\t", r"\\t").replace("|", r"\|")
        with pytest.raises(UserError, match=rf'one column, .* in its name; .*separator: "{shown}"'):
            read(file)
        assert read(file, separator=sign).to_list() == ROWS
    with pytest.raises(UserError, match="cannot separate columns"):
        read(tmp_path / "i.csv", separator='"')


def test_byte_order_marks_and_encodings(tmp_path: Path) -> None:
    for kind in ("csv", "jsonl", "json", "txt", "conll"):
        plain = read(written(tmp_path / f"a.{kind}", CONTENTS[kind])).to_list()
        assert read(written(tmp_path / f"b.{kind}", b"\xef\xbb\xbf" + CONTENTS[kind])).to_list() == plain
        wide = written(tmp_path / f"c.{kind}", CONTENTS[kind].decode().encode("utf-16"))
        with pytest.raises(UserError, match="encoding: utf-16"):
            read(wide)
        assert read(wide, encoding="utf-16").to_list() == plain


LONE = b'text\tlabel\n"Hello\tO\nthere\tO\n' + b"so\tO\n" * 4 + b'bye"\tO\nend\tO\n'


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.tsv", LONE, r"a\.tsv:2: a quoted field goes on for 7 lines, to line 8; .*quoting: false"),
        ("a.tsv", b'text\tlabel\n"Hello\tO\nbye"\tO\n', r"a\.tsv:2: a quoted field goes on for 2 lines"),
        ("a.tsv", b'text\tlabel\nx\tO\n"\tO\n' + b"y\tO\n" * 1000, r"a\.tsv:3: a quoted field is never closed"),
        ("a.csv", b'text,label\n"a,1\nb,2\n"c d",3\n', r"a\.csv:2: a quoted field goes on for 3 lines, to line 4"),
        ("a.csv", b'text,label\n"a,1\n' + b"b,2\n" * 6 + b'c",3\n', r"a\.csv:2: a quoted field goes on for 8 lines"),
        ("a.csv", b"text,label\na,1\0\n", r"a\.csv:2: a NUL byte"),
        ("a.tsv", b"text\tlabel\r\tB\r", r"a\.tsv: lines end with a carriage return alone"),
    ],
)
def test_lone_quotes_are_refused_where_they_swallow_rows(tmp_path: Path, name: str, content: bytes, expected: str) -> None:
    with pytest.raises(UserError, match=expected):
        read(written(tmp_path / name, content))


def test_quotes_that_are_meant_are_read(tmp_path: Path) -> None:
    assert read(written(tmp_path / "a.tsv", LONE), quoting=False)["text"][0] == '"Hello'
    assert len(read(tmp_path / "a.tsv", quoting=True)) == 2
    long = "\n".join(f"line {number}, and, more" for number in range(90)) + ' ""said""'
    rows = read(written(tmp_path / "b.csv", f'text,label\n"{long}",1\nx "y",2\n"""",3\n'.encode()))
    assert [len(text) for text in rows["text"]] == [len(long) - 2, 5, 1]


@pytest.mark.timeout(120)  # a scan that grows with the square of the rows would take hours
def test_a_million_quoted_rows_are_scanned(tmp_path: Path) -> None:
    from ftkit.data.archives import DataFile
    from ftkit.data.diagnose import require_closed_quotes

    for cell in (b'"quite good","1"\n', b"quite good,1\n"):
        path = written(tmp_path / "a.csv", b"text,label\n" + cell * 1_000_000)
        require_closed_quotes(DataFile(path, "a.csv", ".csv"), "utf-8-sig", ",", 2)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({"data": ROWS}, r"a\.json is one object; its 'data' holds a list of objects; .*field: data"),
        ({"text": ["a"], "label": ["b"]}, "one object, and none of its values is a list of objects"),
        ([{"a": 1}, {"a": "x"}], r"a\.json: row 2: 'a' is of type str, in earlier rows int"),
        ([{"a": 1}, 3], r"a\.json: row 2: a JSON int where an object is needed"),
        ({"data": [{"paragraphs": [{"context": "C", "qas": [{"id": 1}]}]}]}, r"data\[0\]\.paragraphs\[0\]\.qas\[0\]\.question is missing"),
    ],
)  # fmt: skip
def test_json_of_another_form_is_refused(tmp_path: Path, content: Any, expected: str) -> None:
    for indent in (None, 2):
        with pytest.raises(UserError, match=expected):
            read(written(tmp_path / "a.json", json.dumps(content, indent=indent).encode()))


def test_deeply_nested_json_does_not_kill_the_process(tmp_path: Path) -> None:
    deep = b"[" * 1_000_000 + b"]" * 1_000_000
    for name, content in (
        ("a.jsonl", b'{"a": []}\n{"a": ' + deep + b"}\n"),
        ("b.json", b'{"a": ' + deep + b"}"),
        ("c.json", deep),
    ):
        with pytest.raises(UserError, match=rf"{name}:\d: not JSON: maximum recursion depth"):
            read(written(tmp_path / name, content))


def test_json_rows_under_a_field_and_single_objects(tmp_path: Path) -> None:
    file = written(tmp_path / "a.json", json.dumps({"version": 1, "data": ROWS}).encode())
    assert read(file, field="data").to_list() == ROWS
    with pytest.raises(UserError, match="has no 'dat'; did you mean data"):
        read(file, field="dat")
    with pytest.raises(UserError, match=r"'version' is a JSON int where a list of objects is needed; .* in data"):
        read(file, field="version")
    assert read(written(tmp_path / "b.json", json.dumps(ROWS[0], indent=1).encode())).to_list() == ROWS[:1]
    assert read(written(tmp_path / "c.jsonl", b'{"data": [{"a": 1}]}\n')).to_list() == [{"data": [{"a": 1}]}]
    assert read(written(tmp_path / "d.jsonl", b'{"d": "2020-01-01"}\n{"d": "2020-01-02"}\n'))["d"][0] == "2020-01-01"
    assert read(written(tmp_path / "e.json", b'["x", "y"]'))["text"] == ["x", "y"]


def test_squad_by_shape_and_by_name(tmp_path: Path) -> None:
    rows = read(written(tmp_path / "a.json", json.dumps(SQUAD).encode())).to_list()
    first = {
        "id": "1",
        "title": "T",
        "context": "C",
        "question": "Q",
        "answers": ["x", "y"],
        "answer": "x",
        "answer_start": 3,
    }
    assert rows == [first, {**first, "id": "2", "question": "R", "answers": [], "answer": "", "answer_start": -1}]
    assert read(written(tmp_path / "a", json.dumps(SQUAD, indent=1).encode()), format="squad").to_list() == rows
    with pytest.raises(UserError, match="has not the form of SQuAD"):
        read(written(tmp_path / "b.json", b"[]"), format="squad")


def test_conll_by_name_and_by_format(tmp_path: Path) -> None:
    content = b"-DOCSTART- O\n\nJohn\tNNP B-per\nruns\tVB O\n\n\n#x\tNN O\n"
    rows = read(written(tmp_path / "a.annotated", content.replace(b" ", b"\t")), format="conll").to_list()
    assert rows[0] == {"tokens": ["John", "runs"], "tags": ["B-per", "O"], "text": "John runs"}
    assert rows[1]["tokens"] == ["#x"]
    with pytest.raises(UserError, match=r"b\.conll:3: 1 fields where the first line has 2"):
        read(written(tmp_path / "b.conll", b"a O\n\nb\n"))
    with pytest.raises(UserError, match=r"c\.conll:1: 1 fields where a token and its tag are needed"):
        read(written(tmp_path / "c.conll", b"a\n"))


def test_sharegpt_becomes_messages(tmp_path: Path) -> None:
    turns = [{"from": "system", "value": "s"}, {"from": "human", "value": "h"}, {"from": "gpt", "value": "g"}]
    messages = [{"role": role, "content": role[0]} for role in ("system", "human", "gpt")]
    messages[1]["role"], messages[2]["role"] = "user", "assistant"
    assert to_messages(turns) == messages
    line = json.dumps({"conversations": turns}).encode() + b"\n"
    for content in (line, line * 2):
        rows = read(written(tmp_path / "a.jsonl", content))
        assert rows.column_names == ["messages"]
        assert rows[0]["messages"] == messages
    bad = json.dumps({"conversations": [{"from": "bard", "value": "x"}]}).encode()
    with pytest.raises(
        UserError, match=r"b\.jsonl row 2: turn 1 of a conversation is from 'bard'; .* human, gpt, system, tool"
    ):
        read(written(tmp_path / "b.jsonl", line + bad))
    assert read(written(tmp_path / "c.jsonl", b'{"conversations": "x"}\n')).column_names == ["conversations"]


@pytest.mark.skipif(not SHARED.is_dir(), reason="no ../shared")
@pytest.mark.parametrize(
    ("name", "options", "count"),
    [
        ("squadshifts/new_wiki_v1.0.json", {}, 7938),
        ("xquad/xquad.en.json", {"format": "squad"}, 1190),
        ("wnut17/wnut17train.conll", {}, 3394),
        ("wnut17/emerging.dev.conll", {}, 1009),
        ("wnut17/emerging.test.annotated", {"format": "conll"}, 1287),
        ("mts-dialog/MTS-Dialog-TrainingSet.csv", {}, 1201),
    ],
)
def test_published_files(name: str, options: dict[str, Any], count: int) -> None:
    assert len(read(SHARED / name, **options)) == count
