"""Estimates of a recipe's model under changing setups: what a step and measuring hold, and what would make it fit."""

import functools
import math
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM, PretrainedConfig

from ftkit import console
from ftkit.answers import keep, key_of, known
from ftkit.compat import grouped_products_on_shapes
from ftkit.errors import UserError
from ftkit.evaluation.forgetting import BATCH as GENERAL_ROWS
from ftkit.evaluation.forgetting import LONGEST as GENERAL_TOKENS
from ftkit.models.architecture import meta_model, named_positions
from ftkit.models.heads import find_head
from ftkit.models.load import DEFAULT_MAX_LENGTH, first_line
from ftkit.models.precision import has_bf16, product_dtype
from ftkit.models.resting import Tensors, may_rest, tensors_at_hand
from ftkit.models.strategies.table import STRATEGIES
from ftkit.recipe.schema import Recipe
from ftkit.tasks.base import Task
from ftkit.training.arguments import needs_autocast, precision_words
from ftkit.training.embedding_gradient import leaves_gradients
from ftkit.training.footprint import Peak, knows_optimizer, optimizer_bytes, steps_of
from ftkit.training.kernels import would_have_liger
from ftkit.training.measuring import Measuring, MeasuringMemory, rehearse_measuring
from ftkit.training.memory import GAPS, GAPS_OF_SIZES, beside_tensors, library_bytes
from ftkit.training.micro_batches import later_part, most_tokens, part_cost
from ftkit.training.prepare import Data
from ftkit.training.rehearsal import Batch, Rehearsal, rehearse
from ftkit.training.remedies import LADDER, Rung
from ftkit.training.setup import DataFigures, Setup, figures_of, supervised_of_longest
from ftkit.training.unpadded import may_unpad
from ftkit.training.ways import Settled, wanted_ways
from ftkit.units import size_words

WORTH_ANOTHER = 0.1  # gradients as a share of a step, from which it matters what stands beside them
WORTH = 0.99  # a remedy that leaves more than this share of the memory is none


@dataclass(frozen=True)
class Estimate:
    """A setup with what it takes; `gaps` are those between blocks, see `memory.py`."""

    setup: Setup
    rehearsal: Rehearsal
    optimizer: int
    measuring: MeasuringMemory
    gaps: float

    @property
    def training(self) -> int:
        """Bytes in tensors at the fullest moment of a step."""
        found = self.rehearsal
        return Peak(found.weights, self.optimizer, found.gradients, found.step).bytes

    def peak_beside(self, measuring: int) -> int:
        """Bytes at the fullest moment of steps and of measuring that takes so much.

        For measuring the optimizer's states and the gradients that are kept stay, and the weights are as they were loaded.
        """
        return max(self.training, self.rehearsal.loaded + self.rehearsal.kept + self.optimizer + measuring)

    @property
    def peak(self) -> int:
        """Bytes in tensors at the fullest moment of the run."""
        return self.peak_beside(self.measuring.most)

    @property
    def resting(self) -> int:
        """Bytes that are held from step to step."""
        return self.rehearsal.weights + self.optimizer

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


