"""The files that a run follows from, each with size and SHA-256, and of rows a digest each, by which a changed one is found.

Nothing here loads torch or a model, so that a run that is to go on is compared first.
"""

import base64
import gzip
import json
import os
import time
import zipfile
import zlib
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

from ftkit import console
from ftkit.answers import keep, key_of, known
from ftkit.data.paths import KINDS, SAMPLE_PREFIX, ending_of, find_files
from ftkit.data.room import Bounded, Room
from ftkit.errors import UserError
from ftkit.hub.cache import snapshot
from ftkit.hub.files import INDEX, SMALL, TEMPLATES, weights_of
from ftkit.hub.names import Repository, is_hub_id, model_names
from ftkit.reading import MISSING, Damaged, object_if_there, read_object
from ftkit.recipe.schema import Model, Recipe, Source
from ftkit.run import Run, write_json
from ftkit.seals import CHUNK, describe

BASE, TOKENIZER, METRIC, TEXT, SETTINGS = (
    "model.name", "model.tokenizer", "evaluation.metric_file", "evaluation.general_text", "training",
)  # fmt: skip
DATA = "data."
MOST_DIGESTS = 1 << 20  # of a file; where it has more rows, each digest is of several
MANY_ROWS = 1 << 12  # of a table, that have one digest where there are very many
LARGE = 16 << 20  # bytes of a file whose digest is kept
SETTLED_NS = 2_000_000_000  # a file that was written so lately may be written again without its times telling
MOST_PARSED = 64 << 20  # bytes of a JSON list that is parsed for its rows; of a longer one the lines are told apart
WEIGHTS_ALONE = (".safetensors", ".bin")
IDLE = ("trainer_state.json", "README.md")  # beside a model, and never loaded with it
TEXTS = ("vocab", "merges", "dict")  # how files of text begin that a tokenizer is made of
LINES, ROWS = "line", "row"
NO_ROWS = ("", 1, "")
UNREADABLE = (OSError, ValueError, EOFError, zlib.error, zipfile.BadZipFile, LookupError, RuntimeError, NotImplementedError)


@dataclass(frozen=True)
class Digest:
    """A file as it is.

    Attributes:
        key: of the recipe, by which the run follows from it.
        size: in bytes; -1 where it cannot be read.
        unit: what has a digest of its own, a line or a row; empty where nothing has.
        step: how many of them one digest is of.
        digests: CRC-32 of each, in their order, as base64 of packed numbers.
    """

    key: str
    size: int
    sha256: str
    unit: str = ""
    step: int = 1
    digests: str = ""
    path: str = field(default="", compare=False)  # where it lies, if that is not its name

    @property
    def rows(self) -> array:  # type: ignore[type-arg]
        found = array("I")
        found.frombytes(base64.b64decode(self.digests, validate=True))
        return found

    @property
    def short(self) -> dict[str, Any]:
        """For run.json."""
        return {"bytes": self.size, "sha256": self.sha256}


Digests = dict[str, Digest]
GONE = Digest("", -1, "")


@dataclass(frozen=True)
class Change:
    """A file that is not as it was, and what differs, in words."""

    name: str
    then: Digest
    now: Digest
    what: str

    @property
    def key(self) -> str:
        return self.then.key or self.now.key

    def __str__(self) -> str:
        return f"{self.name}{f' ({self.key})' if self.key else ''}: {self.what}"


def digests_of(recipe: Recipe) -> Digests:
    """All files that the recipe leads to, by their names in it; samples follow from the code, and have none."""
    found: Digests = {}
    for name, key, path in files_of(recipe):
        if name not in found:
            found[name] = digest_file(key, path, own=name == str(path))
            if key.startswith(DATA) and ending_of(path.name) == ".zip":
                found |= digest_members(name, key, path)
    return found


def files_of(recipe: Recipe) -> Iterator[tuple[str, str, Path]]:
    """Name, key and place of each."""
    for part in ("train", "eval", "test"):
        for source in getattr(recipe.data, part) or []:
            yield from ((str(path), f"data.{part}", path) for path in data_paths(source))
    yield from base_files(recipe.model)
    named = [(METRIC, recipe.evaluation.metric_file), (TEXT, recipe.evaluation.general_text or None)]
    named += [(f"{SETTINGS}.{name}", value) for name, value in recipe.training.model_dump(mode="json").items()]
    for key, value in named:
        if isinstance(value, str) and (path := Path(value).expanduser()).is_file():
            yield value, key, path


def data_paths(source: Source) -> list[Path]:
    """The local files of a source; none where it has none, or they cannot be found."""
    with suppress(UserError, OSError):
        return [] if source.path.startswith(SAMPLE_PREFIX) else find_files(source.path, "data", source.format)
    return []


