"""The kind: an archive that is small on the disk and fills it when it is read, or whose members name places outside."""

import gzip
import tracemalloc
import zipfile
import zlib
from pathlib import Path

import datasets.config
import pytest

from ftkit.data import digests, room
from ftkit.data.archives import unpack
from ftkit.data.digests import digest_file, digest_members
from ftkit.data.sources import read_source
from ftkit.errors import UserError
from ftkit.recipe.schema import Source


@pytest.fixture(autouse=True)
def small_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the test's own, and bounds that a test reaches in no time."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "rows")
    monkeypatch.setattr(room, "MOST_BYTES", 1 << 20)
    return tmp_path / "rows"


def zipped(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def lying(path: Path) -> Path:
    """A .zip whose table of contents says that its member is small."""
    data = zipped(path, {"a.csv": b"text\n" + b"x\n" * (4 << 20)}).read_bytes()
    sizes = (5 + 2 * (4 << 20)).to_bytes(4, "little")
    assert data.count(sizes) == 2
    path.write_bytes(data.replace(sizes, (100).to_bytes(4, "little")))
    return path


def gzipped(path: Path) -> Path:
    path.write_bytes(gzip.compress(b"text\n" + b"x\n" * (4 << 20)))
    return path


BOMBS = {
    "one member": lambda folder: zipped(folder / "a.zip", {"a.csv": b"text\n" + b"x\n" * (4 << 20)}),
    "many members": lambda folder: zipped(folder / "a.zip", {f"{n}.csv": b"text\n" + b"x\n" * (1 << 18) for n in range(9)}),
    "a zip within": lambda folder: zipped(folder / "b.zip", {"rows.csv.gz": gzip.compress(b"text\n" + b"x\n" * (4 << 20))}),
    "it lies": lambda folder: lying(folder / "a.zip"),
    "gzip": lambda folder: gzipped(folder / "a.csv.gz"),
}


@pytest.mark.parametrize("kind", BOMBS)
def test_what_would_fill_the_disk_is_refused_and_leaves_nothing(kind: str, tmp_path: Path, small_cache: Path) -> None:
    path = BOMBS[kind](tmp_path)
    with pytest.raises(UserError) as caught:
        unpack(path)
    assert path.name in str(caught.value)
    left = [file for file in small_cache.rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in left) <= room.MOST_BYTES
    assert not [file for file in left if file.name.startswith(".")]


# Kind: taking down what a run follows from comes before its rows are read, and unpacks as they do.
@pytest.mark.parametrize("kind", BOMBS)
def test_a_bombs_rows_have_no_digests_and_its_bytes_have(kind: str, tmp_path: Path) -> None:
    path = BOMBS[kind](tmp_path)
    assert digest_file("data.train", path, own=True).size == path.stat().st_size
    found = {path.name: digest_file("data.train", path, own=True), **digest_members(str(path), "data.train", path)}
    assert sum(len(one.rows) for one in found.values()) <= room.MOST_BYTES


@pytest.mark.parametrize("ending", [".jsonl", ".json"])
def test_a_line_without_end_is_not_held(ending: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "MOST_BYTES", 1 << 30)
    monkeypatch.setattr(digests, "MOST_PARSED", 1 << 20)
    path = tmp_path / f"rows{ending}.gz"
    path.write_bytes(gzip.compress(b"[" * (96 << 20), 1))
    tracemalloc.start()
    (one,) = digest_file("data.train", path, own=True).rows
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert one == zlib.crc32(b"[" * (96 << 20))
    assert peak < 16 << 20


def test_what_packs_as_texts_do_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of text shrinks to a tenth; that is no bomb, however large the bound on what grows a thousandfold."""
    rows = b"text\n" + b"".join(b"%d words of number %x\n" % (number, number * 7919) for number in range(90_000))
    assert len(rows) > room.MOST_BYTES
    assert len(unpack(zipped(tmp_path / "a.zip", {"a.csv": rows}))) == 1
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(rows))
    assert unpack(tmp_path / "a.csv.gz")[0].path.read_bytes() == rows


# Names that would leave the folder, or that no file can have.
@pytest.mark.parametrize(
    "name",
    ["../../out.csv", "/abs.csv", "C:\\x.csv", "..\\..\\out.csv", "a/../../out.csv", "a" * 300 + ".csv", "d" * 300 + "/a.csv", "a\nb.csv", "\x1b[31mred.csv",
     "..csv", "..", "con.csv", "a\x00b.csv", "日本.csv", "./a.csv", "a//b.csv"],
)  # fmt: skip
def test_a_members_name_leads_nowhere(name: str, tmp_path: Path, small_cache: Path) -> None:
    path = zipped(tmp_path / "a.zip", {name: b"text,label\na,b\nc,d\n"})
    before = {file for file in tmp_path.rglob("*") if small_cache not in file.parents}
    try:
        rows = read_source(Source(path=str(path)), split="train", sample_by="line", seed=42, key="data.train")
        assert rows is not None
    except UserError as error:
        assert "\x1b" not in str(error)  # noqa: PT017 some are read
    assert {file for file in tmp_path.rglob("*") if small_cache not in file.parents} - {small_cache} == before - {
        small_cache
    }
    assert not (tmp_path.parent / "out.csv").exists()
