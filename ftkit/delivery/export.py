"""`ftkit export`: a run's model as one plain folder, or in another format, compared with what was trained."""

import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

from transformers import PretrainedConfig

from ftkit import console
from ftkit.compat import hush_libraries
from ftkit.delivery.comparison import Comparison, compare, forward_of, padded_batches
from ftkit.delivery.merge import (
    finished_run,
    merge_finished,
    merged_model,
    readme,
    require_good,
    require_new,
    written_whole,
)
from ftkit.delivery.onnx import require_onnx, runtime_forward, write_onnx
from ftkit.errors import UserError
from ftkit.hub.door import pinned
from ftkit.hub.offline import offline_mode_kept
from ftkit.models.load import load_config, load_plain, load_tokenizer
from ftkit.recipe.schema import Model, Recipe
from ftkit.run import Run, blaming_damage, write_text
from ftkit.tasks.base import Task
from ftkit.tasks.table import TASKS
from ftkit.training.dispatcher import load_trained

SAME_WEIGHTS = 1e-4  # shares of the largest logit: the same weights, but for the order of sums
ONNX_ALLOWED = 1e-3  # other kernels in float32


@offline_mode_kept()
def export(folder: str | Path, target: str | Path, *, kind: str, trust_code: bool = False) -> Comparison:
    """Write a run's model as `kind` into a new folder, and compare it with the model as it was trained.

    Args:
        trust_code: code that the folder brings may be run.

    Raises:
        UserError: there is no such format, its packages lack, or the target is taken.
        Unverified: what was written is not the trained model; nothing is left in the target.
    """
    hush_libraries()
    if kind not in FORMATS:
        raise UserError(f"no format '{kind}'", f"there are {', '.join(FORMATS)}", "--format")
    run, target = finished_run(folder, trust_code), Path(target)
    require_new(target)
    with blaming_damage(run):
        return FORMATS[kind](run, target)


def export_safetensors(run: Run, target: Path) -> Comparison:
    """A whole model folder: merged where the run has an adapter, else a copy."""
    if (run.model / "adapter_config.json").is_file():
        return merge_finished(run, target)
    recipe, task, saved, config = parts_of(run)
    with written_whole(target) as beside:
        shutil.copytree(run.model, beside)
        with console.status("comparing the copy with the run's model"):
            trained = load_trained(recipe, task, config, saved, run.model)
            copied = load_plain(task.auto_class(config), beside, recipe.model).to(trained.device)
            batches = padded_batches(run, task, load_tokenizer(saved), trained)
            found = compare(batches, task, forward_of(trained), forward_of(copied))
        require_good(found, SAME_WEIGHTS, "the copy")
        write_text(beside / "README.md", readme(run, found, "the whole model", type(copied).__name__))
    return found


def export_onnx(run: Run, target: Path) -> Comparison:
    """model.onnx in float32 with tokenizer and config; an adapter is merged first."""
    require_onnx()
    recipe, task, saved, config = parts_of(run)
    if config.is_encoder_decoder:
        message = "an encoder-decoder is two graphs and a loop, which one ONNX file does not hold"
        raise UserError(message, "export it as safetensors", "--format")
    tokenizer = load_tokenizer(saved)
    with written_whole(target) as beside:
        beside.mkdir()
        adapter = (run.model / "adapter_config.json").is_file()
        trained = load_trained(recipe, task, config, saved, run.model)
        whole = merged_model(run, recipe, task, config) if adapter else trained
        batches = list(padded_batches(run, task, tokenizer, trained))
        with console.status("writing model.onnx"):
            write_onnx(whole.cpu(), batches[0], beside / "model.onnx")
        tokenizer.save_pretrained(beside)
        config.save_pretrained(beside)
        with console.status("comparing it with the run's model in onnxruntime"):
            found = compare(
                iter(batches), task, forward_of(trained.to(whole.device)), runtime_forward(beside / "model.onnx")
            )
        quantized = adapter and recipe.strategy.name == "qlora"
        require_good(found, 1 / 16 if quantized or recipe.model.dtype != "float32" else ONNX_ALLOWED, "model.onnx")
        write_text(beside / "README.md", readme(run, found, "ONNX, float32", "model.onnx, for onnxruntime"))
    return found


def refuse_gguf(run: Run, target: Path) -> Comparison:
    """Raises UserError: the converter is a script of llama.cpp's repository, in no package that pip installs."""
    message = "no maintained converter to GGUF can be installed by pip"
    source, place = shlex.quote(str(run.folder)), shlex.quote(str(target))
    merged = f"`ftkit export {source} {place} --format safetensors`"
    hint = f"run {merged}, then `python convert_hf_to_gguf.py {place}` from a checkout of llama.cpp"
    raise UserError(message, hint, "--format gguf")


FORMATS: dict[str, Callable[[Run, Path], Comparison]] = {
    "safetensors": export_safetensors,
    "onnx": export_onnx,
    "gguf": refuse_gguf,
}


def parts_of(run: Run) -> tuple[Recipe, Task, Model, PretrainedConfig]:
    """The run's recipe and task, and its saved model as a block of a recipe with its config."""
    recipe = run.read_recipe()
    if (run.model / "adapter_config.json").is_file():
        recipe = pinned(recipe, ("model",))
    saved = recipe.model.model_copy(update={"name": str(run.model), "revision": None, "tokenizer": None})
    task, config = TASKS[recipe.task](recipe.data), load_config(saved, {})
    task.recall(config)
    return recipe, task, saved, config
