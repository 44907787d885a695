"""What a run will take, known before it starts: parameters, memory by part, steps, tokens, time and disk.

Nothing is fetched but config.json. What a step holds comes from a rehearsal on shapes (rehearsal.py), the rest from
arithmetic (footprint.py); rows and lengths come from the data where they are at hand, else from the recipe's limits. Time
is told only where the weights are here already, from a few steps of training (pace.py).
"""

import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Group
from rich.text import Text
from transformers import PretrainedConfig

from ftkit import console
from ftkit.data.paths import locate
from ftkit.errors import UserError
from ftkit.hub.cache import cached
from ftkit.hub.names import hub_names, model_names
from ftkit.models.counts import ParameterCounts, count_from_config
from ftkit.models.load import has_weights, load_config, load_tokenizer
from ftkit.models.vocabulary import TOKENIZERS
from ftkit.recipe.schema import Recipe
from ftkit.tasks.base import Task
from ftkit.tasks.table import TASKS
from ftkit.training.batch_size import batch_sizes, effective_batch
from ftkit.training.candidates import Choice
from ftkit.training.footprint import kept_checkpoints, steps_of
from ftkit.training.memory import gpu_room_bytes, room_bytes
from ftkit.training.pace import Pace, forecast, measure_pace
from ftkit.training.planner import Estimate, Planner, Remedy, own_device
from ftkit.training.prepare import prepare
from ftkit.training.setup import DataFigures, figures_of
from ftkit.units import GIB, size_words, time_words

DEVICES = ("cpu", "cuda")
BEYOND = 1.1  # a measured peak above so many times the estimate is told


@dataclass(frozen=True)
class Plan:
    """What a run will take.

    Attributes:
        needed: bytes on the device: the peak, and what a process holds beside tensors.
        vram: bytes that are there, or None where nobody said.
        run: entries, tokens, steps, so far as the data are at hand.
        disk: bytes of the saved model, of a checkpoint, how many are kept, and all in all.
        seconds: of warming up, of a step on average, of the longest, of evaluations while training, and of all of
            training; None where no step was measured.
        measured: bytes of memory at the peak of the measured steps, by place.
        notes: what the figures rest on.
        choice: where the strategy is auto, what was weighed.
    """

    model: str
    strategy: str
    device: str
    parameters: ParameterCounts
    batch: dict[str, int]
    memory: dict[str, int]
    needed: int
    vram: int | None
    fits: bool | None
    remedies: list[Remedy]
    run: dict[str, float]
    disk: dict[str, int]
    seconds: dict[str, float] | None = None
    measured: dict[str, int] | None = None
    notes: list[str] = field(default_factory=list)
    choice: Choice | None = None

    def as_json(self) -> dict[str, Any]:
        """All of it, sizes in bytes."""
        counts = asdict(self.parameters) | {"trainable_percent": self.parameters.trainable_percent}
        return asdict(self) | {"parameters": counts}

    def table(self) -> Group:
        """For the screen."""
        parts: list[Any] = [console.facts("", self._facts())]
        rows = [[name, size_words(size)] for name, size in self.memory.items()]
        rows.append(["with libraries", size_words(self.needed)])
        rows += [[f"measured in a few steps ({place})", size_words(size)] for place, size in (self.measured or {}).items()]
        parts.append(console.table("", ["memory (estimate)", ""], rows))
        if self.choice is not None:
            parts += [candidate_table(self.choice), Text(self.choice.words(), style="bold")]
        if self.vram is not None:
            parts.append(Text(self._verdict(), style="bold"))
        if self.remedies:
            found = [[r.change, size_words(r.needed), "fits" if r.fits else "-"] for r in self.remedies]
            parts.append(console.table("", ["each with those above it", "memory", ""], found))
        parts += [Text(f"· {note}") for note in self.notes]
        return Group(*parts)

    def _facts(self) -> dict[str, str]:
        counts, batch = self.parameters, self.batch
        trained = f"{counts.trainable:,} trainable of {counts.total:,} ({counts.trainable_percent:.4f} %)"
        stored = f", {counts.stored:,} as stored" if counts.stored != counts.total else ""
        facts = {
            "model": f"{self.model}, {self.strategy}, on {self.device}",
            "parameters": trained + stored,
            "longest batch": f"{batch['rows']} rows of {batch['length']:,} tokens, {batch['accumulation']} to a step",
        }
        if self.run:
            facts["run"] = ", ".join(
                f"{value:,g} {name}" if value % 1 else f"{int(value):,} {name}" for name, value in self.run.items()
            )
        if self.seconds:
            facts["time"] = seconds_words(self.seconds)
        disk = self.disk
        facts["disk"] = f"{size_words(disk['total'])}: model {size_words(disk['model'])}, " + (
            f"{disk['checkpoints']} checkpoints of {size_words(disk['checkpoint'])}"
        )
        return facts

    def _verdict(self) -> str:
        assert self.vram is not None
        room = f"{size_words(self.needed)} of {size_words(self.vram)}"
        if self.fits:
            return f"fits: {room}"
        helped = any(remedy.fits for remedy in self.remedies)
        return f"does not fit: {room}" + (
            "; it would with the changes below" if helped else "; no change below makes it fit"
        )


