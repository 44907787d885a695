"""`strategy: auto`: the strongest strategy that fits the memory and the time that there are.

What each takes comes from the plan, before a weight is loaded; time from a few steps, where somebody asks for it.
"""

import gc
import importlib.util
import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from ftkit import console
from ftkit.errors import UserError
from ftkit.models.load import lacks_memory
from ftkit.process import return_blocks
from ftkit.recipe.schema import Auto, Recipe
from ftkit.run import Run
from ftkit.training.batch_size import row_by_row
from ftkit.training.candidates import Candidate, Choice
from ftkit.training.memory import forget_peaks
from ftkit.training.pace import Pace, measure_pace
from ftkit.training.plan import (
    Draft,
    Ground,
    Plan,
    draft_of,
    ground_of,
    pace_at_hand,
    plan_of,
    require_sound,
    room_on,
    seconds_of,
)
from ftkit.training.planner import Remedy, own_device
from ftkit.training.variants import under
from ftkit.units import GIB, size_words, time_words

STRONGEST_FIRST = ("full", "lora", "qlora", "transfer")
KEY = "strategy"


def settle_strategy(recipe: Recipe, run: Run | None = None, *, resume: bool = False) -> tuple[Recipe, dict[str, Any] | None]:
    """The recipe with the strategy that was chosen, and what run.json says of the choice; any other recipe as it is.

    Args:
        run: where it goes on with `resume`: as it began.

    Raises:
        UserError: no strategy fits, or there are several processes, which would each choose.
    """
    if not isinstance(recipe.strategy, Auto):
        return recipe, None
    known = run.record.get("strategy_choice") if run and resume else None
    if known:
        return under_strategy(recipe, known["chosen"]), known
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UserError("strategy auto chooses for one process, and there are several", "name a strategy", key=KEY)
    scales = scales_for_training(recipe)
    choice = scales.choose()
    if not choice.chosen:
        raise scales.refusal(choice)
    console.say(choice.words())
    return under_strategy(recipe, choice.chosen), choice.as_json()


def memory_limit(recipe: Recipe) -> int | None:
    """Bytes that the recipe allows where the strategy is to be chosen; None where it says nothing."""
    limit = recipe.strategy.memory_gib if isinstance(recipe.strategy, Auto) else None
    return None if limit is None else int(limit * GIB)


def plan_choice(recipe: Recipe, device: str | None = None, vram: float | None = None, *, measure: bool = True) -> Plan:
    """The plan of the chosen strategy, or of the one that takes least where none fits, with what was weighed.

    Raises:
        UserError: as `make_plan`, or nobody says how much memory there is.
    """
    device = device or own_device(recipe)
    require_sound(device, vram)
    scales = scales_for_plan(recipe, device, vram, measure=measure)
    choice = scales.choose()
    name = choice.chosen or least(choice).strategy
    draft, pace = scales.drafts[name], scales.paces.get(name)
    remedies, notes = draft.remedies(scales.ground.figures), list(dict.fromkeys(scales.notes))
    made = plan_of(scales.ground, draft, remedies, pace, notes)
    return replace(made, choice=choice)


def under_strategy(recipe: Recipe, name: str) -> Recipe:
    """The recipe with a strategy in place of auto, and with the rate that suits it where the recipe names none."""
    made = under(recipe, name, [], same_rate=False)
    training = recipe.training.model_copy(update={"learning_rate": made.training.learning_rate})
    return recipe.model_copy(update={"strategy": made.strategy, "training": training})


def scales_for_training(recipe: Recipe) -> "Scales":
    """A recipe is to be trained here and now; steps are made only where the recipe limits the time, until one fits."""
    with console.hushed():  # what is to be said of the data is said when they are read for the run
        ground = ground_of(recipe)
    device, limited = own_device(recipe), time_limit(recipe) is not None
    if limited and ground.figures is None:
        console.warn("strategy.time_hours is not judged: the data are not at hand before training")
    pace = hushed_pace if limited and ground.figures is not None else None
    return Scales(row_by_row(recipe), ground, device, memory_given(recipe, device, None), pace, here=True)


def scales_for_plan(recipe: Recipe, device: str, vram: float | None, *, measure: bool) -> "Scales":
    """Nothing is to be trained: every strategy that fits is timed, where that can be done."""
    ground, notes = ground_of(recipe), list[str]()

    def pace(made: Recipe) -> Pace | None:
        return pace_at_hand(made, device, ground.figures, notes)

    room = memory_given(recipe, device, vram)
    return Scales(recipe, ground, device, room, pace if measure else None, notes=notes, times_all=True)


def hushed_pace(recipe: Recipe) -> Pace | None:
    """The pace of a recipe whose weights may be fetched, as its training would."""
    with console.status(f"measuring a few steps of {recipe.strategy.name}"), console.hushed():
        return measure_pace(recipe)


