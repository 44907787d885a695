"""The sample `sentiment`: short reviews of films, food, hotels and products, with negation and contrast."""

from random import Random

from ftkit.data.samples.draft import Draft
from ftkit.data.samples.opinions import DOMAINS, OPPOSITE, POLARITIES, STRONG, Domain, Polarity, draw_clause
from ftkit.data.samples.vocabulary import DAYS, capitalize, chance, pick, pick_two

COLUMNS = ("text", "label")

SHARE_OF_CONTRAST = 0.2
COMPANIONS = ("", "", "with my sister", "with my brother", "with a friend", "with my parents", "with two friends")
TIMES = (
    *(f"on {day}" for day in DAYS),
    *(f"in {month}" for month in ("March", "April", "June", "August")),
    *(f"{number} {unit} ago" for number in ("two", "three") for unit in ("days", "weeks", "months")),
    "last week",
    "yesterday",
    "in summer",
    "in winter",
)
_FUNCTION_WORDS = ("a", "an", "and", "at", "all", "but", "although", "i", "we", "me", "us", "my", "our", "the", "was")
FILLERS = frozenset((*_FUNCTION_WORDS, "really", "simply", "so", "still", "this", "truly", "very", "whole"))


def draw_review(random: Random) -> Draft:
    """A review and its label. With a contrast, the last clause decides."""
    label = pick(random, POLARITIES)
    domain = pick(random, DOMAINS)
    draw = _draw_contrast if chance(random, SHARE_OF_CONTRAST) else _draw_plain
    text = draw(random, domain, label)
    return Draft(identity_of(text, "review"), {"text": text, "label": label})


def identity_of(text: str, kind: str) -> str:
    """The words in any order, less those that a careless copy would change."""
    words = text.lower().translate(_PUNCTUATION).split()
    return f"{kind} " + " ".join(sorted(word for word in words if word not in FILLERS))


_PUNCTUATION = str.maketrans("", "", ".,")


def _draw_contrast(random: Random, domain: Domain, label: Polarity) -> str:
    first, last = pick_two(random, domain.aspects)
    conceded = draw_clause(random, first, OPPOSITE[label])
    decisive = draw_clause(random, last, label)
    pattern = pick(random, ("{}, but {}.", "{}, but {}.", "although {}, {}.", "{}. Still, {}."))
    return capitalize(pattern.format(conceded, decisive))


def _draw_plain(random: Random, domain: Domain, label: Polarity) -> str:
    first, last = pick_two(random, domain.aspects)
    clause = draw_clause(random, first, label)
    form = random.random()
    if form < 0.5:
        return draw_beginning(random, domain) + pick(random, (f", and {clause}.", f". {capitalize(clause)}."))
    if form < 0.6:
        return f"The whole {domain.item} was {pick(random, STRONG[label])}. {capitalize(clause)}."
    return capitalize(f"{clause} and {draw_clause(random, last, label)}.")


def draw_beginning(random: Random, domain: Domain) -> str:
    companion = pick(random, COMPANIONS)
    # With a companion named, "we" would be one too many.
    subject = "I" if companion else pick(random, ("I", "We"))
    words = (subject, pick(random, domain.beginnings), companion, pick(random, TIMES))
    return " ".join(word for word in words if word)
