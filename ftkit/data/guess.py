"""What rows are good for: the task they fit, which column plays which role, and what else they could be.

A guess is made from the columns' names, in the words of many tools (recipe/words.py), and from what is in them.
"""

import math
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from datasets import Dataset

from ftkit.data.paths import PART_NAMES
from ftkit.data.scripts import count_words
from ftkit.recipe.words import COLUMNS, plain

SAMPLE = 2000  # rows that are looked at
MOST_LABELS = 150
LEAST_WORDS = 2  # of a plain text, on average
FEW_ROWS = 4  # a label of a class has as many, on average
MANY_NUMBERS, GAPS = 20, 4  # of a class; more of which this many times as many lie between count or measure something
LABEL_NAMES = re.compile("label|class|categor|intent|sentiment|queue|topic|genre|emotion|target|stars|rating|score|polarity")
CLASS_NAMES = re.compile("class|categor|intent|sentiment|queue|topic|genre|emotion|polarity|(^|_)(zip|postcode|code|type)")
NUMBER_NAMES = re.compile("score|rating|stars|price|value|similarity|grade|mark|temperature|amount|target")
OTHER_NAMES = re.compile(
    r"(^|_)(id|ids|uid|uuid|guid|index|idx|date|time|timestamp|created|updated|url|link|split|file)($|_|\d)"
)
DATE = re.compile(r"^\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}([ T].*)?$")
PARTS = (";", "|", ",")
CHOICE_NAMES = re.compile("^(choices|endings|options|choice_?[0-9a-d]|option_?[0-9a-d]|mc[0-9]_targets|gold)$")
UNWANTED = {"chosen", "rejected"}


@dataclass(frozen=True)
class Column:
    """One column and what is in it; `values` are of the rows that are looked at, as they are.

    Attributes:
        filled: those that are not empty.
        words: words of a filled value, on average; 0 where they are no texts.
    """

    name: str
    values: list[Any]

    @cached_property
    def filled(self) -> list[Any]:
        return [value for value in self.values if value not in (None, "", [], {})]

    @property
    def is_text(self) -> bool:
        return bool(self.filled) and all(isinstance(value, str) for value in self.filled)

    @property
    def is_scalar(self) -> bool:
        return bool(self.filled) and all(isinstance(value, str | int | float | bool) for value in self.filled)

    @cached_property
    def numbers(self) -> list[float]:
        """The values as numbers, none where one is none."""
        try:
            found = [float(value) for value in self.filled] if self.is_scalar else []
        except (ValueError, OverflowError):
            return []
        return found if all(map(math.isfinite, found)) else []

    @cached_property
    def words(self) -> float:
        return sum(map(count_words, self.filled)) / len(self.filled) if self.is_text else 0.0

    @cached_property
    def distinct(self) -> Counter[str]:
        return Counter(str(value) for value in self.filled)

    @property
    def is_aside(self) -> bool:
        """An id, a date, a place: nothing to learn."""
        dates = self.is_text and all(DATE.match(value.strip()) for value in self.filled[:50])
        unique = self.is_scalar and len(self.distinct) == len(self.filled) > 20
        counting = unique and bool(self.numbers) and all(number == int(number) for number in self.numbers)
        codes = unique and 0 < self.words <= 1 and len(self.filled[0]) < 40 and not self.numbers
        return bool(OTHER_NAMES.search(self.name.lower())) or dates or counting or codes

    def means(self, role: str, among: int = 2) -> bool:
        """Whether the name is that of the role, or a word for it of which the role is one of the likeliest meanings."""
        return self.name.lower() == role or role in COLUMNS.get(plain(self.name), "").split()[:among]


@dataclass(frozen=True)
class Guess:
    """One task that rows fit.

    Attributes:
        columns: the task's name of a column → the data's.
        why: what was seen, in words.
        keys: further keys of the data block.
    """

    task: str
    columns: dict[str, str]
    why: str
    keys: dict[str, Any] = field(default_factory=dict)


Guesser = Callable[[list[Column]], Guess | None]


