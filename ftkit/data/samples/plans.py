"""Plans that two people make: what they agree on, and the sentence that says so."""

from dataclasses import dataclass
from random import Random

from ftkit.data.samples.vocabulary import DAYS, NAMES, Person, pick, pick_two

HOURS = ("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "noon")

OUTINGS = {
    "at the park": ("take a walk", "play football", "have a picnic", "feed the ducks"),
    "at the cafe": ("have coffee", "eat cake", "talk about the trip", "play chess"),
    "at the library": ("study", "borrow some books", "talk about the test"),
    "at the pool": ("swim", "practice for the race"),
    "at the lake": ("swim", "take a walk", "have a picnic", "catch fish"),
    "at the museum": ("see the new pictures", "see the old ships", "take a walk"),
    "at the cinema": ("see the new film", "see an old film"),
    "at the market": ("buy fruit", "buy flowers", "sell old books"),
    "at the restaurant": ("have a meal", "eat pizza", "talk about the party"),
    "at the station": ("take the train to the city", "take the bus to the lake"),
    "at the zoo": ("see the bears", "feed the goats", "draw the lions"),
    "at the beach": ("swim", "play football", "take a walk", "have a picnic"),
    "at the school": ("practice the song", "study", "play football", "play chess"),
    "in the garden": ("plant flowers", "pick apples", "play chess", "have coffee"),
}
PLACES = tuple(OUTINGS)
DESTINATIONS = ("beach", "city", "farm", "lake", "market", "museum", "village", "zoo")
TRANSPORTS = ("bike", "bus", "car", "train")
OCCASIONS = ("barbecue", "dinner", "game", "lunch", "party", "picnic")
CONTRIBUTIONS = (
    "a cake",
    "a pie",
    "a salad",
    "some apples",
    "some flowers",
    "some fruit",
    "the cups",
    "the drinks",
    "the plates",
    "the sandwiches",
    "some bread",
)
GIFTS = ("a book", "a clock", "a coat", "a hat", "a lamp", "a picture", "a ring", "a toy", "a plant", "a ball")
TREATS = ("a cake", "a pie", "a pizza", "a salad")


@dataclass(frozen=True, slots=True)
class Duty:
    """A reason not to come, as oneself and as another says it ("{}" is "his" or "her")."""

    own: str
    told: str


DUTIES = tuple(
    Duty(duty.replace("{}", "my"), duty)
    for duty in (
        "work",
        "study for a test",
        "clean the house",
        "help {} mother",
        "help {} brother",
        "visit {} sister",
        "see the doctor",
        "repair {} bike",
        "paint {} room",
        "practice for the race",
    )
)


@dataclass(frozen=True, slots=True)
class Meeting:
    """Two people meet at a place, on a day, at an hour, to do something."""

    first: Person
    second: Person
    place: str
    purpose: str
    day: str
    hour: str

    @property
    def identity(self) -> str:
        """The content without the names, which would make every plan a new one."""
        return f"meeting {self.place} {self.purpose} {self.day} {self.hour}"

    @property
    def pair(self) -> str:
        """Both names."""
        return f"{self.first.name} and {self.second.name}"

    def tell(self, subject: str) -> str:
        """The whole plan in one sentence."""
        return f"{subject} will meet {self.place} on {self.day} at {self.hour} to {self.purpose}."


def draw_meeting(random: Random) -> Meeting:
    """A meeting of two different people."""
    first, second = pick_two(random, NAMES)
    place = pick(random, PLACES)
    return Meeting(first, second, place, pick(random, OUTINGS[place]), pick(random, DAYS), pick(random, HOURS))
