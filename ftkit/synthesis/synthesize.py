"""Instruction rows made from seed rows, in the style of Self-Instruct (Wang et al. 2022, https://arxiv.org/abs/2212.10560).

Round by round: prompts are built from seed rows and rows made before, a model answers, the rows in its answers are checked
and compared with all there are, and what is new is appended to the output (store.py). What is drawn in a round depends on
the seed and the round's number alone, so that a run that was stopped and resumed gives the rows of an unbroken one, as far
as the model answers the same.
"""

import hashlib
import json
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.table import Table

from ftkit import console
from ftkit.data.scripts import count_words
from ftkit.errors import UserError
from ftkit.synthesis.generators import Generator
from ftkit.synthesis.novelty import Novelty
from ftkit.synthesis.prompt import MALFORMED, TOO_LONG, Candidate, Row, build_prompt, choose_shots, parse_answer
from ftkit.synthesis.store import Round, Store, require_output

PROMPTS_A_ROUND = 4  # few, since a kill loses the round in hand
LEAST_WORDS, MOST_WORDS = 4, 150  # of an instruction, as in the paper
TOO_SHORT, TOO_SIMILAR, DUPLICATE, EMPTY = "too short", "too similar", "duplicate", "answer empty"
REASONS = (MALFORMED, TOO_SHORT, TOO_LONG, TOO_SIMILAR, DUPLICATE, EMPTY)
BETTER_MODEL, MORE_VARIED = "take a better model", "raise --temperature or --novelty, or take more seeds"
HINTS = {
    MALFORMED: f"raise --max-new-tokens, or {BETTER_MODEL}",
    TOO_SHORT: BETTER_MODEL,
    TOO_LONG: f"raise --max-new-tokens, or {BETTER_MODEL}",
    TOO_SIMILAR: MORE_VARIED,
    DUPLICATE: MORE_VARIED,
    EMPTY: BETTER_MODEL,
}


@dataclass(frozen=True)
class Settings:
    """What decides on the rows that are made.

    Raises:
        UserError: a value is out of its range.
    """

    rows: int
    shots: int = 6
    temperature: float = 0.8
    max_new_tokens: int = 256
    novelty: float = 0.7
    seed: int = 42
    patience: int = 20

    def __post_init__(self) -> None:
        for name in ("rows", "shots", "max_new_tokens", "patience"):
            _require(getattr(self, name) >= 1, name, getattr(self, name), "give 1 or more")
        _require(0 <= self.temperature <= 10, "temperature", self.temperature, "give 0 to 10")
        _require(0 < self.novelty <= 1, "novelty", self.novelty, "give more than 0, at most 1")
        _require(0 <= self.seed < 2**63, "seed", self.seed, "give 0 or more")


def _require(sound: bool, name: str, value: object, hint: str) -> None:
    if not sound:
        raise UserError(f"{value} is out of range", hint, f"--{name.replace('_', '-')}")


@dataclass
class Result:
    """What came of it; `exhausted` says that it was given up because nothing new was accepted any more."""

    output: Path
    wanted: int
    asked: int = 0
    parsed: int = 0
    kept: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    exhausted: bool = False

    def count(self, done: Round) -> None:
        self.asked += done.asked
        self.parsed += done.parsed
        self.kept += done.kept
        self.rejected.update(done.rejected)

    @property
    def share(self) -> float:
        """Of the rows found in answers, malformed ones among them, those that were kept."""
        return self.kept / max(self.kept + sum(self.rejected.values()), 1)

    def main_reason(self) -> str:
        return max(REASONS, key=lambda reason: self.rejected[reason])

    def hint(self) -> str:
        """What to do about the most frequent reason."""
        return HINTS[self.main_reason()]

    def reasons(self) -> str:
        return ", ".join(f"{reason} {self.rejected[reason]:,}" for reason in REASONS if self.rejected[reason])

    def table(self) -> Table:
        rows = [["asked (answers)", f"{self.asked:,}"], ["parsed", f"{self.parsed:,}"]]
        rows += [[f"rejected: {reason}", f"{self.rejected[reason]:,}"] for reason in REASONS]
        rows += [["kept", f"{self.kept:,} of {self.wanted:,}"]]
        return console.table(str(self.output), ["rows", "number"], rows)


def synthesize(
    seeds: Sequence[Row], generator: Generator, output: Path, settings: Settings, *, resume: bool = False
) -> Result:
    """Make rows until there are as many as wanted, or none is accepted in `settings.patience` rounds.

    Args:
        seeds: rows written by people, as `read_seeds` gives them.
        output: JSON lines; FILE.rounds is written beside it.
        resume: go on from what is there.

    Raises:
        UserError: the generator has no answer, or what is there cannot be gone on with; rows made so far are kept.
    """
    require_output(output, resume=resume)
    store = Store(output)
    result = Result(output, settings.rows)
    with store.claimed():
        rounds = store.resume(_header(seeds, generator, settings)) if resume else []
        if not resume:
            store.start(_header(seeds, generator, settings))
        for done in rounds:
            result.count(done)
        idle = _idle(rounds)
        idle = 0 if idle >= settings.patience else idle  # it was given up then; who resumes wants another try
        work = _Work(seeds, store.rows(), generator, settings)
        if resume:
            console.say(f"going on after round {len(rounds)}, with {result.kept:,} of {settings.rows:,} rows")
        try:
            with _Progress(result) as progress:
                while result.kept < settings.rows and idle < settings.patience:
                    number = len(rounds) + 1
                    done = store.append(*work.make_round(number, settings.rows - result.kept))
                    rounds.append(done)
                    result.count(done)
                    idle = 0 if done.kept else idle + 1
                    progress.show()
        except UserError as error:
            if not rounds:
                store.journal.unlink()  # a mistake leaves nothing behind
            ways = f"{error.hint}, then go on with --resume: {kept_line(result)}" if result.kept else error.hint
            raise UserError(error.message, ways, error.place) from None
        except KeyboardInterrupt:
            console.say(kept_line(result))
            raise
    result.exhausted = result.kept < settings.rows
    return result