class Planner:
    """Estimates of one recipe's model under changing setups."""

    def __init__(self, recipe: Recipe, auto_class: Any, config: PretrainedConfig, device: str, *, new_head: bool) -> None:
        self.recipe, self.auto_class, self.config, self.device = recipe, auto_class, config, device
        self.new_head = new_head
        self.optim, self.ways = str(recipe.training.optim), wanted_ways(recipe.speed, recipe.training, device)
        self.autocast = autocast_precision(recipe, device)
        self.measured: dict[tuple[str, str, Measuring], MeasuringMemory] = {}
        self.rests = self.autocast is torch.bfloat16 and recipe.speed.frozen_bfloat16  # where the strategy lets it
        self.fuses, self.cuts = self.ways.fused_adapters, self.ways.micro_batches  # see `micro_batches.py`
        self.supervised = self.ways.supervised_logits and auto_class is AutoModelForCausalLM
        self.liger = device == "cuda" and would_have_liger(config.model_type, recipe.training, recipe.speed.liger_kernel)
        self.unmeasured = ""  # why measuring could not be gone through

    def settle(self, settled: Settled) -> None:
        """Reckon with what a Trainer has found."""
        self.rests, self.fuses, self.liger, self.unpads = settled.rests, settled.fuses, settled.liger, settled.unpads
        self.supervised, self.cuts = settled.supervised, settled.cuts

    def setup(self, figures: DataFigures | None) -> Setup:
        """The recipe's own."""
        training = self.recipe.training
        limit = self.recipe.model.max_length or min(DEFAULT_MAX_LENGTH, positions(self.config))
        options = training.activation_checkpointing_kwargs
        checkpointing = (options if isinstance(options, dict) else {}) if training.activation_checkpointing else None
        target = (figures.target if figures else limit) if self.config.is_encoder_decoder and not self.new_head else 0
        return Setup(
            self.recipe.strategy, self.recipe.model.dtype, training.per_device_train_batch_size,
            training.gradient_accumulation_steps, figures.longest if figures else limit, target, checkpointing,
            (figures.supervised_of_longest if figures else limit - 1) if self.runs_on_supervised else 0,
            self.measuring(figures, limit, target), self.drawn_lengths(figures),
            figures is None or figures.uneven,
        )  # fmt: skip

    def drawn_lengths(self, figures: DataFigures | None) -> np.ndarray:
        """Those that batches are drawn from: of the longest rows alone where rows of like length are put together."""
        if figures is None:
            return np.zeros(0, int)
        training = self.recipe.training
        drawn = training.train_sampling_strategy == "random"
        return figures.lengths if drawn else longest_rows(figures.lengths, training.per_device_train_batch_size)

    @functools.cached_property
    def head(self) -> tuple[str, ...]:
        """Names of the layers that the task puts on the model; none where it trains the model's own."""
        return find_head(self.auto_class, self.config) if self.new_head else ()

    def head_for(self, setup: Setup) -> tuple[str, ...]:
        """The same where the setup's strategy asks for it."""
        return self.head if STRATEGIES[setup.strategy.name].needs_head else ()

    @functools.cached_property
    def stored(self) -> Tensors | None:
        """What the checkpoint has, from which a base that rests in bfloat16 is read again; None where it is not here."""
        return tensors_at_hand(self.recipe.model)

    @functools.cached_property
    def unpads(self) -> bool:
        """Whether the model's blocks see no padding, see `training/unpadded.py`."""
        if not self.ways.unpadded or self.recipe.data.packing:
            return False
        return may_unpad(meta_model(self.auto_class, self.config, self.recipe.model.attn_implementation))

    @property
    def runs_on_supervised(self) -> bool:
        """Whether a decoder's head runs on supervised tokens alone, see `training/supervised_loss.py`."""
        return self.supervised

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
        foretells = not self.new_head and not pairs and bool(block.general_text) and block.baseline
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
        length = self.computed_length(setup)
        try:
            found = self.rehearse(setup, setup.rows, length, later=setup.accumulation > 1)
        except UserError:
            if not self.unpads:
                raise
            self.unpads = False  # blocks that do not take tokens so
            return self.estimate(setup)
        rows, length = self.later_part(setup, found.parameters)
        if rows and setup.accumulation == 1 and found.gradients > WORTH_ANOTHER * found.step:
            # the gradients of a batch's first part are there beside what the next one holds
            found = replace(found, step=max(found.step, self.rehearse(setup, rows, length, later=True).step))
        gaps = GAPS_OF_SIZES if rows or (self.unpads and setup.uneven) else GAPS
        return Estimate(setup, found, optimizer_bytes(self.optim, found.learning), self.measure(setup), gaps)

    def computed_length(self, setup: Setup) -> int:
        """Tokens of a row as the largest batch computes them: alike where padding is left out, else the longest."""
        if not self.unpads or not len(setup.lengths):
            return setup.length
        return math.ceil(most_tokens(np.minimum(setup.lengths, setup.length), setup.rows, self.batches(setup)) / setup.rows)

    def batches(self, setup: Setup) -> int:
        """How many are drawn while training."""
        training, accumulation = self.recipe.training, setup.accumulation
        epochs = training.num_train_epochs
        return accumulation * steps_of(len(setup.lengths), setup.rows, accumulation, epochs, training.max_steps)

    def later_part(self, setup: Setup, parameters: int) -> tuple[int, int]:
        """Rows and tokens of the largest part of a batch behind its first; zeros where batches are not cut."""
        if not self.cuts or self.unpads or not len(setup.lengths):
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
            self.rests and may_rest(setup.strategy), self.ways.embedding_rows, leaves_gradients(self.optim),
            self.fuses, self.liger, self.ways.fast_dropout, self.ways.fused_gelu, self.unpads, self.stored,
        )  # fmt: skip
        try:
            with grouped_products_on_shapes():
                return rehearse(
                    self.auto_class, self.config, setup.strategy, self.head_for(setup), self.options(setup), batch
                )
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
                with grouped_products_on_shapes():
                    self.measured[key] = rehearse_measuring(
                        self.auto_class, self.config, setup.strategy, self.head_for(setup), options, shapes, self.autocast
                    )
            except Exception as error:  # whatever a model does on shapes alone: the plan of its training still stands
                self.unmeasured = first_line(error)
                self.measured[key] = MeasuringMemory()
        return self.measured[key]

    def needed(self, estimate: Estimate) -> int:
        """Bytes on the device."""
        return of_process(self.device, estimate.peak, estimate.resting, estimate.gaps)

    def needed_with(self, recipe: Recipe, figures: DataFigures | None) -> int:
        """Bytes on the device with the batch of this recipe, which is else the planner's, on the longest rows."""
        self.recipe = recipe
        setup = self.setup(figures)
        return self.needed(self.estimate(replace(setup, lengths=longest_rows(setup.lengths, setup.rows))))

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
            if self.new_head and needs_autocast(setup.strategy.name, setup.dtype) and self.autocast is None:
                continue
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
        if self.unpads:
            found.append(
                "padding is left out: planned is the fullest batch likely to be drawn; the longest rows together take more"
            )
        if self.device == "cuda":
            found.append("the kernels are those of a CPU: a GPU's fused attention can hold less where attention has dropout")
        if self.rests and may_rest(self.recipe.strategy) and self.recipe.model.dtype == "float32":
            found += self.words_on_rest()
        if self.recipe.model.attn_implementation == "flash_attention_2":
            found.append("flash_attention_2 is planned as sdpa, which holds no score matrices either")
        return found


