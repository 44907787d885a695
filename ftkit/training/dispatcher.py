"""The dispatcher: a recipe becomes encoded data, a tokenizer, a model with its strategy, and a Trainer."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import (
    AutoModelForCausalLM,
    EvalPrediction,
    PretrainedConfig,
    PreTrainedTokenizerBase,
    PrinterCallback,
    ProgressCallback,
    TrainerCallback,
    TrainingArguments,
    enable_full_determinism,
    set_seed,
)

from ftkit import console
from ftkit.compat import divide_loss_by_accumulation
from ftkit.data.encode import IGNORED, Encoded
from ftkit.data.packing import lengths_to_try, packed_collator, require_isolation
from ftkit.errors import UserError
from ftkit.evaluation.measure import scores_of
from ftkit.evaluation.target import Target
from ftkit.models.as_loaded import lent_pad_token
from ftkit.models.heads import find_head
from ftkit.models.label_head import head_words
from ftkit.models.label_scale import OWN
from ftkit.models.load import fit_tokenizer, load_base, load_config, load_tokenizer, require_weights
from ftkit.models.precision import rests_in_half
from ftkit.models.refusals import refusing
from ftkit.models.save import on_its_base
from ftkit.models.saved import load_adapter, require_sound, warn_of_changes
from ftkit.models.strategies.table import STRATEGIES
from ftkit.process import return_blocks
from ftkit.recipe.schema import Model as ModelBlock
from ftkit.recipe.schema import Recipe, Training, Transfer
from ftkit.tasks.base import Task, has_targets
from ftkit.tasks.table import TASKS
from ftkit.training.arguments import REFUSES, arguments_without, autocast_dtype, require_autocast, training_arguments
from ftkit.training.decoder_loss import settle_decoder_loss
from ftkit.training.frozen_body import FrozenBody, KeptCollator, why_not
from ftkit.training.in_precision import settle_in_precision
from ftkit.training.kernels import NO_FLASH, attending, choose_attention, refuses_attention, this_machine, use_liger
from ftkit.training.levers import speed_up
from ftkit.training.memory import library_bytes
from ftkit.training.precision_trial import require_step
from ftkit.training.prepare import Data, prepare
from ftkit.training.rates import warn_of_rate
from ftkit.training.trainer import Trainer, attends_in_flash
from ftkit.training.trial import Trial
from ftkit.training.trial_rows import batch_of, trial_rows
from ftkit.units import scale_words


@dataclass
class Parts:
    """All that a recipe becomes, before the first step."""

    task: Task
    config: PretrainedConfig
    tokenizer: PreTrainedTokenizerBase
    data: Data
    model: Any
    trainer: Trainer
    frozen: FrozenBody | None = None


def build(recipe: Recipe, output_dir: Path, callbacks: list[TrainerCallback]) -> Parts:
    """Everything from the recipe, what is cheap and may fail first.

    Raises:
        UserError: the recipe does not fit its data, its model or this machine.
    """
    arguments = training_arguments(recipe.training, output_dir, recipe.spec.metrics)
    warn_of_rate(recipe, arguments.optim.value)
    task = TASKS[recipe.task](recipe.data)
    require_autocast(recipe, arguments, new_head=task.new_head)
    tokenizer = load_tokenizer(recipe.model)
    config = load_config(recipe.model, {})
    task.auto_class(config)  # refuses a model that cannot do the task
    require_weights(recipe.model)
    data = prepare(recipe, task, tokenizer, config)
    config = load_config(recipe.model, task.config_values())
    library_bytes()  # before there is a model
    model = build_model(recipe, task, tokenizer, config)
    if lent := lent_pad_token(tokenizer):
        console.say(f"the tokenizer has no pad token: {lent} pads, and is saved as the one that does")
    if task.head is not None:
        console.say(head_words(task.head.describe(), recipe.model.name))
    return_blocks()  # what reading and quantizing the weights took beside them
    if task.generates:
        remember_stops(model, data.encoded["eval"], task.end_tokens(tokenizer))
    trainer = build_trainer(task, tokenizer, model, data, arguments, callbacks, recipe.training, recipe.spec.metrics)
    settle_labels(task, trainer)
    require_step(recipe, trainer, data)
    tried = data.encoded["eval" if recipe.data.packing else "train"].dataset
    padded = batch_of(trainer, trial_rows(trainer, tried, target=has_targets(task, config)))
    if decodes(task, trainer):
        settle_decoder_loss(trainer, padded)
    trainer.attention, why_no_flash = training_attention(recipe, trainer, padded)
    if recipe.data.packing:
        pack_apart(trainer, tokenizer)
    require_labels(trainer, data)
    settle_levers(recipe, task, trainer, padded)
    trainer.off["flash_attention"] = "" if attends_in_flash(trainer) else why_no_flash
    return_blocks()  # what trying took
    return Parts(task, config, tokenizer, data, model, trainer, frozen_body(recipe, model, data, trainer))


def settle_labels(task: Task, trainer: Trainer) -> None:
    """Let the Trainer learn labels in the units that the task wants."""
    model = trainer.model
    scale = task.settle(model, may_fold=not (rests_in_half(model) or has_sharded_weights(trainer)))
    trainer.label_scale = scale
    if scale is not None and scale.scale != OWN:
        console.say(f"labels: {scale_words(scale.describe())}")


def has_sharded_weights(trainer: Trainer) -> bool:
    """Whether the weights of a layer lie in parts in several processes while it learns."""
    return bool(trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled)


def settle_levers(recipe: Recipe, task: Task, trainer: Trainer, padded: dict[str, Any]) -> None:
    """Let the Trainer do the same in less time and memory, so far as the recipe wants and the model gives the same.

    Args:
        padded: rows of the data as a batch, on which levers are tried; those of a step on blocks where the steps take them.
    """
    trainer.off["liger_kernel"] = settle_liger(recipe, trainer, padded)
    steps = packed_batch(trainer) if trainer.train_collator else padded
    targets = has_targets(task, trainer.model.config)
    with console.status("trying what makes steps faster"):
        speed_up(trainer, recipe.speed, padded, steps, decoder=decodes(task, trainer), targets=targets)
        settle_in_precision(recipe, trainer, steps)


def packed_batch(trainer: Trainer) -> dict[str, Any]:
    """Two blocks, or one where a step has no more, as a step computes them."""
    blocks: Any = trainer.train_dataset
    return batch_of(
        trainer,
        [blocks[index] for index in range(min(2, trainer.args.train_batch_size, len(blocks)))],
        trainer.train_collator,
    )


def settle_liger(recipe: Recipe, trainer: Trainer, rows: dict[str, Any]) -> str:
    """Put Liger's kernels in where that is right; else why not. As a training key the Trainer puts them in."""
    if trainer.args.use_liger_kernel:
        return ""
    trial = Trial(trainer.model, lambda: (trainer.model(**rows).loss, []), autocast_dtype(trainer.args))
    found = use_liger(trainer.model, this_machine(trainer.args.device), recipe.speed.liger_kernel, trial)
    if isinstance(found, str):
        return found
    trainer.liger = found
    return ""


