"""The sample `instructions`: a small grammar exercise a row, half of them from the active to the passive voice."""

from collections.abc import Callable
from dataclasses import replace
from random import Random

from ftkit.data.samples.draft import Draft
from ftkit.data.samples.events import (
    Event,
    Phrase,
    active,
    agent_question,
    be,
    draw_event,
    future,
    negative,
    passive,
    question,
)
from ftkit.data.samples.vocabulary import (
    ANIMALS,
    FOODS,
    PEOPLE,
    THINGS,
    WRITINGS,
    Noun,
    capitalize,
    chance,
    pick,
)

COLUMNS = ("instruction", "input", "output", "kind")
SHARE_OF_PASSIVE = 0.5

PHRASINGS = {
    "active_to_passive": (
        "Convert the active sentence to passive.",
        "Change the sentence to the passive voice.",
        "Rewrite the sentence in the passive voice.",
        "Turn this active sentence into a passive one.",
    ),
    "passive_to_active": (
        "Convert the passive sentence to active.",
        "Change the sentence to the active voice.",
        "Rewrite the sentence in the active voice.",
    ),
    "past_tense": (
        "Put the sentence in the past tense.",
        "Change the sentence to the past tense.",
        "Rewrite the sentence so that it is about the past.",
    ),
    "future_tense": (
        "Put the sentence in the future tense.",
        "Change the sentence to the future tense.",
        "Rewrite the sentence so that it is about the future.",
    ),
    "plural": ("Make the subject plural.", "Rewrite the sentence with a plural subject."),
    "negative": ("Make the sentence negative.", "Rewrite the sentence with the word not."),
    "question": ("Turn the sentence into a question.", "Make a question from the sentence."),
    "opposite": (
        "Write a sentence that means the opposite.",
        "Change the adjective to its opposite.",
        "Give the opposite of the sentence.",
    ),
    "answer": ("Answer the question: {}", "Read the sentence and answer: {}", "{}"),
}

COMPOSITIONS = (
    ("Write a sentence in the present tense with the words {}.", False, active),
    ("Use the words {} in a sentence in the present tense.", False, active),
    ("Write a sentence in the past tense with the words {}.", True, active),
    ("Use the words {} in a sentence in the past tense.", True, active),
    ("Write a passive sentence in the present tense with the words {}.", False, passive),
    ("Write a passive sentence in the past tense with the words {}.", True, passive),
)


def draw_instruction(random: Random) -> Draft:
    """One exercise: what to do, the sentence to do it on ("" where none is needed), and the one right output."""
    if chance(random, SHARE_OF_PASSIVE):
        return _draw_active_to_passive(random)
    return pick(random, OTHER_KINDS)(random)


def _draw_active_to_passive(random: Random) -> Draft:
    event = draw_event(random)
    return _exercise(random, "active_to_passive", event.identity, active(event), passive(event))


def _draw_passive_to_active(random: Random) -> Draft:
    event = draw_event(random)
    return _exercise(random, "passive_to_active", event.identity, passive(event), active(event))


def _draw_past_tense(random: Random) -> Draft:
    event = replace(draw_event(random), past=False)
    return _exercise(random, "past_tense", event.identity, active(event), active(replace(event, past=True)))


def _draw_future_tense(random: Random) -> Draft:
    event = draw_event(random)
    return _exercise(random, "future_tense", event.identity, active(event), future(event))


def _draw_plural(random: Random) -> Draft:
    event = draw_event(random, plain=True)
    while not event.agent.determiner:  # a name has no plural
        event = draw_event(random, plain=True)
    one = replace(event, agent=replace(event.agent, plural=False))
    many = replace(event, agent=replace(event.agent, plural=True))
    return _exercise(random, "plural", event.identity, active(one), active(many))


def _draw_negative(random: Random) -> Draft:
    event = draw_event(random, plain=True)
    return _exercise(random, "negative", event.identity, active(event), negative(event))


def _draw_question(random: Random) -> Draft:
    event = draw_event(random, plain=True)
    return _exercise(random, "question", event.identity, active(event), question(event), stop="?")


def _draw_answer(random: Random) -> Draft:
    event = draw_event(random, plain=True)
    asked = capitalize(agent_question(event)) + "?"
    draft = _exercise(random, "answer", event.identity, passive(event), event.agent.text)
    return replace(draft, row=draft.row | {"instruction": draft.row["instruction"].format(asked)})


def _draw_composition(random: Random) -> Draft:
    event = draw_event(random)
    bare = Event(_bare(event.agent), event.verb, _bare(event.patient), event.past)
    instruction, past, tell = pick(random, COMPOSITIONS)
    words = f"{bare.agent.noun.singular}, {bare.verb.base} and {bare.patient.noun.singular}"
    row = {
        "instruction": instruction.format(words),
        "input": "",
        "output": capitalize(tell(replace(bare, past=past))) + ".",
        "kind": "compose",
    }
    return Draft(bare.identity, row)


def _bare(phrase: Phrase) -> Phrase:
    return Phrase(phrase.noun, determiner="the" if phrase.determiner else "")


_COLORS = ("", "", "red", "blue", "green", "white")
_OPPOSITES: tuple[tuple[tuple[Noun, ...], tuple[str, ...], str], ...] = (
    (PEOPLE, ("",), "happy/sad tall/short rich/poor strong/weak quiet/loud polite/rude early/late"),
    (ANIMALS, ("", "", "brown", "white", "black"), "fast/slow young/old small/large strong/weak quiet/loud thin/fat"),
    (FOODS, ("",), "hot/cold good/bad cheap/expensive small/large"),
    (WRITINGS, ("",), "short/long boring/interesting easy/difficult good/bad old/new"),
    (THINGS, _COLORS, "new/old clean/dirty small/large cheap/expensive"),
)
_OWNERS = ("the", "my", "our", "his", "her")
_DEGREES = ("", "", " very", " really", " so")


def _draw_opposite(random: Random) -> Draft:
    nouns, colors, pairs = pick(random, _OPPOSITES)
    pair = pick(random, pairs.split())
    adjective, antonym = pair.split("/")[:: pick(random, (1, -1))]
    subject = Phrase(pick(random, nouns), pick(random, _OWNERS), pick(random, colors), chance(random, 0.35))
    start = f"{subject.text} {be(subject.plural, chance(random, 0.5))}{pick(random, _DEGREES)}"
    identity = f"opposite {subject.noun.singular} {pair}"
    return _exercise(random, "opposite", identity, f"{start} {adjective}", f"{start} {antonym}")


def _exercise(random: Random, kind: str, identity: str, given: str, wanted: str, stop: str = ".") -> Draft:
    row = {
        "instruction": pick(random, PHRASINGS[kind]),
        "input": capitalize(given) + ".",
        "output": capitalize(wanted) + stop,
        "kind": kind,
    }
    return Draft(identity, row)


OTHER_KINDS: tuple[Callable[[Random], Draft], ...] = (
    _draw_passive_to_active,
    _draw_past_tense,
    _draw_future_tense,
    _draw_plural,
    _draw_negative,
    _draw_question,
    _draw_opposite,
    _draw_answer,
    _draw_composition,
)
