"""From a recipe's `training` block to TrainingArguments on this machine."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from transformers import TrainingArguments

from ftkit import console
from ftkit.compat import refuse_idle_fp16
from ftkit.errors import UserError
from ftkit.models.precision import has_bf16
from ftkit.models.refusals import refusing
from ftkit.recipe.fields import TRAINING_DEFAULTS
from ftkit.recipe.schema import Recipe, Training
from ftkit.training.trackers import find_trackers

REFUSES = "transformers refuses"


def training_arguments(block: Training, output_dir: Path, metrics: dict[str, bool]) -> TrainingArguments:
    """The arguments of the Trainer.

    Args:
        metrics: the task's metrics, and whether higher is better; the Trainer would guess it from the name.

    Raises:
        UserError: the values do not fit together, or this machine cannot do them.
    """
    named = (block.model_fields_set | set(TRAINING_DEFAULTS)) - {"effective_batch_size", "on_divergence"}  # ftkit's own
    values: dict[str, Any] = {name: getattr(block, name) for name in named}
    known = {field.name for field in fields(TrainingArguments)}
    if unknown := sorted(named - known):
        message = f"this version of transformers has no training argument '{unknown[0]}'"
        raise UserError(message, "pip install -U transformers", key=f"training.{unknown[0]}")
    refuse_idle_fp16(bool(values.get("fp16")))
    if values["bf16"] is None:
        values["bf16"] = not values.get("fp16") and has_bf16()
    elif values["bf16"] and not has_bf16():
        console.warn(
            "training.bf16: this machine has no bfloat16 and imitates it, which takes many times as long as float32"
        )
    has_gpu = torch.cuda.is_available() and not values.get("use_cpu")
    values |= {
        "output_dir": str(output_dir),
        "remove_unused_columns": False,
        "disable_tqdm": True,
        "use_cpu": not has_gpu,
        "report_to": find_trackers(values["report_to"]),
        "run_name": output_dir.parent.name,  # the run's folder; the Trainer would take its checkpoints'
    }
    values.setdefault("log_level", "error")
    if best := values.get("metric_for_best_model"):
        values.setdefault("greater_is_better", metrics[best.removeprefix("eval_")])
    own = block.model_fields_set & known
    with refusing(REFUSES, "training", own, lambda key: taken({k: v for k, v in values.items() if k != key})):
        return taken(values)


def taken(values: dict[str, Any]) -> TrainingArguments:
    """The values as the library takes them, and torch its own among them, which it would look at before the first step."""
    arguments = TrainingArguments(**values)
    if arguments.torch_compile:
        torch.compile(torch.nn.Identity(), backend=arguments.torch_compile_backend, mode=arguments.torch_compile_mode)
    return arguments


def arguments_without(key: str, block: Training, output_dir: Path, metrics: dict[str, bool]) -> TrainingArguments:
    """As `training_arguments`, with one key as if the recipe did not say it."""
    values = {name: getattr(block, name) for name in block.model_fields_set - {key}}
    return training_arguments(Training.model_construct(**values), output_dir, metrics)


def needs_autocast(strategy: str, dtype: str) -> bool:
    """Whether a new head, which rests in float32, meets what a body of another precision gives."""
    return strategy != "full" and dtype != "float32"


def require_autocast(recipe: Recipe, arguments: TrainingArguments, *, new_head: bool) -> None:
    """Refuse a body and a head of unlike precisions where nothing casts between them.

    Raises:
        UserError: the recipe has them, and there is no autocast here.
    """
    if not new_head or autocast_dtype(arguments) or not needs_autocast(recipe.strategy.name, recipe.model.dtype):
        return
    why = "training.bf16 is off" if has_bf16() else "this machine has no bfloat16"
    message = f"{recipe.model.dtype}: the new head is in float32, and without autocast the two do not multiply; {why}"
    raise UserError(f"model.dtype {message}", "set model.dtype: float32", key="model.dtype")


def autocast_dtype(arguments: TrainingArguments) -> torch.dtype | None:
    """The precision of autocast; None where there is none, and float32 is computed in."""
    return torch.bfloat16 if arguments.bf16 else torch.float16 if arguments.fp16 else None


def precision_words(autocast: torch.dtype | None) -> str:
    """As run.json and the screen call what is computed in."""
    return "float32" if autocast is None else f"{str(autocast).removeprefix('torch.')} autocast"
