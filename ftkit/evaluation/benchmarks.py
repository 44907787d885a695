"""`ftkit eval --benchmarks`: public benchmarks by the Language Model Evaluation Harness, baseline beside tuned.

The harness asks the model and scores the answers; ftkit hands it the models, tells it where rows are, and compares two
models on the same documents.
"""

import difflib
import gc
import importlib.util
import io
import json
import logging
import random
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, redirect_stderr
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Group
from rich.text import Text

from ftkit import console
from ftkit.errors import UserError
from ftkit.evaluation.benchmark_data import BENCHMARKS, write_local_tasks
from ftkit.evaluation.benchmark_models import contenders
from ftkit.hub.door import looked_up
from ftkit.hub.names import Repository
from ftkit.hub.offline import online
from ftkit.metrics.estimates import RESAMPLES, estimate_all
from ftkit.metrics.intervals import difference_interval
from ftkit.metrics.resampling import Resampler, of_means, of_share
from ftkit.metrics.scales import LEVEL
from ftkit.models.counts import count_parameters
from ftkit.models.load import first_line
from ftkit.scratch import scratch

HARNESS_SEED, HARNESS_FEWSHOT_SEED = 0, 1234  # what the harness itself starts from unless told otherwise
SEED = 42


@dataclass(frozen=True)
class Value:
    """A model's score and the harness's standard error of it; None where one document has none."""

    value: float
    stderr: float | None


@dataclass(frozen=True)
class BenchmarkScore:
    """One metric of one benchmark.

    Attributes:
        models: by "baseline" and "tuned", or by "model" alone.
        difference: tuned less baseline, with the interval of a bootstrap over the same documents.
    """

    benchmark: str
    metric: str
    documents: int
    fewshot: int
    models: dict[str, Value]
    difference: float | None
    interval: tuple[float, float] | None


@dataclass(frozen=True)
class BenchmarkScores:
    """What `ftkit eval --benchmarks` reports. `parts` are the subjects of a benchmark that has some."""

    target: str
    parameters: dict[str, int]
    scores: list[BenchmarkScore]
    parts: list[BenchmarkScore]
    limit: int | None
    batch_size: int
    versions: dict[str, Any]
    caveats: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """As one object; what is not a number, as after training that diverged, is null."""
        sampling = {"level": LEVEL, "resamples": RESAMPLES, "seed": SEED}
        values: dict[str, Any] = json.loads(json.dumps(asdict(self)), parse_constant=lambda _: None)
        return {**values, "intervals": sampling}

    def table(self) -> Group:
        names = list(self.scores[0].models)
        compared = ["difference, 95 % interval"] if len(names) > 1 else []
        columns = ["benchmark", "documents", *(f"{name} ± stderr" for name in names), *compared]
        size = next(iter(self.parameters.values())) / 1e6
        title = f"{self.target} · {size:,.2f} M parameters · lm-evaluation-harness {self.versions['lm_eval']}"
        grid = console.table(title, columns, [row_of(score) for score in self.scores])
        return Group(grid, *(Text(f"read with care: {caveat}", style="yellow") for caveat in self.caveats))


def row_of(score: BenchmarkScore) -> list[str]:
    values = [
        f"{value.value:.4f}" + (f" ± {value.stderr:.4f}" if value.stderr is not None else "")
        for value in score.models.values()
    ]
    row = [f"{score.benchmark} {score.metric}", f"{score.documents:,}", *values]
    if score.difference is not None and score.interval is not None:
        row.append(f"{score.difference:+.4f} ({score.interval[0]:+.4f} to {score.interval[1]:+.4f})")
    return row


def benchmark_target(
    target: str, names: Sequence[str], data_dir: Path | None, limit: int | None, revision: str | None = None,
    *, trust_code: bool = False,
) -> BenchmarkScores:  # fmt: skip
    """Run the benchmarks on a run's two models, or on one model.

    Args:
        data_dir: a folder with the benchmarks' files; without it they come from the hub.
        limit: documents of each task, the first ones; of MMLU, of each subject.
        revision: of a hub id.
        trust_code: code that a run's folder brings may be run.

    Raises:
        UserError: a name, a file, the package or the model is not as it must be; nothing was run.
    """
    names = known_names(names)
    if limit is not None and limit < 1:
        raise UserError(f"a limit of {limit} documents", "give 1 or more, or leave it out for all", "--limit")
    if importlib.util.find_spec("lm_eval") is None:
        raise UserError("benchmarks need the package lm-eval", "pip install 'ftkit[benchmarks]'", "--benchmarks")
    found = contenders(target, revision, trust_code=trust_code)
    results, parameters, cut = {}, {}, 0
    with scratch() as folder:
        manager, caveats = task_manager(names, data_dir, Path(folder))
        for name, loader in found.loaders.items():
            model, tokenizer = loader()
            parameters[name] = count_parameters(model).total
            with told_beside_bars(f"running {', '.join(names)} on the {name}"), quiet_harness() as messages:
                results[name] = run_harness(model, tokenizer, manager, names, limit, found.batch_size)
            cut = max(cut, messages.cut)
            del model
            gc.collect()
    if cut:
        caveats.append(f"prompts longer than the model takes lost their start: {cut:,} or more")
    return collect(target, names, results, parameters, limit, found.batch_size, caveats)