def make_plan(recipe: Recipe, device: str | None = None, vram: float | None = None, *, measure: bool = True) -> Plan:
    """The plan of a recipe's run.

    Args:
        device: cpu or cuda; default what this machine has.
        vram: GiB of memory that the run may take.
        measure: whether a few steps are made, where the weights are here, to tell the time.

    Raises:
        UserError: config.json cannot be had, the data are at hand and faulty, or the strategy does not fit the model.
    """
    device = device or own_device(recipe)
    require_sound(device, vram)
    ground, notes = ground_of(recipe), list[str]()
    draft = draft_of(ground, recipe, device, vram)  # before a model is loaded to measure its pace
    remedies = draft.remedies(ground.figures)
    pace = pace_at_hand(draft.recipe, device, ground.figures, notes) if measure else None
    return plan_of(ground, draft, remedies, pace, notes)


@dataclass(frozen=True)
class Ground:
    """What a plan stands on whatever the strategy: the task, its model's config, the data where they are at hand."""

    task: Task
    config: PretrainedConfig
    figures: DataFigures | None
    notes: tuple[str, ...]

    def planner(self, recipe: Recipe, device: str) -> Planner:
        """Estimates of the recipe under its strategy."""
        return Planner(recipe, self.task.auto_class(self.config), self.config, device, new_head=self.task.new_head)


def ground_of(recipe: Recipe) -> Ground:
    """Read config.json and the data.

    Raises:
        UserError: config.json cannot be had, or the data are at hand and faulty.
    """
    task, notes = TASKS[recipe.task](recipe.data), list[str]()
    config = load_config(recipe.model, {})
    task.auto_class(config)  # refuses a model that cannot do the task
    figures = data_figures(recipe, task, config, notes)
    if knows_labels(recipe, task, figures):
        config = load_config(recipe.model, task.config_values())
    else:
        notes.append(f"the number of labels is that of the model's config, {config.num_labels}: the data are not at hand")
    return Ground(task, config, figures, tuple(notes))


@dataclass(frozen=True)
class Draft:
    """A recipe with its batch settled, and what it takes.

    Attributes:
        room: bytes that there are, or None where nobody said.
    """

    recipe: Recipe
    planner: Planner
    estimate: Estimate
    needed: int
    room: int | None
    notes: tuple[str, ...]

    @property
    def fits(self) -> bool | None:
        return None if self.room is None else self.needed <= self.room

    def remedies(self, figures: DataFigures | None) -> list[Remedy]:
        """What would make it fit where it does not."""
        if self.room is None or self.needed <= self.room:
            return []
        with console.status("looking for what would make it fit"):
            return self.planner.remedies(self.estimate, self.room, figures)