def memory_given(recipe: Recipe, device: str, vram: float | None) -> int:
    """Bytes that the run may take: as said on the command line, else by the recipe and by what the device has free.

    Raises:
        UserError: none of them says.
    """
    if vram is not None:
        return int(vram * GIB)
    known = [size for size in (memory_limit(recipe), room_on(device)) if size is not None]
    if not known:
        message = "strategy auto needs to know the memory, and there is no GPU here to ask"
        raise UserError(message, "give --vram, or strategy.memory_gib", key=KEY)
    return min(known)


def time_limit(recipe: Recipe) -> float | None:
    """Hours that the recipe allows, where it limits them."""
    return recipe.strategy.time_hours if isinstance(recipe.strategy, Auto) else None


def least(choice: Choice) -> Candidate:
    """The candidate that takes the least memory.

    Raises:
        UserError: of none it is known what it would take.
    """
    known = [one for one in choice.candidates if one.needed is not None]
    if not known:
        raise UserError(
            "no strategy can be", "; ".join(f"{one.strategy} {one.hindrance}" for one in choice.candidates), key=KEY
        )
    return min(known, key=lambda one: one.needed or 0)


@dataclass
class Scales:
    """On which the strategies of a recipe are weighed.

    Attributes:
        room: bytes that there are.
        pace: measures a few steps of a recipe, or gives None where that cannot be done; None where nobody asks for the time.
        here: whether it is this machine, as it is now, that will train.
        times_all: whether strategies behind the chosen one are timed too.
        drafts: what each takes; paces: those that were measured.
    """

    recipe: Recipe
    ground: Ground
    device: str
    room: int
    pace: Callable[[Recipe], Pace | None] | None
    here: bool = False
    times_all: bool = False
    notes: list[str] = field(default_factory=list)
    drafts: dict[str, Draft] = field(default_factory=dict)
    paces: dict[str, Pace] = field(default_factory=dict)

    def choose(self) -> Choice:
        """Weigh them, the strongest first."""
        chosen, candidates = "", list[Candidate]()
        for name in (name for name in STRONGEST_FIRST if name in self.recipe.spec.strategies):
            found = self.weigh(name, timed=self.times_all or not chosen)
            candidates.append(found)
            chosen = chosen or ("" if found.hindrance else name)
        return Choice(chosen, tuple(candidates), self.room, time_limit(self.recipe))

    def weigh(self, name: str, *, timed: bool) -> Candidate:
        """What the run would take under a strategy, and what hinders it."""
        made = under_strategy(self.recipe, name)
        found = Candidate(name, made.training.learning_rate)
        if self.here and name == "qlora" and importlib.util.find_spec("bitsandbytes") is None:
            return replace(found, hindrance="needs bitsandbytes (pip install 'ftkit[qlora]')")
        try:
            draft = self.drafts[name] = draft_of(self.ground, made, self.device, self.room / GIB)
        except UserError as error:
            return replace(found, hindrance=f"cannot be: {error.message}")
        found = replace(found, needed=draft.needed)
        if draft.needed > self.room:
            return replace(found, hindrance=f"would take {size_words(draft.needed)} of {size_words(self.room)}")
        return self.timed(found, draft, self.pace) if timed and self.pace else found

    def timed(self, found: Candidate, draft: Draft, measure: Callable[[Recipe], Pace | None]) -> Candidate:
        """A candidate that fits the memory with its time, where that can be had."""
        try:
            pace = measure(draft.recipe)
        except RuntimeError as error:
            if not lacks_memory(error):
                raise
            return replace(found, hindrance="ran out of memory in the first steps")
        finally:
            let_go()
        seconds = seconds_of(self.ground, draft.recipe, pace)
        if pace is None or seconds is None:
            return found
        self.paces[found.strategy] = pace
        found = replace(found, seconds=seconds["training"])
        limit = time_limit(self.recipe)
        if limit is None or seconds["training"] <= limit * 3600:
            return found
        words = f"would take {time_words(seconds['training'])} of {time_words(limit * 3600)}"
        return replace(found, hindrance=words)

    def refusal(self, choice: Choice) -> UserError:
        """Why nothing is trained, and what would make it possible."""
        smallest = least(choice)
        draft, needed = self.drafts[smallest.strategy], smallest.needed or 0
        if needed <= self.room:
            reasons = ", ".join(f"{one.strategy} {one.hindrance}" for one in choice.candidates)
            hint = "allow more with strategy.time_hours, or train less: training.num_train_epochs, training.max_steps"
            return UserError(f"no strategy fits: {reasons}", hint, key=KEY)
        message = (
            f"no strategy fits into {size_words(self.room)}: the least, {smallest.strategy}, would take {size_words(needed)}"
        )
        return UserError(message, remedy_words(draft.remedies(self.ground.figures)), key=KEY)


def remedy_words(remedies: list[Remedy]) -> str:
    """What would make it fit, in one line."""
    if not remedies:
        return "take a smaller model"
    changes, last = ", ".join(remedy.change for remedy in remedies), remedies[-1]
    if last.fits:
        return f"it would take {size_words(last.needed)} with {changes}"
    return f"take a smaller model: even with {changes} it would take {size_words(last.needed)}"


def let_go() -> None:
    """Give back what measured steps have held; it is no part of the run's own peak."""
    gc.collect()
    return_blocks()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    forget_peaks()
