"""The sample `dialogues`: two people make a plan in three to six turns; the summary tells it in one sentence."""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from ftkit.data.samples.draft import Draft
from ftkit.data.samples.plans import (
    CONTRIBUTIONS,
    DESTINATIONS,
    DUTIES,
    GIFTS,
    HOURS,
    OCCASIONS,
    TRANSPORTS,
    TREATS,
    Meeting,
    draw_meeting,
)
from ftkit.data.samples.vocabulary import DAYS, NAMES, chance, pick, pick_two

COLUMNS = ("dialogue", "summary")

Turn = tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Script:
    """The turns of a dialogue, each a sequence of alternatives, and how many of the last ones may be left out."""

    turns: tuple[Turn, ...]
    optional: int = 0


def _turn(*parts: str) -> Turn:
    """One turn from its parts; within a part a slash divides the alternatives, of which one is empty if it ends so."""
    return tuple(tuple(part.split(" / ")) for part in parts)


_GREETING = "Hi {second}! / Hello {second}. / "
_CLOSING = _turn("Great, see you then! / Good, I will be there. / Perfect. See you on {day}! / That is fine with me.")

MEETINGS = (
    Script(
        (
            _turn(
                _GREETING,
                "Do you want to {purpose} on {day}? / Shall we {purpose} on {day}? / "
                "Are you free on {day}? I would like to {purpose}.",
            ),
            _turn("Yes, I would love to. Where shall we meet? / Sure! Where? / Good idea. Where do we meet?"),
            _turn("Let's meet {place}. / We can meet {place}. / How about {place}?"),
            _turn("What time? / Fine. When? / All right. At what time?"),
            _turn("At {hour}. / Is {hour} good for you? / I can be there at {hour}."),
            _CLOSING,
        )
    ),
    Script(
        (
            _turn(_GREETING, "Do you want to {purpose} on {day}? / Would you like to {purpose} on {day}?"),
            _turn(
                "Yes, of course. / I would love to. / Sure!",
                "We can meet {place}. / Let's meet {place}.",
                "What time is good for you? / When do you have time? / At what time?",
            ),
            _turn("At {hour}. / I can be there at {hour}. / Let's say {hour}."),
            _CLOSING,
        ),
        optional=1,
    ),
    Script(
        (
            _turn(
                _GREETING,
                "Shall we meet {place} on {day} at {other_hour}? / Can you be {place} on {day} at {other_hour}?",
            ),
            _turn(
                "I have no time at {other_hour}. Is {hour} good for you? / "
                "I am busy at {other_hour}. Can we meet at {hour}? / Not at {other_hour}, but I am free at {hour}."
            ),
            _turn("Yes, {hour} is fine. / No problem, let's say {hour}. / All right, at {hour}.", "We can {purpose}."),
            _CLOSING,
        ),
        optional=1,
    ),
)
CONTRIBUTION = Script(
    (
        _turn(
            _GREETING,
            "The {occasion} is on {day}. / Are you coming to the {occasion} on {day}?",
            "What can you bring? / What will you bring?",
        ),
        _turn("I can bring {other}. / I will bring {other}. / Let me bring {other}.", "And you? / What about you?"),
        _turn("I will bring {own}. / Then I can bring {own}. / And I will bring {own}."),
        _CLOSING,
    ),
    optional=1,
)
GIFT = Script(
    (
        _turn(
            _GREETING,
            "It is {friend}'s birthday on {day}. What shall we give {object}? / "
            "{friend} has a birthday on {day}. Do you have an idea for a gift?",
        ),
        _turn("How about {gift}? / We could buy {gift}. / I think {subject} would like {gift}."),
        _turn("Good idea! Can you buy it? / That is perfect. Will you buy it? / Yes! Could you buy it?"),
        _turn(
            "Yes, I can. / Yes, I will do that. / Sure, no problem.",
            "Can you make {treat}? / Will you make {treat} for the party?",
        ),
        _turn("Of course. / Yes, with pleasure. / Yes, I will make it on {day}."),
    )
)
TRIP = Script(
    (
        _turn(_GREETING, "Let's go to the {destination} on {day}. / Do you want to go to the {destination} on {day}?"),
        _turn("Yes! How do we get there? / I would love to. How shall we go? / Good idea. How?"),
        _turn(
            "By {transport}. / Let's go by {transport}. / We can go by {transport}.",
            "I want to leave at {hour}. / Shall we leave at {hour}? / Can you leave at {hour}?",
        ),
        _CLOSING,
    )
)
REFUSAL = Script(
    (
        _turn(
            _GREETING,
            "Are you coming to the {occasion} on {day}? / Can you come to the {occasion} on {day}? / "
            "Will I see you at the {occasion} on {day}?",
        ),
        _turn("I am sorry, but I cannot come. / Sorry, I cannot. / No, I am afraid not.", "I have to {duty}."),
        _turn("That is a pity. Another time, then! / Too bad! I hope to see you soon. / No problem."),
        _turn("Thank you for asking. / Have a good time! / Thanks, and have fun!"),
    ),
    optional=1,
)