def kept_line(result: Result) -> str:
    """How far it came."""
    where = f"are kept in {result.output}" if result.kept else "are made"
    return f"{result.kept:,} of {result.wanted:,} rows {where}"


def _idle(rounds: Sequence[Round]) -> int:
    """Rounds since one that kept a row."""
    return next((count for count, done in enumerate(reversed(rounds)) if done.kept), len(rounds))


def _header(seeds: Sequence[Row], generator: Generator, settings: Settings) -> dict[str, Any]:
    rows = json.dumps([asdict(row) for row in seeds], ensure_ascii=False)
    return {"seeds": f"{len(seeds)} rows {_sha256(rows)}", "model": generator.name, **asdict(settings)}


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode(errors="replace")).hexdigest()


class _Work:
    """Makes the rows of a round, and knows all rows there are."""

    def __init__(self, seeds: Sequence[Row], made: list[Row], generator: Generator, settings: Settings) -> None:
        self.seeds, self.made, self.generator, self.settings = seeds, made, generator, settings
        self.novelty = Novelty(settings.novelty, [row.instruction for row in (*seeds, *made)])

    def make_round(self, number: int, wanted: int) -> tuple[list[dict[str, Any]], Round]:
        """The rows that are new, at most `wanted`, and the counts.

        Raises:
            UserError: no seed row fits into the model's context, or the generator has no answer.
        """
        rng = random.Random(f"{self.settings.seed}/{number}")
        shots = [self._shots(rng) for _ in range(PROMPTS_A_ROUND)]
        prompts = [build_prompt(rows) for rows in shots]
        answers = self.generator.generate(prompts, [rng.randrange(2**31) for _ in prompts])
        rows: list[dict[str, Any]] = []
        parsed, rejected = 0, Counter[str]()
        for prompt, shown, answer in zip(prompts, shots, answers, strict=True):
            for candidate in parse_answer(answer.text, cut=answer.cut):
                if len(rows) == wanted:
                    break
                parsed += candidate.fault != MALFORMED
                if reason := self._fault(candidate):
                    rejected[reason] += 1
                else:
                    rows.append(self._accept(candidate, number, shown, prompt))
        return rows, Round(number, len(prompts), parsed, len(rows), dict(rejected), 0)

    def _shots(self, rng: random.Random) -> list[Row]:
        count = min(self.settings.shots, len(self.seeds))
        fits = self.generator.fits
        if shots := choose_shots(self.seeds, self.made, shots=count, rng=rng, fits=fits):
            return shots
        for row in sorted(self.seeds, key=lambda row: len(build_prompt([row]))):
            if fits(build_prompt([row])):
                return [row]
        hint = "lower --max-new-tokens, or take shorter seeds or a model with a longer context"
        raise UserError(f"{self.generator.name} has no room for a prompt with even one seed row", hint, "--model")

    def _fault(self, candidate: Candidate) -> str:
        """Why the candidate is no new row; empty where it is one."""
        if candidate.fault:
            return candidate.fault
        words = count_words(candidate.instruction)
        if words < LEAST_WORDS:
            return TOO_SHORT
        if words > MOST_WORDS:
            return TOO_LONG
        if not candidate.output:
            return EMPTY
        if self.novelty.is_duplicate(candidate.instruction):
            return DUPLICATE
        return TOO_SIMILAR if self.novelty.is_too_similar(candidate.instruction) else ""

    def _accept(self, candidate: Candidate, number: int, shots: list[Row], prompt: str) -> dict[str, Any]:
        row = Row(f"synthetic_{len(self.made) + 1}", candidate.instruction, candidate.input, candidate.output)
        self.made.append(row)
        self.novelty.add(row.instruction)
        return {
            "instruction": row.instruction, "input": row.input, "output": row.output, "id": row.id,
            "source": "synthetic", "model": self.generator.name, "seed_rows": [shot.id for shot in shots],
            "round": number, "prompt_sha256": _sha256(prompt),
        }  # fmt: skip


class _Progress:
    """Rows made of wanted, the share accepted and why others were rejected."""

    def __init__(self, result: Result) -> None:
        self.result = result
        self.bar = console.progress_bar("accepted", "reasons")
        self.task = self.bar.add_task("rows", total=result.wanted, completed=result.kept, accepted="", reasons="")

    def __enter__(self) -> "_Progress":
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def show(self) -> None:
        result = self.result
        reasons = result.reasons()
        self.bar.update(
            self.task, completed=result.kept, accepted=f"{result.share:.0%} accepted",
            reasons=f"rejected: {reasons}" if reasons else "",
        )  # fmt: skip
