"""`ftkit merge`: a run's adapter added into its base, as one whole model that plain transformers loads.

The adapter of a QLoRA run was trained over the values that 4-bit weights stand for. They are what it is added to: the base
is loaded in 4 bits, as in training, and taken out of them, and not in its own precision, which the adapter never saw.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import PeftModel
from torch import nn
from transformers import PretrainedConfig
from transformers.pytorch_utils import Conv1D

from ftkit import console
from ftkit.compat import hush_libraries
from ftkit.data.encode import Encoded
from ftkit.delivery.comparison import Comparison, Forward, as_entry, compare, forward_of, padded_batches
from ftkit.errors import Unverified, UserError
from ftkit.escapes import markdown
from ftkit.evaluation.records import read_rows
from ftkit.evaluation.verification import is_recorded
from ftkit.hub.door import pinned
from ftkit.hub.offline import offline_mode_kept
from ftkit.hub.runs import run_folder
from ftkit.models.architecture import meta_model
from ftkit.models.load import load_config, load_plain, load_tokenizer
from ftkit.models.save import save_model
from ftkit.models.saved import load_adapter, require_own_base, require_sound, warn_of_changes
from ftkit.recipe.schema import Recipe
from ftkit.run import Run, blaming_damage, require_files, require_finished, require_writable, write_text
from ftkit.tasks.base import Task
from ftkit.tasks.table import TASKS
from ftkit.training.dispatcher import load_trained, remember_stops
from ftkit.trust import require_trust
from ftkit.units import scale_code

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
# Shares of the largest logit that rounding explains: float32 over some layers; 16 bits, or a base in 4 bits whose layers
# compute in bfloat16 in the adapter's form and in one pass in the merged.
ALLOWED = {"float32": 1e-3, "bfloat16": 1 / 16, "float16": 1 / 64}


@offline_mode_kept()
def merge(folder: str | Path, target: str | Path, *, dtype: str | None = None, trust_code: bool = False) -> Comparison:
    """Write a run's adapter and base as one model, and compare it with them.

    Args:
        dtype: float32, bfloat16 or float16; by default bfloat16 for a 4-bit base, else the precision of the base.
        trust_code: code that the folder brings may be run.

    Raises:
        UserError: the run has no adapter, or the target is taken.
        Unverified: the merged model is not the trained one; nothing is left in the target.
    """
    hush_libraries()
    return merge_finished(finished_run(folder, trust_code), Path(target), dtype)


def merge_finished(run: Run, target: Path, dtype: str | None = None) -> Comparison:
    """What `merge` does, of a run whose code may be run."""
    if not (run.model / "adapter_config.json").is_file():
        hint = f"copy {run.model}"
        raise UserError("the run has no adapter; its model is whole already", hint, str(run.folder))
    require_new(target)
    recipe = run.read_recipe()
    dtype = dtype or ("bfloat16" if recipe.strategy.name == "qlora" else recipe.model.dtype)
    if dtype not in DTYPES:
        raise UserError(f"no dtype '{dtype}'", f"there are {', '.join(DTYPES)}", "--dtype")
    with recipe.located(), blaming_damage(run):
        return merge_run(run, pinned(recipe, ("model",)), target, dtype)


def merge_run(run: Run, recipe: Recipe, target: Path, dtype: str) -> Comparison:
    """Merge beside the target, compare what lies there, and only then give it its name."""
    saved = recipe.model.model_copy(update={"name": str(run.model), "revision": None, "tokenizer": None})
    tokenizer, config = load_tokenizer(saved), load_config(saved, {})
    task = TASKS[recipe.task](recipe.data)
    task.recall(config)
    with written_whole(target) as beside:
        with console.status("merging the adapter into its base"):
            merged = merged_model(run, recipe, task, config).to(DTYPES[dtype])
            merged.config.pad_token_id = tokenizer.pad_token_id
            if task.generates:
                remember_stops(merged, recorded_rows(run), task.end_tokens(tokenizer))
            save_model(merged, tokenizer, beside, task.prompt_forms())
            del merged
        with console.status("comparing the merged model with adapter and base"):
            trained = load_trained(recipe, task, config, saved, run.model)
            reloaded = load_plain(task.auto_class(config), beside, recipe.model, dtype=DTYPES[dtype]).to(trained.device)
            batches = padded_batches(run, task, tokenizer, trained)
            found = compare(batches, task, forward_of(trained), forward_of(reloaded), without_adapter(trained))
        coarse = "bfloat16" if recipe.strategy.name == "qlora" or recipe.model.dtype != "float32" else dtype
        require_good(found, max(ALLOWED[dtype], ALLOWED[coarse]), "the merged model")
        write_text(
            beside / "README.md", readme(run, found, f"adapter merged into its base, {dtype}", type(reloaded).__name__)
        )
    return found


def merged_model(run: Run, recipe: Recipe, task: Task, config: PretrainedConfig) -> Any:
    """Adapter and base as one model in float32, the precision in which the least is lost by adding."""
    saved = recipe.model.model_copy(update={"dtype": "float32"})
    whole = recipe.model_copy(update={"model": saved})
    adapted = load_trained(whole, task, config, saved, run.model)
    if recipe.strategy.name == "qlora":
        base = adapted.unload().dequantize(dtype=torch.float32).float()
        adapted = load_adapter(base, run.model)
    try:
        merged = adapted.merge_and_unload(safe_merge=True).float()
    except ValueError as error:  # a weight that is not a number
        raise Unverified(f"the adapter cannot be merged: {error}") from error
    restore_transposed(merged, meta_model(task.auto_class(config), config))
    return merged


def restore_transposed(model: nn.Module, plain: nn.Module) -> None:
    """GPT-2 keeps its weights transposed; taken out of 4 bits they are not, and saved so they would be read wrongly."""
    for name, module in plain.named_modules():
        found = model.get_submodule(name)
        if isinstance(module, Conv1D) and isinstance(found, nn.Linear):
            turned = Conv1D(module.nf, module.nx)
            turned.weight, turned.bias = nn.Parameter(found.weight.detach().T.contiguous()), found.bias
            model.set_submodule(name, turned)


def without_adapter(model: PeftModel) -> Forward:
    """Logits of the base alone."""
    plain = forward_of(model)

    def forward(batch: dict[str, torch.Tensor]) -> torch.Tensor:
        with model.disable_adapter() if isinstance(model, PeftModel) else nullcontext():
            return plain(batch)

    return forward


def recorded_rows(run: Run) -> Encoded:
    """The rows that the run was verified on, as they were encoded."""
    rows = [as_entry(row) for row in read_rows(run.verification / "rows.safetensors")]
    dataset = Dataset.from_list(rows)
    return Encoded(dataset, list(range(len(rows))), dataset.with_format("numpy")["labels"])


def finished_run(folder: str | Path, trust_code: bool) -> Run:
    """A finished run whose model can be loaded, and compared on rows that it kept.

    Raises:
        UserError: it is none, a file of it is damaged, it kept no rows, or it has code that is not to be run.
    """
    run = Run(run_folder(folder))
    if not run.record_file.is_file():
        require_files(run)
    if not run.record_file.is_file():
        raise UserError(f"{folder} holds no finished run", "name a run's folder, as runs/my_recipe")
    require_finished(run)
    require_trust(run.folder, trust_code)
    require_files(run)
    if not is_recorded(run.verification):
        hint = "train it without evaluation.verify: false, and push it --with-rows"
        raise UserError("the run kept no rows that the result could be compared on", hint, str(folder))
    require_sound(run.model)
    require_own_base(run)
    warn_of_changes(run.model)
    return run


def require_new(target: Path) -> None:
    """Raises UserError where something is there already, or nothing can be written."""
    if target.exists():
        raise UserError(f"{target} exists", "choose another folder, or remove it", "DIR")
    require_writable(target)


@contextmanager
def written_whole(target: Path) -> Iterator[Path]:
    """A folder beside the target that gets its name at the end of the block, and is removed where that is not reached."""
    beside = target.with_name(f".{target.name}.partial")
    shutil.rmtree(beside, ignore_errors=True)
    beside.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield beside
        beside.rename(target)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def require_good(found: Comparison, allowed: float, what: str) -> None:
    """Raises Unverified where it is not the trained model."""
    if failures := found.failures(allowed):
        raise Unverified("\n".join(f"{what} is not the trained one: {failure}" for failure in failures))


def name_of(run: Run) -> str:
    """By which the run went where it was trained."""
    return str(run.record.get("name", run.folder.resolve().name))


def readme(run: Run, found: Comparison, what: str, name: str) -> str:
    """Where the folder comes from, and how near it is to what was trained."""
    record = run.record
    lines = [
        f"# {markdown(name_of(run))}: {what}", "",
        f"Made by ftkit {record['versions']['ftkit']} from the run {markdown(name_of(run))}, trained from "
        f"{markdown(record['model'])}, finished {record.get('finished', '')}. A `{name}`.", "",
        "## Compared with the model as it was trained", "",
        *(f"- {key}: {markdown(value)}" for key, value in found.facts().items()), "",
        *(f"    {line}" for line in scale_code(record.get("label_scale"))),
    ]  # fmt: skip
    return "\n".join(lines)
