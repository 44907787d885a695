"""What a run will take, known before it starts: parameters, memory by part, steps, tokens, time and disk.

Nothing is fetched but config.json. What a step holds comes from a rehearsal on shapes (rehearsal.py), the rest from
arithmetic (footprint.py); rows and lengths come from the data where they are at hand, else from the recipe's limits. Time
is told only where the weights are here already, from a few steps of training (pace.py).
"""

import functools
import math
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Group
from rich.text import Text
from transformers import AutoModelForCausalLM, PretrainedConfig

from ftkit import console
from ftkit.data.paths import locate
from ftkit.errors import UserError
from ftkit.evaluation.forgetting import BATCH as GENERAL_ROWS
from ftkit.evaluation.forgetting import LONGEST as GENERAL_TOKENS
from ftkit.hub import cached, hub_names, is_hub_id
from ftkit.models.counts import ParameterCounts, count_from_config
from ftkit.models.heads import find_head
from ftkit.models.load import (
    DEFAULT_MAX_LENGTH,
    TOKENIZERS,
    first_line,
    has_weights,
    load_config,
    load_tokenizer,
)
from ftkit.models.precision import has_bf16, product_dtype
from ftkit.models.resting import Tensors, may_rest, tensors_at_hand
from ftkit.models.strategies.table import STRATEGIES
from ftkit.recipe.schema import Recipe
from ftkit.tasks.base import Task
from ftkit.tasks.table import TASKS
from ftkit.training.arguments import precision_words
from ftkit.training.batch_size import batch_sizes, effective_batch
from ftkit.training.candidates import Choice
from ftkit.training.footprint import Peak, kept_checkpoints, knows_optimizer, optimizer_bytes, steps_of
from ftkit.training.kernels import has_liger
from ftkit.training.measuring import Measuring, MeasuringMemory, rehearse_measuring
from ftkit.training.memory import beside_tensors, gpu_room_bytes, library_bytes, room_bytes
from ftkit.training.micro_batches import later_part, part_cost
from ftkit.training.pace import Pace, forecast, measure_pace
from ftkit.training.prepare import Data, prepare
from ftkit.training.rehearsal import Batch, Rehearsal, rehearse
from ftkit.training.remedies import LADDER, Rung
from ftkit.training.setup import DataFigures, Setup, supervised_of_longest
from ftkit.training.ways import wanted_ways
from ftkit.units import GIB, size_words, time_words

DEVICES = ("cpu", "cuda")
WORTH_ANOTHER = 0.1  # gradients as a share of a step, from which it matters what stands beside them
WORTH = 0.99  # a remedy that leaves more than this share of the memory is none
BEYOND = 1.1  # a measured peak above so many times the estimate is told


@dataclass(frozen=True)
class Estimate:
    """A setup with what it takes; `cut` says whether batches are cut into parts of like length."""

    setup: Setup
    rehearsal: Rehearsal
    optimizer: int
    measuring: MeasuringMemory
    cut: bool

    @property
    def training(self) -> int:
        """Bytes in tensors at the fullest moment of a step."""
        found = self.rehearsal
        return Peak(found.weights, self.optimizer, found.gradients, found.step).bytes

    def peak_beside(self, measuring: int) -> int:
        """Bytes at the fullest moment of steps and of measuring that takes so much.

        For measuring the optimizer's states stay, and the weights are as they were loaded.
        """
        return max(self.training, self.rehearsal.loaded + self.optimizer + measuring)

    @property
    def peak(self) -> int:
        """Bytes in tensors at the fullest moment of the run."""
        return self.peak_beside(self.measuring.most)

    def of_process(self, device: str, peak: int) -> int:
        """Bytes that a process takes with so many in tensors at its peak."""
        return peak + beside_tensors(device, peak - self.rehearsal.weights - self.optimizer, cut=self.cut)

    def parts(self) -> dict[str, int]:
        """Bytes by part. They are not all held at once, so that the peak is below their sum."""
        found = self.rehearsal
        return {
            "weights": found.weights - found.adapters, "adapters": found.adapters, "gradients": found.gradients,
            "optimizer": self.optimizer, "activations": found.activations, "logits": found.logits,
            "training": self.training, "evaluation": self.measuring.most, "peak": self.peak,
        }  # fmt: skip


