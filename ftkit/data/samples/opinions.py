"""Opinions: what can be judged, and the words that judge it. For each positive word there is a negative one."""

from dataclasses import dataclass
from random import Random
from typing import Literal

from ftkit.data.samples.vocabulary import pick

Polarity = Literal["negative", "positive"]
POLARITIES: tuple[Polarity, Polarity] = ("negative", "positive")
OPPOSITE: dict[Polarity, Polarity] = {"negative": "positive", "positive": "negative"}


@dataclass(frozen=True, slots=True)
class Aspect:
    """Something to judge, with the plain adjectives that fit it; those may stand after "very" and after "not"."""

    noun: str
    adjectives: dict[Polarity, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Domain:
    """A kind of thing that is reviewed: its name, how one came by it (without a judgement), and its aspects."""

    item: str
    beginnings: tuple[str, ...]
    aspects: tuple[Aspect, ...]


def _aspects(nouns: str, positive: str, negative: str) -> tuple[Aspect, ...]:
    adjectives: dict[Polarity, tuple[str, ...]] = {
        "positive": (*positive.split(), "good"),
        "negative": (*negative.split(), "bad"),
    }
    return tuple(Aspect(noun, adjectives) for noun in nouns.split())


_STAFF = ("friendly helpful polite quick", "rude slow unhelpful careless")

FILM = Domain(
    "film",
    (
        "saw this at the cinema",
        "watched this film at home",
        "went to see this film",
        "rented this film",
        "watched this on the train",
    ),
    _aspects("plot story ending script", "funny clever exciting original", "boring dull silly predictable")
    + _aspects("acting music dialogue cast", "lively charming clever natural", "weak flat dull wooden"),
)
FOOD = Domain(
    "meal",
    ("ate here", "had dinner here", "came here to eat", "stopped here for a meal", "sat here by the window"),
    _aspects("soup pizza pie sauce chicken", "tasty fresh delicious mild", "bland greasy burnt tasteless")
    + _aspects("bread cake sandwich dessert", "tasty fresh soft delicious", "bland stale dry soggy")
    + _aspects("waiter service cook", *_STAFF),
)
HOTEL = Domain(
    "hotel",
    ("stayed here", "slept here", "took a room here", "spent a night here", "stopped here for a night"),
    _aspects("room bathroom kitchen lobby hall", "clean bright spacious cozy", "dirty dark cramped gloomy")
    + _aspects("bed chair sofa", "comfortable soft clean new", "uncomfortable hard dirty worn")
    + _aspects("staff service owner", *_STAFF),
)
PRODUCT = Domain(
    "product",
    ("bought this", "ordered this online", "tried this product", "got this as a gift", "found this in a shop"),
    _aspects("camera software menu app", "fast reliable simple handy", "slow unreliable complicated clumsy")
    + _aspects("screen picture display", "clear bright sharp smooth", "blurry dark dim grainy")
    + _aspects("battery case handle cable", "strong solid reliable sturdy", "weak fragile unreliable flimsy"),
)
DOMAINS = (FILM, FOOD, HOTEL, PRODUCT)

STRONG: dict[Polarity, tuple[str, ...]] = {
    "positive": ("wonderful", "excellent", "fantastic", "lovely", "great", "perfect", "superb", "brilliant"),
    "negative": ("terrible", "awful", "horrible", "dreadful", "disappointing", "poor", "dismal", "appalling"),
}
ATTITUDES: dict[Polarity, tuple[str, ...]] = {
    "positive": ("loved", "liked", "enjoyed", "praised", "raved about", "could not fault"),
    "negative": ("hated", "disliked", "detested", "criticized", "complained about", "could not stand"),
}
EFFECTS: dict[Polarity, tuple[str, ...]] = {
    "positive": ("pleased", "impressed", "delighted", "satisfied", "did not disappoint"),
    "negative": ("disappointed", "annoyed", "upset", "frustrated", "did not impress"),
}

DEGREES = ("", "", "very ", "really ", "so ")
STRONG_DEGREES = ("", "", "really ", "truly ", "simply ")
OTHERS = ("my sister", "my brother", "my friend", "my wife", "my husband", "our guests", "the children")
EXPERIENCERS = ("me", "us", *OTHERS)
SUBJECTS = ("I", "we", *OTHERS)


def draw_clause(
    random: Random,
    aspect: Aspect,
    polarity: Polarity,
    subjects: tuple[str, ...] = SUBJECTS,
    experiencers: tuple[str, ...] = EXPERIENCERS,
) -> str:
    """One judgement by one of the subjects, without capital and stop.

    Each form has its like with the other polarity, equally often.
    """
    form = random.random()
    plain, opposite = aspect.adjectives[polarity], aspect.adjectives[OPPOSITE[polarity]]
    if form < 0.25:
        return f"the {aspect.noun} was {pick(random, DEGREES)}{pick(random, plain)}"
    if form < 0.45:
        return f"the {aspect.noun} was {pick(random, STRONG_DEGREES)}{pick(random, STRONG[polarity])}"
    if form < 0.53:
        negation = pick(random, ("not {}", "not {} at all", "far from {}", "anything but {}"))
        return f"the {aspect.noun} was {negation.format(pick(random, opposite))}"
    if form < 0.58:
        return f"there was nothing {pick(random, opposite)} about the {aspect.noun}"
    if form < 0.8:
        return f"{pick(random, subjects)} {pick(random, ATTITUDES[polarity])} the {aspect.noun}"
    return f"the {aspect.noun} {pick(random, EFFECTS[polarity])} {pick(random, experiencers)}"
