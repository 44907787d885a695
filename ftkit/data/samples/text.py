"""The sample `text`: little stories of two to five sentences, of events told twice, of plans, and of opinions."""

from dataclasses import replace
from random import Random

from ftkit.data.samples.draft import Draft
from ftkit.data.samples.events import Event, active, agent_question, agent_stressed, be, draw_event, passive
from ftkit.data.samples.opinions import (
    DOMAINS,
    FILM,
    FOOD,
    HOTEL,
    OPPOSITE,
    POLARITIES,
    STRONG,
    Domain,
    Polarity,
    draw_clause,
)
from ftkit.data.samples.plans import Meeting, draw_meeting
from ftkit.data.samples.vocabulary import NAMES, Person, capitalize, chance, pick, pick_two

COLUMNS = ("text",)

PAST_SCENES = tuple(
    f"It was a {weather} {time}{place}."
    for weather in ("warm", "cold", "quiet", "beautiful", "sunny")
    for time in ("morning", "day", "evening")
    for place in ("", " in the city", " in the village")
)
PRESENT_SCENES = (
    "It is a warm day.",
    "It is a cold morning.",
    "It is a quiet evening in the village.",
    "It is the same every day.",
    "Look at this.",
)
PAST_ENDINGS = ("Then {} {} tired.", "After that, {} went home.", "Later, {} {} happy.", "In the end, {} {} hungry.")
PRESENT_ENDINGS = ("Now {} {} tired.", "Now {} {} happy.", "Now {} {} hungry.")

VISITS: tuple[tuple[Domain, tuple[str, ...]], ...] = (
    (FILM, ("watched a film", "saw a new film", "went to see a film")),
    (FOOD, ("had dinner at a restaurant", "went out for a meal", "had a meal at the cafe")),
    (HOTEL, ("stayed at a hotel", "took a room at a hotel", "spent two days at a hotel")),
)
FEELINGS: dict[Polarity, tuple[str, ...]] = {
    "positive": ("loved", "liked", "enjoyed"),
    "negative": ("hated", "disliked", "did not like"),
}


def draw_story(random: Random) -> Draft:
    """A story with one event, one plan, or the opinions of two people on one thing."""
    form = random.random()
    if form < 0.5:
        return _draw_event_story(random)
    return _draw_plan_story(random) if form < 0.7 else _draw_opinion_story(random)


def _draw_event_story(random: Random) -> Draft:
    event = draw_event(random)
    event = replace(event, past=event.past or chance(random, 0.4))
    sentences = [pick(random, PAST_SCENES if event.past else PRESENT_SCENES)] if chance(random, 0.5) else []
    sentences += _tell_twice(random, event)
    if chance(random, 0.5):
        sentences.append(_end(random, event))
    return Draft(event.identity, {"text": " ".join(sentences)})


def _tell_twice(random: Random, event: Event) -> list[str]:
    """The event in the active and in the passive voice, or as a question with its answer in the passive."""
    told, retold = capitalize(active(event)) + ".", capitalize(passive(event)) + "."
    asked = capitalize(agent_question(event)) + "?"
    form = random.random()
    if form < 0.45:
        return [told, retold]
    if form < 0.65:
        return [retold, told]
    if form < 0.8:
        return [asked, retold]
    if form < 0.9:
        return [told, asked, retold]
    return [retold, capitalize(agent_stressed(event)) + "."]


def _end(random: Random, event: Event) -> str:
    ending = pick(random, PAST_ENDINGS if event.past else PRESENT_ENDINGS)
    agent = event.agent if event.agent.determiner in ("", "the") else replace(event.agent, determiner="the")
    return ending.format(replace(agent, adjective="").text, be(agent.plural, event.past))


def _draw_plan_story(random: Random) -> Draft:
    meeting = draw_meeting(random)
    sentences = pick(random, (_tell_future_plan, _tell_past_plan))(random, meeting)
    return Draft(meeting.identity, {"text": " ".join(sentences)})


def _tell_future_plan(random: Random, meeting: Meeting) -> list[str]:
    first, second = meeting.first.name, meeting.second.name
    beginnings = (
        f"{first} and {second} made a plan.",
        f"{first} called {second}.",
        f"{first} is free on {meeting.day}, and so is {second}.",
    )
    sentences = [pick(random, beginnings), meeting.tell(pick(random, (meeting.pair, "They")))]
    if chance(random, 0.4):
        sentences.append(pick(random, (f"{second} will bring a cake.", f"{first} will bring some apples.")))
    return sentences


def _tell_past_plan(random: Random, meeting: Meeting) -> list[str]:
    first, second = meeting.first, meeting.second
    beginnings = (
        f"{first.name} wanted to {meeting.purpose} with {second.name}.",
        f"{first.name} asked {second.name} to {meeting.purpose} with {first.object}.",
    )
    agreements = (f"{second.name} said yes.", f"{second.name} liked the idea.", f"{second.name} was happy to come.")
    met = f"They met {meeting.place} on {meeting.day} at {meeting.hour}."
    sentences = [pick(random, beginnings), pick(random, agreements), met]
    if chance(random, 0.5):
        sentences.append(pick(random, ("It was a good day.", f"{second.name} was late, but they had a good time.")))
    return sentences


def _draw_opinion_story(random: Random) -> Draft:
    return _draw_reasoned_opinion(random) if chance(random, 0.5) else _draw_reported_opinion(random)


def _draw_reported_opinion(random: Random) -> Draft:
    """What somebody said of a part of a thing, and then how they felt about the thing."""
    domain, polarity, person = pick(random, DOMAINS), pick(random, POLARITIES), pick(random, NAMES)
    clause = draw_clause(random, pick(random, domain.aspects), polarity, (person.subject,), (person.object,))
    verb, feeling = pick(random, ("said", "told us", "wrote", "thought")), pick(random, FEELINGS[polarity])
    text = f"{person.name} {verb} that {clause}. {capitalize(person.subject)} {feeling} it."
    return Draft(f"reported {person.name} {clause}", {"text": text})


def _draw_reasoned_opinion(random: Random) -> Draft:
    """How somebody found a thing and why, and at times what another thought of it."""
    domain, visits = pick(random, VISITS)
    polarity = pick(random, POLARITIES)
    first, second = pick_two(random, NAMES)
    adjective, feeling = pick(random, STRONG[polarity]), pick(random, FEELINGS[polarity])
    noun = pick(random, domain.aspects).noun
    together = "" if chance(random, 0.3) else f" with {second.name}"
    sentences = [
        f"{first.name} {pick(random, visits)}{together}.",
        f"{pick(random, (first.name, capitalize(first.subject)))} said the {domain.item} was {adjective} because "
        f"{first.subject} {feeling} the {noun}.",
    ]
    if together:
        sentences += _draw_answer(random, second, noun, polarity)
    return Draft(f"opinion {domain.item} {adjective} {feeling} {noun}", {"text": " ".join(sentences)})


def _draw_answer(random: Random, person: Person, noun: str, polarity: Polarity) -> list[str]:
    """What the other one thinks; at times nothing."""
    form = random.random()
    if form < 0.3:
        return []
    if form < 0.6:
        if polarity == "negative":
            return [f"{person.name} did not like the {noun}, either."]
        return [f"{person.name} {pick(random, FEELINGS[polarity])} the {noun}, too."]
    other = OPPOSITE[polarity]
    thought = pick(random, (f"thought it was {pick(random, STRONG[other])}", f"{pick(random, FEELINGS[other])} it"))
    return [f"{person.name} did not agree.", f"{capitalize(person.subject)} {thought}."]
