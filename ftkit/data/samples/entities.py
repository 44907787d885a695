"""The sample `entities`: short sentences about people, places and organisations, one BIO tag a word.

Surnames are also names of places, and organisations are called after both, so that a word alone does not tell its tag.
"""

from collections.abc import Callable, Sequence
from random import Random

from ftkit.data.samples.draft import Draft
from ftkit.data.samples.vocabulary import DAYS, NAMES, NOUNS, capitalize, chance, pick, pick_two

COLUMNS = ("tokens", "tags")

SHARE_WITHOUT = 0.1
SHARE_WITH_SURNAME = 0.6
BOTH = ("Bath", "Brook", "Field", "Florence", "Green", "Hill", "Jackson", "Lake", "Lincoln", "Stone", "Wells", "York")
SURNAMES = (*BOTH, "Baker", "Carter", "Cook", "Fisher", "Miller", "Smith", "Taylor", "Walker", "White", "Wood")
PLACES = (
    *BOTH,
    *("Berlin", "Boston", "Cairo", "Dublin", "Lima", "London", "Madrid", "Oslo", "Paris", "Rome", "Tokyo", "Vienna"),
    *("Bear Island", "Cape Town", "Fox River", "Green Bay", "New York", "North Bridge", "Old Mill", "White Hill"),
)
OF_PLACES = ("{} Bank", "Bank of {}", "{} Hospital", "{} United", "University of {}", "{} Museum", "Port of {}")
OF_PEOPLE = ("{} and Sons", "{} Motors", "{} Foods", "{} Books", "House of {}")
SENTENCES = (
    "{person} works for {organisation} in {place}",
    "{person} has worked for {organisation} since {day}",
    "{person} lives in {place}",
    "everybody in {place} knows {person}",
    "the office of {organisation} is in {place}",
    "{person} and {other_person} went from {place} to {other_place} {time}",
    "{person} met {other_person} near {place} {time}",
    "{person} wrote a letter to {organisation} {time}",
    "{organisation} sold the bridge to {other_organisation} {time}",
    "{organisation} opened a shop in {place} {time}",
    "{organisation} asked {person} for help {time}",
    "the train from {place} to {other_place} was late {time}",
    "we saw {person} in {place} {time}",
    "my sister bought a book from {organisation} {time}",
)
WITHOUT = (
    "the {thing} was near the {other_thing} {time}",
    "we had a {thing} and a {other_thing} {time}",
    "we sold the {thing} {time}",
)
TIMES = ("", "", "last week", "yesterday", "two days ago", "in March", "in August", *(f"on {day}" for day in DAYS))


def draw_sentence(random: Random) -> Draft:
    """A sentence and its tags; one in ten names nobody and nothing."""
    without = chance(random, SHARE_WITHOUT)
    pattern = pick(random, WITHOUT if without else SENTENCES)
    slots = _draw_things(random) if without else _draw_entities(random)
    identity = _identify(pattern, slots)
    slots |= {"day": (pick(random, DAYS), ""), "time": (pick(random, TIMES), "")}
    tokens, tags = _fill([*pattern.split(), "."], slots)
    tokens[0] = capitalize(tokens[0])
    return Draft(identity, {"tokens": tuple(tokens), "tags": tuple(tags)})


def _identify(pattern: str, slots: dict[str, tuple[str, str]]) -> str:
    """What the sentence tells without its time and without what stands at its ends: with another name there, or a longer
    one, it is nearly the same row. Where only the ends hold names, the first word of the last one tells it from others."""
    words = pattern.replace(" {day}", "").replace(" {time}", "").split()
    units = [slots[word[1:-1]][0] if word.startswith("{") else word for word in words]
    inner = units[1:-1]
    if not any(word.startswith("{") for word in words[1:-1]):
        inner.append(units[-1].split()[0])
    return f"entities {' '.join(inner)}"


def _fill(words: Sequence[str], slots: dict[str, tuple[str, str]]) -> tuple[list[str], list[str]]:
    """The pattern's words with names in place of its slots, and a tag each."""
    tokens, tags = list[str](), list[str]()
    for word in words:
        name, kind = slots[word[1:-1]] if word.startswith("{") else (word, "")
        parts = name.split()
        tokens += parts
        tags += [f"B-{kind}", *[f"I-{kind}"] * (len(parts) - 1)] if kind else ["O"] * len(parts)
    return tokens, tags


def _draw_entities(random: Random) -> dict[str, tuple[str, str]]:
    """A name and its type for each slot, those of one type different."""
    return {
        **_two(random, "person", _draw_person),
        **_two(random, "place", lambda random: pick(random, PLACES)),
        **_two(random, "organisation", _draw_organisation),
    }


def _two(random: Random, kind: str, draw: Callable[[Random], str]) -> dict[str, tuple[str, str]]:
    first = other = draw(random)
    while other == first:
        other = draw(random)
    return {kind: (first, kind), f"other_{kind}": (other, kind)}


def _draw_person(random: Random) -> str:
    first = pick(random, NAMES).name
    return f"{first} {pick(random, SURNAMES)}" if chance(random, SHARE_WITH_SURNAME) else first


def _draw_organisation(random: Random) -> str:
    if chance(random, 0.5):
        return pick(random, OF_PLACES).format(pick(random, PLACES))
    return pick(random, OF_PEOPLE).format(pick(random, SURNAMES))


def _draw_things(random: Random) -> dict[str, tuple[str, str]]:
    thing, other = pick_two(random, [noun for noun in NOUNS if noun[0] not in "aeiou"])  # after "a"
    return {"thing": (thing, ""), "other_thing": (other, "")}