@dataclass(frozen=True)
class Remedy:
    """A change, as a key of the recipe, and the memory with it and with those before it."""

    change: str
    peak: int
    needed: int
    fits: bool


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

    def planner(self, recipe: Recipe, device: str) -> "Planner":
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
    planner: "Planner"
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


def settled(planner: "Planner", recipe: Recipe, figures: DataFigures | None, vram: float | None, notes: list[str]) -> Recipe:
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


def own_device(recipe: Recipe) -> str:
    """Where this machine would train."""
    return "cuda" if torch.cuda.is_available() and not recipe.training.use_cpu else "cpu"


def require_sound(device: str, vram: float | None) -> None:
    """Raises UserError where an option makes no sense."""
    if device not in DEVICES:
        raise UserError(f"no device '{device}'", f"there are {', '.join(DEVICES)}", "--device")
    if vram is not None and not (vram > 0 and math.isfinite(vram)):
        raise UserError(f"{vram} GiB is no memory", "give a number above 0", "--vram")


class Planner:
    """Estimates of one recipe's model under changing setups."""

    def __init__(self, recipe: Recipe, auto_class: Any, config: PretrainedConfig, device: str, *, new_head: bool) -> None:
        self.recipe, self.auto_class, self.config, self.device = recipe, auto_class, config, device
        self.head = find_head(auto_class, config) if new_head else ()
        self.optim, self.ways = str(recipe.training.optim), wanted_ways(recipe.speed, recipe.training, device)
        self.autocast = autocast_precision(recipe, device)
        self.measured: dict[tuple[str, str, Measuring], MeasuringMemory] = {}
        self.rests = self.autocast is torch.bfloat16 and recipe.speed.frozen_bfloat16  # where the strategy lets it
        self.liger = device == "cuda" and has_liger(config.model_type, recipe.training, recipe.speed.liger_kernel)
        self.unmeasured = ""  # why measuring could not be gone through

    def setup(self, figures: DataFigures | None) -> Setup:
        """The recipe's own."""
        training = self.recipe.training
        limit = self.recipe.model.max_length or min(DEFAULT_MAX_LENGTH, positions(self.config))
        options = training.activation_checkpointing_kwargs
        checkpointing = (options if isinstance(options, dict) else {}) if training.activation_checkpointing else None
        target = (figures.target if figures else limit) if self.config.is_encoder_decoder else 0
        return Setup(
            self.recipe.strategy, self.recipe.model.dtype, training.per_device_train_batch_size,
            training.gradient_accumulation_steps, figures.longest if figures else limit, target, checkpointing,
            (figures.supervised_of_longest if figures else limit - 1) if self.runs_on_supervised else 0,
            self.measuring(figures, limit, target), figures.lengths if figures else np.zeros(0, int),
        )  # fmt: skip

    @functools.cached_property
    def stored(self) -> Tensors | None:
        """What the checkpoint has, from which a base that rests in bfloat16 is read again; None where it is not here."""
        return tensors_at_hand(self.recipe.model)

    @property
    def cuts(self) -> bool:
        """Whether batches are cut into parts of like length, see `training/micro_batches.py`."""
        return self.ways.micro_batches and (self.runs_on_supervised or self.auto_class is not AutoModelForCausalLM)

    @property
    def runs_on_supervised(self) -> bool:
        """Whether a decoder's head runs on supervised tokens alone, see `training/supervised_loss.py`."""
        return self.ways.supervised_logits and self.auto_class is AutoModelForCausalLM

    def measuring(self, figures: DataFigures | None, limit: int, target: int) -> Measuring:
        """What the run measures, the longest of it."""
        block, size, pairs = self.recipe.evaluation, self.recipe.training.per_device_eval_batch_size, target > 0
        known = figures is not None and len(figures.measured_lengths) > 0
        length = int(figures.measured_lengths.max()) if figures and known else limit
        supervised, most = float(limit - 1), positions(self.config)
        if figures and known:
            size = min(size, len(figures.measured_lengths))
            supervised = supervised_of_longest(figures.measured_lengths, figures.measured_supervised)
            target = int(figures.measured_supervised.max()) if pairs else 0
        foretells = not self.head and not pairs and bool(block.general_text) and block.baseline
        answers = min(block.generation.rows, size) if self.recipe.generates and not pairs else 0
        return Measuring(
            size, length, labels_of(self.recipe.task, self.config), target, supervised if self.runs_on_supervised else 0,
            (GENERAL_ROWS, min(GENERAL_TOKENS, limit)) if foretells else None,
            (answers * block.generation.num_beams, min(length + block.generation.max_new_tokens, most)) if answers else None,
        )  # fmt: skip

    def estimate(self, setup: Setup) -> Estimate:
        """What a setup takes.

        Raises:
            UserError: the model's forward pass needs its weights.
        """
        found = self.rehearse(setup, setup.rows, setup.length, later=setup.accumulation > 1)
        rows, length = self.later_part(setup, found.parameters)
        if rows and setup.accumulation == 1 and found.gradients > WORTH_ANOTHER * found.step:
            # the gradients of a batch's first part are there beside what the next one holds
            found = replace(found, step=max(found.step, self.rehearse(setup, rows, length, later=True).step))
        return Estimate(setup, found, optimizer_bytes(self.optim, found.learning), self.measure(setup), rows > 0)

    def later_part(self, setup: Setup, parameters: int) -> tuple[int, int]:
        """Rows and tokens of the largest part of a batch behind its first; zeros where batches are not cut."""
        if not self.cuts or not len(setup.lengths):
            return 0, 0
        cost = part_cost(parameters, quantized=STRATEGIES[setup.strategy.name].quantized)
        return later_part(np.minimum(setup.lengths, setup.length), setup.rows, cost)

    def rehearse(self, setup: Setup, rows: int, length: int, *, later: bool) -> Rehearsal:
        """A setup's step on so many rows of a length.

        Args:
            later: gradients of an earlier part or batch are there.
        """
        batch = Batch(
            rows, length, labels_of(self.recipe.task, self.config), self.autocast, setup.checkpointing, later, setup.target,
            math.ceil(rows * min(setup.supervised, length)),
            self.rests and may_rest(setup.strategy), self.ways.embedding_rows, self.ways.fused_adapters, self.liger,
            self.stored,
        )  # fmt: skip
        try:
            return rehearse(self.auto_class, self.config, setup.strategy, self.head, self.options(setup), batch)
        except (RuntimeError, NotImplementedError) as error:
            message = f"a step of this model cannot be gone through without weights: {first_line(error)}"
            raise UserError(message, "`ftkit check` runs one with them", key="model.name") from error

    def options(self, setup: Setup) -> dict[str, str | None]:
        """How the model is made."""
        attention = self.recipe.model.attn_implementation
        half = self.device == "cuda" or product_dtype() != torch.float32
        return {
            "dtype": setup.dtype, "attention": "sdpa" if attention == "flash_attention_2" else attention,
            "unpacked": "bfloat16" if half else "float32",
        }  # fmt: skip

    def measure(self, setup: Setup) -> MeasuringMemory:
        """What measuring takes beside the weights, gone through once for each kind of setup."""
        shapes = setup.measuring
        key = setup.strategy.name, setup.dtype, shapes
        if key not in self.measured:
            options = self.options(setup)
            try:
                self.measured[key] = rehearse_measuring(
                    self.auto_class, self.config, setup.strategy, self.head, options, shapes, self.autocast
                )
            except Exception as error:  # whatever a model does on shapes alone: the plan of its training still stands
                self.unmeasured = first_line(error)
                self.measured[key] = MeasuringMemory()
        return self.measured[key]

    def needed(self, estimate: Estimate) -> int:
        """Bytes on the device."""
        return estimate.of_process(self.device, estimate.peak)

    def needed_with(self, recipe: Recipe, figures: DataFigures | None) -> int:
        """Bytes on the device with the batch of this recipe, which is else the planner's."""
        self.recipe = recipe
        return self.needed(self.estimate(self.setup(figures)))

    def remedies(self, first: Estimate, room: int, figures: DataFigures | None) -> list[Remedy]:
        """What would make it fit, each on top of those before it: the least harmful that helps, until it fits.

        What does not help while something else takes most may do so later: evaluation, say, and then the training batch.
        """
        found: list[Remedy] = []
        current: Estimate | None = first
        while current is not None and not (found and found[-1].fits):
            steps = (self.better(rung, current, room, figures) for rung in LADDER)
            remedy, current = next((step for step in steps if step), (None, None))
            found += [remedy] if remedy else []
        return found

    def better(
        self, rung: Rung, current: Estimate, room: int, figures: DataFigures | None
    ) -> tuple[Remedy, Estimate] | None:
        """A rung's first change that makes it fit, else its last that helps; None where none does."""
        better = None
        for change, setup in rung(current.setup, self.recipe, figures):
            estimate = self.estimate(setup)
            if estimate.peak < WORTH * current.peak:
                better = Remedy(change, estimate.peak, self.needed(estimate), self.needed(estimate) <= room), estimate
            if better and better[0].fits:
                break
        return better

    def words_on_measuring(self) -> str:
        """What is said of evaluation."""
        if self.unmeasured:
            return f"evaluation is not in the estimate: it cannot be gone through without weights: {self.unmeasured}"
        size = self.recipe.training.per_device_eval_batch_size
        return f"evaluation is the most that measuring takes beside the weights, {size} rows at a time"

    def words_on_rest(self) -> list[str]:
        """What is said of a base that would rest in bfloat16; nothing where the checkpoint lets it."""
        if self.stored is None:
            return [
                "the frozen base is taken to rest in bfloat16, for which the weights, not here yet, must be in safetensors"
            ]
        return [] if self.stored else ["the frozen base stays in float32, for the weights are not in safetensors"]

    def notes(self) -> list[str]:
        """What the figures rest on."""
        found = [
            f"computed in {precision_words(self.autocast)}; parameters, weights, gradients and optimizer are exact, "
            "activations, logits and peak come from a step on shapes alone, without the kernels' own workspaces",
            self.words_on_measuring() + "; parts are not all held at once; 'with libraries' adds " + (
                "the context of CUDA, an estimate" if self.device == "cuda" else
                f"the {size_words(library_bytes())} that this process holds without a model, and what kernels and gaps "
                "between blocks took in measured runs"
            ),
        ]  # fmt: skip
        if not knows_optimizer(self.optim):
            found.append(f"the states of optimizer {self.optim} are not known and taken to be AdamW's")
        if self.device == "cuda":
            found.append("the kernels are those of a CPU: a GPU's fused attention can hold less where attention has dropout")
        if self.rests and may_rest(self.recipe.strategy) and self.recipe.model.dtype == "float32":
            found += self.words_on_rest()
        if self.recipe.model.attn_implementation == "flash_attention_2":
            found.append("flash_attention_2 is planned as sdpa, which holds no score matrices either")
        return found


