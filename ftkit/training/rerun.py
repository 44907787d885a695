"""A run made again from its own folder: what it follows from is compared first, then what its steps and its end give.

Nothing here loads torch: what a run follows from is compared before."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import RenderableType

from ftkit import console
from ftkit.errors import NotReproduced, UserError
from ftkit.reading import object_if_there, read_log
from ftkit.recipe.schema import Recipe
from ftkit.run import FINISHED, Run, code_digest, is_run, require_files, state_words
from ftkit.training.inputs import compare_inputs, other_rows, words_of

STEPS = 10  # that a check makes, where it is not said
LOSS = "loss"
OF_TIME = ("seconds", "total_flos", "time", "_per_second", "epoch")  # how figures end that say nothing of the model
SURROUNDINGS = ("python", "versions", "machine", "device", "process", "precision", "speed", "batch_size")
SHOWN = 5
Points = dict[tuple[int, str], Any]  # a logged figure by step and name


@dataclass
class Rerun:
    """What came of running again.

    Attributes:
        folder: of the new run; None where only first steps were made.
        steps: up to which figures were compared.
        losses: logged losses that were compared, and `figures`: all logged figures.
        largest: difference of a loss.
        surroundings: what is not as it was, though the run follows from it by rounding at most, in words.
        failures: figures that are not those of the run.
    """

    run: Path
    folder: Path | None
    steps: int
    losses: int = 0
    figures: int = 0
    largest: float = 0.0
    surroundings: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    @property
    def same(self) -> bool:
        return not self.failures

    def describe(self) -> dict[str, Any]:
        """For run.json of the new run, and for --json."""
        names = ("steps", "losses", "figures", "largest", "surroundings", "failures")
        return {"of": str(self.run), "same": self.same, **{name: getattr(self, name) for name in names}}

    def table(self) -> RenderableType:
        """In words, where nothing differs."""
        facts = {
            "the same": f"{self.losses:,} logged losses up to step {self.steps:,} are those of {self.run}, to the bit",
            "compared": f"{self.figures:,} logged figures" + (", and all metrics" if self.folder else ""),
        }
        if self.surroundings:
            facts["other"] = "; ".join(self.surroundings)
        return console.facts("", facts | ({"run": str(self.folder)} if self.folder else {}))

    def require_same(self) -> None:
        """Raises NotReproduced where something differs, with what is likely to be why."""
        if self.same:
            return
        more = f"; and {len(self.failures) - SHOWN} more" if len(self.failures) > SHOWN else ""
        if self.surroundings:
            why = f"not as it was: {'; '.join(self.surroundings)}"
        else:
            why = "files, rows, versions and machine are those of the run: what the device computes may hang on chance"
        raise NotReproduced(f"{self.run} does not come out again: {'; '.join(self.failures[:SHOWN])}{more}; {why}")


def require_repeatable(run: Run, *, first_steps: bool) -> None:
    """Make sure that there is something to run again, and to compare.

    Raises:
        UserError: there is no such run, it is not finished, its first steps logged no loss, or it went on with other files.
    """
    require_files(run)
    if not is_run(run.folder):
        raise UserError(f"{run.folder} holds no run", "name a run's folder, as runs/my_recipe")
    if not first_steps and run.state != FINISHED:
        what, hint = state_words(run)
        raise UserError(f"the run in {run.folder} is {what}", f"{hint}, or run its first steps again with --check")
    if run.record.get("forced"):
        message = f"{run.folder} went on with other files than it began with (--force)"
        raise UserError(message, "what it began with is not there any more; train anew")
    if first_steps and not logged_losses(run):
        raise UserError(f"{run.folder} logged no loss to compare", "log.jsonl has none", str(run.log_file))


def logged_losses(run: Run) -> list[int]:
    """The steps whose loss is in the log."""
    return sorted({step for step, name in points_of(run) if name == LOSS})


def steps_to_make(run: Run, asked: int | None) -> int:
    """The first logged step at or behind the one that was asked for, or the last.

    Raises:
        UserError: less than one step was asked for.
    """
    wanted = STEPS if asked is None else asked
    if wanted < 1:
        raise UserError(f"{wanted} steps cannot be made", "give 1 or more", "--steps")
    steps = logged_losses(run)
    return next((step for step in steps if step >= wanted), steps[-1])


def require_same_files(run: Run, recipe: Recipe) -> None:
    """Raises NotReproduced with the file, and the row of it, where something that the run follows from was changed."""
    with console.status("comparing data and weights with those of the run", after=console.SOON):
        found = compare_inputs(recipe, run).changes
    if found:
        place = object_if_there(run.inputs).get("folder")
        moved = any("missing" in change.what for change in found) and place and place != str(Path.cwd())
        hint = f"; the run was made in {place}, from where its paths start" if moved else ""
        raise NotReproduced(f"{run.folder} is not to be run again as it was: {words_of(found)}{hint}")


def require_same_rows(run: Run, described: dict[str, Any]) -> None:
    """Raises NotReproduced where rows, or what the tokenizer makes of them, are not those of the run.

    Args:
        described: of each split, as run.json has it under `data`.
    """
    if found := other_rows(run.record.get("data", {}), described):
        raise NotReproduced(f"{run.folder} is not to be run again as it was: {words_of(found)}")


def other_surroundings(record: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """What of versions, machine and process is not as it was, each in words."""
    found = []
    for key in SURROUNDINGS:
        if key in record and key in now:
            before, after = (flat(values.get(key), key) for values in (record, now))
            names = [name for name in before | after if before.get(name) != after.get(name)]
            found += [f"{name} {before.get(name, 'none')} → {after.get(name, 'none')}" for name in names]
    recorded = record.get("fingerprints", {}).get("code")
    return found + (["ftkit's source files"] if recorded and recorded != code_digest() else [])


def flat(value: Any, key: str) -> dict[str, Any]:
    """Nested mappings as dotted names."""
    if not isinstance(value, dict):
        return {key: value}
    return {name: item for part, inner in value.items() for name, item in flat(inner, f"{key}.{part}").items()}


def points_of(run: Run) -> Points:
    """What the log has of the model, by step and name."""
    return {
        (event["step"], name): value
        for event in read_log(run.log_file)
        for name, value in event.items()
        if name != "step" and isinstance(event.get("step"), int) and not name.endswith(OF_TIME)
    }


def compare_logs(then: Run, now: Run, steps: int, *, whole: bool) -> Rerun:
    """The figures that both runs logged up to a step, and which of the first run's losses the other lacks.

    Args:
        whole: the other made all steps: the mean loss at the end counts, too, but of a run that was resumed, for which the
            Trainer counts otherwise.
    """
    before, after = points_of(then), points_of(now)
    ended = whole and not then.record.get("resumed")
    wanted = [point for point in before if point[0] <= steps and (ended or point[1] != "train_loss")]
    shared = [point for point in wanted if point in after]
    losses = [point for point in shared if point[1] == LOSS]
    found = Rerun(then.folder, now.folder if whole else None, steps, len(losses), len(shared))
    lacking = [step for step, name in wanted if name == LOSS and (step, name) not in after]
    if lacking:
        found.failures.append(f"step {lacking[0]:,} has no loss now")
    found.largest = max((apart(before[point], after[point]) for point in losses), default=0.0)
    differing = [point for point in shared if before[point] != after[point]]
    if differing:
        step, name = differing[0]
        words = f"step {step:,}: {name} {after[step, name]} where the run had {before[step, name]}"
        largest = f"; losses differ by up to {found.largest:.3g}" if found.largest else ""
        found.failures.append(f"{words} ({len(differing):,} of {len(shared):,} figures differ{largest})")
    return found


def apart(one: Any, other: Any) -> float:
    """How far two logged figures are apart; without measure where one is no number."""
    numbers = all(isinstance(value, int | float) for value in (one, other))
    return abs(one - other) if numbers else 0.0 if one == other else math.inf


def compare_metrics(then: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """The metrics of either model that are not those of the run, each in words."""
    return [
        f"{model} {name}: {shown(after.get(name))} where the run had {shown(before.get(name))}"
        for model in ("baseline", "tuned")
        for before, after in [(then.get(model) or {}, now.get(model) or {})]
        for name in names_of(before, after)
        if before.get(name) != after.get(name)
    ]


def names_of(before: Iterable[str], after: Iterable[str]) -> list[str]:
    return list(dict.fromkeys([*before, *after]))


def shown(value: Any) -> str:
    return "none" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)
