"""Label-preserving copies of training rows: words swapped or dropped, typing mistakes, lower case.

Own code, since no light library fits: nlpaug (last release 2022, needs gdown) is unmaintained, textattack needs flair,
textaugment needs gensim and googletrans; none of them keeps numbers, quotes and negations.
"""

import random
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from datasets import Dataset, Features, Value, concatenate_datasets

from ftkit.errors import UserError

SWAPPED, DROPPED, MISTYPED = 0.1, 0.1, 0.05  # shares of the words; at least one
LEAST_WORDS = 4  # of a shorter text every word may carry the label
OPERATION = "__operation"
KEYBOARD = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
NEIGHBOURS = {
    key: row[max(place - 1, 0) : place] + row[place + 1 : place + 2] for row in KEYBOARD for place, key in enumerate(row)
}
# Without one of these, or with it elsewhere, a text may say the opposite.
NEGATIONS = {
    "no", "not", "never", "none", "nobody", "nothing", "neither", "nor", "without", "hardly", "barely",
    "cannot", "cant", "dont", "isnt", "wasnt", "wont", "didnt", "doesnt",
}  # fmt: skip
# A quotation with all that touches it, or a word. A single quote opens after a non-letter only, so that "don't" opens none.
TOKEN = re.compile(
    r"""(?P<quoted>(?:[^\s"“„«`]*(?:"[^"]*"|“[^”]*”|„[^“”]*[“”]|«[^»]*»|`[^`]*`))+[^\s"“„«`]*
    |(?<!\w)['‘](?!\s)[^'’]*(?:['’]\w[^'’]*)*['’](?!\w)\S*)|\S+""",
    re.VERBOSE,
)


@dataclass(frozen=True)
class Token:
    """A word or a quotation, and the white space before it."""

    gap: str
    text: str
    is_fixed: bool

    @property
    def is_free(self) -> bool:
        """Whether it may be moved, dropped or mistyped."""
        word = self.text.lower().strip(".,;:!?()[]")
        return not self.is_fixed and word not in NEGATIONS and not word.endswith(("n't", "n’t"))


def augment(
    rows: Dataset, columns: list[str], copies: int, operations: list[str], seed: int
) -> tuple[Dataset, Counter[str]]:
    """The rows, followed by up to `copies` changed copies of each.

    Each copy goes through one of the operations, which take turns, in all of the columns; its other columns are its row's.
    Words with digits and whatever stands in quotes stay unchanged, in their order; English negations are never moved,
    dropped or mistyped; texts under 4 words are only lowered. A copy equal to its row or to another copy of it is not added.
    For training rows only.

    Args:
        operations: of "swap_words" (neighbours, 10 % of the words), "drop_words" (10 %), "typos" (5 %) and "lower".

    Returns:
        The rows with their copies, and how many copies each operation gave.

    Raises:
        UserError: an operation is unknown.
    """
    for name in operations:
        if name not in OPERATIONS:
            raise UserError(f"'{name}' is no augmentation", f"there are {', '.join(OPERATIONS)}", key="data.augment")
    if not copies or not operations:
        return rows, Counter()
    made = rows.with_format(None).map(
        _copy_batch,
        batched=True,
        with_indices=True,
        fn_kwargs={"columns": columns, "copies": copies, "operations": operations, "seed": seed},
        features=Features({**rows.features, OPERATION: Value("string")}),
    )
    if not len(made):
        return rows, Counter()
    counts = Counter(made[OPERATION])
    return concatenate_datasets([rows, made.remove_columns(OPERATION)]), Counter({name: counts[name] for name in operations})


def _copy_batch(
    batch: dict[str, list[Any]], numbers: list[int], *, columns: list[str], copies: int, operations: list[str], seed: int
) -> dict[str, list[Any]]:
    made: dict[str, list[Any]] = {name: [] for name in [*batch, OPERATION]}
    for place, number in enumerate(numbers):
        row = {name: values[place] for name, values in batch.items()}
        seen = [row]
        for copy in range(copies):
            operation = operations[(number + copy) % len(operations)]
            dice = random.Random(f"{seed} {number} {copy}")
            changed = row | {name: change_text(row[name], operation, dice) for name in columns if isinstance(row[name], str)}
            if changed not in seen:
                seen.append(changed)
                for name, value in (changed | {OPERATION: operation}).items():
                    made[name].append(value)
    return made


def change_text(text: str, operation: str, dice: random.Random) -> str:
    """The text after one operation; the same text where nothing in it may change."""
    tokens, end = [], 0
    for match in TOKEN.finditer(text):
        is_fixed = match["quoted"] is not None or any(character.isdigit() for character in match[0])
        tokens.append(Token(text[end : match.start()], match[0], is_fixed))
        end = match.end()
    return "".join(token.gap + token.text for token in OPERATIONS[operation](tokens, dice)) + text[end:]


def _swap_words(tokens: list[Token], dice: random.Random) -> list[Token]:
    free = [place for place in range(len(tokens) - 1) if tokens[place].is_free and tokens[place + 1].is_free]
    changed = list(tokens)
    taken: set[int] = set()
    for place in _choose(free, SWAPPED, len(tokens), dice):
        if taken.isdisjoint((place, place + 1)):
            taken |= {place, place + 1}
            changed[place] = replace(tokens[place], text=tokens[place + 1].text)
            changed[place + 1] = replace(tokens[place + 1], text=tokens[place].text)
    return changed


def _drop_words(tokens: list[Token], dice: random.Random) -> list[Token]:
    free = [place for place, token in enumerate(tokens) if token.is_free]
    dropped = set(_choose(free, DROPPED, len(tokens), dice))
    kept = [token for place, token in enumerate(tokens) if place not in dropped]
    return [replace(kept[0], gap=tokens[0].gap), *kept[1:]] if kept else tokens


def _mistype_words(tokens: list[Token], dice: random.Random) -> list[Token]:
    free = [place for place, token in enumerate(tokens) if token.is_free and len(token.text) >= LEAST_WORDS]
    changed = list(tokens)
    for place in _choose(free, MISTYPED, len(tokens), dice):
        changed[place] = replace(tokens[place], text=_mistype(tokens[place].text, dice))
    return changed


def _lower(tokens: list[Token], dice: random.Random) -> list[Token]:
    return [token if token.is_fixed else replace(token, text=token.text.lower()) for token in tokens]


def _choose(places: list[int], share: float, words: int, dice: random.Random) -> list[int]:
    """A share of a text's words, at least one, chosen among these places."""
    if words < LEAST_WORDS:
        return []
    return dice.sample(places, min(len(places), max(1, round(share * words))))


def _mistype(word: str, dice: random.Random) -> str:
    """The word with two letters transposed or one hit beside its key; its first character stays."""
    slips = []
    for place in range(1, len(word)):
        before, letter, after = word[:place], word[place], word[place + 1 :]
        if after and letter.isalpha() and after[0].isalpha() and letter != after[0]:
            slips.append(before + after[0] + letter + after[1:])
        for key in NEIGHBOURS.get(letter.lower(), ""):
            slips.append(before + (key.upper() if letter.isupper() else key) + after)
    return dice.choice(slips) if slips else word


OPERATIONS: dict[str, Callable[[list[Token], random.Random], list[Token]]] = {
    "swap_words": _swap_words,
    "drop_words": _drop_words,
    "typos": _mistype_words,
    "lower": _lower,
}