def known_names(names: Sequence[str]) -> list[str]:
    """The names, each once.

    Raises:
        UserError: there is none, or no such benchmark.
    """
    names = list(dict.fromkeys(name.strip() for name in names if name.strip()))
    for name in names:
        if name not in BENCHMARKS:
            near = difflib.get_close_matches(name.lower(), BENCHMARKS, n=1, cutoff=0.4)
            hint = f"did you mean {near[0]}? there are" if near else "there are"
            raise UserError(f"no benchmark '{name}'", f"{hint} {', '.join(BENCHMARKS)}", "--benchmarks")
    if not names:
        raise UserError("no benchmark is named", f"there are {', '.join(BENCHMARKS)}", "--benchmarks")
    return names


def task_manager(names: Sequence[str], data_dir: Path | None, folder: Path) -> tuple[Any, list[str]]:
    """The harness's definitions of these benchmarks, or those that read local files, and what to know of the files."""
    import lm_eval.tasks  # the extra

    root = Path(lm_eval.tasks.__file__).parent
    folders = sorted({root / BENCHMARKS[name].tasks for name in names})
    own = lm_eval.tasks.TaskManager(include_path=list(folders), include_defaults=False)
    if data_dir is None:
        require_hub(names, own.task_index)
        return own, []
    caveats = write_local_tasks(names, data_dir, own.task_index, folder)
    return lm_eval.tasks.TaskManager(include_path=folder, include_defaults=False), caveats


def require_hub(names: Sequence[str], entries: Mapping[str, Any]) -> None:
    """Raises UserError where a benchmark's rows are neither in the hub's cache nor can they be had from the hub."""
    sources = {name: Repository(source_of(name, entries), "dataset", key="--benchmarks") for name in names}
    try:
        looked_up(sources.values())
    except UserError as error:
        hint = f"{error.hint}, or give a folder with their files: --data-dir DIR"
        raise UserError(f"{', '.join(names)}: {error.message}", hint, "--benchmarks") from error


def source_of(name: str, entries: Mapping[str, Any]) -> str:
    """The hub's name of the rows that a task reads, of a group those of its first member."""
    entry = entries[name]
    if entry.cfg is None:
        return source_of(sorted(entry.tags)[0], entries)
    return str(entry.cfg["dataset_path"]) if "dataset_path" in entry.cfg else source_of(entry.cfg["task"][0], entries)


class CutPrompts(logging.Handler):
    """Takes the harness's messages, and counts those that say that a prompt was longer than the model takes."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.cut = 0

    def emit(self, record: logging.LogRecord) -> None:
        self.cut += "truncat" in record.getMessage().lower()


@contextmanager
def told_beside_bars(message: str) -> Iterator[None]:
    """On a terminal the harness's own bars follow the message; in a pipe, where they are not shown, it is told again."""
    if console.err.is_terminal:
        console.say(message)
        yield
        return
    with console.on_the_same_stream(), console.status(message):
        yield


@contextmanager
def quiet_harness() -> Iterator[CutPrompts]:
    """The harness's messages are counted, not printed; its progress bars stay where there is a terminal to see them."""
    logger, counter = logging.getLogger("lm_eval"), CutPrompts()
    handlers, passes_on, level = logger.handlers[:], logger.propagate, logger.level
    logger.handlers, logger.propagate = [counter], False
    logger.setLevel(logging.WARNING)
    try:
        yield counter
    finally:
        logger.handlers, logger.propagate = handlers, passes_on
        logger.setLevel(level)


def run_harness(
    model: Any, tokenizer: Any, manager: Any, names: Sequence[str], limit: int | None, batch_size: int
) -> dict[str, Any]:
    """What the harness's own `simple_evaluate` gives, less the minutes it may spend on describing the machine.

    Raises:
        UserError: the rows cannot be had from the hub.
    """
    import lm_eval  # the extra
    from lm_eval.models.huggingface import HFLM

    shown = console.err.is_terminal and not console.err.quiet
    with nullcontext() if shown else redirect_stderr(io.StringIO()):
        random.seed(HARNESS_SEED)
        np.random.seed(HARNESS_FEWSHOT_SEED)
        torch.manual_seed(HARNESS_FEWSHOT_SEED)
        try:
            with online():
                loaded = manager.load(list(names))
        except (OSError, ValueError) as error:
            message = f"the rows cannot be had: {first_line(error)}"
            raise UserError(message, "give a folder with the files: --data-dir DIR", "--benchmarks") from error
        for task in loaded["tasks"].values():
            if task.get_config("num_fewshot") is None:
                task.set_config(key="num_fewshot", value=0)
            task.set_fewshot_seed(seed=HARNESS_FEWSHOT_SEED)
        wrapped = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=batch_size)
        require_room(wrapped, loaded["tasks"])
        results: dict[str, Any] = lm_eval.evaluate(wrapped, loaded, limit=limit)
    return results