def base_files(block: Model, *, weights_only: bool = False) -> Iterator[tuple[str, str, Path]]:
    """Of a model and of another tokenizer: what loading them reads, in a folder or in the hub's cache.

    Args:
        weights_only: what an adapter stands on; the tokenizer and its settings are saved with it.
    """
    hub = {repository.key: repository for repository in model_names(block)}
    for key, name in ((BASE, block.name), (TOKENIZER, block.tokenizer)):
        folder = model_folder(name, hub.get(key)) if name and not (weights_only and key == TOKENIZER) else None
        for file in model_files(folder, code=block.trust_remote_code) if folder else ():
            inside = file.relative_to(folder).as_posix()  # type: ignore[arg-type]
            if weights_only and not (file.suffix in WEIGHTS_ALONE or inside == "config.json"):
                continue
            if key == BASE or file.suffix not in WEIGHTS_ALONE:
                yield f"{str(name).rstrip('/')}/{inside}", key, file


def model_folder(name: str, repository: Repository | None) -> Path | None:
    """Where a model lies; None where it is not here yet."""
    with suppress(OSError, RuntimeError):
        folder = Path(name).expanduser()
        return folder if folder.is_dir() else snapshot(repository) if repository and is_hub_id(name) else None
    return None


def model_files(folder: Path, *, code: bool) -> list[Path]:
    """The files of a model's folder that loading it reads."""
    here = {file.name: file for file in folder.iterdir() if file.is_file()}
    found = [file for name, file in here.items() if is_read(name)]
    weights = weights_of(list(here))
    names = {name for name in here if name.endswith(".safetensors") and name.startswith("adapter_")}
    if weights is not None:
        names.add(weights)
        if weights.endswith(INDEX):
            with suppress(Damaged):
                named = read_object(here[weights], {"weight_map": dict}).get("weight_map", {})
                names |= {str(part) for part in named.values()} & here.keys()
    found += [here[name] for name in names if here[name] not in found]
    found += [file for file in (folder / TEMPLATES).glob("*.jinja") if file.is_file()]
    return sorted([*found, *(folder.rglob("*.py") if code else ())])


def is_read(name: str) -> bool:
    """Whether a file of a model's folder says how model or tokenizer are made."""
    ending = os.path.splitext(name)[1].lower()
    if ending == ".txt":
        return name.startswith(TEXTS)
    return ending in SMALL and name not in IDLE and not name.endswith("_results.json") and not name.endswith(INDEX)


def digest_file(key: str, path: Path, *, own: bool) -> Digest:
    """A file as it is now.

    Args:
        own: its name is its path.
    """
    place = "" if own else str(path)
    try:
        size, sha256 = contents(path)
        rows = rows_of(path) if key.startswith(DATA) and ending_of(path.name) != ".zip" else NO_ROWS
    except UNREADABLE:
        return Digest(key, -1, "", path=place)
    return Digest(key, size, sha256, *rows, path=place)


def contents(path: Path) -> tuple[int, str]:
    """Size and SHA-256; a file that was not touched since is not read twice by one process."""
    state = path.stat()
    return _contents(path, state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_ino)


def contents_known(path: Path) -> tuple[int, str]:
    """The same; of a large file that was not touched since another process read it, what that one found.

    A file's time of change cannot be set as that of its content can: who replaces it in place changes it.
    """
    state = path.stat()
    settled = time.time_ns() - state.st_ctime_ns > SETTLED_NS
    if state.st_size < LARGE or not settled:
        return contents(path)
    key = key_of(str(path.resolve()), state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns)
    if isinstance(found := known("digests", key), str):
        return state.st_size, found
    size, sha256 = contents(path)
    keep("digests", key, sha256)
    return size, sha256


@lru_cache(maxsize=4096)
def _contents(path: Path, size: int, *_: int) -> tuple[int, str]:
    return size, str(describe(path)[1])


def digest_members(name: str, key: str, path: Path) -> Digests:
    """The data files in an archive, by the checksum that it has of each, and their rows."""
    found: Digests = {}
    with suppress(*UNREADABLE), zipfile.ZipFile(path) as archive:
        room = Room(path, name)
        for member in archive.infolist():
            if ending_of(member.filename) in KINDS and not member.is_dir():
                with archive.open(member) as stream:
                    rows = rows_in(Bounded(stream, room), ending_of(member.filename))  # type: ignore[arg-type]
                found[f"{name}/{member.filename}"] = Digest(key, member.file_size, f"crc32:{member.CRC:08x}", *rows)
    return found