def autocast_precision(recipe: Recipe, device: str) -> torch.dtype | None:
    """As training will compute: by the recipe, else bfloat16 where the device has it, as a GPU since Ampere has."""
    training = recipe.training
    if training.fp16:
        return torch.float16
    bf16 = training.bf16 if training.bf16 is not None else device == "cuda" or has_bf16()
    return torch.bfloat16 if bf16 else None


def labels_of(task: str, config: PretrainedConfig) -> str:
    """What a batch's labels are, in the words of `Batch`."""
    if task == "text-regression":
        return "number"
    if task == "text-classification":
        return "classes" if config.problem_type == "multi_label_classification" else "class"
    return "tokens"


def positions(config: PretrainedConfig) -> int:
    """Positions a model has; without learnt ones there may be no limit."""
    return int(config.to_dict().get("max_position_embeddings") or DEFAULT_MAX_LENGTH)


def knows_labels(recipe: Recipe, task: Task, figures: DataFigures | None) -> bool:
    """Whether the task can say how large the head is."""
    return bool(figures or recipe.data.labels or not task.new_head or recipe.task == "text-regression")


def predicted_peaks(
    recipe: Recipe, task: Task, config: PretrainedConfig, data: Data, *, rests: bool, liger: bool
) -> dict[str, dict[str, int]] | None:
    """Bytes at the peak of the run and of its training as planned, named as the run measures them; None where unknown.

    `rests` says whether the frozen base rests in bfloat16 while it trains, `liger` whether its layers have Liger's kernels.
    It takes about a second for a model of six blocks, and more in proportion to the blocks, not to their size.
    """
    device = own_device(recipe)
    planner = Planner(recipe, task.auto_class(config), config, device, new_head=task.new_head)
    planner.rests, planner.liger = rests, liger
    try:
        with console.hushed():
            found = planner.estimate(planner.setup(figures_of(data)))
    except Exception as error:  # whatever a model does on shapes alone: a prediction never ends a run
        console.say(f"no peak memory is predicted: {first_line(error)}")
        return None
    evaluates = recipe.training.eval_strategy != "no"
    training = found.peak_beside(found.measuring.rows if evaluates else 0)
    peaks = {"peak_memory_bytes": found.peak, "training_peak_bytes": training}
    if device == "cuda":
        return {name: {"gpu": size} for name, size in peaks.items()}
    return {name: {"process": found.of_process(device, size)} for name, size in peaks.items()}


