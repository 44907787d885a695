"""The story of a run: prepare → baseline → train → tuned → save → report. The command line is a thin layer over it."""

import errno
import json
import math
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Group

from ftkit import console
from ftkit.compat import hush_libraries
from ftkit.errors import Interrupted, Unverified, UserError
from ftkit.evaluation.measure import Measurement, join_rows, measure
from ftkit.evaluation.parity import compare, record
from ftkit.evaluation.score import CheckReport, Score
from ftkit.evaluation.target import SPLITS, Target, resolve_target
from ftkit.hub import hub_names, is_hub_id, require_reachable
from ftkit.models.counts import count_parameters
from ftkit.models.load import load_config, load_tokenizer
from ftkit.models.save import save_model
from ftkit.recipe.load import load_recipe
from ftkit.recipe.schema import Gate, Recipe
from ftkit.report.preview import Preview, make_preview
from ftkit.report.publish import write_report
from ftkit.report.summary import closing_table, model_name
from ftkit.run import (
    FAILED,
    FINISHED,
    INTERRUPTED,
    TRAINING,
    Run,
    claimed,
    default_folder,
    end_run,
    environment,
    now,
    read_jsonl,
    require_free,
    start_run,
    write_json,
    write_jsonl,
)
from ftkit.tasks.table import TASKS
from ftkit.training.callbacks import SealCheckpoints, ShowProgress, StopOnSignal, WriteLog
from ftkit.training.checkpoints import last_whole_checkpoint, step_of
from ftkit.training.dispatcher import Parts, build, build_for_evaluation, seed_everything
from ftkit.training.memory import peak_memory_bytes
from ftkit.training.prepare import allowances, prepare
from ftkit.training.probe import probe
from ftkit.training.resume import load_finished, require_same_recipe
from ftkit.training.smoke import smoke_recipe
from ftkit.training.trackers import place_tensorboard, tell_trackers


@dataclass(frozen=True)
class Result:
    """What a finished run leaves: its folder, its metrics and its record, as in metrics.json and run.json."""

    folder: Path
    metrics: dict[str, Any]
    record: dict[str, Any]

    def table(self) -> Group:
        """Baseline against tuned, parameters, memory, time, and where the run lies; print it with rich."""
        run = Run(self.folder)
        return closing_table(
            load_recipe(run.recipe_file), self.metrics, self.record, str(self.folder), read_jsonl(run.predictions_file)
        )


def train(
    recipe: Recipe | str | Path,
    *,
    output_dir: str | Path | None = None,
    smoke: bool = False,
    resume: bool = False,
    overwrite: bool = False,
) -> Result:
    """One recipe becomes one finished run.

    Args:
        recipe: a recipe, or the path of its file.
        output_dir: the run's folder; default `runs/` and the name of the recipe's file.
        smoke: a tiny stand-in, sample data and few steps take the place of the recipe's own, on the same code path.
        resume: go on from the last whole checkpoint of the run in `output_dir`.
        overwrite: replace a run that is in `output_dir`.

    Raises:
        UserError: something is wrong that the user can mend; nothing was written.
        Interrupted: a signal stopped the run; its checkpoint is saved.
    """
    hush_libraries()
    recipe = recipe if isinstance(recipe, Recipe) else load_recipe(recipe)
    folder = Path(output_dir) if output_dir else default_folder(recipe, smoke=smoke)
    require_free(folder, overwrite=overwrite, resume=resume)
    if smoke:
        recipe = smoke_recipe(recipe, train)
    with recipe.located():
        require_reachable(hub_names(recipe))
        return _train(recipe, Run(folder), resume=resume)


def check(recipe: Recipe | str | Path, *, smoke: bool = False) -> CheckReport:
    """Everything that can be found wrong without training; one real batch goes through the real model.

    Raises:
        UserError: what is wrong.
    """
    hush_libraries()
    recipe = recipe if isinstance(recipe, Recipe) else load_recipe(recipe)
    if smoke:
        recipe = smoke_recipe(recipe, train)
    with recipe.located(), tempfile.TemporaryDirectory() as folder:
        require_reachable(hub_names(recipe))
        parts = build(recipe, Path(folder), [])
        counts = count_parameters(parts.model)
        trained = f"{counts.trainable:,} trainable of {counts.total:,} ({counts.trainable_percent:.4f} %)"
        lengths = {f"{name} rows": facts.words() for name, facts in parts.data.facts.items()}
        return CheckReport({"parameters": trained, **lengths, **probe(parts)})


