"""The story of a run: prepare → baseline → train → tuned → save → report. The command line is a thin layer over it."""

import copy
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Group
from transformers import AutoModelForCausalLM, TrainerCallback

from ftkit import console
from ftkit.claim import Claim, claimed
from ftkit.classes import OWN_CODE
from ftkit.compat import hush_libraries
from ftkit.data.digests import base_changes, with_fetched, write_inputs
from ftkit.data.splits import STREAM_HEAD
from ftkit.disk import place_of, refusal, refused
from ftkit.errors import Interrupted, Unverified, UserError
from ftkit.evaluation.benchmarks import BenchmarkScores, benchmark_target
from ftkit.evaluation.evidence import TUNED
from ftkit.evaluation.forgetting import GeneralText
from ftkit.evaluation.leaks import training_row_caveats
from ftkit.evaluation.measure import Measurement, join_rows, own_texts
from ftkit.evaluation.parity import compare as compare_prompts
from ftkit.evaluation.parity import record
from ftkit.evaluation.reported import as_measured, figure_failures, read_measured
from ftkit.evaluation.score import CheckReport, Score
from ftkit.evaluation.target import SPLITS, Target, resolve_target
from ftkit.evaluation.verification import begin, conclude, is_recorded, reloading, verify_model
from ftkit.hub.door import as_it_began, fetch_weights, pinned, what_moved
from ftkit.hub.names import hub_names
from ftkit.hub.offline import offline_mode_kept
from ftkit.hub.runs import run_folder
from ftkit.metrics.estimates import estimate_all
from ftkit.models.counts import count_parameters
from ftkit.models.label_scale import OWN
from ftkit.models.load import load_config, load_tokenizer
from ftkit.models.loading import loading
from ftkit.models.save import save_model
from ftkit.models.saved import other_base
from ftkit.prediction.chat import Conversation, require_generating
from ftkit.prediction.files import opened_rows, require_first_row
from ftkit.prediction.predict import Predictor
from ftkit.prediction.rows import Source, given_rows, require_readable
from ftkit.prediction.trained import load_run
from ftkit.process import process_facts
from ftkit.reading import Damaged, object_if_there, read_object
from ftkit.recipe.load import load_recipe, load_values
from ftkit.recipe.schema import Gate, Model, Recipe
from ftkit.report.comparison import Comparison, compare_runs
from ftkit.report.next_steps import next_steps
from ftkit.report.preview import Preview, make_preview
from ftkit.report.publish import write_report
from ftkit.report.summary import closing_table, model_name
from ftkit.run import (
    DATA_REPORT,
    FAILED,
    FINISHED,
    INTERRUPTED,
    METRICS,
    TRAINING,
    Run,
    blaming_damage,
    changed_files,
    default_folder,
    end_run,
    environment,
    finished_run,
    is_run,
    now,
    read_jsonl,
    remove_empty,
    require_files,
    require_finished,
    require_free,
    start_run,
    sweep,
    write_json,
    write_jsonl,
)
from ftkit.scratch import scratch
from ftkit.sharing.push import Publication, is_smoke, repository_for, require_usable
from ftkit.sharing.push import publication as make_publication
from ftkit.signals import arrived, signals_heeded, signals_held
from ftkit.tasks.base import has_targets
from ftkit.tasks.table import TASKS
from ftkit.training.account import Account
from ftkit.training.arguments import autocast_dtype, precision_words
from ftkit.training.batch_search import find_batch
from ftkit.training.batch_size import BatchSize, in_one, known_batch, row_by_row
from ftkit.training.callbacks import SealCheckpoints, ShowProgress, StopAfter, StopOnSignal, TellStep, WriteLog
from ftkit.training.checkpoints import (
    LOST_BEST,
    checkpoint_to_go_on,
    drop_damaged,
    is_sealed,
    newest_first,
    step_of,
)
from ftkit.training.dispatcher import Parts, build, build_for_evaluation, seed_everything, take_kept_rows
from ftkit.training.evidence import (
    Before,
    error_analysis,
    evidence,
    keep,
    measure_before,
    measured,
    require_measurable,
    row_names,
)
from ftkit.training.fingerprints import code_words, data_findings, fingerprints, recipe_failures
from ftkit.training.inputs import forced_words, record_forced, settle_inputs, with_rows_compared
from ftkit.training.learning import in_numbers, keep_watch, learn
from ftkit.training.levers import speed_facts, speed_reasons, speed_words
from ftkit.training.memory import peak_within
from ftkit.training.place import place_claimed
from ftkit.training.plan import Plan, make_plan
from ftkit.training.planner import predicted_peaks
from ftkit.training.prepare import allowances, kept_rows, prepare
from ftkit.training.probe import probe
from ftkit.training.rerun import (
    Rerun,
    compare_logs,
    compare_metrics,
    other_surroundings,
    require_repeatable,
    require_same_files,
    require_same_rows,
    steps_to_make,
)
from ftkit.training.resume import load_finished, lost_steps, require_same_recipe
from ftkit.training.smoke import smoke_recipe
from ftkit.training.strategy_choice import memory_limit, plan_choice, settle_strategy
from ftkit.training.time_forecast import ForecastTime
from ftkit.training.trackers import place_tensorboard, tell_trackers
from ftkit.training.trainer import Trainer
from ftkit.trust import remember_run, require_trust, say_code

GivenRecipe = Recipe | Mapping[str, Any] | str | Path
PUSH_HINT = "mend it, or push it all the same with --unverified"


def as_recipe(given: GivenRecipe) -> Recipe:
    """A recipe, whether it is one, stands in a file, or is a dictionary.

    Raises:
        UserError: it cannot be read, or something in it is wrong.
    """
    if isinstance(given, Recipe):
        return given
    return load_values(copy.deepcopy(dict(given))) if isinstance(given, Mapping) else load_recipe(given)