def training_attention(recipe: Recipe, trainer: Trainer, rows: dict[str, Any]) -> tuple[str | None, str]:
    """Another attention for the steps than the loaded model's, where it is faster on this machine; else why there is none.

    Args:
        rows: a padded batch, on which it is tried.
    """
    if not recipe.speed.flash_attention:
        return None, "speed.flash_attention is false"
    arguments = trainer.args
    if arguments.n_gpu > 1:  # their rows would be dealt out, and where each begins is of all of them
        return None, "several devices train"
    machine, half = this_machine(arguments.device), bool(arguments.bf16 or arguments.fp16)
    choices, why = choose_attention(machine, recipe.model.attn_implementation, half=half), NO_FLASH
    with trainer.accelerator.autocast():
        for choice in choices:
            if not (why := refuses_attention(trainer.model, choice, rows)):
                return choice, ""
    return None, why


def decodes(task: Task, trainer: Trainer) -> bool:
    """Whether the model is a decoder that foretells the next token."""
    return bool(task.auto_class(trainer.model.config) is AutoModelForCausalLM)


def pack_apart(trainer: Trainer, tokenizer: PreTrainedTokenizerBase) -> None:
    """Let the trainer take packed blocks; an attention of training that does not keep examples apart is left out.

    Raises:
        UserError: the model's own attention does not keep them apart either.
    """
    model = trainer.model
    try:
        with attending(model, trainer.attention):
            require_isolation(model, lengths_to_try(trainer.train_dataset))
            trainer.train_collator = packed_collator(tokenizer, model, borders=trainer.args.n_gpu <= 1)
    except UserError:
        if trainer.attention is None:
            raise
        trainer.attention = None
        pack_apart(trainer, tokenizer)


