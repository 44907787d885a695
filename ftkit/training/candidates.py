"""What `strategy: auto` has weighed: each strategy that the task allows, and the one that was chosen."""

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Candidate:
    """A strategy, and what the run would take under it.

    Attributes:
        needed: bytes on the device, with the smallest batch where the batch is found too; None where nobody can tell.
        seconds: of training; None where it was not measured.
        hindrance: why it cannot be, as "would take 31.00 GiB of 24.00 GiB"; nothing where it fits.
        learning_rate: with which it would learn.
    """

    strategy: str
    learning_rate: float
    needed: int | None = None
    seconds: float | None = None
    hindrance: str = ""


@dataclass(frozen=True)
class Choice:
    """The candidates from the strongest, and the first of them that fits.

    Attributes:
        chosen: its name; nothing where none fits.
        room: bytes that there are.
        time_hours: hours that there are; None for any number.
    """

    chosen: str
    candidates: tuple[Candidate, ...]
    room: int
    time_hours: float | None

    def words(self) -> str:
        """One line for the screen."""
        if not self.chosen:
            return "strategy auto: none fits"
        names = [one.strategy for one in self.candidates]
        stronger = self.candidates[: names.index(self.chosen)]
        reasons = ", ".join(f"{one.strategy} {one.hindrance}" for one in stronger)
        return f"strategy auto: {self.chosen}, " + (f"since {reasons}" if reasons else "the strongest there is, fits")

    def as_json(self) -> dict[str, Any]:
        """For run.json."""
        return asdict(self) | {"words": self.words()}