@dataclass(frozen=True)
class Result:
    """What a finished run leaves: its folder, its metrics and its record, as in metrics.json and run.json."""

    folder: Path
    metrics: dict[str, Any]
    record: dict[str, Any]

    def table(self) -> Group:
        """Baseline against tuned, parameters, memory, time, where the run lies and what comes next; print it with rich."""
        run = Run(self.folder)
        recipe = run.read_recipe()
        table = closing_table(recipe, self.metrics, self.record, read_jsonl(run.predictions_file))
        places = [console.Line(f"the run: {run.folder}"), console.Line(f"its report: {run.report}\n")]
        return Group(table, *places, console.Commands(next_steps(run, recipe)))


@offline_mode_kept()
def train(
    recipe: GivenRecipe,
    *,
    output_dir: str | Path | None = None,
    smoke: bool = False,
    resume: bool = False,
    overwrite: bool = False,
    force: bool = False,
) -> Result:
    """One recipe becomes one finished run.

    Args:
        recipe: a recipe, the path of its file, or a dictionary of what would stand in it.
        output_dir: the run's folder; default `runs/` and the name of the recipe's file.
        smoke: a tiny stand-in, sample data and few steps take the place of the recipe's own, on the same code path.
        resume: go on from the last whole checkpoint of the run in `output_dir`.
        overwrite: replace a run that is in `output_dir`.
        force: resume also where data, base weights or code are not those that the run began with; it says so for ever.

    Raises:
        UserError: something is wrong that the user can mend; nothing was written.
        Interrupted: a signal stopped the run; its checkpoint is saved.
        Diverged: the training diverged; good checkpoints are kept.
    """
    hush_libraries()
    recipe = as_recipe(recipe)
    folder = Path(output_dir).expanduser() if output_dir else default_folder(recipe, smoke=smoke)
    with signals_heeded(), place_claimed(folder, overwrite=overwrite, resume=resume) as claim:
        return train_into(folder, claim, recipe, smoke=smoke, resume=resume, force=force)


@offline_mode_kept()
def train_into(folder: Path, claim: Claim, recipe: Recipe, *, smoke: bool, resume: bool, force: bool = False) -> Result:
    """As `train`, into a folder that this process has claimed."""
    hush_libraries()
    console.say(f"{recipe.task} · {recipe.strategy.name} · {model_name({'model': recipe.model.name})}, into {folder}")
    say_code(recipe)
    meant = recipe.model.name if smoke else ""
    claim.at("building")
    if smoke:
        with said_that_nothing_began(folder):
            recipe = smoke_recipe(recipe, train)
    with recipe.located(), disk_told(folder):
        recipe = as_it_began(recipe, Run(folder).record.get("hub", [])) if resume else recipe
        return _train(pinned(recipe), Run(folder), claim, resume=resume, stands_for=meant, force=force)


@contextmanager
def disk_told(folder: Path) -> Iterator[None]:
    """Raises UserError where a disk takes no more inside the block, before the run has begun or behind it."""
    try:
        yield
    except Exception as error:
        if not refusal(error):
            raise
        raise refused(error, place_of(error) or folder, how_to_go_on(Run(folder))) from error


@offline_mode_kept()
def rerun(
    folder: str | Path, *, check: bool = False, steps: int | None = None, output_dir: str | Path | None = None,
    trust_code: bool = False,
) -> Rerun:  # fmt: skip
    """Run again from a run's own folder, and compare each logged figure, and in the end the metrics.

    First all that the run follows from is compared: data, base weights and code by their sums, then the tokenized rows.

    Args:
        check: make the first steps alone, in a folder that is removed, and compare them.
        steps: how many, with `check`; default 10, or as far as the next logged loss.
        output_dir: of the new run; default the run's folder and `-rerun`.
        trust_code: code that the folder brings may be run.

    Raises:
        UserError: there is nothing to run again.
        NotReproduced: something that the run follows from was changed, or what comes out is not what came out then.
    """
    run = Run(run_folder(folder))
    require_repeatable(run, first_steps=check)
    require_trust(run.folder, trust_code, metric=True)
    return rerun_trusted(run, check=check, steps=steps, output_dir=output_dir)


@offline_mode_kept()
def rerun_trusted(run: Run, *, check: bool, steps: int | None, output_dir: str | Path | None) -> Rerun:
    """What `rerun` does, of a run whose code may be run."""
    until = steps_to_make(run, steps) if check else 0
    if steps is not None and not check:
        raise UserError("the first steps alone are made with --check", "give both, or leave --steps out", "--steps")
    target = Run(Path(output_dir).expanduser() if output_dir else run.folder.with_name(f"{run.folder.name}-rerun"))
    if not check:
        require_free(target.folder, overwrite=False, resume=False)
    hush_libraries()
    recipe = run.read_recipe()
    with recipe.located():
        require_same_files(run, recipe)
        recipe.keep_pins(run.record.get("hub", []))
        recipe = pinned(recipe)
        if check:
            found = check_steps(run, recipe, until)
        else:
            with signals_heeded(), place_claimed(target.folder, overwrite=False, resume=False) as claim:
                found = run_again(run, recipe, target, claim)
    found.require_same()
    return found


def check_steps(run: Run, recipe: Recipe, steps: int) -> Rerun:
    """The first steps of a run made again, in a folder of their own that is removed."""
    quiet = recipe.training.model_copy(update={"report_to": "none"})
    with scratch() as folder:
        again, stop = Run(Path(folder) / run.folder.resolve().name), StopOnSignal()
        watching = Watching(Account(again), stop, ForecastTime(again))
        callbacks = [stop, watching.forecast, watching.account, StopAfter(steps)]
        built = build_run(recipe.model_copy(update={"training": quiet}), again, callbacks, resume=False)
        require_same_rows(run, built.parts.data.describe())
        start_run(again, built.recipe, {})
        keep_watch(again, built.parts.trainer)
        console.say(f"the first {steps:,} steps again")
        try:
            fit(built.recipe, again, built.parts, watching, None)
        except Interrupted:
            raise KeyboardInterrupt from None  # nothing is left to go on with
        found = compare_logs(run, again, steps, whole=False)
    found.surroundings = other_surroundings(
        run.record, environment(Path.cwd(), status=False) | describe(recipe, built.parts)
    )
    return found