def rows_of(path: Path) -> tuple[str, int, str]:
    """Unit, step and digests of a file's rows, as `Digest` has them; taken once, as `contents` are."""
    state = path.stat()
    return _rows_of(path, state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_ino)


@lru_cache(maxsize=64)
def _rows_of(path: Path, *_: int) -> tuple[str, int, str]:
    ending = ending_of(path.name)
    if ending == ".parquet":
        return packed_parquet(path)
    with path.open("rb") as stream:
        zipped = stream.read(2) == b"\x1f\x8b"
    if not zipped:
        with path.open("rb") as stream:
            return rows_in(stream, ending)
    with gzip.open(path, "rb") as stream:
        return rows_in(Bounded(stream, Room(path, str(path))), ending)  # type: ignore[arg-type]


def rows_in(stream: BinaryIO | Bounded, ending: str) -> tuple[str, int, str]:
    """The same of what is open; none where it holds too much, which whoever reads it refuses."""
    if ending == ".parquet":
        return NO_ROWS
    try:
        start = stream.read(CHUNK)
        if ending == ".json" and start.lstrip()[:1] == b"[":
            start += stream.read(MOST_PARSED)
            if len(start) <= MOST_PARSED:
                with suppress(ValueError, RecursionError):
                    rows = [json.dumps(row, sort_keys=True).encode() for row in json.loads(start)]
                    return packed(ROWS, map(zlib.crc32, rows))
        return packed(LINES, sums_of_lines(start, stream))
    except UserError:
        return NO_ROWS


def sums_of_lines(start: bytes, stream: BinaryIO | Bounded) -> Iterator[int]:
    """CRC-32 of each line of a file whose start was read; a last one without an end is one, too. No line is held."""
    begun: int | None = None  # of a line whose end was not read yet
    chunk = start
    while chunk:
        *whole, rest = chunk.split(b"\n")
        for line in whole:
            yield zlib.crc32(line, begun or 0)
            begun = None
        if rest:
            begun = zlib.crc32(rest, begun or 0)
        chunk = stream.read(CHUNK)
    if begun is not None:
        yield begun


def packed_parquet(path: Path) -> tuple[str, int, str]:
    """The same of a table, of which some thousand rows together have a digest where there are very many."""
    import pyarrow as pa  # type: ignore[import-untyped] # other files are read without it
    import pyarrow.parquet as pq  # type: ignore[import-untyped]

    with pq.ParquetFile(path) as table:
        batches = table.iter_batches(batch_size=MANY_ROWS)
        if table.metadata.num_rows <= MOST_DIGESTS // 4:
            return packed(ROWS, (zlib.crc32(repr(row).encode()) for batch in batches for row in batch.to_pylist()))
        # what was taken has nothing of its neighbours in its buffers
        whole = (batch.take(pa.array(range(len(batch)))).serialize().to_pybytes() for batch in batches)
        return packed(ROWS, map(zlib.crc32, whole), MANY_ROWS)


def packed(unit: str, sums: Iterable[int], step: int = 1) -> tuple[str, int, str]:
    """Unit, step and digests of rows by their checksums, of which each is of `step` rows already."""
    found = array("I", sums)
    while len(found) > MOST_DIGESTS:
        pairs = (found[place : place + 2].tobytes() for place in range(0, len(found), 2))
        found, step = array("I", map(zlib.crc32, pairs)), 2 * step
    return unit, step, base64.b64encode(found.tobytes()).decode()


def changes(then: Digests, now: Digests) -> list[Change]:
    """What is not as it was; an archive is told by its members where these differ."""
    found = [
        Change(name, before, after, difference(before, after))
        for name in dict.fromkeys([*then, *now])
        if (before := then.get(name, GONE)).sha256 != (after := now.get(name, GONE)).sha256 and not elsewhere(before, after)
    ]
    members = [change.name for change in found]
    return [change for change in found if not any(name.startswith(f"{change.name}/") for name in members)]


def elsewhere(before: Digest, after: Digest) -> bool:
    """Whether a file of the hub's cache is there only now, or was only then: what is fetched is held against its digest."""
    if after is GONE:
        return "/snapshots/" in before.path and not Path(before.path).exists()
    return before is GONE and "/snapshots/" in after.path


def with_fetched(digests: Digests, block: Model) -> Digests:
    """The same, with what of the model was fetched since."""
    fetched = {name: (key, path) for name, key, path in base_files(block) if name not in digests}
    return digests | {name: digest_file(key, path, own=name == str(path)) for name, (key, path) in fetched.items()}


