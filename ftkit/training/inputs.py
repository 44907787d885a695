"""Whether the files that a run follows from are those that it began with, and what it says where it went on with others.

Looked at before torch is loaded; a recipe says the same words whatever lies behind them.
"""

import shutil
from dataclasses import dataclass, replace
from itertools import takewhile
from pathlib import Path
from typing import Any

from ftkit import console
from ftkit.data.digests import (
    DATA,
    GONE,
    LINES,
    Change,
    Digest,
    Digests,
    changes,
    data_paths,
    digests_of,
    first_difference,
    read_inputs,
    write_inputs,
)
from ftkit.errors import UserError
from ftkit.reading import Damaged
from ftkit.recipe.schema import Recipe
from ftkit.run import Run

SHOWN = 3  # changed files that a line names
HINT = "put it back, go on all the same with --force, which the run then says for ever, or start anew with --overwrite"


@dataclass(frozen=True)
class Inputs:
    """The files that a run follows from as they are now, and which of them are not as they were when it began."""

    now: Digests
    changes: list[Change]


def require_resumed(force: bool, resume: bool) -> None:
    """Raises UserError where nothing goes on that could be forced to."""
    if force and not resume:
        raise UserError(
            "it lets a run go on whose data or base changed",
            "give it with --resume; what replaces a run is --overwrite",
            "--force",
        )


def require_same_inputs(recipe: Recipe, run: Run, *, force: bool) -> None:
    """As `settle_inputs` of a run that goes on, before the libraries are loaded; what is found is said later."""
    if not force:
        settle_inputs(recipe, run, resume=True)


def settle_inputs(recipe: Recipe, run: Run, *, resume: bool, force: bool = False) -> Inputs:
    """Take down what a run will follow from; of one that goes on, make sure that it is what it began with.

    Args:
        force: go on with other files.

    Raises:
        UserError: a file is not as it was; the line says which, and what differs.
    """
    if not resume:
        with console.status("taking sums of data and weights", after=console.SOON):
            return Inputs(digests_of(recipe), [])
    with console.status("comparing data and weights with those of the run", after=console.SOON):
        found = compare_inputs(run.read_recipe(), run)  # whether the recipe is another is looked at for itself
    if found.changes and not force:
        raise UserError(f"not what the run began with: {words_of(found.changes)}", HINT, "--resume")
    for change in found.changes:
        console.warn(f"going on with what the run did not begin with: {change}")
    return found


def compare_inputs(recipe: Recipe, run: Run) -> Inputs:
    """As they are now, beside what the run noted; of a run of an earlier version nothing is noted, and a line says so."""
    try:
        then = read_inputs(run)
    except Damaged as error:
        lost = Change(str(run.inputs), GONE, GONE, f"{error.message}: what was noted of the run's files cannot be compared")
        return Inputs(digests_of(recipe), [lost])
    now = digests_of(recipe)
    if then is None:
        console.say("the run noted no sums of its files, as one of an earlier version: they are taken for the same")
        return Inputs(now, [])
    return Inputs(now, [with_row(change, recipe) for change in changes(then, now)])


def with_rows_compared(inputs: Inputs, run: Run, described: dict[str, Any], *, force: bool) -> Inputs:
    """The same, with what the rows of each split became for the model compared, whatever they were read from.

    Args:
        described: of each split that was read now, as run.json has it under `data`.

    Raises:
        UserError: they are not those that the run began with, and no file says why.
    """
    found = [] if inputs.changes else other_rows(run.record.get("data", {}), described)
    if found and not force:
        raise UserError(f"not what the run began with: {words_of(found)}", HINT, "--resume")
    for change in found:
        console.warn(f"going on with what the run did not begin with: {change}")
    return Inputs(inputs.now, [*inputs.changes, *found])


def other_rows(then: dict[str, Any], now: dict[str, Any]) -> list[Change]:
    """The splits whose rows, or what the tokenizer and the encoder make of them, are not as they were."""
    found = []
    for name in then.keys() & now.keys():
        for key, what in (("sha256", "rows"), ("tokens_sha256", "rows as token ids")):
            before, after = then[name].get(key), now[name].get(key)
            if before and before != after:
                words = f"they are others than they were, though the files are the same ({then[name]['rows']:,} then, "
                words += f"{now[name]['rows']:,} now)"
                found.append(Change(f"the {name} {what}", Digest(f"data.{name}", -1, before), GONE, words))
                break
    return sorted(found, key=lambda change: change.name)


def record_forced(run: Run, inputs: Inputs, step: int, fields: dict[str, Any]) -> None:
    """Let the run say for ever that it went on with other files; what was noted and measured with the former is done again.

    That goes first: who is killed before the files are noted has them compared, and is asked, once more.

    Args:
        fields: what run.json says of the run's parts as they are now.
    """
    found = [
        {"file": change.name, "key": change.key, "what": change.what, "then": change.then.short, "now": change.now.short,
         "step": step}
        for change in inputs.changes
    ]  # fmt: skip
    shutil.rmtree(run.verification, ignore_errors=True)
    run.clear_outputs()
    run.update(**fields, forced=[*run.record.get("forced", []), *found])
    write_inputs(run, inputs.now)


def words_of(found: list[Change]) -> str:
    """The first few changes, in one line."""
    more = f"; and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    return "; ".join(map(str, found[:SHOWN])) + more


def forced_words(record: dict[str, Any]) -> list[str]:
    """Of a run that went on with other files, what is to be known of its figures: a line a step at which it did."""
    forced = record.get("forced", [])
    lines = []
    for step in dict.fromkeys(one["step"] for one in forced):
        files = [f"{one['file']} ({one['key']}): {one['what']}" for one in forced if one["step"] == step]
        lines.append(
            f"the run went on at step {step:,} with other files than it began with (--force): {'; '.join(files)}; "
            "its baseline is of what is there since then"
        )
    return lines


def with_row(change: Change, recipe: Recipe) -> Change:
    """The change with the row in which the first line that differs is."""
    if change.then.unit != LINES or change.now.unit != LINES or change.then.step > 1 or not change.key.startswith(DATA):
        return change
    place = first_difference(change.then.rows, change.now.rows)
    line = (place or 0) + 1
    row = row_at(change.name, line, recipe) if place is not None else None
    if row is None or f"line {line:,}" not in change.what:
        return change
    words = f"row {row:,}" if row == line else f"row {row:,}, line {line:,}" if row else f"line {line:,}, above all rows,"
    return replace(change, what=change.what.replace(f"line {line:,}", words, 1))


def row_at(name: str, line: int, recipe: Recipe) -> int | None:
    """The row of a data file that a line is in, counted from 1, 0 before the first; None where that cannot be told."""
    from ftkit.data.archives import DataFile  # these bring the libraries, of which the rest has no need
    from ftkit.data.paths import ending_of
    from ftkit.data.places import starts_of_rows

    for part in ("train", "eval", "test"):
        for source in getattr(recipe.data, part) or []:
            if Path(name) in data_paths(source):
                file = DataFile(Path(name), name, ending_of(name))
                try:
                    starts = starts_of_rows(source, file, recipe.spec.sample_by)
                    first = next(starts, None)
                    rest = takewhile(lambda start: start <= line, starts)
                    return None if first is None else 0 if first > line else 1 + sum(1 for _ in rest)
                except (UserError, OSError, ValueError):
                    return None
    return None