def run_again(run: Run, recipe: Recipe, target: Run, claim: Claim) -> Rerun:
    """A run made again into another folder, whose run.json says what came of it."""
    smoke = run.record.get("smoke", {}).get("stands_for", "")
    result = _train(
        recipe, target, claim, resume=False, stands_for=smoke,
        expect=lambda built: require_same_rows(run, built.parts.data.describe()),
    )  # fmt: skip
    found = compare_logs(run, target, result.record["steps"], whole=True)
    found.failures += compare_metrics(read_object(run.metrics_file, METRICS, METRICS), result.metrics)
    found.surroundings = other_surroundings(run.record, target.record)
    target.update(rerun=found.describe())
    return found


@contextmanager
def said_that_nothing_began(folder: Path) -> Iterator[None]:
    """Where the block is interrupted, the user's run is named, and not what is made for it."""
    try:
        yield
    except KeyboardInterrupt:
        console.warn(f"interrupted before {folder} was begun; the same command starts it")
        raise


@offline_mode_kept()
def check(recipe: GivenRecipe, *, smoke: bool = False) -> CheckReport:
    """Everything that can be found wrong without training; one real batch goes through the real model.

    Args:
        recipe: a recipe, the path of its file, or a dictionary.
        smoke: with the stand-in and sample data of a smoke run.

    Raises:
        UserError: what is wrong.
    """
    hush_libraries()
    recipe = as_recipe(recipe)
    say_code(recipe)
    if smoke:
        recipe = smoke_recipe(recipe, train)
    with recipe.located(), scratch() as folder:
        recipe = pinned(recipe)
        limit = memory_limit(recipe)
        recipe, _ = settle_strategy(recipe)
        parts = build(row_by_row(recipe), Path(folder), [])
        if recipe.training.finds_batch:
            recipe = find_batch(recipe, parts, limit).applied(recipe)
        require_measurable(recipe, parts)
        counts = count_parameters(parts.model)
        trained = f"{counts.trainable:,} trainable of {counts.total:,} ({counts.trainable_percent:.4f} %)"
        lengths = {f"{name} rows": facts.words() for name, facts in parts.data.facts.items()}
        return CheckReport({"parameters": trained, **lengths, **probe(parts)})


@offline_mode_kept()
def plan(recipe: GivenRecipe, *, device: str | None = None, vram: float | None = None, measure: bool = True) -> Plan:
    """What a run will take: parameters, memory by part, steps, disk, of config.json alone; and time, where weights are here.

    Args:
        device: cpu or cuda; default what this machine has.
        vram: GiB of memory there are; the plan then says whether the run fits, and what would make it fit.
        measure: make a few steps where the model's weights are here; without them no time is told.

    Raises:
        UserError: config.json cannot be had, or something in the recipe does not fit it.
    """
    hush_libraries()
    recipe = as_recipe(recipe)
    say_code(recipe)
    with recipe.located():
        recipe = pinned(recipe, weights=False, needed=("model",))
        planned = plan_choice if recipe.strategy.name == "auto" else make_plan
        return planned(recipe, device, vram, measure=measure)