def preview(
    recipe: Recipe | str | Path, *, rows: int = 5, split: str = "train", smoke: bool = False, anyway: bool = False
) -> Preview:
    """Rows as the model will get them; the tokenizer and the config are read, no weights.

    Args:
        rows: how many to show.
        split: which split of the recipe's data: train, eval or test.
        anyway: open the gate, and show first what it would refuse.

    Raises:
        UserError: the rows cannot be had, or the gate refuses them.
    """
    hush_libraries()
    recipe = recipe if isinstance(recipe, Recipe) else load_recipe(recipe)
    require_shown(recipe, rows, split, smoke=smoke)
    if smoke:
        recipe = smoke_recipe(recipe, train)
    block, training, gate = recipe.data, recipe.training, allowances(recipe)
    if anyway:
        console.say("the gate is open: rows that it would refuse are shown too")
        opened = dict.fromkeys(Gate.model_fields.keys() - {"similarity"}, 1.0)
        block = block.model_copy(update={"gate": gate.model_copy(update=opened)})
    with recipe.located():
        require_reachable(hub_names(recipe))
        task, tokenizer, config = TASKS[recipe.task](block), load_tokenizer(recipe.model), load_config(recipe.model, {})
        task.auto_class(config)  # refuses a model that cannot do the task
        parts = ("train", "eval", "test") if split == "test" else ("train", "eval")
        data = prepare(recipe.model_copy(update={"data": block}), task, tokenizer, config, parts)
        size = training.per_device_train_batch_size if split == "train" else training.per_device_eval_batch_size
        title = f"{recipe.task} · {model_name({'model': recipe.model.name})}"
        return make_preview(
            data, split, tokenizer, task.config_values().get("id2label", {}), gate,
            title=title, count=rows, batch_size=size, pairs=config.is_encoder_decoder, faulty_first=anyway,
        )  # fmt: skip


def require_shown(recipe: Recipe, rows: int, split: str, *, smoke: bool) -> None:
    """Raises UserError where there is nothing to show."""
    if rows < 1:
        raise UserError(f"{rows} rows cannot be shown", "give 1 or more", "--rows")
    if split not in SPLITS:
        raise UserError(f"no split '{split}'", f"there are {', '.join(SPLITS)}", "--split")
    if split == "test" and smoke:
        raise UserError("a smoke run has no test rows", "leave --smoke out", "--split")
    if split == "test" and not (recipe.data.test or recipe.data.test_size or recipe.data.split_column):
        raise UserError("the recipe has no test rows", "set data.test or data.test_size", "--split")


def evaluate(
    target: str | Path,
    *,
    recipe: str | Path | None = None,
    task: str | None = None,
    data: str | None = None,
    split: str = "eval",
) -> Score:
    """Measure a run's model, or any local or hub model.

    Args:
        target: a run's folder; or a model folder or hub id, given a recipe, or a task and data.
        recipe: where task and data stand, for a model that is no run.
        task: the task, where there is no recipe.
        data: rows to measure on in place of the recipe's.
        split: which split of the recipe's data: eval, test or train.

    Raises:
        UserError: the target cannot be measured so.
    """
    given = Path(recipe) if recipe is not None else None
    return evaluate_target(resolve_target(str(target), recipe=given, task=task, data=data, split=split))


def evaluate_target(target: Target) -> Score:
    """Measure what the command line or `evaluate` has resolved."""
    hush_libraries()
    with target.recipe.located(), tempfile.TemporaryDirectory() as folder:
        parts = build_for_evaluation(target, Path(folder))
        found = measured("model", target.recipe, parts)
    generated = sum("generated" in row for row in found.rows)
    caveats = parts.data.caveats() + known_caveats(target, parts)
    return Score(
        target.name, target.recipe.task, target.split, len(found.rows), generated, found.metrics, found.rows, caveats
    )


def known_caveats(target: Target, parts: Parts) -> list[str]:
    """What a run's own report says of the same rows, as that they are among its training rows."""
    run = Run(target.trained.parent) if target.trained else None
    if run is None or target.split != "eval":
        return []
    if parts.data.describe()["eval"]["sha256"] != run.record.get("data", {}).get("eval", {}).get("sha256"):
        changed = "the data changed since the run: these are not its eval rows, and may be among its training rows"
        return [changed] if target.own_rows else []
    caveats = json.loads(run.metrics_file.read_text(encoding="utf-8")).get("caveats", [])
    return [caveat for caveat in caveats if caveat not in parts.data.caveats()]


