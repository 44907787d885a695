"""The fields that `training` and `strategy` take from the libraries' own classes, as pydantic models.

library_fields.json is generated from the installed libraries by scripts/library_fields.py, so that a recipe can be checked
without importing them. This file adds what ftkit changes: its own defaults, and the fields that it sets itself.
"""

import json
import math
from importlib.resources import files
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, create_model
from pydantic_core import PydanticCustomError

TYPES: dict[str, type | tuple[type, ...]] = {
    "bool": bool, "int": int, "float": (int, float), "str": str, "list": list, "dict": dict, "null": type(None),
}  # fmt: skip
TYPE_WORDS = {
    "bool": "true or false", "int": "a whole number", "float": "a number", "str": "text", "list": "a list",
    "dict": "a mapping", "null": "null",
}  # fmt: skip
JSON_TYPES = {
    "bool": "boolean", "int": "integer", "float": "number", "str": "string", "list": "array", "dict": "object",
    "null": "null",
}  # fmt: skip
YAML_1_1_BOOLEANS = {"yes": True, "on": True, "no": False, "off": False}

# Fields that ftkit sets itself; a recipe that names one is told where it is said instead.
OWNED_TRAINING = {
    "output_dir": "say it on the command line: --output-dir",
    "resume_from_checkpoint": "say it on the command line: --resume",
    "do_train": "`ftkit train` trains",
    "do_eval": "`ftkit eval` evaluates",
    "do_predict": "`ftkit eval` evaluates",
    "remove_unused_columns": "ftkit encodes only what the model takes",
    "label_names": "the task knows its labels",
    "prediction_loss_only": "the metrics are named under evaluation.metrics",
    "include_for_metrics": "the metrics are named under evaluation.metrics",
    "batch_eval_metrics": "the metrics are named under evaluation.metrics",
    "eval_do_concat_batches": "the metrics are named under evaluation.metrics",
    "eval_on_start": "the baseline is measured in every run: evaluation.baseline",
    "disable_tqdm": "ftkit shows its own progress: --quiet turns it off",
    "run_name": "the run is named by its folder: --output-dir",
    "local_rank": "the launcher sets it",
    "enable_jit_checkpoint": "an interrupted run always saves a checkpoint",
    "bf16_full_eval": "it would cast the weights that learn",
    "fp16_full_eval": "it would cast the weights that learn",
    "push_to_hub": "put the finished run on the hub with `ftkit push RUN`",
    "hub_model_id": "name it to `ftkit push RUN OWNER/NAME`",
    "hub_strategy": "put the finished run on the hub with `ftkit push RUN`",
    "hub_token": "log in with `hf auth login`",
    "hub_private_repo": "say so to `ftkit push RUN --private`",
    "hub_always_push": "put the finished run on the hub with `ftkit push RUN`",
    "hub_revision": "put the finished run on the hub with `ftkit push RUN`",
    "save_only_model": "a checkpoint without its optimizer cannot be resumed",
    "ignore_data_skip": "a resumed run always goes on as the unbroken one",
    "use_cache": "it is set for training and for generation each as needed",
    "gradient_checkpointing": "its name is now activation_checkpointing",
    "gradient_checkpointing_kwargs": "its name is now activation_checkpointing_kwargs",
}
OWNED_LORA = {
    "task_type": "it follows from the task",
    "peft_type": "it follows from the strategy",
    "auto_mapping": "it follows from the model",
    "peft_version": "it is recorded in run.json",
    "base_model_name_or_path": "say it under model.name",
    "revision": "say it under model.revision",
    "inference_mode": "an adapter that is trained is not in inference mode",
    **dict.fromkeys(
        ("eva_config", "corda_config", "lora_ga_config"), "it needs a pass over the data first; ftkit makes none"
    ),
    "arrow_config": "it joins adapters that are trained already",
}
# Where ftkit's default differs from the library's, and why.
TRAINING_DEFAULTS: dict[str, Any] = {
    "bf16": None,  # on where the processor has it: 2.4 times the speed, float32 weights
    "logging_steps": 10,  # the library's 500 shows nothing in a short run
    "logging_first_step": True,
    "logging_nan_inf_filter": False,  # the library hides a NaN loss
    "save_strategy": "epoch",
    "save_total_limit": 2,
    "eval_strategy": "epoch",
    "per_device_eval_batch_size": 32,
    "report_to": None,  # tensorboard where it is installed; the library's "none" keeps nothing to look at
}
# What a number may be, where less or more would only fail later, or make no sense: least, most.
BOUNDS: dict[str, tuple[float, float]] = {
    **dict.fromkeys(
        ("per_device_train_batch_size", "per_device_eval_batch_size", "gradient_accumulation_steps", "r"), (1, 2**31)
    ),
    **dict.fromkeys(("learning_rate", "weight_decay", "warmup_steps", "max_grad_norm"), (0, 2**31)),
    **dict.fromkeys(("num_train_epochs", "logging_steps", "save_steps", "eval_steps"), (1e-9, 2**31)),
    **dict.fromkeys(("dataloader_num_workers", "save_total_limit"), (0, 2**31)),
    **dict.fromkeys(("lora_dropout", "label_smoothing_factor", "adam_beta1", "adam_beta2"), (0, 1)),
    **dict.fromkeys(("seed", "data_seed"), (0, 2**32 - 1)),
    "max_steps": (-1, 2**31),
}
# The library takes any text for these, and fails later.
LOG_LEVELS = ["detail", "debug", "info", "warning", "error", "critical", "passive"]
TRAINING_CHOICES = dict.fromkeys(("log_level", "log_level_replica"), LOG_LEVELS)
TRAINING_WORDS: dict[str, dict[str, Any]] = {  # words that ftkit takes beside the library's values
    "per_device_train_batch_size": {
        "words": ["auto"],
        "about": "Rows that each device takes in one training batch; auto: as many as fit into memory, beside "
        "effective_batch_size.",
    },
}
DATA_DRIVEN_INITS = ("eva", "corda", "lora_ga")  # init_lora_weights that need a pass over the data before training
TRAINING_TYPES = {"bf16": "bool | null", "fsdp": "bool | str | null"}  # the library takes true, its annotation lags


