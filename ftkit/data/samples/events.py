"""Events: who does what to what or whom, and the English forms in which an event can be told."""

from dataclasses import dataclass
from random import Random

from ftkit.data.samples.vocabulary import ANIMALS, NAMES, NOUNS, PEOPLE, VERBS, Noun, Verb, chance, pick, with_article

NAMED = tuple(Noun(person.name, person.name) for person in NAMES)
ANYBODY = PEOPLE + NAMED
ANIMAL_NAMES = frozenset(animal.singular for animal in ANIMALS)
PERSON_NAMES = frozenset(person.name for person in NAMES)


@dataclass(frozen=True, slots=True)
class Phrase:
    """A noun with its determiner ("" before a name), an optional adjective, and its number."""

    noun: Noun
    determiner: str = "the"
    adjective: str = ""
    plural: bool = False

    @property
    def text(self) -> str:
        """The phrase as it stands within a sentence."""
        noun = self.noun.plural if self.plural else self.noun.singular
        described = f"{self.adjective} {noun}" if self.adjective else noun
        if self.determiner == "a":
            return with_article(described)
        return f"{self.determiner} {described}" if self.determiner else described


@dataclass(frozen=True, slots=True)
class Event:
    """One agent does something to one patient, now or in the past."""

    agent: Phrase
    verb: Verb
    patient: Phrase
    past: bool

    @property
    def identity(self) -> str:
        """What is told, however it is told: the same for every tense, number, adjective and wording."""
        return f"event {self.agent.noun.singular} {self.verb.base} {self.patient.noun.singular}"

    @property
    def agent_is_animal(self) -> bool:
        """Whether one asks "what" and not "who" did it."""
        return self.agent.noun.singular in ANIMAL_NAMES


@dataclass(frozen=True, slots=True)
class Frame:
    """A verb, those who may do it, and what it may be done to."""

    verb: Verb
    agents: tuple[Noun, ...]
    patients: tuple[Noun, ...]


def _frame(verb: str, agents: tuple[Noun, ...], patients: str | tuple[Noun, ...]) -> Frame:
    nouns = tuple(NOUNS[word] for word in patients.split()) if isinstance(patients, str) else patients
    return Frame(VERBS[verb], agents, nouns)


_ANIMATE = PEOPLE + ANIMALS
FRAMES = (
    _frame("bake", ANYBODY, "cake pie pizza potato"),
    _frame("bite", ANIMALS, _ANIMATE),
    _frame("break", ANYBODY, "window cup plate chair toy clock lamp"),
    _frame("build", ANYBODY, "house wall bridge boat tower fence"),
    _frame("buy", ANYBODY, "car bike hat coat lamp book house boat ring toy clock"),
    _frame("call", ANYBODY, PEOPLE),
    _frame("carry", ANYBODY, "bag box chair basket table lamp"),
    _frame("catch", ANYBODY + ANIMALS, "ball mouse rabbit bird duck"),
    _frame("chase", ANYBODY + ANIMALS, ANIMALS),
    _frame("choose", ANYBODY, "hat book coat cake picture ring song"),
    _frame("clean", ANYBODY, "room kitchen car window plate floor table knife"),
    _frame("close", ANYBODY, "door window gate box bag shop book"),
    _frame("cook", ANYBODY, "meal soup egg potato"),
    _frame("draw", ANYBODY, "picture map flower tree house horse"),
    _frame("drive", ANYBODY, "car truck bus"),
    _frame("drop", ANYBODY, "cup plate key bag ball box knife"),
    _frame("eat", ANYBODY + ANIMALS, "apple cake pie sandwich egg potato pizza meal"),
    _frame("feed", ANYBODY, ANIMALS),
    _frame("find", ANYBODY + ANIMALS, "key ring coin bag ball hat map"),
    _frame("follow", ANYBODY + ANIMALS, _ANIMATE),
    _frame("help", ANYBODY, PEOPLE),
    _frame("hide", ANYBODY, "key ring coin letter map bag"),
    _frame("kick", ANYBODY, "ball box door gate"),
    _frame("lose", ANYBODY, "key ring coin bag ball hat map"),
    _frame("make", ANYBODY, "cake soup salad sandwich pizza chair table toy hat basket"),
    _frame("open", ANYBODY, "door window gate box bag shop book"),
    _frame("paint", ANYBODY, "wall door fence house boat chair picture gate"),
    _frame("pick", ANYBODY, "apple flower rose"),
    _frame("plant", ANYBODY, "tree flower rose"),
    _frame("repair", ANYBODY, "car bike clock roof door chair boat bridge lamp"),
    _frame("ride", ANYBODY, "horse bike"),
    _frame("see", ANYBODY + ANIMALS, _ANIMATE),
    _frame("sell", ANYBODY, "car bike hat coat lamp book house boat ring toy clock"),
    _frame("send", ANYBODY, "letter message book box"),
    _frame("serve", ANYBODY, "meal soup cake pie salad pizza"),
    _frame("steal", ANYBODY, "ring coin key bag car bike hat"),
    _frame("teach", ANYBODY, PEOPLE),
    _frame("throw", ANYBODY, "ball box coin"),
    _frame("visit", ANYBODY, PEOPLE),
    _frame("wash", ANYBODY, "shirt cup plate car window coat"),
    _frame("wear", ANYBODY, "hat coat shirt ring"),
    _frame("write", ANYBODY, "letter story poem song book message"),
)


