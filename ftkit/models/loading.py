"""How plain transformers or peft loads a saved model: the words of the run's README.md, and what verifying goes by."""

from typing import Any

import torch
from peft import AutoPeftModel, PeftModel
from peft import auto as peft_auto

from ftkit.data.paths import locate
from ftkit.models.load import load_config
from ftkit.recipe.schema import Model

LEFT_OUT = ("_", "quant_method", "bnb_4bit_quant_storage", "llm_int8_threshold")  # so by default, or no argument


def loading(
    model: Any, auto_class: Any, block: Model, num_labels: int | None, device: str, labels: list[str]
) -> dict[str, Any]:
    """The library, the class and the arguments of its `from_pretrained`, in what JSON can hold.

    An adapter's base must be loaded as it was while training: its precision, its quantization, its number of labels. Its
    config names the labels that the base was trained for, if any: those of the adapter are told beside.
    """
    facts: dict[str, Any] = {"library": "transformers", "class": auto_class.__name__, "arguments": {}, "device": device}
    if block.attn_implementation:
        facts["arguments"]["attn_implementation"] = block.attn_implementation
    if block.trust_remote_code:
        facts["arguments"]["trust_remote_code"] = True
    if not isinstance(model, PeftModel):
        return facts
    base = model.get_base_model()
    facts |= {"library": "peft", "class": peft_class(auto_class), "base": locate(block.name)}
    facts["arguments"]["dtype"] = block.dtype
    if num_labels:  # the base may have a head for another number of labels; the adapter brings the one that was trained
        facts["arguments"] |= {"num_labels": num_labels, "ignore_mismatched_sizes": True}
        if hasattr(type(base.config), "pad_token_id"):  # else it is a field of the text's config, and no argument
            facts["arguments"]["pad_token_id"] = base.config.pad_token_id
    if labels:
        facts["labels"] = labels
    if (quantization := base.config.to_dict().get("quantization_config")) is not None:
        facts["quantization"] = plain_quantization(quantization)
    if load_config(block, {}).problem_type not in (None, base.config.problem_type):  # by which the loss is chosen
        facts["arguments"]["problem_type"] = base.config.problem_type
    return facts


def peft_class(auto_class: Any) -> str:
    """peft's class for the same kind of model; it has none of its own for masked language models."""
    name = auto_class.__name__.replace("Auto", "AutoPeft", 1)
    return name if name in vars(peft_auto) else AutoPeftModel.__name__


def plain_quantization(config: Any) -> dict[str, Any]:
    """What `BitsAndBytesConfig` must be given, without what is so by default."""
    values: dict[str, Any] = config if isinstance(config, dict) else config.to_dict()
    said = {name: plain(value) for name, value in values.items() if value not in (None, False)}
    return {name: value for name, value in said.items() if not name.startswith(LEFT_OUT)}


def plain(value: Any) -> Any:
    """A type of numbers by its name."""
    return str(value).removeprefix("torch.") if isinstance(value, torch.dtype) else value