def verify(folder: str | Path) -> CheckReport:
    """Check that a run's saved model is what was trained: plain transformers builds the prompts of training from it.

    Raises:
        UserError: the folder holds no finished run.
        Unverified: a prompt comes out otherwise; the message shows the tokens that differ.
    """
    run = Run(Path(folder))
    if run.state != FINISHED or not run.model.is_dir():
        raise UserError(f"{folder} holds no finished run", "name a run's folder, as runs/my_recipe", str(folder))
    entries = json.loads(run.data_report.read_text(encoding="utf-8"))["prompts"] if run.data_report.is_file() else []
    if differences := compare(run.model, entries):
        first = differences[0]
        raise Unverified(
            f"{run.model}: {len(differences)} of {len(entries)} prompts are not those of training; {first.row} has "
            f"{first.saved} tokens where it was trained on {first.trained} (- trained, + saved):\n{first.diff}"
        )
    what = f"{len(entries)} prompts have the token ids of training" if entries else "this task has no prompts"
    return CheckReport({"prompts": what})


def _train(recipe: Recipe, run: Run, *, resume: bool) -> Result:
    started = time.monotonic()
    if resume:
        require_same_recipe(run, recipe)
    stop = StopOnSignal()
    parts = build(recipe, run.checkpoints, [stop, SealCheckpoints()])
    place_tensorboard(parts.trainer, run.tensorboard)
    checkpoint = last_whole_checkpoint(run.checkpoints) if resume else None
    with claimed(run), recorded(run):
        if checkpoint is None:
            hub_ids = sorted({name for name, _, _ in hub_names(recipe) if is_hub_id(name)})
            names = {"name": run.folder.name, "model": recipe.model.name, "hub_ids": hub_ids}
            start_run(run, recipe, {**names, **environment(Path(recipe.source).absolute().parent), **describe(parts)})
        else:
            run.update(state=TRAINING, resumed=[*run.record.get("resumed", []), step_of(checkpoint)])
            console.say(f"going on from step {step_of(checkpoint)}")
        write_json(run.data_report, data_report(parts))
        baseline = measure_baseline(recipe, run, parts, known=checkpoint is not None)
        seconds = fit(recipe, run, parts, stop, checkpoint)
        save_model(
            parts.model, parts.tokenizer, run.model, parts.task.prompt_forms()
        )  # before measuring, so that no fault there can lose it
        tuned = measured("tuned", recipe, parts)
        return finish(recipe, run, parts, baseline, tuned, {"training": seconds, "total": time.monotonic() - started})


def describe(parts: Parts) -> dict[str, Any]:
    """What run.json says of the parts."""
    counts, arguments = count_parameters(parts.model), parts.trainer.args
    adapter = hasattr(parts.model, "peft_config")  # the mark that transformers itself goes by
    return {
        "seed": arguments.seed,
        "precision": "bfloat16 autocast" if arguments.bf16 else "float16 autocast" if arguments.fp16 else "float32",
        "device": str(arguments.device),
        "parameters": asdict(counts) | {"trainable_percent": counts.trainable_percent},
        "data": parts.data.describe(),
        "max_length": parts.data.max_length,
        "auto_class": parts.task.auto_class(parts.config).__name__,
        "adapter": adapter,
        "num_labels": parts.task.config_values().get("num_labels"),
    }


def data_report(parts: Parts) -> dict[str, Any]:
    """Every input row accounted for, and some prompts as they are trained on, for `verify`."""
    data, pairs = parts.data, parts.config.is_encoder_decoder
    prompts = [
        entry
        for name, rows in data.rows.items()
        for entry in record(parts.task, rows, data.encoded[name], data.ledger, pairs)
    ]
    return {**data.report(parts.trainer.args.per_device_train_batch_size), "prompts": prompts}


def measure_baseline(recipe: Recipe, run: Run, parts: Parts, *, known: bool) -> Measurement | None:
    """The model before training, on the eval rows; a resumed run reads it from its folder."""
    if not recipe.evaluation.baseline:
        return None
    if known and run.metrics_file.is_file():
        metrics = json.loads(run.metrics_file.read_text(encoding="utf-8"))["baseline"]
        return Measurement(metrics, [row["baseline"] | {"row": row["row"]} for row in read_jsonl(run.predictions_file)])
    baseline = measured("baseline", recipe, parts)
    write_json(run.metrics_file, {"rows": len(baseline.rows), "baseline": baseline.metrics})
    write_jsonl(run.predictions_file, ({"row": row["row"], "baseline": row} for row in baseline.rows))
    tell_trackers(parts.trainer, "baseline", baseline.metrics)
    return baseline


