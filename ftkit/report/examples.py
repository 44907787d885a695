"""Eval rows before and after training, as the page shows them: which rows, what became of each, and where texts differ."""

import difflib
import os
import re
from dataclasses import dataclass
from typing import Any

from ftkit.report.evidence import Evidence

MAX_CARDS, MAX_LINES = 60, 300  # rows on the page: of generated text, and of a line each
MAX_TEXT = 1200  # characters of one text
MAX_WORDS = 600  # of a text that is compared word by word: comparing takes their square
FIXED, BROKEN, CHANGED, WRONG, RIGHT, SAME = "fixed", "broken", "changed", "still wrong", "still right", "same"
ORDER = (FIXED, BROKEN, CHANGED, WRONG, RIGHT, SAME)
Pieces = list[tuple[bool, str]]  # stretches of a text, each with whether it is marked


@dataclass(frozen=True)
class Answer:
    """What the model gave for a row.

    Attributes:
        note: the probability of the label, or that a text did not end by itself.
        against_other: the text with what the other answer, before or after, has not.
        against_wanted: the text with what the wanted text has not.
    """

    text: str
    note: str
    loss: float | None
    against_other: Pieces
    against_wanted: Pieces


@dataclass(frozen=True)
class Example:
    """One eval row with the answers before (None: no baseline) and after."""

    name: str
    asked: str
    wanted: str
    before: Answer | None
    after: Answer
    outcome: str


@dataclass(frozen=True)
class Examples:
    """The rows that the page shows.

    Attributes:
        kind: "text" where answers were generated, "label" where labels were predicted, "loss" where only a loss is known.
        of: how many rows there were to choose from.
        counts: what became of all of them.
        common_start: what all prompts begin with; it is left out of each.
    """

    kind: str
    rows: list[Example]
    of: int
    counts: dict[str, int]
    common_start: str


def choose_examples(evidence: Evidence) -> Examples:
    """The rows that changed first, as many as a page can hold."""
    kind = kind_of(evidence.rows)
    rows = [row for row in evidence.rows if kind != "text" or has_text(row)]
    told = {outcome: set((evidence.metrics.get("changes") or {}).get(outcome, ())) for outcome in (FIXED, BROKEN)}
    outcomes = {id(row): outcome_of(row, kind, evidence, told) for row in rows}
    counts = {outcome: sum(found == outcome for found in outcomes.values()) for outcome in ORDER}
    ranks = {entry["row"]: number for number, entry in enumerate(evidence.analysis.get("changed") or [])}

    def place(row: dict[str, Any]) -> tuple[int, int]:
        return ranks.get(row.get("name"), len(ranks)), ORDER.index(outcomes[id(row)])

    most = MAX_CARDS if kind == "text" else MAX_LINES
    chosen = spread(sorted(rows, key=place), {id(row): place(row) for row in rows}, most)
    start = common_start([asked_text(row) for row in chosen]) if kind == "text" else ""
    examples = [make_example(row, kind, outcomes[id(row)], len(start)) for row in chosen]
    return Examples(kind, examples, len(rows), {name: count for name, count in counts.items() if count}, start.strip())


def common_start(texts: list[str]) -> str:
    """What all prompts begin with, in whole lines, as the frame of a template; said once on the page."""
    return os.path.commonprefix(texts).rpartition("\n")[0] if len(texts) > 1 else ""  # noqa: RUF071 characters are meant


