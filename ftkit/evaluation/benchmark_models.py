"""The models that benchmarks are run on: of a run its base and what it became, else one model, by plain transformers."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, PreTrainedTokenizerBase

from ftkit import console
from ftkit.compat import switch_router_loss
from ftkit.errors import UserError
from ftkit.hub.door import pinned, pinned_model
from ftkit.hub.runs import found_run
from ftkit.models.load import fit_tokenizer, load_base, load_config, load_tokenizer
from ftkit.models.saved import load_adapter, require_sound, warn_of_changes
from ftkit.models.strategies.table import STRATEGIES
from ftkit.recipe.schema import Model, Recipe
from ftkit.run import Run, require_finished
from ftkit.tasks.language import decoder_class
from ftkit.tasks.table import TASKS
from ftkit.trust import require_trust

BATCH_SIZE = 8
Loaded = tuple[Any, PreTrainedTokenizerBase]


@dataclass(frozen=True)
class Contenders:
    """The models to score, by their names in the table, each loaded when it is its turn."""

    loaders: dict[str, Callable[[], Loaded]]
    batch_size: int


def contenders(target: str, revision: str | None = None, *, trust_code: bool = False) -> Contenders:
    """A run's baseline and tuned model, or a model folder or hub id alone.

    Args:
        trust_code: code that a run's folder brings may be run.

    Raises:
        UserError: the run is not finished, or it is no language model.
    """
    folder = found_run(target, revision)
    if folder is None:
        block = pinned_model(Model(name=target, revision=revision), "")
        auto_class = language_class(block)
        return Contenders({"model": lambda: load(auto_class, block, dtype="auto")}, BATCH_SIZE)
    run = Run(folder)
    require_finished(run)
    require_trust(folder, trust_code)
    require_sound(run.model)
    warn_of_changes(run.model)
    recipe = pinned(run.read_recipe(), ("model",))
    return run_contenders(recipe, run)


def run_contenders(recipe: Recipe, run: Run) -> Contenders:
    """Both in the precision in which the run had its frozen weights, so that they differ by the training alone."""
    auto_class = TASKS[recipe.task](recipe.data).auto_class(load_config(recipe.model, {}))
    if auto_class not in (AutoModelForCausalLM, AutoModelForSeq2SeqLM):
        message = f"the model of a {recipe.task} run foretells no text"
        raise UserError(message, "benchmarks need a language model, as of the task instruction", "--benchmarks")
    saved = recipe.model.model_copy(update={"name": str(run.model), "revision": None, "tokenizer": None})
    adapter = run.model if (run.model / "adapter_config.json").is_file() else None
    if adapter:
        arguments = STRATEGIES[recipe.strategy.name].load_arguments(recipe.strategy, recipe.model.dtype, ())
    else:
        arguments = {"dtype": torch.float32}  # as whole models are trained and saved
    loaders = {
        "baseline": lambda: load(auto_class, recipe.model, **arguments),
        "tuned": lambda: load(auto_class, recipe.model if adapter else saved, saved, adapter, **arguments),
    }
    return Contenders(loaders, recipe.training.per_device_eval_batch_size)


def language_class(block: Model) -> Any:
    """The Auto class of a decoder or an encoder-decoder.

    Raises:
        UserError: it is an encoder.
    """
    config = load_config(block, {})
    return AutoModelForSeq2SeqLM if config.is_encoder_decoder else decoder_class(config, "a benchmark")


def load(
    auto_class: Any, block: Model, tokenizer_of: Model | None = None, adapter: Path | None = None, **arguments: Any
) -> Loaded:
    """Weights, and an adapter on them, and the tokenizer; on the GPU where there is one."""
    with console.status(f"loading {tokenizer_of.name if tokenizer_of else block.name}"):
        tokenizer = load_tokenizer(tokenizer_of or block)
        model: Any = load_base(auto_class, block, load_config(block, {}), new_head=False, **arguments)
        fit_tokenizer(model, tokenizer)
        switch_router_loss(model, on=False)  # it is measured only
        if adapter:
            model = load_adapter(model, adapter)
        if torch.cuda.is_available() and "device_map" not in arguments:
            model = model.to("cuda")
    return model.eval(), tokenizer