def measured(name: str, recipe: Recipe, parts: Parts) -> Measurement:
    with console.status(f"measuring the {name}"):
        encoded = parts.data.encoded["eval"]
        return measure(parts.trainer, parts.task, parts.tokenizer, encoded, recipe.evaluation, recipe.spec)


def fit(recipe: Recipe, run: Run, parts: Parts, stop: StopOnSignal, checkpoint: Path | None) -> float:
    """Train, and return the seconds that it took.

    Raises:
        Interrupted: a signal asked to stop; the checkpoint is saved.
    """
    trainer, started = parts.trainer, time.monotonic()
    progress = ShowProgress(recipe.evaluation.metrics or recipe.spec.default_metrics)
    for callback in (progress, WriteLog(run)):
        trainer.add_callback(callback)
    seed_everything(recipe)  # measuring the baseline may have drawn numbers
    if checkpoint is not None and load_finished(trainer, checkpoint):
        return time.monotonic() - started
    try:
        with stop.listening():
            trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    finally:
        progress.close()
    if stop.asked and trainer.state.global_step < trainer.state.max_steps:
        raise Interrupted(run.folder, trainer.state.global_step)
    return time.monotonic() - started


def finish(
    recipe: Recipe, run: Run, parts: Parts, baseline: Measurement | None, tuned: Measurement, seconds: dict[str, float]
) -> Result:
    """Write metrics, predictions, record and card, and print the closing table."""
    rows = join_rows(parts.data.rows["eval"], baseline, tuned)
    metrics = {
        "rows": len(tuned.rows),
        "generated_rows": sum("generated" in row for row in tuned.rows),
        "baseline": baseline.metrics if baseline else None,
        "tuned": tuned.metrics,
        "caveats": parts.data.caveats(),
    }
    write_json(run.metrics_file, metrics)
    write_jsonl(run.predictions_file, rows)
    if parts.data.stream is not None:
        write_json(run.data_report, data_report(parts))  # the stream is counted now
    tell_trackers(parts.trainer, "tuned", tuned.metrics, ended=True)
    state, rounded = parts.trainer.state, {name: round(value, 3) for name, value in seconds.items()}
    kept = state.best_global_step if parts.trainer.args.load_best_model_at_end else state.global_step
    run.update(
        seconds=rounded, steps=state.global_step, kept_step=kept or state.global_step,
        peak_memory_bytes=peak_memory_bytes(), finished=now(),
    )  # fmt: skip
    write_report(run)
    end_run(run)
    if any(not math.isfinite(value) for value in tuned.metrics.values()):
        console.warn("a metric is not a number: the training diverged; try a lower learning_rate")
    return Result(run.folder, metrics, run.record)


@contextmanager
def recorded(run: Run) -> Iterator[None]:
    """Whatever ends the block, run.json says how."""
    try:
        yield
    except (Interrupted, KeyboardInterrupt) as error:
        run.update(state=INTERRUPTED, finished=now())
        say_what_is_kept(run)
        if isinstance(error, KeyboardInterrupt):
            console.warn(f"interrupted; go on with the same command and --resume --output-dir {run.folder}")
        raise
    except Exception as error:
        full = disk_is_full(error)
        try:
            run.update(state=FAILED, finished=now(), error=f"{type(error).__name__}: {error}"[:2000])
        except OSError:
            if not full:
                raise error from None
        say_what_is_kept(run)
        if full:
            hint = f"free some, then go on with --resume --output-dir {run.folder}"
            raise UserError(f"no space is left for {run.folder}", hint) from error
        raise


def say_what_is_kept(run: Run) -> None:
    if run.replaced.is_dir():
        console.say(f"the finished run that this one was to replace is kept in {run.replaced}")


def disk_is_full(error: BaseException) -> bool:
    """Whether an error, or what caused it, is a full disk, in the words of Python, torch or safetensors."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    words = str(error)
    if (
        "No space left on device" in words
        or ("PytorchStreamWriter" in words and "fail" in words)
        or "inline_container" in words
    ):
        return True
    return error.__context__ is not None and disk_is_full(error.__context__)