def build_model(recipe: Recipe, task: Task, tokenizer: PreTrainedTokenizerBase, config: PretrainedConfig) -> Any:
    """The pretrained model with the recipe's strategy; a fresh head is drawn with training.seed."""
    seed_everything(recipe)
    strategy, auto_class = STRATEGIES[recipe.strategy.name], task.auto_class(config)
    with console.status(f"loading {recipe.model.name}"):
        head = find_head(auto_class, config) if task.new_head and strategy.needs_head else ()
        seed_everything(recipe)  # looking for the head may have drawn numbers
        arguments = strategy.load_arguments(recipe.strategy, recipe.model.dtype, head)
        base = load_base(auto_class, recipe.model, config, new_head=task.new_head, head=task.head, **arguments)
        fit_tokenizer(base, tokenizer)
        if auto_class is not AutoModelForCausalLM:
            divide_loss_by_accumulation(base)
        model = on_its_base(strategy.apply(base, recipe.strategy, head, auto_class), recipe.model)
        task.ready(model)
        return model


def frozen_body(recipe: Recipe, model: Any, data: Data, trainer: Trainer) -> FrozenBody | None:
    """The frozen blocks where the strategy leaves some; the trainer takes their outputs from then on beside plain rows."""
    if not isinstance(recipe.strategy, Transfer):
        return None
    streamed = data.stream is not None
    entries = {name: (encoded.dataset, data.facts[name].lengths) for name, encoded in data.encoded.items()}
    reason = why_not(model, recipe.strategy, trainer.args, streamed=streamed, rows=len(data.encoded["train"].dataset))
    if trainer.padding_matters:
        reason = reason or "what it gives for a row hangs on how far the row is padded"
    body = FrozenBody(model, recipe.strategy, trainer.args, trainer.data_collator, entries, reason)
    trainer.data_collator = KeptCollator(trainer.data_collator)
    return body


def take_kept_rows(parts: Parts) -> None:
    """Let the trainer train and evaluate on rows whose frozen blocks are computed, where they are kept."""
    if parts.frozen is not None:
        parts.trainer.train_dataset = parts.frozen.rows("train") or parts.trainer.train_dataset
        parts.trainer.eval_dataset = parts.frozen.rows("eval") or parts.trainer.eval_dataset


def build_for_evaluation(target: Target, output_dir: Path) -> Parts:
    """A model that is trained already, and one split of rows to measure it on.

    Raises:
        UserError: the rows or the model cannot be had, or do not fit each other.
    """
    recipe = target.recipe
    saved = (
        recipe.model.model_copy(update={"name": str(target.trained), "revision": None, "tokenizer": None})
        if target.trained
        else recipe.model
    )
    arguments = training_arguments(recipe.training, output_dir, recipe.spec.metrics)
    task = TASKS[recipe.task](recipe.data)
    if target.trained:
        require_sound(target.trained)
        warn_of_changes(target.trained)
    tokenizer, config = load_tokenizer(saved), load_config(saved, {})
    task.auto_class(config)
    data = prepare(recipe, task, tokenizer, config, (target.split,), lambda splits: task.recall(config)).measured_on(
        target.split
    )
    seed_everything(recipe)
    with console.status(f"loading {target.name}"):
        model = load_trained(recipe, task, config, saved, target.trained, autocast=bool(autocast_dtype(arguments)))
        fit_tokenizer(model, tokenizer)
    trainer = build_trainer(task, tokenizer, model, data, arguments, [], recipe.training, recipe.spec.metrics)
    require_step(recipe, trainer, data, learning=False)
    targets = has_targets(task, config)
    rows = batch_of(trainer, trial_rows(trainer, data.encoded["eval"].dataset, target=targets))
    speed_up(trainer, recipe.speed, rows, None, decoder=decodes(task, trainer), targets=targets)
    return Parts(task, config, tokenizer, data, model, trainer)


def remember_stops(model: Any, encoded: Encoded, end_tokens: set[int]) -> None:
    """Let the model's own generation stop at the tokens that end an answer, as a template's end of turn."""
    ends = {next(label for label in reversed(labels) if label != IGNORED) for labels in encoded.dataset["labels"]}
    base = model.get_base_model() if isinstance(model, PeftModel) else model
    base.generation_config.eos_token_id = sorted(ends & end_tokens) or sorted(end_tokens)  # not where an answer was cut


def load_trained(
    recipe: Recipe, task: Task, config: PretrainedConfig, saved: ModelBlock, folder: Path | None, *, autocast: bool = True
) -> Any:
    """A run's model as it was trained: the adapter over its base in the same precision, or the full weights.

    Args:
        autocast: it is computed in autocast; without, a new head in float32 gets a base in float32.
    """
    model = load_as_trained(recipe, task, config, saved, folder, autocast=autocast)
    task.ready(model)
    return model