def difference(before: Digest, after: Digest) -> str:
    """What differs, in words."""
    if before is GONE:
        return "it was not there"
    if after is GONE or after.size < 0:
        return MISSING if after is GONE else "it cannot be read"
    if before.unit and before.unit == after.unit and before.step == after.step:
        return differing_rows(before.rows, after.rows, before.unit, before.step)
    if before.size != after.size:
        return f"it has {after.size:,} bytes where it had {before.size:,}"
    return "it holds other bytes than it did"


def differing_rows(before: Any, after: Any, unit: str, step: int) -> str:
    """Which rows differ, in words that name the first; rows are counted from 1."""
    first = first_difference(before, after)
    if first is None:
        return f"it holds the same {unit}s in other bytes"
    if step > 1:
        return f"the first difference is in {unit}s {first * step + 1:,}-{(first + 1) * step:,}"
    more, place = len(after) - len(before), f"{unit} {first + 1:,}"
    sizes = f"{len(after):,} {unit}s where it had {len(before):,}"
    if first == min(len(before), len(after)):
        count = f"{abs(more):,} {unit}{'s' if abs(more) > 1 else ''}"
        return f"{count} {'more' if more > 0 else 'fewer'} at its end: {sizes}"
    if more:
        return f"{sizes}; the first that differs is {place}"
    if Counter(before) == Counter(after):
        return f"the same {unit}s in another order, from {place} on"
    differing = sum(one != other for one, other in zip(before, after, strict=True))
    return f"{place} differs" if differing == 1 else f"{differing:,} {unit}s differ, the first is {place}"


def first_difference(before: Any, after: Any) -> int | None:
    """The place of the first digest that differs, counted from 0; the end of the shorter where that is all of it."""
    shared = min(len(before), len(after))
    found = next((place for place in range(shared) if before[place] != after[place]), None)
    return found if found is not None else shared if len(before) != len(after) else None


def as_json(digests: Digests) -> dict[str, Any]:
    """For inputs.json, less what is not there."""
    return {
        name: {key: value for key, value in asdict(one).items() if value not in ("", 1)} for name, one in digests.items()
    }


def from_json(values: dict[str, Any], file: Path) -> Digests:
    """As `as_json` wrote them.

    Raises:
        Damaged: they are not such.
    """
    try:
        found = {name: Digest(**one) for name, one in values.items()}
        for one in found.values():
            _ = (one.rows, one.key + one.sha256 + one.unit + one.path, one.size + one.step)
    except (TypeError, ValueError) as error:
        raise Damaged(file, "it does not hold what was noted of the run's files") from error
    return found


def changed_base(block: Model, then: Digests) -> list[Change]:
    """What an adapter stands on and was trained on, where it is not as it was."""
    now = {
        name: Digest(key, *contents_known(path), path=str(path))
        for name, key, path in base_files(block, weights_only=True)
    }  # fmt: skip
    noted = {name: one for name, one in then.items() if one.key == BASE and is_weight(name)}
    return changes(noted, {name: one for name, one in now.items() if is_weight(name)}) if noted and now else []


def is_weight(name: str) -> bool:
    return name.endswith((*WEIGHTS_ALONE, "/config.json"))


def read_inputs(run: Run) -> Digests | None:
    """What the run noted when it began; None where it noted nothing.

    Raises:
        Damaged: it cannot be read, or was changed since.
    """
    noted = run.record.get("fingerprints", {}).get("inputs")
    if not run.inputs.is_file():
        if noted:
            raise Damaged(run.inputs, MISSING)
        return None
    found = from_json(object_if_there(run.inputs, {"files": dict}, ("files",))["files"], run.inputs)
    if noted and describe(run.inputs)[1] != noted:
        raise Damaged(run.inputs, "it was changed since the run began")
    return found


def write_inputs(run: Run, digests: Digests) -> None:
    """Note what the run follows from."""
    write_json(run.inputs, {"folder": str(Path.cwd()), "files": as_json(digests)})
    run.update(fingerprints={**run.record.get("fingerprints", {}), "inputs": describe(run.inputs)[1]})


def base_changes(run: Run) -> list[Change]:
    """Files of the base that an adapter of this run does not stand on any more; none where it noted none, or has no adapter.

    A warning says where what was noted cannot be read.
    """
    if not (run.model / "adapter_config.json").is_file():
        return []
    try:
        then = read_inputs(run)
    except Damaged as error:
        console.warn(f"{error.place}: {error.message}; whether the base is that of the run is not known")
        return []
    if not then:
        return []
    with console.status("comparing the base with that of the run", after=console.SOON):
        return changed_base(run.read_recipe().model, then)
