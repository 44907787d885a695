"""By which classes and arguments a saved model is loaded: those that ftkit writes down, and nothing else that a file names.

Of what stands in a file no module is imported and no class is taken by its name unless it is in these tables.
"""

from typing import Any

LIBRARIES = ("transformers", "peft")
KINDS = ("CausalLM", "MaskedLM", "Seq2SeqLM", "SequenceClassification", "TokenClassification")
CLASSES = {
    "transformers": {f"AutoModelFor{kind}" for kind in KINDS},
    "peft": {"AutoPeftModel", *(f"AutoPeftModelFor{kind}" for kind in KINDS)},
}
OWN_CODE, ATTENTION = "trust_remote_code", "attn_implementation"
ARGUMENTS = {"dtype", "num_labels", "ignore_mismatched_sizes", "pad_token_id", "problem_type", OWN_CODE, ATTENTION}


def strange_load(load: Any) -> str:
    """What of the facts by which a model is loaded is none of those that ftkit writes; empty where all are."""
    if not isinstance(load, dict) or not isinstance(load.get("arguments"), dict):
        return "load"
    library, name, arguments = str(load.get("library")), load.get("class"), load["arguments"]
    if not isinstance(name, str) or name not in CLASSES.get(library, ()):
        return f"load.class '{library}.{name}'"
    if is_kernel(arguments.get(ATTENTION)):
        return f"load.arguments.{ATTENTION} '{arguments[ATTENTION]}'"
    others = sorted(set(arguments) - ARGUMENTS)
    return f"load.arguments.{others[0]}" if others else ""


def strange_adapter(adapter: dict[str, Any]) -> str:
    """What peft would import for an adapter, beside the libraries; empty where that is nothing."""
    mapping = adapter.get("auto_mapping") or {}
    library = str(mapping.get("parent_library") or LIBRARIES[0]) if isinstance(mapping, dict) else "?"
    if library.partition(".")[0] not in LIBRARIES:
        return f"auto_mapping.parent_library '{library}'"
    if adapter.get("megatron_config"):
        return f"megatron_core '{adapter.get('megatron_core')}'"
    return "tokenizer_kwargs" if adapter.get("tokenizer_kwargs") else ""


def strange_config(config: dict[str, Any]) -> str:
    """What of a model's config.json, or of a part of it, names compiled code of others; empty where nothing does."""
    names = [config.get(key) for key in (ATTENTION, f"_{ATTENTION}", f"_{ATTENTION}_internal")]
    own = next((f"{ATTENTION} '{name}'" for name in names if is_kernel(name)), "")
    parts = (strange_config(part) for part in config.values() if isinstance(part, dict))
    return own or next(filter(None, parts), "")


def is_kernel(name: Any) -> bool:
    """Whether an attention is no word of the libraries but a repository of compiled code."""
    return isinstance(name, str | dict) and "/" in str(name)
