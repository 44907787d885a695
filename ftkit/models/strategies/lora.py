"""LoRA: low-rank adapters on frozen layers (any field of peft.LoraConfig); a new head is trained and saved with them."""

import copy
import difflib
import re
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import LoraRuntimeConfig
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    PreTrainedModel,
)

from ftkit.compat import hold_in_float32, is_adaptable, own_copy, require_targets
from ftkit.errors import UserError
from ftkit.models.architecture import word_embedding
from ftkit.models.heads import beside_text
from ftkit.models.refusals import refusing
from ftkit.models.strategies.base import plain_arguments
from ftkit.recipe.schema import Lora, QLora

# peft's name of a kind of task, which it has not for every Auto class. What a model's own class is called tells nothing:
# Gemma 3's decoder ends with ForConditionalGeneration.
TASK_TYPES = {
    AutoModelForSequenceClassification: "SEQ_CLS",
    AutoModelForTokenClassification: "TOKEN_CLS",
    AutoModelForSeq2SeqLM: "SEQ_2_SEQ_LM",
    AutoModelForCausalLM: "CAUSAL_LM",
}


OWN_KEYS = {"name", "keep_quantized"}  # of the block, not peft's


class LoraStrategy:
    quantized = False
    needs_head = True

    def load_arguments(self, block: Lora, dtype: str, head: tuple[str, ...]) -> dict[str, Any]:
        return plain_arguments(dtype)

    def apply(self, model: PreTrainedModel, block: Lora | QLora, head: tuple[str, ...], auto_class: Any = None) -> PeftModel:
        require_targets(model, block.target_modules)
        require_named(model, block)
        names, kind = ", ".join(layer_names(model)), TASK_TYPES.get(auto_class)

        def without(key: str) -> None:
            values = {name: getattr(block, name) for name in block.model_fields_set - {key}}
            with torch.device("meta"):
                like = type(model)(copy.deepcopy(model.config))  # peft has changed the model before it refused
            get_peft_model(like, lora_config(like, type(block).model_construct(**values), head, kind))

        def hint(message: str) -> str:
            return f"this model has {names}" if "target_modules" in message else ""

        with refusing("peft", "strategy", block.model_fields_set - OWN_KEYS, without, hint):
            adapted = get_peft_model(model, lora_config(model, block, head, kind))
        hold_in_float32(adapted)
        return adapted


def lora_config(model: PreTrainedModel, block: Lora | QLora, head: tuple[str, ...], kind: str | None) -> LoraConfig:
    """The adapter's config: the recipe's fields, and the head as modules that are trained whole."""
    fields = own_copy({name: getattr(block, name) for name in block.model_fields_set - OWN_KEYS})
    if head:
        fields["modules_to_save"] = [*(fields.get("modules_to_save") or []), *head]
    if plain := (*head, *beside_text(model)):
        fields["exclude_modules"] = _excluded(fields.get("exclude_modules"), model, plain)
    if targets_conv1d(model, block.target_modules):
        fields["fan_in_fan_out"] = True  # GPT-2 keeps its weights transposed
    if fields.get("runtime_config") is not None:
        fields["runtime_config"] = LoraRuntimeConfig(**fields["runtime_config"])
    return LoraConfig(task_type=kind, **fields)


def require_named(model: nn.Module, block: Lora | QLora) -> None:
    """Raises UserError where a key names modules, layers or tokens that the model does not have: peft passes over them."""
    modules = [name for name, _ in model.named_modules() if name]
    excluded = block.exclude_modules or []
    named = {
        "modules_to_save": block.modules_to_save or [],
        "exclude_modules": [excluded] if isinstance(excluded, str) else excluded,
        "rank_pattern": list(block.rank_pattern or {}),
        "alpha_pattern": list(block.alpha_pattern or {}),
    }
    for key, patterns in named.items():
        for pattern in patterns:
            try:
                found = any(re.fullmatch(rf"(.*\.)?({pattern})", name) for name in modules)
            except re.error as error:
                raise UserError(f"{key}: '{pattern}' is no pattern: {error}", "mend it", key=f"strategy.{key}") from None
            if not found:
                last = list(dict.fromkeys(name.rpartition(".")[2] for name in modules))
                near = difflib.get_close_matches(str(pattern), last, n=1)
                hint = f"did you mean {near[0]}?" if near else f"this model has {', '.join(layer_names(model))}"
                raise UserError(f"{key}: '{pattern}' matches no module", hint, key=f"strategy.{key}")
    embedding, tokens = word_embedding(model), block.trainable_token_indices
    entries: int = 0 if embedding is None else embedding.weight.shape[0]  # type: ignore[union-attr, assignment]
    lists = list(tokens.values()) if isinstance(tokens, dict) else [tokens or []]
    for token in [token for part in lists for token in (part if isinstance(part, list) else [part])]:
        if not (isinstance(token, int) and 0 <= token < entries):
            message = f"trainable_token_indices: {token} is no token of this model"
            raise UserError(message, f"its ids go from 0 to {entries - 1}", key="strategy.trainable_token_indices")


def _excluded(given: Any, model: nn.Module, plain: tuple[str, ...]) -> list[str] | str:
    """Layers that get no adapter: the head's, since they are trained whole, and those that no text goes through.

    `dense` also names BERT's pooler, and `q_proj` the attention of what sees images.
    """
    layers = [
        name
        for name, module in model.named_modules()
        if is_adaptable(module) and any(name == part or name.startswith(part + ".") for part in plain)
    ]
    if isinstance(given, str):
        return "|".join([f"(?:{given})", *(name.replace(".", r"\.") for name in layers)])
    return [*(given or []), *layers]


def targets_conv1d(model: nn.Module, targets: list[str] | str | None) -> bool:
    names = [name for name, module in model.named_modules() if type(module).__name__ == "Conv1D"]
    if not isinstance(targets, list):
        return bool(names)
    return any(name.endswith(target) for target in targets for name in names)


def layer_names(model: nn.Module) -> list[str]:
    """The last part of the name of each linear layer, each once."""
    names = [name for name, module in model.named_modules() if is_adaptable(module) and not isinstance(module, nn.Embedding)]
    return list(dict.fromkeys(name.rpartition(".")[2] for name in names))