def spread(rows: list[dict[str, Any]], places: dict[int, tuple[int, int]], most: int) -> list[dict[str, Any]]:
    """The first rows in order, of no one place more than half as long as others remain."""
    kept: list[dict[str, Any]] = []
    rest: list[dict[str, Any]] = []
    taken: dict[tuple[int, int], int] = {}
    for row in rows:
        place = places[id(row)]
        taken[place] = taken.get(place, 0) + 1
        (kept if taken[place] <= most // 2 else rest).append(row)
    return sorted((kept + rest)[:most], key=lambda row: places[id(row)])


def has_text(row: dict[str, Any]) -> bool:
    """Whether an answer was generated for the row, as for some that were drawn."""
    return row["tuned"].get("generated") is not None


def kind_of(rows: list[dict[str, Any]]) -> str:
    if any(map(has_text, rows)):
        return "text"
    return "label" if any("predicted" in row["tuned"] for row in rows) else "loss"


def outcome_of(row: dict[str, Any], kind: str, evidence: Evidence, told: dict[str, set[str]]) -> str:
    """What training made of a row; right and wrong where the row's label is in the words that are predicted.

    Args:
        told: the names of the rows that the run's metrics say were fixed and broken.
    """
    before, after = row.get("baseline"), row["tuned"]
    for outcome, names in told.items():
        if row.get("name") in names:
            return outcome
    if kind == "loss":
        return SAME if before is None or before.get("loss") == after.get("loss") else CHANGED
    if kind == "label" and (wanted := wanted_labels(row, evidence)) is not None:
        right = sorted(labels(after["predicted"])) == wanted
        was_right = right if before is None else sorted(labels(before["predicted"])) == wanted
        return {(False, True): FIXED, (True, False): BROKEN, (True, True): RIGHT}.get((was_right, right), WRONG)
    key = "generated" if kind == "text" else "predicted"
    return SAME if before is None or before.get(key) == after.get(key) else CHANGED


def wanted_labels(row: dict[str, Any], evidence: Evidence) -> list[str] | None:
    """A row's labels, sorted; None where the row says them as numbers and the model by name, and in regression."""
    if isinstance(row["tuned"]["predicted"], float):
        return None
    value, separator = row.get("label", row.get("target")), evidence.recipe.data.label_separator
    found = value.split(separator) if isinstance(value, str) and separator else labels(value)
    return None if isinstance(value, int) and str(value) not in labels(row["tuned"]["predicted"]) else sorted(found)


def labels(value: Any) -> list[str]:
    return [str(item) for item in value] if isinstance(value, list) else [] if value is None else [str(value)]


def make_example(row: dict[str, Any], kind: str, outcome: str, start: int) -> Example:
    before, after = row.get("baseline"), row["tuned"]
    wanted = wanted_words(row)
    texts = [None if answer is None else answer_text(answer, kind) for answer in (before, after)]
    return Example(
        name=str(row.get("name", f"row {row['row']}")),
        asked=shortened(asked_text(row)[start:].strip()),
        wanted=shortened(wanted),
        before=None if before is None else make_answer(before, texts[0] or "", texts[1], wanted),
        after=make_answer(after, texts[1] or "", texts[0], wanted),
        outcome=outcome,
    )


def make_answer(answer: dict[str, Any], text: str, other: str | None, wanted: str) -> Answer:
    note = ""
    if (chance := answer.get("probability")) is not None:
        note = f"{100 * chance:.1f} %"
    if answer.get("stopped") is False:
        note = "did not end by itself"
    return Answer(text, note, answer.get("loss"), marked(text, text if other is None else other), marked(text, wanted))


def answer_text(answer: dict[str, Any], kind: str) -> str:
    if kind == "loss":
        return ""
    return shortened(answer_words(answer))


def answer_words(answer: dict[str, Any]) -> str:
    """What was generated or predicted, in words."""
    return words_of(next((answer[key] for key in ("generated", "predicted") if answer.get(key) is not None), ""))


def wanted_words(row: dict[str, Any]) -> str:
    """The right answer, in words: of a text that was generated its target."""
    names = ("target", "label", "tags") if row.get("prompt") is not None else ("label", "target", "tags")
    return words_of(next((row[key] for key in names if row.get(key) is not None), ""))


def asked_text(row: dict[str, Any]) -> str:
    """What the model was given: the prompt, or the row's own columns less its label."""
    if row.get("prompt") is not None:
        return str(row["prompt"])
    answers = ("row", "name", "label", "target", "tags", "baseline", "tuned")
    return "\n".join(words_of(value) for key, value in row.items() if key not in answers and value is not None)


def words_of(value: Any) -> str:
    """A value in words: labels and entities apart by commas, the words of a text by spaces."""
    if not isinstance(value, list):
        return str(value)
    if value and isinstance(value[0], list):
        return ", ".join(" ".join(map(str, item)) for item in value)
    return ", ".join(map(str, value)) if len(value) < 4 else " ".join(map(str, value))


def shortened(text: str, most: int = MAX_TEXT) -> str:
    """The text, or its two ends: a prompt's end holds the question."""
    if len(text) <= most:
        return text
    cut = len(text) - most
    return f"{text[: most // 2]} … {cut:,} characters left out … {text[-most // 2 :]}"


def marked(text: str, other: str) -> Pieces:
    """Stretches of the text, those marked that the other text has not, word by word."""
    words, others = split_words(text), split_words(other)
    if text == other or len(words) > MAX_WORDS or len(others) > MAX_WORDS:
        return [(False, text)]
    matcher = difflib.SequenceMatcher(None, words, others, autojunk=False)
    pieces = [
        (kind != "equal", "".join(words[first:last])) for kind, first, last, _, _ in matcher.get_opcodes() if last > first
    ]
    return pieces or [(False, text)]


def split_words(text: str) -> list[str]:
    """Words, stretches of white space and single signs; joined they are the text."""
    return re.findall(r"\s+|\w+|[^\w\s]", text)