def draft_of(ground: Ground, recipe: Recipe, device: str, vram: float | None) -> Draft:
    """What a recipe takes whose data and config are read."""
    planner, notes = ground.planner(recipe, device), list[str]()
    if recipe.training.finds_batch:
        recipe = planner.recipe = settled(planner, recipe, ground.figures, vram, notes)
    with console.status("going through a step without weights"):
        estimate = planner.estimate(planner.setup(ground.figures))
    room = None if vram is None else int(vram * GIB)
    return Draft(recipe, planner, estimate, planner.needed(estimate), room, tuple(notes))


def plan_of(ground: Ground, draft: Draft, remedies: list[Remedy], pace: Pace | None, notes: list[str]) -> Plan:
    """All that a plan says.

    Args:
        notes: of the pace.
    """
    recipe, planner, setup = draft.recipe, draft.planner, draft.estimate.setup
    counts = count_from_config(planner.auto_class, ground.config, recipe.strategy, new_head=ground.task.new_head)
    run = run_figures(recipe, ground.figures)
    if pace and max(pace.peak.values()) > BEYOND * draft.needed:
        notes = [*notes, "the measured peak is above the estimate"]
    seconds = seconds_of(ground, recipe, pace)
    return Plan(
        recipe.model.name, recipe.strategy.name, planner.device, counts,
        {"rows": setup.rows, "length": setup.length, "accumulation": setup.accumulation}, draft.estimate.parts(),
        draft.needed, draft.room, draft.fits, remedies, run,
        disk_figures(recipe, draft.estimate, int(run.get("steps", 0))), seconds, pace.peak if pace else None,
        [*ground.notes, *draft.notes, *notes, *planner.notes()],
    )  # fmt: skip


def seconds_of(ground: Ground, recipe: Recipe, pace: Pace | None) -> dict[str, float] | None:
    """The time of the run at a pace; None where there is none."""
    if pace is None or ground.figures is None:
        return None
    steps = int(run_figures(recipe, ground.figures)["steps"])
    return forecast(pace, ground.figures.lengths, recipe, steps).as_json()


def settled(planner: Planner, recipe: Recipe, figures: DataFigures | None, vram: float | None, notes: list[str]) -> Recipe:
    """The recipe with the largest batch that is estimated to fit; one row at a time where none does."""
    room = room_on(planner.device) if vram is None else int(vram * GIB)
    sizes = batch_sizes(effective_batch(recipe))
    if room is None:
        notes.append("the rows of a step are taken to be one batch: give --vram, the memory that there is")
        return sizes[0].applied(recipe)
    with console.status("looking for the largest batch that fits"):
        fitting = (size for size in sizes if planner.needed_with(size.applied(recipe), figures) <= room)
        found = next(fitting, None)
    if found is None:
        return sizes[-1].applied(recipe)
    notes.append(f"the batch is the largest that is estimated to fit into {size_words(room)}")
    return found.applied(recipe)


def room_on(device: str) -> int | None:
    """Memory that there is on a device of this machine; None of a GPU where there is none."""
    return room_bytes() if device == "cpu" else gpu_room_bytes()


def pace_at_hand(recipe: Recipe, device: str, figures: DataFigures | None, notes: list[str]) -> Pace | None:
    """The measured pace; None, and a note, where something for it is not here."""
    missing = ""
    if figures is None:
        missing = "the data are not at hand"
    elif device != own_device(recipe):
        missing = f"this machine's device is {own_device(recipe)}"
    elif not has_weights(recipe.model):
        missing = "the model's weights are not here"
    if missing:
        notes.append(f"no time is told: {missing}")
        return None
    with console.status("measuring a few steps"), console.hushed():  # it was said of the data what is to be said
        pace = measure_pace(recipe)
    notes.append(
        f"time is from {pace.steps} measured steps, for this machine as busy as it is now; without the measuring before "
        "and after training"
    )
    return pace