@offline_mode_kept()
def preview(
    recipe: GivenRecipe, *, rows: int = 5, split: str = "train", smoke: bool = False, anyway: bool = False
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
    recipe = as_recipe(recipe)
    require_shown(recipe, rows, split, smoke=smoke)
    say_code(recipe)
    if smoke:
        recipe = smoke_recipe(recipe, train)
    recipe = in_one(recipe)
    block, training, gate = recipe.data, recipe.training, allowances(recipe)
    if block.streaming:
        block = block.model_copy(update={"judged_rows": STREAM_HEAD})  # a look at rows does not wait for all of them
    if anyway:
        console.say("the gate is open: rows that it would refuse are shown too")
        opened = dict.fromkeys(Gate.model_fields.keys() - {"similarity"}, 1.0)
        block = block.model_copy(update={"gate": gate.model_copy(update=opened)})
    with recipe.located():
        recipe = pinned(recipe, weights=False)
        task, tokenizer, config = TASKS[recipe.task](block), load_tokenizer(recipe.model), load_config(recipe.model, {})
        task.auto_class(config)  # refuses a model that cannot do the task
        parts = ("train", "eval", "test") if split == "test" else ("train", "eval")
        data = prepare(recipe.model_copy(update={"data": block}), task, tokenizer, config, parts)
        size = training.per_device_train_batch_size if split == "train" else training.per_device_eval_batch_size
        title = f"{recipe.task} · {model_name({'model': recipe.model.name})}"
        return make_preview(
            data, split, tokenizer, task.config_values().get("id2label", {}), gate,
            title=title, count=rows, batch_size=size, pairs=has_targets(task, config), faulty_first=anyway,
        )  # fmt: skip


def require_shown(recipe: Recipe, rows: int, split: str, *, smoke: bool) -> None:
    """Raises UserError where there is nothing to show."""
    if rows < 1:
        raise UserError(f"{rows} rows cannot be shown", "give 1 or more", "--rows")
    if split not in SPLITS:
        raise UserError(f"no split '{split}'", f"there are {', '.join(SPLITS)}", "--split")
    if split == "test" and smoke:
        raise UserError("a smoke run has no test rows", "leave --smoke out", "--split")
    if split == "test" and not recipe.data.names_test:
        raise UserError("the recipe has no test rows", "set data.test or data.test_size", "--split")


@offline_mode_kept()
def evaluate(
    target: str | Path,
    *,
    recipe: str | Path | None = None,
    task: str | None = None,
    data: str | None = None,
    split: str = "eval",
    revision: str | None = None,
    trust_code: bool = False,
) -> Score:
    """Measure a run's model, or any local or hub model.

    Args:
        target: a run's folder; or a model folder or hub id, given a recipe, or a task and data.
        recipe: where task and data stand, for a model that is no run.
        task: the task, where there is no recipe.
        data: rows to measure on in place of the recipe's.
        split: which split of the recipe's data: eval, test or train.
        revision: of a hub id: a branch, a tag or a commit.
        trust_code: code that a run's folder brings may be run.

    Raises:
        UserError: the target cannot be measured so.
    """
    given = Path(recipe) if recipe is not None else None
    return evaluate_target(
        resolve_target(
            str(target), recipe=given, task=task, data=data, split=split, revision=revision, trust_code=trust_code
        )
    )


def evaluate_target(target: Target) -> Score:
    """Measure what the command line or `evaluate` has resolved."""
    hush_libraries()
    run = run_of(target)
    blaming = blaming_damage(run) if run else nullcontext()
    with target.recipe.located(), scratch() as folder, blaming:
        parts = build_for_evaluation(target, Path(folder))
        found = measured("model", target.recipe, parts)
    generated = sum("generated" in row for row in found.rows)
    estimates = estimate_all({TUNED: found.resamplers}, target.recipe.training.seed)[TUNED]
    caveats = parts.data.caveats(target.split) + known_caveats(target, parts)
    return Score(
        target.name, target.recipe.task, target.split, found.count, generated, found.metrics,
        {name: estimate.interval() for name, estimate in estimates.items()}, found.rows, caveats,
        found.details,
    )  # fmt: skip


@offline_mode_kept()
def benchmark(
    target: str | Path, names: Sequence[str], *, data_dir: str | Path | None = None, limit: int | None = None,
    revision: str | None = None, trust_code: bool = False,
) -> BenchmarkScores:  # fmt: skip
    """Public benchmarks by lm-evaluation-harness: a run's baseline beside its tuned model, or any model alone.

    Args:
        names: as arc_easy or mmlu.
        data_dir: a folder with the benchmarks' files; without it they come from the hub.
        limit: the first so many documents of each task.
        revision: of a hub id.
        trust_code: code that a run's folder brings may be run.

    Raises:
        UserError: what cannot be run; nothing was.
    """
    hush_libraries()
    return benchmark_target(
        str(target), names, Path(data_dir).expanduser() if data_dir is not None else None, limit, revision,
        trust_code=trust_code,
    )  # fmt: skip


def known_caveats(target: Target, parts: Parts) -> list[str]:
    """What a run's own report says of the same rows; of others, how many of them it was trained on."""
    run = run_of(target)
    return [*map(other_base, base_changes(run)), *caveats_of_rows(run, target, parts)] if run else []


def caveats_of_rows(run: Run, target: Target, parts: Parts) -> list[str]:
    """As `known_caveats`, of the rows alone."""
    split = target.split
    if split == "train" and target.own_rows:
        return ["these are rows that the run was trained on"]
    known = run.record.get("data", {}).get(split, {})
    if split == "train" or parts.data.describe()["eval"]["sha256"] != known.get("sha256"):
        changed = f"the data changed since the run: these are not its {split} rows, and may be among its training rows"
        unseen = f"the run did not look for its {split} rows among its training rows"
        with console.status("looking for the run's training rows"):
            found = training_row_caveats(run, kept_rows(parts.data, "eval"), parts.data.ledger)
        return [changed if known else unseen, *found] if target.own_rows else found
    if split == "eval":
        caveats = read_object(run.metrics_file, {"caveats": list}).get("caveats", [])
    else:
        caveats = read_object(run.data_report, DATA_REPORT, ("caveats",))["caveats"].get(split, [])
    return [caveat for caveat in caveats if caveat not in parts.data.caveats(split)]


def run_of(target: Target) -> Run | None:
    """The finished run that the target's model was trained by, named itself or by the folder of its model."""
    model = (target.trained or Path(target.name)).resolve()
    run = Run(model.parent)
    return run if is_run(run.folder) and model == run.model.resolve() else None


@offline_mode_kept()
def verify(folder: str | Path, *, trust_code: bool = False) -> CheckReport:
    """Check that a run's saved model is what was trained, and that the run still is what it says.

    A new process loads model/ by plain transformers or peft: the trained tensors are there as they were in memory and moved,
    a few eval rows get the scores that they had in memory, and their loss is the one that the run reports. The prompts come
    out as in training, and recipe and data are those of the run.

    Args:
        trust_code: code that the folder brings may be run.

    Raises:
        UserError: the folder holds no finished run.
        Unverified: one of this is not so; the message says each, for prompts with the tokens that differ.
    """
    run = Run(run_folder(folder))
    if not run.record_file.is_file():
        require_files(run)
    if not run.record_file.is_file():
        raise UserError(f"{folder} holds no finished run", "name a run's folder, as runs/my_recipe")
    require_finished(run)
    require_trust(run.folder, trust_code)
    require_files(run)
    hush_libraries()
    with blaming_damage(run):
        return verify_run(run)


def verify_run(run: Run) -> CheckReport:
    """As `verify`."""
    edited, moved = recipe_failures(run), what_moved(run.record.get("hub", []))
    files, other = check_files(run)
    if edited:
        require_recipe(run, [*edited, *other])
    require_base(run)
    facts, failures = check_weights(run, edited=bool(edited))
    facts |= {"hub": "; ".join(moved)} if moved else {}
    prompts, differing = check_prompts(run)
    with console.status("reading the data"):
        changed, data = data_findings(run)
    failures += [*differing, *edited, *changed, *map(other_base, base_changes(run))]
    failures += [line for line in other if not any(Path(line.partition(": ")[0]).name in told for told in failures)]
    if failures:
        raise Unverified("\n".join(failures))
    history = "; ".join(forced_words(run.record))
    return CheckReport({**facts, "prompts": prompts, "recipe": "as it was when the run began", "data": data,
                        "files": files, "code": code_words(run), **({"history": history} if history else {})})  # fmt: skip


def check_files(run: Run) -> tuple[str, list[str]]:
    """Whether the files are as they were when the run ended, in words; and which are not."""
    if not run.seal.is_file():
        return "not checked: the run noted no sums of them, as one of an earlier version or from the hub", []
    with console.status("reading the files"):
        try:
            found = changed_files(run)
        except Damaged as error:
            return "", [str(error)]
    return "as they were when the run ended", [
        f"{run.folder / name}: not as when the run ended: {what}" for name, what in found.items()
    ]


def require_recipe(run: Run, failures: list[str]) -> None:
    """Raises Unverified with all that is known, where the recipe was changed so that nothing can be loaded by it."""
    try:
        run.read_recipe()
    except UserError:
        raise Unverified("\n".join(failures)) from None


def require_base(run: Run) -> None:
    """Make sure that what an adapter stands on is at hand, at the commit that it was trained on.

    Raises:
        Unverified: it cannot be had; nothing can be loaded then.
    """
    if not (run.model / "adapter_config.json").is_file():
        return
    try:
        fetch_weights(pinned(run.read_recipe(), ("model",)).model)
    except UserError as error:
        raise Unverified(f"{run.model} is an adapter, and its base cannot be had: {error}") from error


@contextmanager
def publication(
    run: Run, name: str | None, *, private: bool = False, with_rows: bool = False, unverified: bool = False,
    trust_code: bool = False,
) -> Iterator[Publication]:  # fmt: skip
    """What of a run will be public on the hub, and where; `send` pushes it.

    Args:
        unverified: also a run whose saved model was not found to be what was trained, or that is one of a stand-in.
        trust_code: code that the folder brings may be run.

    Raises:
        UserError: it is not to be pushed so.
    """
    require_trust(run.folder, trust_code)
    hush_libraries()
    with offline_mode_kept(), claimed(run.folder, "writing what is pushed", ""):
        if not unverified:
            require_recorded(run)
        require_usable(run)
        repository = repository_for(run, name)
        if not unverified:
            require_verified(run)  # last: it loads the model
        with make_publication(run, repository, private=private, with_rows=with_rows) as found:
            yield found


def require_recorded(run: Run) -> None:
    """Raises UserError where nobody has seen that the run's saved model is what was trained."""
    if is_smoke(run):
        raise UserError("a smoke run trained a stand-in on sample data", "train it without --smoke", str(run.folder))
    if not is_recorded(run.verification):
        raise UserError("the run was not verified (evaluation.verify: false)", PUSH_HINT, str(run.folder))


def require_verified(run: Run) -> None:
    """Raises UserError where a run's saved model is not, or no longer, what was trained."""
    require_base(run)
    edited = recipe_failures(run)
    failures = [*edited, *map(other_base, base_changes(run))]
    failures += [*check_weights(run, edited=bool(edited))[1], *check_prompts(run)[1]]
    if failures:
        raise UserError(f"NOT VERIFIED: {failures[0].splitlines()[0]}", PUSH_HINT, str(run.folder))


def check_weights(run: Run, *, edited: bool) -> tuple[dict[str, str], list[str]]:
    """What a new process makes of the saved model, in words; and what is wrong with it, or with what the run reports of it.

    Args:
        edited: the recipe is no longer the run's, and does not tell how to read what was measured.
    """
    try:
        recorded = is_recorded(run.verification)
    except Damaged as error:
        return {}, [str(error)]
    if not recorded:
        shared = "what they are held against is not in the folder, as of a run pushed without --with-rows"
        why = shared if run.record.get("verified") else "the run recorded no scores (evaluation.verify)"
        return {"weights": f"not checked: {why}"}, []
    measured, unread = None, list[str]()
    if not edited:
        recipe = run.read_recipe()
        try:
            measured = read_measured(run, recipe)
            unread = figure_failures(run, recipe, measured) if measured else []
        except UserError as error:
            unread = [str(error)]
    with console.status("loading the saved model in a new process"):
        own_code = bool(run.record.get("load", {}).get("arguments", {}).get(OWN_CODE))
        try:
            found = verify_model(run.model, run.verification, measured, own_code=own_code)
        except Damaged as error:
            return {}, [str(error), *unread]
    return ({} if found.failures else found.facts()), [*(f"{run.model}: {line}" for line in found.failures), *unread]


def check_prompts(run: Run) -> tuple[str, list[str]]:
    """What plain transformers makes of the recorded prompts, in words; and what is wrong with it."""
    try:
        recorded = object_if_there(run.data_report, DATA_REPORT).get("prompts", [])
    except Damaged as error:
        return "", [str(error)]
    entries = [entry for entry in recorded if "ids" in entry]  # of a run that was pushed without rows they are not there
    own_code = run.record.get("load", {}).get("arguments", {}).get(OWN_CODE, False)
    try:
        load_tokenizer(Model(name=str(run.model), trust_remote_code=own_code))
    except UserError as error:
        return "", [error.message]
    if differences := compare_prompts(run.model, entries, own_code=own_code):
        first = differences[0]
        message = (
            f"{run.model}: {len(differences)} of {len(entries)} prompts are not those of training; {first.row} has "
            f"{first.saved} tokens where it was trained on {first.trained} (- trained, + saved):\n{first.diff}"
        )
        return "", [message]
    if entries:
        return f"{len(entries)} prompts have the token ids of training", []
    return "not checked: the run was pushed without them" if recorded else "this task has no prompts", []


@offline_mode_kept()
def predictor(
    run: Run, source: Source | None = None, *,
    max_length: int | None = None, max_new_tokens: int | None = None, batch_size: int | None = None, skip_bad: bool = False,
    trust_code: bool = False,
) -> Predictor:  # fmt: skip
    """A finished run's model, ready to answer rows.

    Args:
        source: where the rows will come from, which is looked at before the model is loaded.
        trust_code: code that the folder brings may be run.

    Raises:
        UserError: the source holds no rows of the run's kind, or the model cannot be loaded.
    """
    require_trust(run.folder, trust_code)
    hush_libraries()
    recipe = run.read_recipe()
    if source is not None:
        require_first_row(source, recipe, skip_bad=skip_bad)
    with recipe.located(), blaming_damage(run):
        trained = load_run(run, max_length=max_length, max_new_tokens=max_new_tokens)
        return Predictor(trained, batch_size=batch_size, skip_bad=skip_bad)


def compare(folders: Sequence[str | Path]) -> Comparison:
    """Finished runs side by side: metrics with their intervals, parameters, memory, time, disk, forgetting.

    Raises:
        UserError: one of them is no finished run.
    """
    return compare_runs([Path(folder).expanduser() for folder in folders])


@offline_mode_kept()
def conversation(
    run: Run, *, max_new_tokens: int | None, temperature: float, seed: int, trust_code: bool = False
) -> Conversation:
    """A finished run's model, ready to be talked to.

    Args:
        trust_code: code that the folder brings may be run.
    """
    require_trust(run.folder, trust_code)
    hush_libraries()
    recipe = run.read_recipe()
    with recipe.located(), blaming_damage(run):
        require_generating(recipe)
        return Conversation(load_run(run, max_new_tokens=max_new_tokens), temperature=temperature, seed=seed)


def predict(
    folder: str | Path,
    rows: str | Path | Iterable[dict[str, Any]],
    *,
    batch_size: int | None = None,
    max_new_tokens: int | None = None,
    trust_code: bool = False,
) -> Iterator[dict[str, Any]]:
    """What a run's model says to rows, one object a row in their order, each predicted when it is asked for.

    Args:
        folder: the run's.
        rows: a file that training reads, or rows in memory; answers in them are not looked at.
        batch_size: rows at a time; default as in the recipe.
        max_new_tokens: the longest answer; default the recipe's.
        trust_code: code that the folder brings may be run.

    Raises:
        UserError: the run is not finished, or a row is bad.
    """
    source = Source(str(rows)) if isinstance(rows, str | Path) else None
    if source is not None:
        require_readable(source)
    run = finished_run(Path(folder).expanduser())
    made = predictor(run, source, batch_size=batch_size, max_new_tokens=max_new_tokens, trust_code=trust_code)
    given = opened_rows(source, made.trained.recipe) if source is not None else nullcontext(given_rows(rows))  # type: ignore[arg-type]
    with given as found:
        for batch in made.batches(found):
            yield from batch


@dataclass(frozen=True)
class Built:
    """What a run starts with: the recipe, with the strategy and the batch where those were found, and its parts.

    Attributes:
        text: on which forgetting is measured, or None.
        batch: that was found, or None.
        choice: what the strategy was chosen from, or None.
    """

    recipe: Recipe
    parts: Parts
    text: GeneralText | None
    batch: BatchSize | None
    choice: dict[str, Any] | None


def _train(
    recipe: Recipe, run: Run, claim: Claim, *, resume: bool, stands_for: str, force: bool = False,
    expect: Callable[[Built], None] = lambda _: None,
) -> Result:  # fmt: skip
    """As `train`.

    Args:
        claim: on the run's folder, where it is said what is going on.
        stands_for: in a smoke run, the model in whose place a stand-in is; else empty.
        expect: looks at what the run starts with, before anything is written.
    """
    found = checkpoint_to_go_on(run, best=bool(recipe.training.load_best_model_at_end)) if resume else None
    inputs = settle_inputs(recipe, run, resume=resume, force=force)
    account, stop = Account(run), StopOnSignal()
    forecast = ForecastTime(run)
    built = build_run(recipe, run, [stop, forecast, account, TellStep(claim)], resume=resume)
    recipe, parts = built.recipe, built.parts
    expect(built)
    inputs = with_rows_compared(inputs, run, parts.data.describe(), force=force) if resume else inputs
    place_tensorboard(parts.trainer, run.tensorboard)
    console.say(speed_words(parts.trainer))
    if found is not None and found.whole is None:
        console.say("there is no checkpoint yet: the run begins at step 0")
    with recorded(run):
        checkpoint = found.settle() if found is not None else None
        with console.status("writing down what the run begins with", after=console.SOON):
            if checkpoint is None:
                record_start(run, built, {"smoke": {"stands_for": stands_for}} if stands_for else {})
                write_inputs(run, with_fetched(inputs.now, recipe.model))
            else:
                record_going_on(run, account, checkpoint)
                if inputs.changes:
                    record_forced(run, inputs, step_of(checkpoint), describe(recipe, parts))
            write_json(run.data_report, data_report(parts))
        keep_watch(run, parts.trainer)
        claim.at("measuring the baseline")
        with in_numbers(recipe, run, parts):
            known = checkpoint is not None and not inputs.changes
            before = measure_before(recipe, run, parts, built.text, known=known)
        if before.baseline is not None and checkpoint is None:
            tell_trackers(parts.trainer, "baseline", before.baseline.metrics)
        if recipe.evaluation.verify:
            with console.status("taking down the model as it is", after=console.SOON):
                note_untrained(run, parts)
        claim.at("training")
        fit(recipe, run, parts, Watching(account, stop, forecast), checkpoint)
        claim.at("saving and measuring")
        with in_numbers(recipe, run, parts):
            tuned = save_and_measure(recipe, run, parts)
        claim.at("writing the report")
        return finish(recipe, run, parts, before, tuned, account)


def build_run(recipe: Recipe, run: Run, callbacks: list[TrainerCallback], *, resume: bool) -> Built:
    """The parts of a run, with strategy and batch where they are to be found; if that fails, nothing is left in its folder.

    Raises:
        UserError: something is wrong that the user can mend.
    """
    limit = memory_limit(recipe)
    recipe, choice = settle_strategy(recipe, run, resume=resume)
    batch = known_batch(recipe, run, resume=resume)
    if batch is not None:
        recipe = batch.applied(recipe)
    if resume:
        require_same_recipe(run, recipe)
    try:
        parts = build(row_by_row(recipe), run.checkpoints, [*callbacks, SealCheckpoints(run)])
        if recipe.training.finds_batch:
            batch = find_batch(recipe, parts, limit)
            recipe = batch.applied(recipe)
        return Built(recipe, parts, require_measurable(recipe, parts), batch, choice)
    finally:
        remove_empty(run)


def record_start(run: Run, built: Built, fields: dict[str, Any]) -> None:
    """Open the run folder, with the recipe and all that is known of the run before it begins.

    Args:
        fields: what run.json says beside.
    """
    recipe, parts = built.recipe, built.parts
    hub_ids = sorted({repository.name for repository in hub_names(recipe)})
    names: dict[str, Any] = {"name": run.folder.name, "model": recipe.model.name, "hub_ids": hub_ids, "hub": recipe.pins}
    names |= {"task": recipe.task, "strategy": recipe.strategy.name}
    if built.batch is not None:
        names["batch_size"] = asdict(built.batch)
    if built.choice is not None:
        names["strategy_choice"] = built.choice
    known = {**fields, **names, **environment(Path(recipe.source).absolute().parent), **describe(recipe, parts)}
    start_run(run, recipe, known)
    run.update(fingerprints=fingerprints(run), plan=planned(recipe, parts))


def record_going_on(run: Run, account: Account, checkpoint: Path) -> None:
    """Take the run up again at a checkpoint: what came after it is done anew, and what went wrong is mended."""
    step = step_of(checkpoint)
    account.go_on(checkpoint, step)
    run.seal.unlink(missing_ok=True)
    run.forget("error", "finished", LOST_BEST)
    run.forget_steps(step)
    if lost := lost_steps(run, checkpoint):
        shown = ", ".join(map(str, lost[:5])) + (", …" if len(lost) > 5 else "")
        console.warn(f"{run.log_file}: of {len(lost)} steps nothing is left ({shown}), and the report's curve lacks them")
    run.update(state=TRAINING, resumed=[*run.record.get("resumed", []), step], parts=account.earlier)
    console.say(f"going on from step {step}")


def note_untrained(run: Run, parts: Parts) -> None:
    """Write down what the model is before training, for verifying what becomes of it."""
    foretells = parts.task.auto_class(parts.config) is AutoModelForCausalLM
    rows, collate = parts.data.encoded["eval"].dataset, parts.trainer.data_collator
    begin(run.verification, parts.model, rows, run.record["load"], collate, shift=foretells)


def save_and_measure(recipe: Recipe, run: Run, parts: Parts) -> Measurement:
    """The tuned model saved, then measured while another process loads what was saved, where the recipe has it verified."""
    notes = run.verification if recipe.evaluation.verify else None
    with reloading(run.model, notes, own_code=recipe.model.trust_remote_code) as reloader:
        # before measuring, so that no fault there can lose it
        save_model(parts.model, parts.tokenizer, run.model, parts.task.prompt_forms())
        if reloader:
            reloader.saved(parts.model.device.type)
        tuned = measured("tuned", recipe, parts)
        keep(tuned, run.outputs / "tuned.npz")
        if reloader:
            reported = as_measured(parts.task, tuned.outputs) if tuned.outputs else None
            rough = autocast_dtype(parts.trainer.args) is not None or bool(parts.trainer.args.tf32)
            run.update(verified=conclude(run.verification, parts.model, reloader, reported, rough=rough))
    return tuned


def describe(recipe: Recipe, parts: Parts) -> dict[str, Any]:
    """What run.json says of the parts."""
    counts, arguments = count_parameters(parts.model), parts.trainer.args
    adapter = hasattr(parts.model, "peft_config")  # the mark that transformers itself goes by
    auto_class, num_labels = parts.task.auto_class(parts.config), parts.task.config_values().get("num_labels")
    labels = parts.task.head.labels if parts.task.head else []
    return {
        "seed": arguments.seed,
        "precision": precision_words(autocast_dtype(arguments)),
        "speed": speed_facts(parts.trainer),
        "speed_off": speed_reasons(parts.trainer),
        "padding_matters": parts.trainer.padding_matters,
        "device": str(arguments.device),
        "process": process_facts(),
        "parameters": asdict(counts) | {"trainable_percent": counts.trainable_percent},
        "data": parts.data.describe(),
        "max_length": parts.data.max_length,
        "auto_class": auto_class.__name__,
        "adapter": adapter,
        "num_labels": num_labels,
        **({"head": parts.task.head.describe()} if parts.task.head else {}),
        "serving": parts.task.serving(parts.tokenizer),
        **({"label_scale": scale.describe()} if (scale := parts.trainer.label_scale) and scale.scale != OWN else {}),
        "load": loading(parts.model, auto_class, recipe.model, num_labels, parts.model.device.type, labels),
    }


def planned(recipe: Recipe, parts: Parts) -> dict[str, dict[str, int]] | None:
    """What run.json says beforehand of what the run will take; of a stream nobody knows the longest row."""
    if parts.data.stream:
        return None
    return predicted_peaks(recipe, parts.task, parts.config, parts.data, parts.trainer.settled)


def data_report(parts: Parts) -> dict[str, Any]:
    """Every input row accounted for, and some prompts as they are trained on, for `verify`."""
    data, pairs = parts.data, parts.config.is_encoder_decoder
    prompts = [
        entry
        for name, rows in data.rows.items()
        for entry in record(parts.task, rows, data.encoded[name], data.ledger, pairs)
    ]
    return {**data.report(parts.trainer.args.per_device_train_batch_size), "prompts": prompts}


@dataclass(frozen=True)
class Watching:
    """The callbacks that a run asks something of, beside training."""

    account: Account
    stop: StopOnSignal
    forecast: ForecastTime


def fit(recipe: Recipe, run: Run, parts: Parts, watching: Watching, checkpoint: Path | None) -> None:
    """Train.

    Raises:
        Interrupted: a signal asked to stop; the checkpoint is saved.
        Diverged: the training diverged; what is good of it is kept.
    """
    trainer, account, stop = parts.trainer, watching.account, watching.stop
    account.start_training()
    watching.forecast.trained = account.trained
    progress = ShowProgress(recipe.evaluation.metrics or recipe.spec.default_metrics, parts.task.metric_details())
    for callback in (progress, WriteLog(run, account.trained)):
        trainer.add_callback(callback)
    trainer.count = account.take
    keep_parts_small(run, trainer)
    if parts.frozen is not None:
        take_kept_rows(parts)
        run.update(frozen_body=parts.frozen.describe())
    seed_everything(recipe)  # measuring the baseline may have drawn numbers
    with trainer.scaling_labels():
        if checkpoint is not None and load_finished(trainer, checkpoint):
            account.end_training({})
            return
    try:
        with stop.listening(), peak_within() as peak, run.patience():
            learn(recipe, run, parts, checkpoint, progress.close)
    finally:
        progress.close()
    account.end_training(peak)
    step = trainer.state.global_step
    if stop.asked and (step < trainer.state.max_steps or (run.checkpoints / f"checkpoint-{step}").is_dir()):
        raise Interrupted(run.folder, step, stop.number)
    if trainer.args.load_best_model_at_end and (lost := run.record.get(LOST_BEST)):
        hint = f"go on with --resume --output-dir {shlex.quote(str(run.folder))}, which trains again from before it"
        raise UserError(f"the best of the steps is {lost}, whose checkpoint the disk did not take", hint, str(run.folder))


def keep_parts_small(run: Run, trainer: Trainer) -> None:
    """Where memory runs out while training, it goes into run.json; a resumed run knows it from there."""
    before = run.record.get("out_of_memory", [])
    trainer.most_rows = before[-1]["rows"] if before else None
    trainer.tell = lambda found: run.update(out_of_memory=[*run.record.get("out_of_memory", []), found])


def finish(recipe: Recipe, run: Run, parts: Parts, before: Before, tuned: Measurement, account: Account) -> Result:
    """Write metrics, predictions, analysis, record and card."""
    texts = own_texts(parts.data.encoded["eval"], tuned, parts.tokenizer)
    rows = join_rows(parts.data.rows["eval"], before.baseline, tuned, row_names(parts, tuned), texts)
    metrics = evidence(recipe, run, parts, before, tuned)
    write_json(run.metrics_file, metrics)
    write_jsonl(run.predictions_file, rows)
    write_json(run.analysis_file, error_analysis(recipe, parts, rows, before.baseline, tuned))
    if parts.data.stream is not None:
        write_json(run.data_report, data_report(parts))  # the stream is counted now
    tell_trackers(parts.trainer, "tuned", tuned.metrics, ended=True)
    state = parts.trainer.state
    kept = state.best_global_step if parts.trainer.args.load_best_model_at_end else state.global_step
    run.settle()
    drop_damaged(run.checkpoints)
    run.update(steps=state.global_step, kept_step=kept or state.global_step, finished=now(), result=main_result(metrics))
    account.close(state)
    with console.status("writing the report", after=console.SOON):
        write_report(run)
    remember_run(run.folder)
    end_run(run)
    if unknown := [name for name, value in tuned.metrics.items() if not np.isfinite(value)]:
        console.warn(f"not a number on these rows: {', '.join(unknown)}")
    return Result(run.folder, metrics, run.record)


def main_result(metrics: dict[str, Any]) -> dict[str, Any]:
    """What run.json says of the metric that the verdict is about."""
    metric = metrics["verdict"]["metric"]
    return {"metric": metric, **{name: (metrics.get(name) or {}).get(metric) for name in ("baseline", "tuned")}}


@contextmanager
def recorded(run: Run) -> Iterator[None]:
    """Whatever ends the block, run.json says how."""
    try:
        yield
    except (Interrupted, KeyboardInterrupt) as error:
        arrived()
        with signals_held():
            record_interruption(run, error)
        raise
    except Exception as error:
        if run.record_file.is_file():
            note_end(run, error, state=FAILED, error=f"{type(error).__name__}: {error}"[:2000])
        else:
            run.recipe_file.unlink(missing_ok=True)  # alone it is no run, and would stand in the way of one
        say_what_is_kept(run)
        if refusal(error):
            raise refused(error, run.folder, how_to_go_on(run)) from error
        raise


def record_interruption(run: Run, error: BaseException) -> None:
    """Write down and say that a run was interrupted, unless it is finished, or was never begun."""
    if run.state in (FINISHED, ""):
        sweep(run)
        return
    note_end(run, error, state=INTERRUPTED)
    say_what_is_kept(run)
    if isinstance(error, KeyboardInterrupt):
        console.warn(f"interrupted; go on with the same command and --resume --output-dir {shlex.quote(str(run.folder))}")


def note_end(run: Run, ended_by: BaseException, **fields: str) -> None:
    """Let run.json say how the run ended, where the disk takes it."""
    try:
        run.update(finished=now(), **fields)
        run.settle()
    except OSError as second:
        if not refusal(second):
            raise ended_by from None


def how_to_go_on(run: Run) -> str:
    """What to do once there is space, and what is there already."""
    last = next((step_of(checkpoint) for checkpoint in newest_first(run.checkpoints) if is_sealed(checkpoint)), 0)
    if not is_run(run.folder):
        return "free some, then start it again"
    saved = f"the model is saved in {run.model}; " if run.model.is_dir() else ""
    start = f"from step {last}" if last else "from the start"
    return f"{saved}free some, then go on {start} with --resume --output-dir {shlex.quote(str(run.folder))}"


def say_what_is_kept(run: Run) -> None:
    if run.replaced.is_dir():
        console.say(f"the finished run that this one was to replace is kept in {run.replaced}")
