"""The words that the samples share: people, animals, things and verbs with their forms, and the draws among them."""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import TypeVar

Option = TypeVar("Option")


@dataclass(frozen=True, slots=True)
class Noun:
    """A countable noun, and the adjectives that go with it."""

    singular: str
    plural: str
    adjectives: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Verb:
    """A transitive verb. Its base and its past differ, so that "The boys ... the book." always shows its tense."""

    base: str
    third: str
    past: str
    participle: str


@dataclass(frozen=True, slots=True)
class Person:
    """A first name with its pronouns."""

    name: str
    subject: str
    object: str
    possessive: str


def pick(random: Random, options: Sequence[Option]) -> Option:
    """One of the options. Only `Random.random` is promised to give the same numbers on every version of Python."""
    return options[int(random.random() * len(options))]


def pick_two(random: Random, options: Sequence[Option]) -> tuple[Option, Option]:
    """Two different options, in random order."""
    first = int(random.random() * len(options))
    second = int(random.random() * (len(options) - 1))
    return options[first], options[second + (second >= first)]


def chance(random: Random, probability: float) -> bool:
    """True with the given probability."""
    return random.random() < probability


def with_article(phrase: str) -> str:
    """The phrase after "a" or "an", as its first letter asks."""
    sounds_like_consonant = phrase.startswith("use")
    return f"an {phrase}" if phrase[0] in "aeiou" and not sounds_like_consonant else f"a {phrase}"


def capitalize(text: str) -> str:
    """The text with a capital first letter, the rest as it is (`str.capitalize` would lower names)."""
    return text[0].upper() + text[1:]


def _pluralize(noun: str) -> str:
    if noun.endswith(("s", "x", "ch", "sh", "potato")):
        return noun + "es"
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return noun[:-1] + "ies"
    return noun + "s"


def _nouns(words: str, adjectives: str) -> tuple[Noun, ...]:
    """Nouns from a line of words; an irregular plural follows a slash: "man/men"."""
    pairs = (word.partition("/") for word in words.split())
    return tuple(Noun(noun, plural or _pluralize(noun), tuple(adjectives.split())) for noun, _, plural in pairs)


PEOPLE = _nouns(
    "chef teacher doctor farmer student artist girl boy man/men woman/women child/children nurse baker driver gardener "
    "king queen sailor singer guest",
    "tall kind happy tired busy clever brave quiet strong polite",
)
ANIMALS = _nouns(
    "dog cat horse bird fox wolf/wolves mouse/mice cow rabbit duck goat bear", "small large brown white black hungry"
)
FOODS = _nouns("meal cake pie soup apple pizza salad sandwich egg potato", "fresh small large tasty")
WRITINGS = _nouns("letter story poem song book message", "short long sad funny strange beautiful")
PLANTS = _nouns("tree flower rose", "small tall beautiful white")
THINGS = _nouns(
    "box bag basket cup plate ball key coin ring lamp clock toy knife/knives hat coat shirt map picture chair table "
    "door window gate fence roof wall floor room kitchen house bridge tower shop car bike boat truck bus",
    "new small large red blue green",
)
NOUNS = {noun.singular: noun for noun in PEOPLE + ANIMALS + FOODS + WRITINGS + PLANTS + THINGS}

VERBS = {
    forms.split()[0]: Verb(*forms.split())
    for forms in (
        "bake bakes baked baked",
        "bite bites bit bitten",
        "break breaks broke broken",
        "build builds built built",
        "buy buys bought bought",
        "call calls called called",
        "carry carries carried carried",
        "catch catches caught caught",
        "chase chases chased chased",
        "choose chooses chose chosen",
        "clean cleans cleaned cleaned",
        "close closes closed closed",
        "cook cooks cooked cooked",
        "draw draws drew drawn",
        "drive drives drove driven",
        "drop drops dropped dropped",
        "eat eats ate eaten",
        "feed feeds fed fed",
        "find finds found found",
        "follow follows followed followed",
        "help helps helped helped",
        "hide hides hid hidden",
        "kick kicks kicked kicked",
        "lose loses lost lost",
        "make makes made made",
        "open opens opened opened",
        "paint paints painted painted",
        "pick picks picked picked",
        "plant plants planted planted",
        "repair repairs repaired repaired",
        "ride rides rode ridden",
        "see sees saw seen",
        "sell sells sold sold",
        "send sends sent sent",
        "serve serves served served",
        "steal steals stole stolen",
        "teach teaches taught taught",
        "throw throws threw thrown",
        "visit visits visited visited",
        "wash washes washed washed",
        "wear wears wore worn",
        "write writes wrote written",
    )
}

_WOMEN = ("Anna", "Clara", "Emma", "Grace", "Lily", "Maria", "Nora", "Sara")
_MEN = ("Ben", "David", "Felix", "Henry", "Jack", "Leo", "Oscar", "Tom")
NAMES = tuple(Person(name, "she", "her", "her") for name in _WOMEN) + tuple(
    Person(name, "he", "him", "his") for name in _MEN
)
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