@dataclass(frozen=True)
class Predicted:
    """Bytes in tensors at the fullest moment of a run and of its training, and those that rest meanwhile."""

    run: int
    training: int
    resting: int
    gaps: float

    def on(self, device: str) -> dict[str, dict[str, int]]:
        """Named as the run measures them: in tensors on a GPU, all that the process takes on a CPU."""
        peaks = {"peak_memory_bytes": self.run, "training_peak_bytes": self.training}
        if device == "cuda":
            return {name: {"gpu": size} for name, size in peaks.items()}
        return {name: {"process": of_process(device, size, self.resting, self.gaps)} for name, size in peaks.items()}


def predicted_peaks(
    recipe: Recipe, task: Task, config: PretrainedConfig, data: Data, settled: Settled
) -> dict[str, dict[str, int]] | None:
    """Bytes at the peak of the run and of its training as planned, named as the run measures them; None where unknown.

    It takes about a second for a model of six blocks, and more in proportion to the blocks, not to their size; the answer
    is kept, so that the same run finds it at once when it is made again.
    """
    device, figures = own_device(recipe), figures_of(data)
    planner = Planner(recipe, task.auto_class(config), config, device, new_head=task.new_head)
    planner.settle(settled)
    values, precision = recipe.model_dump(mode="json"), [planner.autocast, product_dtype()]
    key = key_of(values, config.to_json_string(), figures.digest, device, precision, settled)
    if kept := known("plans", key):
        return Predicted(**kept).on(device)
    try:
        with console.hushed():
            found = planner.estimate(planner.setup(figures))
    except Exception as error:  # whatever a model does on shapes alone: a prediction never ends a run
        console.say(f"no peak memory is predicted: {first_line(error)}")
        return None
    evaluates = recipe.training.eval_strategy != "no"
    training = found.peak_beside(found.measuring.rows if evaluates else 0)
    predicted = Predicted(found.peak, training, found.resting, found.gaps)
    keep("plans", key, asdict(predicted))
    return predicted.on(device)


def of_process(device: str, peak: int, resting: int, gaps: float) -> int:
    """Bytes that a process takes with so many in tensors at its peak, and of these so many that rest."""
    return peak + beside_tensors(device, peak - resting, gaps=gaps)


def longest_rows(lengths: np.ndarray, rows: int) -> np.ndarray:
    """The lengths of a batch of the longest."""
    return np.sort(lengths)[-rows:]


def own_device(recipe: Recipe) -> str:
    """Where this machine would train."""
    return "cuda" if torch.cuda.is_available() and not recipe.training.use_cpu else "cpu"


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
    return named_positions(config) or DEFAULT_MAX_LENGTH