def draw_dialogue(random: Random) -> Draft:
    """A dialogue of one of the kinds below, the ones with most to say more often."""
    return pick(random, KINDS)(random)


def _draw_meeting(random: Random) -> Draft:
    meeting = draw_meeting(random)
    fields = {
        "purpose": meeting.purpose,
        "place": meeting.place,
        "day": meeting.day,
        "hour": meeting.hour,
        "other_hour": _draw_other_hour(random, meeting),
    }
    names = (meeting.first.name, meeting.second.name)
    return _write(random, pick(random, MEETINGS), meeting.identity, names, fields, meeting.tell(meeting.pair))


def _draw_other_hour(random: Random, meeting: Meeting) -> str:
    return pick(random, [hour for hour in HOURS if hour != meeting.hour])


def _draw_contribution(random: Random) -> Draft:
    first, second = pick_two(random, NAMES)
    own, other = pick_two(random, CONTRIBUTIONS)
    occasion, day = pick(random, OCCASIONS), pick(random, DAYS)
    identity = f"contribution {own} {other} {occasion} {day}"
    fields = {"own": own, "other": other, "occasion": occasion, "day": day}
    summary = f"{first.name} will bring {own} and {second.name} will bring {other} to the {occasion} on {day}."
    return _write(random, CONTRIBUTION, identity, (first.name, second.name), fields, summary)


def _draw_gift(random: Random) -> Draft:
    first, second = pick_two(random, NAMES)
    friend = pick(random, [person for person in NAMES if person not in (first, second)])
    gift, treat, day = pick(random, GIFTS), pick(random, TREATS), pick(random, DAYS)
    fields = {"friend": friend.name, "object": friend.object, "subject": friend.subject}
    fields |= {"gift": gift, "treat": treat, "day": day}
    summary = f"{second.name} will buy {gift} for {friend.name}'s birthday on {day} and {first.name} will make {treat}."
    return _write(random, GIFT, f"gift {gift} {treat} {day}", (first.name, second.name), fields, summary)


def _draw_trip(random: Random) -> Draft:
    first, second = pick_two(random, NAMES)
    destination, transport = pick(random, DESTINATIONS), pick(random, TRANSPORTS)
    day, hour = pick(random, DAYS), pick(random, HOURS)
    fields = {"destination": destination, "transport": transport, "day": day, "hour": hour}
    identity = f"trip {destination} {transport} {day} {hour}"
    summary = f"{first.name} and {second.name} will go to the {destination} by {transport} on {day} at {hour}."
    return _write(random, TRIP, identity, (first.name, second.name), fields, summary)


def _draw_refusal(random: Random) -> Draft:
    first, second = pick_two(random, NAMES)
    occasion, day, duty = pick(random, OCCASIONS), pick(random, DAYS), pick(random, DUTIES)
    identity = f"refusal {occasion} {day} {duty.own}"
    fields = {"occasion": occasion, "day": day, "duty": duty.own}
    reason = f"{second.subject} has to {duty.told.format(second.possessive)}"
    summary = f"{second.name} cannot come to the {occasion} on {day} because {reason}."
    return _write(random, REFUSAL, identity, (first.name, second.name), fields, summary)


def _write(
    random: Random, script: Script, identity: str, names: tuple[str, str], fields: dict[str, str], summary: str
) -> Draft:
    """The dialogue of a script, at times without its optional last turn."""
    kept = len(script.turns) - (script.optional if chance(random, 0.3) else 0)
    lines = []
    for number, turn in enumerate(script.turns[:kept]):
        spoken = " ".join(filter(None, (pick(random, part) for part in turn)))
        lines.append(f"{names[number % 2]}: {spoken}".format(second=names[1], **fields))
    return Draft(identity, {"dialogue": "\n".join(lines), "summary": summary})


KINDS: tuple[Callable[[Random], Draft], ...] = (
    _draw_meeting,
    _draw_meeting,
    _draw_meeting,
    _draw_meeting,
    _draw_contribution,
    _draw_gift,
    _draw_trip,
    _draw_refusal,
)