def data_figures(recipe: Recipe, task: Task, config: PretrainedConfig, notes: list[str]) -> DataFigures | None:
    """Of the training entries as they are encoded; None, and a note, where they are not at hand."""
    if missing := missing_for_data(recipe):
        notes.append(f"{missing}: the longest batch is taken to be model.max_length, steps are not known")
        return None
    return figures_of(prepare(recipe, task, load_tokenizer(recipe.model), config))


def figures_of(data: Data) -> DataFigures:
    """The figures of the training entries."""
    facts = data.facts["train"]
    lengths, target = facts.lengths, int(facts.supervised.max()) if facts.pairs else 0
    tokens = int(lengths.sum()) + (int(facts.supervised.sum()) if facts.pairs else 0)
    measured = data.facts["eval"]
    return DataFigures(len(lengths), tokens, lengths, target, facts.supervised, measured.lengths, measured.supervised)


def missing_for_data(recipe: Recipe) -> str:
    """What is lacking to encode the data without fetching anything, in words; nothing where all is at hand."""
    if recipe.data.streaming:
        return "the data are streamed"
    for name, kind, _ in hub_names(recipe):
        if kind == "dataset" and is_hub_id(name) and not cached(name, kind):
            return f"the data {name} are not in the cache"
    name = locate(recipe.model.tokenizer or recipe.model.name)
    folder = Path(name)
    if folder.is_dir() and not any(file for pattern in TOKENIZERS for file in folder.glob(pattern)):
        return "there is no tokenizer"
    return "" if folder.is_dir() or cached(name, "model") else "the tokenizer is not in the cache"


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