def library_fields() -> dict[str, dict[str, dict[str, Any]]]:
    """The generated table: `{"training" | "lora": {field: {type, default, choices?, about}}}`."""
    text = files("ftkit.recipe").joinpath("library_fields.json").read_text(encoding="utf-8")
    table: dict[str, dict[str, dict[str, Any]]] = json.loads(text)
    for name, default in TRAINING_DEFAULTS.items():
        table["training"][name]["default"] = default
    for name, type_text in TRAINING_TYPES.items():
        table["training"][name]["type"] = type_text
    for name, choices in TRAINING_CHOICES.items():
        table["training"][name]["choices"] = choices
    for name, entry in TRAINING_WORDS.items():
        table["training"][name] |= entry
    return table


def require_bounds(name: str, value: float) -> None:
    """Raises pydantic's error where a number is not finite or beyond what the field can take."""
    least, most = BOUNDS.get(name, (-(2**63), 2**63))
    if isinstance(value, float) and not math.isfinite(value):
        raise PydanticCustomError("not_finite", "must be a finite number")
    if value < least:
        raise PydanticCustomError("too_small", "must be at least {least}", {"least": least})
    if value > most:
        raise PydanticCustomError("too_large", "must be at most {most}", {"most": most})


def field_model(name: str, table: dict[str, dict[str, Any]], owned: dict[str, str], base: type[BaseModel]) -> Any:
    """A pydantic model with one field for each entry of a library's table that ftkit does not set itself."""
    fields: dict[str, Any] = {}
    for key, entry in table.items():
        if key not in owned:
            schema = _json_schema(entry)
            kind = Annotated[Any, BeforeValidator(_checker(key, entry)), WithJsonSchema(schema)]
            fields[key] = (kind, Field(default=entry["default"], description=entry["about"]))
    return create_model(name, __base__=base, **fields)


def as_boolean(value: Any) -> Any:
    """YAML 1.1's yes, no, on, off are text in YAML 1.2; where a boolean is due they still mean what they say."""
    return YAML_1_1_BOOLEANS.get(value.lower(), value) if isinstance(value, str) else value


def _checker(key: str, entry: dict[str, Any]) -> Any:
    names, valid, further = entry["type"].split(" | "), entry.get("choices"), entry.get("words", [])
    words = " or ".join([TYPE_WORDS[name] for name in names if name != "null"] + further)

    def check(value: Any) -> Any:
        if isinstance(value, str) and value in further:
            return value
        if "bool" in names and "str" not in names:
            value = as_boolean(value)
        fits = any(isinstance(value, TYPES[name]) and (name == "bool" or not isinstance(value, bool)) for name in names)
        if not fits:
            raise PydanticCustomError("wrong_type", "must be {words}", {"words": words})
        if isinstance(value, int | float) and not isinstance(value, bool):
            require_bounds(key, value)
        if valid and value is not None and value not in valid:
            raise PydanticCustomError("literal_error", "not valid", {"valid": valid})
        return value

    return check


def _json_schema(entry: dict[str, Any]) -> dict[str, Any]:
    if "choices" in entry:
        return {"enum": entry["choices"] + ([None] if "null" in entry["type"] else [])}
    kinds = [JSON_TYPES[name] for name in entry["type"].split(" | ")]
    plain = {"type": kinds if len(kinds) > 1 else kinds[0]}
    return {"anyOf": [plain, {"enum": entry["words"]}]} if "words" in entry else plain


class Block(BaseModel):
    """A part of a recipe: unknown keys and wrong types are mistakes."""

    model_config = ConfigDict(extra="forbid", strict=True)
