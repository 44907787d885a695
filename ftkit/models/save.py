"""Save what was trained so that plain transformers or peft loads it: adapter or full weights, head, tokenizer, config."""

import copy
import shutil
from pathlib import Path
from typing import Any

from peft import PeftModel
from transformers import PreTrainedTokenizerBase
from transformers.dynamic_module_utils import custom_object_save

from ftkit.compat import leave_as_loading_does
from ftkit.hub.names import is_hub_id
from ftkit.models.as_loaded import config_as_loaded, tokenizer_as_loaded
from ftkit.recipe.schema import Model
from ftkit.run import PROMPT_TEMPLATE, as_umask_says, write_json


def on_its_base(model: Any, block: Model) -> Any:
    """The model; of an adapter its config names the base's commit too, so that whoever loads it gets that very base."""
    if isinstance(model, PeftModel) and is_hub_id(block.name):
        model.active_peft_config.revision = block.revision
    return model


def save_model(
    model: Any, tokenizer: PreTrainedTokenizerBase, folder: Path, prompt_forms: dict[str, str] | None = None
) -> None:
    """Write `folder` whole or not at all: beside it first, then renamed. The model is then as the folder will be loaded.

    Args:
        prompt_forms: how a row becomes a prompt, for whoever serves the model.
    """
    beside = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(beside, ignore_errors=True)
    try:
        write_model(model, tokenizer, beside, prompt_forms)
    except BaseException:  # a full disk gets its space back
        shutil.rmtree(beside, ignore_errors=True)
        raise
    as_umask_says(beside)
    shutil.rmtree(folder, ignore_errors=True)
    beside.rename(folder)


def write_model(model: Any, tokenizer: PreTrainedTokenizerBase, beside: Path, prompt_forms: dict[str, str] | None) -> None:
    """All files of a saved model, into an own folder."""
    if isinstance(model, PeftModel):
        # Asking whether the embedding grew would ask the hub; no strategy makes it grow.
        model.save_pretrained(beside, save_embedding_layers=False)
        base = model.get_base_model()
        with config_as_loaded(base):
            config = copy.deepcopy(base.config)
        config.architectures = [type(base).__name__]
        if base._auto_class is not None:  # code of the model's own, by which the adapter's folder is read again
            custom_object_save(base, beside, config=config)
        if hasattr(config, "quantization_config"):  # the adapter may stand on a base in any precision
            del config.quantization_config
        config.save_pretrained(beside)  # labels and their number, which the adapter lacks
    else:
        leave_as_loading_does(model)
        with config_as_loaded(model):
            model.save_pretrained(beside)
    with tokenizer_as_loaded(tokenizer):
        tokenizer.save_pretrained(beside)
    if prompt_forms:
        write_json(beside / PROMPT_TEMPLATE, prompt_forms)
