"""The sample `ratings`: short reviews with a score from 1 to 5, which follows from how strongly each part is judged."""

from random import Random

from ftkit.data.samples.draft import Draft
from ftkit.data.samples.opinions import DOMAINS, POLARITIES, STRONG, STRONG_DEGREES, Aspect, Polarity
from ftkit.data.samples.sentiment import draw_beginning, identity_of
from ftkit.data.samples.vocabulary import capitalize, chance, pick, pick_two

COLUMNS = ("text", "label")

MIDDLE = 3.0
SHARE_OF_ONE = 0.4
DEGREES = {"rather ": 0.5, "fairly ": 0.5, "": 1.0, "very ": 1.5, "so ": 1.5}
STRONGEST = 2.0
SIGNS: dict[Polarity, float] = {"negative": -1.0, "positive": 1.0}


def draw_rating(random: Random) -> Draft:
    """A review of one or two judgements and its score: the middle, moved by their mean."""
    domain = pick(random, DOMAINS)
    parts = pick_two(random, domain.aspects)
    if chance(random, SHARE_OF_ONE):
        clause, value = _draw_clause(random, parts[0])
        text = draw_beginning(random, domain) + pick(random, (f", and {clause}.", f". {capitalize(clause)}."))
    else:
        (clause, first), (other, second) = (_draw_clause(random, aspect) for aspect in parts)
        joint = "and" if first * second > 0 else "but"
        text, value = capitalize(f"{clause}, {joint} {other}."), (first + second) / 2
    return Draft(identity_of(text, "rating"), {"text": text, "label": f"{MIDDLE + value:g}"})


def _draw_clause(random: Random, aspect: Aspect) -> tuple[str, float]:
    """A judgement, and how far it moves the score."""
    polarity = pick(random, POLARITIES)
    if chance(random, 0.25):
        words, size = pick(random, STRONG_DEGREES) + pick(random, STRONG[polarity]), STRONGEST
    else:
        degree = pick(random, tuple(DEGREES))
        words, size = degree + pick(random, aspect.adjectives[polarity]), DEGREES[degree]
    return f"the {aspect.noun} was {words}", SIGNS[polarity] * size