def require_room(wrapped: Any, tasks: Mapping[str, Any]) -> None:
    """Raises UserError where the model has no room for a prompt beside the answer that a task lets it generate."""
    for name, task in tasks.items():
        if task.OUTPUT_TYPE == "generate_until":
            room = task.config.generation_kwargs.get("max_gen_toks", wrapped.max_gen_toks)
            if wrapped.max_length <= room:
                message = f"{name} generates up to {room} tokens, and the model takes {wrapped.max_length} in all"
                raise UserError(message, "leave it out for this model", "--benchmarks")


def collect(
    target: str, names: Sequence[str], results: Mapping[str, dict[str, Any]], parameters: dict[str, int],
    limit: int | None, batch_size: int, caveats: list[str],
) -> BenchmarkScores:  # fmt: skip
    """Scores of the benchmarks that were asked for, and of their parts."""
    first = next(iter(results.values()))
    scores = {name: scores_of(name, results) for name in first["results"]}
    asked = [score for name in names for score in scores[name]]
    parts = [score for name, found in scores.items() if name not in names for score in found]
    if limit is not None:
        caveats.append(f"only the first {limit:,} documents of each task were asked")
    for name in names if limit is None else ():
        documents, published = scores[name][0].documents, BENCHMARKS[name].published
        if documents != published:
            caveats.append(f"{name}: {documents:,} documents; the set on the hub has {published:,}")
    versions = {"lm_eval": harness_version(), **{name: first["versions"][name] for name in names}}
    return BenchmarkScores(target, parameters, asked, parts, limit, batch_size, versions, caveats)


def harness_version() -> str:
    import lm_eval

    return lm_eval.__version__


def scores_of(name: str, results: Mapping[str, dict[str, Any]]) -> list[BenchmarkScore]:
    """The metrics of one task or group, each with the models' values and their difference."""
    first = next(iter(results.values()))
    scores = []
    for key, value in first["results"][name].items():
        metric, comma, chosen = key.partition(",")
        if not comma or metric.endswith("_stderr") or not isinstance(value, float):
            continue
        models = {model: value_of(found["results"][name], metric, chosen) for model, found in results.items()}
        documents = {model: by_document(found, name, metric, chosen) for model, found in results.items()}
        difference, interval = None, None
        if len(models) > 1:
            difference = models["tuned"].value - models["baseline"].value
            interval = paired_interval(documents["baseline"], documents["tuned"])
        shown = metric if chosen == "none" else f"{metric} ({chosen})"
        count, fewshot = len(next(iter(documents.values()))), first["n-shot"].get(name, 0)
        scores.append(BenchmarkScore(name, shown, count, fewshot, models, difference, interval))
    return scores


def value_of(found: Mapping[str, Any], metric: str, chosen: str) -> Value:
    stderr = found[f"{metric}_stderr,{chosen}"]
    return Value(float(found[f"{metric},{chosen}"]), None if isinstance(stderr, str) else float(stderr))


def by_document(results: Mapping[str, Any], name: str, metric: str, chosen: str) -> list[float]:
    """The metric of each document, in an order that two models share; those of a group are its tasks' one after another."""
    if name in results["samples"]:
        rows = [row for row in results["samples"][name] if row["filter"] == chosen]
        return [float(row[metric]) for row in sorted(rows, key=lambda row: int(row["doc_id"]))]
    members = defaultdict(list, results["group_subtasks"])[name]
    return [value for member in members for value in by_document(results, member, metric, chosen)]


def paired_interval(baseline: Sequence[float], tuned: Sequence[float]) -> tuple[float, float]:
    """The interval of the mean difference over the documents that both were given, of right and wrong by Tango's score."""
    found = estimate_all({"tuned": {"": mean_of(tuned)}, "baseline": {"": mean_of(baseline)}}, SEED)
    low, high = difference_interval(found["tuned"][""], found["baseline"][""])
    return low, high


def mean_of(values: Sequence[float]) -> Resampler:
    numbers = np.asarray(values, dtype=np.float64)
    return of_share(numbers) if ((numbers >= 0) & (numbers <= 1)).all() else of_means(numbers)
