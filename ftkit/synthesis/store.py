"""Where made rows are kept: the output, and beside it the journal, FILE.rounds, with the settings and a line a round.

A round's line is written after its rows: what stands in the output past the last such line is a round that was cut off.
"""

import json
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ftkit import console
from ftkit.claim import locked
from ftkit.errors import UserError
from ftkit.run import require_writable, write_text
from ftkit.synthesis.prompt import Row

CHANGEABLE = {"rows", "patience"}  # from one resumption to the next


@dataclass(frozen=True)
class Round:
    """The counts of a round; `bytes` is the size of the output when it was done."""

    round: int
    asked: int
    parsed: int
    kept: int
    rejected: dict[str, int]
    bytes: int


def require_output(output: Path, *, resume: bool) -> None:
    """Make sure, before anything expensive, that rows may be written there.

    Raises:
        UserError: there are rows already, there is nothing to resume, or it is not writable.
    """
    journal = journal_of(output)
    if output.is_dir():
        raise UserError(f"{output} is a folder", "name a file, as rows.jsonl", "--output")
    if resume and not journal.is_file():
        missing = f"there is no {journal}, which has the settings of the rows" if output.exists() else f"no {output}"
        raise UserError(f"nothing to resume: {missing}", "start it without --resume, with another --output", "--resume")
    if not resume and output.exists():
        ways = "go on with --resume, or choose another file" if journal.is_file() else "choose another file, or remove it"
        raise UserError(f"{output} is there already", ways, "--output")
    try:
        require_writable(output.parent)
    except UserError as error:
        raise UserError(error.message, "choose another file", "--output") from None


def journal_of(output: Path) -> Path:
    return output.with_name(f"{output.name}.rounds")  # no ending of a data file, which a folder or glob would take in


class Store:
    """The output and its journal, both only ever appended to, the output first."""

    def __init__(self, output: Path) -> None:
        self.output, self.journal = output, journal_of(output)

    @contextmanager
    def claimed(self) -> Iterator[None]:
        """No other process writes these rows while the block runs."""
        self.output.parent.mkdir(parents=True, exist_ok=True)
        with locked(self.output.with_name(f".{self.output.name}.lock"), "writing rows", self.output, "--output"):
            yield

    def start(self, header: dict[str, Any]) -> None:
        write_text(self.journal, _line(header))

    def append(self, rows: list[dict[str, Any]], done: Round) -> Round:
        """Write a round's rows, then its line in the journal."""
        size = _append(self.output, "".join(map(_line, rows))) if rows else _size(self.output)
        done = Round(**asdict(done) | {"bytes": size})
        _append(self.journal, _line(asdict(done)))
        return done

    def rows(self) -> list[Row]:
        return [
            Row(row["id"], row["instruction"], row["input"], row["output"])
            for row in _whole_lines(self.output, _size(self.output))
        ]

    def resume(self, header: dict[str, Any]) -> list[Round]:
        """The rounds that are whole; what is left of another is cut off.

        Raises:
            UserError: the settings are others, or the output holds what was not written here.
        """
        before, *rest = _whole_lines(self.journal, _size(self.journal)) or [{}]
        self._require_same(before, header)
        data = self.output.read_bytes() if self.output.is_file() else b""
        whole = data.rfind(b"\n") + 1
        rounds = [done for values in rest if (done := Round(**values)).bytes <= whole]
        end = rounds[-1].bytes if rounds else 0
        rows, left = _whole_lines(self.output, end), _whole_lines(self.output, whole)
        counts = Counter(row.get("round") for row in rows)
        known = all(counts[done.round] == done.kept for done in rounds) and counts.total() == sum(d.kept for d in rounds)
        if not known or any(row.get("round") != len(rounds) + 1 for row in left[len(rows) :]):
            message = f"{self.output} was changed since: it is not what {self.journal} tells of"
            raise UserError(message, "put it back, or start with another --output", "--resume")
        if end < len(data):
            console.say(f"round {len(rounds) + 1} was cut off and is made again")
            os.truncate(self.output, end)
        write_text(self.journal, "".join(map(_line, [before, *map(asdict, rounds)])))
        return rounds

    def _require_same(self, before: dict[str, Any], header: dict[str, Any]) -> None:
        if set(before) != set(header):
            raise UserError(f"{self.journal} does not begin with settings", "start with another --output", "--resume")
        other = [name for name in header if name not in CHANGEABLE and header[name] != before[name]]
        if "seeds" in other:
            raise UserError("the seeds are not those that the rows were begun with", "name the same ones", "SEEDS")
        if other:
            changes = ", ".join(f"--{name.replace('_', '-')} was {before[name]}, is {header[name]}" for name in other)
            raise UserError(f"the settings changed: {changes}", "resume with those of before", "--resume")


def _line(value: dict[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False) + "\n"


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _append(path: Path, text: str) -> int:
    """Append and wait until it is on the disk; gives the file's size.

    Raises:
        UserError: it cannot be written, as on a full disk.
    """
    try:
        with path.open("ab") as file:
            file.write(text.encode())
            file.flush()
            os.fsync(file.fileno())
            return file.tell()
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}", "make room or mend it", "--output") from None


def _whole_lines(path: Path, end: int) -> list[dict[str, Any]]:
    """The objects of the lines within the first `end` bytes, less an unfinished one at the end.

    Raises:
        UserError: a whole line is no JSON object.
    """
    lines = path.read_bytes()[:end].split(b"\n")[:-1] if path.is_file() else []
    values = []
    for number, line in enumerate(lines, 1):
        try:
            value = json.loads(line)
        except ValueError:
            value = None
        if not isinstance(value, dict):
            raise UserError(
                f"{path}:{number}: no JSON object", "put the file back, or start with another --output", "--resume"
            )
        values.append(value)
    return values