def draw_event(random: Random, *, plain: bool = False) -> Event:
    """An event told in the present or in the past; a plain one has no determiner but "the"."""
    frame = pick(random, FRAMES)
    agent = pick(random, frame.agents)
    patient = pick(random, frame.patients)
    while patient is agent:
        patient = pick(random, frame.patients)
    return Event(
        agent=_draw_phrase(random, agent, plain),
        verb=frame.verb,
        patient=_draw_phrase(random, patient, plain),
        past=chance(random, 0.5),
    )


def _draw_phrase(random: Random, noun: Noun, plain: bool) -> Phrase:
    if noun.singular in PERSON_NAMES:
        return Phrase(noun, determiner="")
    plural = chance(random, 0.35)
    other_determiner = not plain and chance(random, 0.2)
    return Phrase(
        noun,
        determiner=("two" if plural else "a") if other_determiner else "the",
        adjective=pick(random, noun.adjectives) if chance(random, 0.3) else "",
        plural=plural,
    )


def active(event: Event) -> str:
    """ "the chef cooks the meal", without capital and stop, as all forms here."""
    return f"{event.agent.text} {_finite(event)} {event.patient.text}"


def passive(event: Event) -> str:
    """ "the meal is cooked by the chef"."""
    return f"{event.patient.text} {be(event.patient.plural, event.past)} {event.verb.participle} by {event.agent.text}"


def future(event: Event) -> str:
    """ "the chef will cook the meal", whatever the event's tense."""
    return f"{event.agent.text} will {event.verb.base} {event.patient.text}"


def negative(event: Event) -> str:
    """ "the chef does not cook the meal"."""
    return f"{event.agent.text} {_do(event)} not {event.verb.base} {event.patient.text}"


def question(event: Event) -> str:
    """ "does the chef cook the meal"."""
    return f"{_do(event)} {event.agent.text} {event.verb.base} {event.patient.text}"


def agent_question(event: Event) -> str:
    """ "who cooks the meal": singular, whatever the agent's number."""
    asked = "what" if event.agent_is_animal else "who"
    return f"{asked} {event.verb.past if event.past else event.verb.third} {event.patient.text}"


def agent_stressed(event: Event) -> str:
    """ "it is the chef who cooks the meal": a telling between the active and the passive."""
    relative = "that" if event.agent_is_animal else "who"
    return f"it {be(False, event.past)} {event.agent.text} {relative} {_finite(event)} {event.patient.text}"


def be(plural: bool, past: bool) -> str:
    """The form of "be" that agrees."""
    if past:
        return "were" if plural else "was"
    return "are" if plural else "is"


def _finite(event: Event) -> str:
    if event.past:
        return event.verb.past
    return event.verb.base if event.agent.plural else event.verb.third


def _do(event: Event) -> str:
    if event.past:
        return "did"
    return "do" if event.agent.plural else "does"
