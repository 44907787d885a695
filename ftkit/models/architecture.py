"""What a config says of its model, whatever its fields are called: the class that does a task, how many positions there are,
and the model itself, made of the config alone.

All models that are made without a checkpoint are made here, so that code of a model's own is taken in all places or in none.
"""

import copy
import math
import re
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from transformers import PretrainedConfig
from transformers.dynamic_module_utils import get_class_from_dynamic_module

from ftkit.classes import is_kernel
from ftkit.errors import UserError

POSITIONS = re.compile(r"max_((encoder|decoder)_)?position_embeddings|max_seq_len")
SHAPES_ALONE = "batched_mm"  # of experts: the others look at which tokens each gets, and on shapes nobody knows


def trusted(config: PretrainedConfig, *, trust: bool) -> PretrainedConfig:
    """The config, which names code of the model's own only where that may be run: who makes its model goes by that.

    Compiled code of others, as an attention of that file, is never taken: a recipe has words for attention.
    """
    parts = [getattr(config, name, None) for name in config.sub_configs]
    for part in (config, *(part for part in parts if isinstance(part, PretrainedConfig))):
        if is_kernel(part._attn_implementation):
            part._attn_implementation = None
    if not trust and "auto_map" in vars(config):
        del config.auto_map
    return config


def own_classes(config: PretrainedConfig) -> dict[str, str]:
    """Where the model's own code has which Auto class; empty where there is none, or it may not be run."""
    return dict(vars(config).get("auto_map") or {})


def require_class(auto_class: Any, config: PretrainedConfig, task: str) -> Any:
    """The Auto class itself.

    Raises:
        UserError: there is no such class of this type of model.
    """
    if type(config) in auto_class._model_mapping or auto_class.__name__ in own_classes(config):
        return auto_class
    message = f"{config.model_type} has no {auto_class.__name__.removeprefix('Auto')}, which {task} needs"
    hint = "choose a model of another type; a class in the model's own code needs model.trust_remote_code: true"
    raise UserError(message, hint, key="model.name")


def model_of(auto_class: Any, config: PretrainedConfig, **options: Any) -> Any:
    """A model of the config with weights as they are drawn, by its own code where `trusted` has left that.

    The config stays as it is: the choice of attention would be written into it.
    """
    config, own = copy.deepcopy(config), own_classes(config).get(auto_class.__name__)
    if own is None:
        return auto_class.from_config(config, trust_remote_code=False, **options)
    same = own.rpartition("--")[0] in ("", config.name_or_path)  # then the code is that of the weights, not the newest
    revision = vars(config).get("_commit_hash") if same else None
    return get_class_from_dynamic_module(own, config.name_or_path, code_revision=revision)._from_config(config, **options)


def meta_model(auto_class: Any, config: PretrainedConfig, attention: str | None = "eager", **options: Any) -> Any:
    """The model of `config` on the meta device: shapes without weights. None leaves the attention to transformers."""
    with torch.device("meta"):
        model = model_of(auto_class, config, attn_implementation=attention, experts_implementation=SHAPES_ALONE, **options)
    return model.eval()


def text_configs(config: PretrainedConfig) -> Iterator[PretrainedConfig]:
    """The configs of what reads and writes text: of a model of several kinds of input, that of text alone."""
    parts = [vars(config).get(side) for side in ("encoder", "decoder")] if config.is_encoder_decoder else []
    found = [part for part in parts if isinstance(part, PretrainedConfig)]
    yield from found or [config.get_text_config()]


def named_positions(config: PretrainedConfig) -> int | None:
    """How many positions the config says that there are; None where it sets no limit."""
    values = {
        name: value for part in text_configs(config) for name, value in _fields(part).items() if POSITIONS.fullmatch(name)
    }
    return min((value for value in values.values() if isinstance(value, int) and value > 0), default=None)


def usable_positions(auto_class: Any, config: PretrainedConfig, wanted: int) -> float:
    """How many tokens a row may have, so far as positions limit it; infinite where they do not.

    Some tables of positions begin behind the entry of padding, as RoBERTa's, and have fewer places than entries. The model
    is looked at only where that could matter to rows of the length that is wanted.
    """
    entries = named_positions(config)
    if entries is None:
        return math.inf
    if wanted + (text_field(config, "pad_token_id") or 0) < entries:
        return entries
    model = meta_model(auto_class, config)
    tables = {id(module): module for module in model.modules() if _is_table(module, entries)}
    tables.pop(id(word_embedding(model)), None)
    return min([entries, *(entries - table.padding_idx - 1 for table in tables.values())])


def text_field(config: PretrainedConfig, name: str) -> Any:
    """A field of the config or of its text's; None where neither has it."""
    for part in (config, *text_configs(config)):
        if (value := getattr(part, name, None)) is not None:  # types of models differ in which fields they have
            return value
    return None


def word_embedding(model: Any) -> nn.Module | None:
    """The embedding of a model's tokens; None where it has no table of them, as CANINE and Perceiver."""
    try:
        found = model.get_input_embeddings()
    except NotImplementedError:
        return None
    return found if isinstance(found, nn.Module) else None


def _fields(config: PretrainedConfig) -> dict[str, Any]:
    """A config's fields under their common names."""
    common = {name: getattr(config, name, None) for name in config.attribute_map}
    return config.to_dict() | common


def _is_table(module: nn.Module, entries: int) -> bool:
    """Whether a module looks up as many entries and leaves out those up to padding's; I-BERT's is no nn.Embedding."""
    values = vars(module)
    weight = values["_parameters"].get("weight")
    return values.get("padding_idx") is not None and weight is not None and len(weight) == entries