def require_sound(device: str, vram: float | None) -> None:
    """Raises UserError where an option makes no sense."""
    if device not in DEVICES:
        raise UserError(f"no device '{device}'", f"there are {', '.join(DEVICES)}", "--device")
    if vram is not None and not (vram > 0 and math.isfinite(vram)):
        raise UserError(f"{vram} GiB is no memory", "give a number above 0", "--vram")


def knows_labels(recipe: Recipe, task: Task, figures: DataFigures | None) -> bool:
    """Whether the task can say how large the head is."""
    return bool(figures or recipe.data.labels or not task.new_head or recipe.task == "text-regression")


def data_figures(recipe: Recipe, task: Task, config: PretrainedConfig, notes: list[str]) -> DataFigures | None:
    """Of the training entries as they are encoded; None, and a note, where they are not at hand."""
    if missing := missing_for_data(recipe):
        notes.append(f"{missing}: the longest batch is taken to be model.max_length, steps are not known")
        return None
    return figures_of(prepare(recipe, task, load_tokenizer(recipe.model), config))


def missing_for_data(recipe: Recipe) -> str:
    """What is lacking to encode the data without fetching anything, in words; nothing where all is at hand."""
    if recipe.data.streaming:
        return "the data are streamed"
    for repository in hub_names(recipe):
        if repository.kind == "dataset" and not cached(repository):
            return f"the data {repository.name} are not in the cache"
    name = locate(recipe.model.tokenizer or recipe.model.name)
    folder = Path(name)
    if folder.is_dir() and not any(file for pattern in TOKENIZERS for file in folder.glob(pattern)):
        return "there is no tokenizer"
    there = folder.is_dir() or cached([*model_names(recipe.model)][-1])
    return "" if there else "the tokenizer is not in the cache"


def run_figures(recipe: Recipe, figures: DataFigures | None) -> dict[str, float]:
    """Entries, tokens and steps of the run, so far as they are known; tokens are those of the rows, without padding."""
    training = recipe.training
    step = training.per_device_train_batch_size * training.gradient_accumulation_steps
    if figures is None:
        return {"steps": training.max_steps} if training.max_steps > 0 else {}
    steps = steps_of(
        figures.entries, training.per_device_train_batch_size, training.gradient_accumulation_steps,
        training.num_train_epochs, training.max_steps,
    )  # fmt: skip
    epochs = training.num_train_epochs if training.max_steps <= 0 else steps * step / figures.entries
    return {"entries": figures.entries, "epochs": round(epochs, 2), "steps": steps, "tokens": int(figures.tokens * epochs)}


def disk_figures(recipe: Recipe, estimate: Estimate, steps: int) -> dict[str, int]:
    """Adapters are saved without their base, other models whole; a checkpoint has the optimizer's states too."""
    training, found = recipe.training, estimate.rehearsal
    saved = found.gradients if recipe.strategy.name in ("lora", "qlora") else found.weights
    checkpoint, limit = saved + estimate.optimizer, training.save_total_limit
    epochs = training.num_train_epochs
    kept = kept_checkpoints(training.save_strategy, steps or (limit or 1) * 10**9, training.save_steps, epochs, limit)
    return {"model": saved, "checkpoint": checkpoint, "checkpoints": kept, "total": saved + kept * checkpoint}


def candidate_table(choice: Choice) -> Any:
    """The strategies from the strongest, with what each takes; the chosen one is marked."""
    rows = [
        [
            f"{'→ ' if one.strategy == choice.chosen else ''}{one.strategy}",
            "-" if one.needed is None else size_words(one.needed),
            "-" if one.seconds is None else time_words(one.seconds),
            one.hindrance or "fits",
        ]
        for one in choice.candidates
    ]
    return console.table("", ["strategy: auto", "memory", "time", ""], rows)


def seconds_words(seconds: dict[str, float]) -> str:
    """A forecast's figures on one line."""
    words = f"{time_words(seconds['training'])} of training, {seconds['step']:.2f} s a step"
    words += f" ({seconds['longest_step']:.2f} s on the longest rows)"
    return words + (f", {time_words(seconds['evaluation'])} of it evaluating" if seconds["evaluation"] else "")