def load_as_trained(
    recipe: Recipe, task: Task, config: PretrainedConfig, saved: ModelBlock, folder: Path | None, *, autocast: bool
) -> Any:
    """The model of `load_trained`, as the libraries load it."""
    auto_class = task.auto_class(config)
    if folder is None or not (folder / "adapter_config.json").is_file():
        return load_base(auto_class, saved, config, new_head=False, dtype=torch.float32)
    strategy = STRATEGIES[recipe.strategy.name]
    head = find_head(auto_class, config) if task.new_head else ()
    dtype = recipe.model.dtype if autocast or not task.new_head else "float32"
    arguments = strategy.load_arguments(recipe.strategy, dtype, head)
    base = load_base(auto_class, recipe.model, config, new_head=task.new_head, **arguments)
    return load_adapter(base, folder)


def build_trainer(
    task: Task, tokenizer: PreTrainedTokenizerBase, model: Any, data: Data,
    arguments: TrainingArguments, callbacks: list[TrainerCallback], block: Training, metrics: dict[str, bool],
) -> Trainer:  # fmt: skip
    """The Trainer as it is, with the task's collator and metrics; ftkit shows progress in place of its bars.

    Args:
        block: what the arguments were made of, with the task's metrics, to say which key is to blame.
    """

    def made(arguments: TrainingArguments) -> Trainer:
        trainer = make_trainer(task, tokenizer, model, data, arguments, callbacks)
        if "train" in data.encoded:
            require_optimizer(trainer)
        return trainer

    def without(key: str) -> Trainer:
        return made(arguments_without(key, block, Path(arguments.output_dir), metrics))

    with refusing(REFUSES, "training", block.model_fields_set, without):
        trainer = made(arguments)
    trainer.remove_callback(PrinterCallback)
    trainer.remove_callback(ProgressCallback)
    return trainer


def require_labels(trainer: Trainer, data: Data) -> None:
    """Make sure that a batch holds every supervised token of its rows: a collator can mask end tokens as padding.

    Raises:
        RuntimeError: some are lost; this is a fault of ftkit's.
    """
    count = min(len(data.encoded["train"].dataset), trainer.args.train_batch_size)
    rows = [data.encoded["train"].dataset[index] for index in range(count)]
    if isinstance(rows[0]["labels"], list) and isinstance(rows[0]["labels"][0], int):
        collate = trainer.train_collator or trainer.data_collator
        found = int((collate(rows)["labels"] != IGNORED).sum())
        if found != (wanted := int(data.facts["train"].supervised[:count].sum())):
            raise RuntimeError(f"a batch holds {found} supervised tokens, its rows have {wanted}")


def require_optimizer(trainer: Trainer) -> None:
    """Build optimizer and schedule once, so that what is missing for them is known before anything is written."""
    trainer.create_optimizer_and_scheduler(num_training_steps=100)
    trainer.optimizer = trainer.lr_scheduler = None


def make_trainer(
    task: Task, tokenizer: PreTrainedTokenizerBase, model: Any, data: Data,
    arguments: TrainingArguments, callbacks: list[TrainerCallback],
) -> Trainer:  # fmt: skip
    return Trainer(
        model=model,
        args=arguments,
        data_collator=task.collator(tokenizer, model),
        train_dataset=data.stream or (data.encoded["train"].dataset if "train" in data.encoded else None),
        eval_dataset=data.encoded["eval"].dataset,
        processing_class=tokenizer,
        compute_metrics=entry_metrics(task, data.encoded["eval"], tokenizer),
        preprocess_logits_for_metrics=task.reduce_logits,
        callbacks=callbacks,
    )


def entry_metrics(
    task: Task, encoded: Encoded, tokenizer: PreTrainedTokenizerBase
) -> Callable[[EvalPrediction], dict[str, float]]:
    """The task's metrics of what the Trainer predicts while training: of the eval rows, whatever entries they have.

    Of other rows than those, as by `Trainer.predict`, they are of the entries as they come.
    """

    def score(prediction: EvalPrediction) -> dict[str, float]:
        if len(prediction.label_ids) != len(encoded.rows):
            return scores_of(task, prediction)
        whole = task.complete(prediction, encoded, tokenizer)
        return scores_of(task, task.merge(whole, encoded.rows)[0])

    return score


def seed_everything(recipe: Recipe) -> None:
    if recipe.training.full_determinism:
        enable_full_determinism(recipe.training.seed)
    else:
        set_seed(recipe.training.seed)