def columns_of(rows: Dataset) -> list[Column]:
    """The columns of rows from all over the file, which may be sorted."""
    head = rows.select(range(0, len(rows), len(rows) // SAMPLE + 1))
    return [Column(name, list(head[name])) for name in head.column_names if not name.startswith("Unnamed: ")]


def guesses(columns: list[Column], *, foretells: bool = True) -> Iterator[Guess]:
    """The tasks that the columns fit, the likeliest first.

    Args:
        foretells: the model foretells the next token; else it fills in hidden ones.
    """
    choices = bool(_choices(columns))  # whose label is a place in them, and tells nothing without them
    for task, guesser in GUESSERS.items():
        if choices and task not in PLAIN_TEXT:
            continue
        if PLAIN_TEXT.get(task, foretells) == foretells and (guess := guesser(columns)) is not None:
            yield guess


def notes_on(columns: list[Column], guess: Guess) -> list[str]:
    """What the rows also have, and this task does not learn from."""
    unwanted = sorted(UNWANTED & {column.name for column in columns} - set(guess.columns.values()))
    notes = [f"{' and '.join(unwanted)}: preference data, which is not learnt from"] if unwanted else []
    if choices := _choices(columns):
        notes.append(f"{', '.join(choices)}: multiple choice, a task that ftkit has not; taken is {guess.why}")
    return notes


def _choices(columns: list[Column]) -> list[str]:
    return [column.name for column in columns if CHOICE_NAMES.match(column.name.lower())]


def split_column(columns: list[Column]) -> str:
    """A column that says which split a row belongs to, with training and eval rows among them; else nothing."""
    for column in columns:
        if column.name.lower() in ("split", "fold", "partition", "set", "subset", "part") and column.is_text:
            parts = {PART_NAMES.get(value.strip().lower()) for value in column.distinct}
            if None not in parts and {"train", "eval"} <= parts:
                return column.name
    return ""


def _chat(columns: list[Column]) -> Guess | None:
    for column in columns:
        first = next(iter(column.filled), None)
        turns = first if isinstance(first, list) else []
        if turns and isinstance(turns[0], dict) and {"role", "content"} <= set(turns[0]):
            return Guess("instruction", {"messages": column.name}, f"the chats in '{column.name}'")
    return None


def _instruction(columns: list[Column]) -> Guess | None:
    if chat := _chat(columns):
        return chat
    texts = [column for column in columns if column.is_text and not column.is_aside]
    for ask, answer in (("instruction", "output"), ("prompt", "completion")):
        asked, answered = _named(ask, texts), _named(answer, texts, best="best")
        if asked and answered and asked is not answered and (asked.name, answered.name) != ("text", "label"):
            found = {ask: asked.name, answer: answered.name}
            more = next((column for column in texts if column.means("input") and column.name not in found.values()), None)
            if ask == "instruction" and more:
                found["input"] = more.name
            return Guess("instruction", found, f"'{answered.name}' as the answer to '{asked.name}'")
    return None


def _named(role: str, columns: list[Column], best: str = "") -> Column | None:
    """The column whose name is the role, or another word for it; of `best answer` and `wrong answer` the first."""
    named = [column for column in columns if column.name.lower() == role]
    firsts = [column for column in columns if best and _ends_with(column, role, best)]
    return next(iter([*named, *firsts, *(column for column in columns if column.means(role))]), None)


def _ends_with(column: Column, role: str, first: str) -> bool:
    head, _, tail = column.name.lower().rpartition(" ")
    return head == first and role in COLUMNS.get(plain(tail), "").split()[:2]


def _summarization(columns: list[Column]) -> Guess | None:
    texts = [column for column in columns if column.is_text and not column.is_aside]
    document = next((column for column in texts if column.means("document", 1)), None)
    summary = _named("summary", [column for column in texts if column.means("summary", 1)])
    others = [column for column in texts if column.words > 3 and not _is_class(column)]
    if document and not summary:  # the shorter text beside a document
        shorter = [column for column in others if column is not document and column.words < document.words]
        summary = max(shorter, key=lambda column: column.words, default=None)
    if summary and not document:
        longer = [column for column in others if column is not summary and column.words > 1.5 * summary.words]
        document = max(longer, key=lambda column: column.words, default=None)
    if document is None or summary is None:
        return None
    found = {"document": document.name, "summary": summary.name}
    return Guess("summarization", found, f"'{summary.name}' as the summary of '{document.name}'")


def _tokens(columns: list[Column]) -> Guess | None:
    lists = [column for column in columns if column.filled and all(isinstance(value, list) for value in column.filled)]
    for words in lists:
        for tags in lists:
            alike = [len(a or []) == len(b or []) for a, b in zip(words.values, tags.values, strict=True)]
            if words is not tags and all(alike) and isinstance(words.filled[0][0], str) and _are_tags(tags, words):
                found = {"tokens": words.name, "tags": tags.name}
                return Guess("token-classification", found, f"a tag in '{tags.name}' for each word of '{words.name}'")
    return None


def _are_tags(tags: Column, words: Column) -> bool:
    kinds = {str(tag) for value in tags.filled for tag in value}
    return not isinstance(tags.filled[0][0], dict) and len(kinds) < len({word for value in words.filled for word in value})


def _texts(columns: list[Column]) -> dict[str, str]:
    """The text, or the pair of texts, that a label is of."""
    texts = [column for column in columns if column.is_text and not column.is_aside and column.name not in UNWANTED]
    pair = next((column for column in texts if column.means("text_pair")), None)
    named = [column for column in texts if column.means("text") and column is not pair]
    chosen = next((column for column in texts if column.name.lower() == "text"), None)
    chosen = chosen or max(named or texts, key=lambda column: column.words, default=None)
    if chosen is None or (chosen.words < 1.5 and not named):
        return {}
    return {"text": chosen.name} | ({"text_pair": pair.name} if pair and pair is not chosen else {})


def _label_columns(columns: list[Column], texts: dict[str, str]) -> list[Column]:
    """Columns that may be a label, those first whose name says so."""
    free = [column for column in columns if column.name not in texts.values() and column.is_scalar]
    free = [column for column in free if not CHOICE_NAMES.match(column.name.lower()) and not column.is_aside]
    named = [column for column in free if LABEL_NAMES.search(column.name.lower())]
    return [*sorted(named, key=lambda column: column.name.lower() != "label"), *(c for c in free if c not in named)]


def _classification(columns: list[Column]) -> Guess | None:
    texts = _texts([column for column in columns if not _is_class(column) or column.means("text")])
    for label in _label_columns(columns, texts) if texts else ():
        if sign := _parting(label):
            why = f"the labels in '{label.name}', parted by '{sign}', of '{texts['text']}'"
            return Guess("text-classification", texts | {"label": label.name}, why, {"label_separator": sign})
        if _is_class(label):
            why = f"one of {len(label.distinct)} labels in '{label.name}' for '{texts['text']}'"
            return Guess("text-classification", texts | {"label": label.name}, why)
    return None


def _is_class(column: Column) -> bool:
    """Few values, each of several rows; numbers only where they are whole."""
    kinds = column.distinct
    whole = all(number == int(number) for number in column.numbers)
    return column.is_scalar and 1 < len(kinds) <= MOST_LABELS and len(column.filled) >= FEW_ROWS * len(kinds) and whole


def _parting(column: Column) -> str:
    """The sign between several labels in a cell, each of which stands in other cells too."""
    for sign in PARTS if column.is_text else ():
        cells = [[part.strip() for part in value.split(sign)] for value in column.filled]
        counts = Counter(part for parts in cells for part in parts)
        several = sum(len(parts) > 1 for parts in cells)
        if several >= 0.05 * len(cells) and len(counts) <= len(cells) / FEW_ROWS and max(map(len, counts)) < 40:
            return sign
    return ""


def _regression(columns: list[Column]) -> Guess | None:
    texts = _texts(columns)
    found = [label for label in _label_columns(columns, texts) if label.numbers and len(label.distinct) > 2] if texts else []
    if not found:
        return None
    others = f" (others are {', '.join(repr(label.name) for label in found[1:])})" if found[1:] else ""
    why = f"the number in '{found[0].name}' for '{texts['text']}'{others}"
    return Guess("text-regression", texts | {"label": found[0].name}, why)


def _rating(columns: list[Column]) -> Guess | None:
    """A number of which its name, its fractions or its gaps say that it is no class; a likelier label goes before it."""
    labels = _label_columns(columns, _texts(columns))
    likeliest = next((column for column in labels if _is_class(column) or column.numbers), None)
    guess = _regression(columns)
    if guess is None or likeliest is None or likeliest.name != guess.columns["label"]:
        return None
    named = NUMBER_NAMES.search(likeliest.name.lower())
    return guess if named or not _is_class(likeliest) or _has_gaps(likeliest) else None


def _has_gaps(column: Column) -> bool:
    """Whether nearly all whole numbers between the least and the largest are absent: few classes are numbered so."""
    numbers, kinds = column.numbers, len(set(column.numbers))
    sparse = kinds > MANY_NUMBERS and max(numbers) - min(numbers) + 1 > GAPS * kinds
    return sparse and not CLASS_NAMES.search(column.name.lower())


def _plain_text(task: str) -> Guesser:
    def guess(columns: list[Column]) -> Guess | None:
        texts = [column for column in columns if column.is_text and not column.is_aside and column.name not in UNWANTED]
        named = [column for column in texts if column.name.lower() == "text"]
        chosen = max(named or texts, key=lambda column: column.words, default=None)
        if chosen is not None and chosen.words < LEAST_WORDS:
            return None
        return Guess(task, {"text": chosen.name}, f"the plain text in '{chosen.name}'") if chosen else None

    return guess


# In this order: the first that fits is taken, the others are named.
GUESSERS: dict[str, Guesser] = {
    "token-classification": _tokens,
    "instruction": _instruction,
    "summarization": _summarization,
    "rating": _rating,
    "text-classification": _classification,
    "text-regression": _regression,
    "language-modeling": _plain_text("language-modeling"),
    "masked-language-modeling": _plain_text("masked-language-modeling"),
}
PLAIN_TEXT = {"language-modeling": True, "masked-language-modeling": False}  # whether the model foretells what comes next
