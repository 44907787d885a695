"""Whether an ftkit run reaches what a script written by hand with `transformers.Trainer` reaches with the same settings.

    python benchmarks/against_plain_trainer.py                           every case; writes benchmarks/RESULTS.md
    python benchmarks/against_plain_trainer.py --quick                   a few rows of each, to see that it runs
    python benchmarks/against_plain_trainer.py --only lora-instruction   one case, or several: --only A B

Needs real data and models (`--shared`, default ../shared) and bitsandbytes; no network. Each case is one recipe. ftkit
trains it; the plain script (plain_trainer.py) gets the same rows, settings, seed and precision; that both made the same
token ids of them is checked. Exit status 1 where a case does not reach what it must.
"""

import argparse
import json
import math
import os
import shlex
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # before the libraries are imported

from ftkit import Result, evaluate, train  # isort: skip  # first, so that it prepares the process for torch
from datasets import Dataset
from plain_trainer import Outcome, answer, classify, encode_instruction, encode_summary
from safetensors import safe_open

from ftkit.data.splits import fingerprint, read_splits
from ftkit.models.load import load_config, load_tokenizer
from ftkit.recipe.load import load_values
from ftkit.recipe.schema import Recipe
from ftkit.run import now
from ftkit.tasks.base import Encoded
from ftkit.tasks.table import TASKS
from ftkit.training.prepare import prepare

HERE = Path(__file__).parent
ENCODERS = {"instruction": encode_instruction, "summarization": encode_summary}
QUICK_ROWS = 80
LEARNT = {"accuracy": 0.15, "loss": 0.3}  # so much better than before training, in accuracy or nats a token
WITHIN = {"accuracy": 0.01, "loss": 0.02}  # so much worse than the plain script, at most

# The settings of both sides, but for `bf16`: ftkit chooses it by the machine, the plain script is given the same.
SHARED_SETTINGS = {
    "per_device_eval_batch_size": 32,
    "eval_strategy": "no",
    "save_strategy": "no",
    "logging_steps": 50,
    "seed": 42,
}
CLASSIFIER_SETTINGS = {**SHARED_SETTINGS, "per_device_train_batch_size": 32, "num_train_epochs": 2}
ANSWER_SETTINGS = {**SHARED_SETTINGS, "per_device_train_batch_size": 16, "num_train_epochs": 2, "learning_rate": 5e-3}
ENCODER_LORA = {"r": 8, "lora_alpha": 16, "target_modules": ["query", "value"]}
DECODER_LORA = {
    "r": 16,
    "lora_alpha": 32,
    "target_modules": ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
}
AS_THEY_LIE = {"gate": {"overlap": 0.05}}  # the few eval rows that are also training rows stay in, on both sides
# What ftkit trains whole beside the adapters, being the head; to peft it has to be said.
ENCODER_HEAD = ["pooler", "classifier"]


@dataclass(frozen=True)
class Case:
    """One recipe as plain values, and whether the plain script is run beside it."""

    recipe: dict[str, Any]
    beside_plain: bool

    @property
    def metric(self) -> str:
        return "accuracy" if self.recipe["task"] == "text-classification" else "loss"


@dataclass(frozen=True)
class Row:
    """One row of the table: accuracy (higher is better) or loss in nats a token (lower is better)."""

    case: str
    model: str
    metric: str
    rows: int
    before: float
    ftkit: float
    plain: float | None
    test_rows: int | None
    test_ftkit: float | None
    test_plain: float | None
    seconds_ftkit: float
    seconds_plain: float | None

    @property
    def difference(self) -> float | None:
        return None if self.plain is None else self.ftkit - self.plain

    @property
    def reached(self) -> bool:
        """Far better than before training, and as good as the plain script or within the margin."""
        sign = 1 if self.metric == "accuracy" else -1
        learnt = sign * (self.ftkit - self.before) >= LEARNT[self.metric]
        return learnt and (self.difference is None or sign * self.difference >= -WITHIN[self.metric])


def main() -> int:
    options = parse_arguments()
    cases = all_cases(options.shared)
    if unknown := sorted(set(options.only) - set(cases)):
        sys.exit(f"no case {', '.join(unknown)}; there are {', '.join(cases)}")
    rows = []
    for name in options.only or cases:
        stored = options.output / name / "row.json"
        if not (options.resume and stored.is_file()):
            row = run_case(name, cases[name], options.output / name, quick=options.quick)
            stored.write_text(json.dumps(asdict(row), indent=2), encoding="utf-8")
        rows.append(Row(**json.loads(stored.read_text(encoding="utf-8"))))
    table = markdown_table(rows)
    print(table)
    if options.quick:
        return 0
    if not options.only:
        first_run = options.output / next(iter(cases)) / "ftkit"
        write_page(results_page(table, rows, first_run))
    return 0 if all(row.reached for row in rows) else 1


def write_page(own: str) -> None:
    """Put this script's part of RESULTS.md in place of the one there; the sections that others wrote stay."""
    page = HERE / "RESULTS.md"
    before = page.read_text(encoding="utf-8") if page.is_file() else ""
    _, heading, others = before.partition("\n## ")
    page.write_text(f"{own.rstrip()}\n{heading}{others}", encoding="utf-8")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, default=Path("../shared"), help="the folder of real data and models")
    parser.add_argument("--output", type=Path, default=Path("runs/against_plain_trainer"), help="where the runs go")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="these cases alone; no RESULTS.md")
    parser.add_argument("--quick", action="store_true", help="a few rows and one epoch; nothing is judged or written")
    parser.add_argument("--resume", action="store_true", help="keep the cases that are in the output folder already")
    return parser.parse_args()


def all_cases(shared: Path) -> dict[str, Case]:
    """The cases by name; the strategy comes first."""
    lora, qlora = {"name": "lora", **DECODER_LORA}, {"name": "qlora", **DECODER_LORA}
    return {
        "full-polarity": Case(classifier(shared, {"name": "full"}, learning_rate=1e-4), True),
        "lora-polarity": Case(classifier(shared, {"name": "lora", **ENCODER_LORA}, learning_rate=2e-3), True),
        "qlora-polarity": Case(classifier(shared, {"name": "qlora", **ENCODER_LORA}, learning_rate=2e-3), False),
        "transfer-polarity": Case(classifier(shared, {"name": "transfer"}, learning_rate=2e-3, num_train_epochs=3), False),
        "lora-instruction": Case(instruction(shared, lora), True),
        "qlora-instruction": Case(instruction(shared, qlora), False),
        "lora-summarization": Case(summarization(shared, lora), True),
        "qlora-summarization": Case(summarization(shared, qlora), False),
    }


def classifier(shared: Path, strategy: dict[str, Any], **settings: Any) -> dict[str, Any]:
    """Is a sentence on a film positive or negative? 10,662 rows, split 80/10/10."""
    folder = shared / "data/rt-polarity"
    files = [
        {"path": str(folder / name), "format": "text", "encoding": "latin-1", "values": {"label": label}}
        for name, label in (("rt-polarity.pos", "positive"), ("rt-polarity.neg", "negative"))
    ]
    return {
        "task": "text-classification",
        "model": {"name": str(shared / "models/minilm-l6"), "max_length": 128},
        "strategy": strategy,
        "data": {"train": files, "eval_size": 0.1, "test_size": 0.1, **AS_THEY_LIE},
        "training": {**CLASSIFIER_SETTINGS, **settings},
    }


def instruction(shared: Path, strategy: dict[str, Any]) -> dict[str, Any]:
    """1,100 rows in Alpaca's form, a tenth of them held out."""
    return {
        "task": "instruction",
        "model": {"name": str(shared / "models/stories260K"), "max_length": 512},
        "strategy": strategy,
        "data": {
            "train": [{"path": str(shared / "data/rasbt-instruct/instruction-data.json")}],
            "eval_size": 0.1,
            **AS_THEY_LIE,
        },
        "training": ANSWER_SETTINGS,
        "evaluation": {"generation": {"rows": 16}},
    }


def summarization(shared: Path, strategy: dict[str, Any]) -> dict[str, Any]:
    """The section of a doctor's note that a dialogue leads to; train, validation and test files."""
    files = {"train": "TrainingSet", "eval": "ValidationSet", "test": "TestSet-1-MEDIQA-Chat-2023"}
    sources = {part: [{"path": str(shared / f"data/mts-dialog/MTS-Dialog-{name}.csv")}] for part, name in files.items()}
    return {
        "task": "summarization",
        "model": {"name": str(shared / "models/stories260K"), "max_length": 512},
        "strategy": strategy,
        "data": {**sources, "columns": {"document": "dialogue", "summary": "section_text"}, **AS_THEY_LIE},
        "training": ANSWER_SETTINGS,
        "evaluation": {"generation": {"rows": 16}},
    }


def run_case(name: str, case: Case, folder: Path, *, quick: bool) -> Row:
    """Train by ftkit and, where the case says so, by the plain script; measure both."""
    recipe = load_values(shortened(case.recipe) if quick else case.recipe, name)
    result = train(recipe, output_dir=folder / "ftkit", overwrite=True)
    has_test = bool(recipe.data.test or recipe.data.test_size)
    test = evaluate(folder / "ftkit", split="test") if has_test else None
    plain = run_plain(recipe, result, folder / "plain") if case.beside_plain else None
    return Row(
        case=name,
        model=f"{Path(recipe.model.name).name} ({parameters_of(Path(recipe.model.name)) / 1e6:.2f} M)",
        metric=case.metric,
        rows=result.metrics["rows"],
        before=result.metrics["baseline"][case.metric],
        ftkit=result.metrics["tuned"][case.metric],
        plain=plain.after["eval"] if plain else None,
        test_rows=test.rows if test else None,
        test_ftkit=test.metrics[case.metric] if test else None,
        test_plain=plain.after.get("test") if plain else None,
        seconds_ftkit=result.record["seconds"]["training"],
        seconds_plain=plain.seconds if plain else None,
    )


def shortened(values: dict[str, Any]) -> dict[str, Any]:
    """The recipe with few rows of each source and one epoch."""
    data = dict(values["data"])
    for part in ("train", "eval", "test"):
        if part in data:
            data[part] = [{**source, "rows": QUICK_ROWS} for source in data[part]]
    return {**values, "data": data, "training": {**values["training"], "num_train_epochs": 1}}


def run_plain(recipe: Recipe, result: Result, folder: Path) -> Outcome:
    """The plain script on the rows and with the settings of ftkit's run.

    Raises:
        RuntimeError: the rows, the token ids or the score before training are not those of ftkit's run.
    """
    splits, encoded = data_of(recipe, result)
    named = recipe.training.model_fields_set
    settings = {name: getattr(recipe.training, name) for name in sorted(named)}
    settings["bf16"] = result.record["precision"].startswith("bfloat16")
    block = recipe.strategy
    lora = {name: getattr(block, name) for name in sorted(block.model_fields_set - {"name"})} or None
    rows = {part: list(split) for part, split in splits.items()}
    length = recipe.model.max_length or 512
    if recipe.task == "text-classification":
        adapters = {**lora, "modules_to_save": ENCODER_HEAD} if lora else None
        outcome = classify(recipe.model.name, rows, settings, adapters, length, folder)
    else:
        outcome = answer(recipe.model.name, rows, ENCODERS[recipe.task], settings, lora or {}, length, folder)
    for part, ours in encoded.items():
        for column in ("input_ids", "labels"):
            require(outcome.encoded[part][column] == ours.dataset[column], f"the {column} of the {part} rows")
    metric = "accuracy" if recipe.task == "text-classification" else "loss"
    require(math.isclose(outcome.before, result.metrics["baseline"][metric], abs_tol=2e-3), f"{metric} before training")
    return outcome


def data_of(recipe: Recipe, result: Result) -> tuple[dict[str, Dataset], dict[str, Encoded]]:
    """The rows of ftkit's run, test rows too, and how ftkit encoded those it trained and measured on."""
    task, config = TASKS[recipe.task](recipe.data), load_config(recipe.model, {})
    task.auto_class(config)
    data = prepare(recipe, task, load_tokenizer(recipe.model), config)
    for part, rows in data.rows.items():
        require(fingerprint(rows) == result.record["data"][part]["sha256"], f"the {part} rows")
    if not (recipe.data.test or recipe.data.test_size):
        return data.rows, data.encoded
    return data.rows | read_splits(recipe.data, recipe.spec, task.strata, ("test",)).rows, data.encoded


def require(same: bool, what: str) -> None:
    if not same:
        raise RuntimeError(f"not the same on both sides: {what}")


def parameters_of(model: Path) -> int:
    """Parameters in a model folder's weights."""
    with safe_open(model / "model.safetensors", "pt") as weights:
        return sum(math.prod(weights.get_slice(name).get_shape()) for name in weights.keys())  # noqa: SIM118


def markdown_table(rows: list[Row]) -> str:
    header = [
        "case", "model (parameters)", "measure", "eval rows", "before", "ftkit", "plain", "difference",
        "test rows", "ftkit, test", "plain, test", "training s: ftkit", "plain", "reached",
    ]  # fmt: skip
    lines = [[
        row.case, row.model, row.metric, str(row.rows), shown(row.before), shown(row.ftkit), shown(row.plain),
        "-" if row.difference is None else f"{row.difference:+.4f}", str(row.test_rows or "-"), shown(row.test_ftkit),
        shown(row.test_plain), f"{row.seconds_ftkit:.0f}", "-" if row.seconds_plain is None else f"{row.seconds_plain:.0f}",
        "yes" if row.reached else "no",
    ] for row in rows]  # fmt: skip
    widths = [max(len(line[column]) for line in [header, *lines]) for column in range(len(header))]
    rule = ["-" * width if column < 3 else "-" * (width - 1) + ":" for column, width in enumerate(widths)]
    return "\n".join(table_line(line, widths) for line in (header, rule, *lines))


def table_line(cells: list[str], widths: list[int]) -> str:
    padded = [
        cell.ljust(width) if i < 3 else cell.rjust(width) for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]
    return f"| {' | '.join(padded)} |"


def shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def results_page(table: str, rows: list[Row], run: Path) -> str:
    """RESULTS.md: the command, what it ran on, and the table that it printed."""
    record = json.loads((run / "run.json").read_text(encoding="utf-8"))
    versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    machine, git = record["machine"], record["git"] or {"commit": "none", "clean": True}
    first = next(row for row in rows if row.metric == "accuracy")
    error = math.sqrt(first.ftkit * (1 - first.ftkit) / first.rows)
    return PAGE.format(
        command=shlex.join(["python", *sys.argv]), finished=now(), versions=versions, python=record["python"],
        processor=machine["processor"], cores=machine["cores"], system=machine["system"], precision=record["precision"],
        commit=git["commit"][:12], changed="" if git["clean"] else " and uncommitted changes", table=table,
        rows=first.rows, error=100 * error, learnt=LEARNT, within=WITHIN,
    )  # fmt: skip


PAGE = """# ftkit against a plain `Trainer` script

Written by `{command}`, finished {finished}; every figure is one that the command printed.

- machine: {processor}, {cores} cores, no GPU used; {system}; {precision}
- versions: Python {python}, {versions}; commit {commit}{changed}
- models: minilm-l6 is all-MiniLM-L6-v2, an encoder of 22.71 million parameters, stored in float16; stories260K is a Llama
  of 0.26 million parameters, trained on children's stories: its losses say that training works, not that its answers are
  of use.

{table}

*plain* is `benchmarks/plain_trainer.py`: `from_pretrained(dtype=torch.float32)`, `Trainer`, for LoRA `peft.get_peft_model`,
written without ftkit. It gets the same rows, settings, seed and precision; that both sides made the same token ids and
labels of the rows, and scored the same before training, is checked in each run. For LoRA on the encoder it is told to train
the whole head (`modules_to_save: [pooler, classifier]`), which ftkit finds by itself.

*accuracy* is the share of rows that are right; *loss* is the mean loss of an answer token in nats, over all answer tokens.
*before* is the same model with the same fresh head or adapters, on the same eval rows. *test* rows are measured by
`ftkit.evaluate` on the model as saved and loaded again. *reached*: better than before by at least {learnt[accuracy]}
accuracy or {learnt[loss]} nats, and where there is a plain script, no worse than it by more than {within[accuracy]} or
{within[loss]}. One seed; the standard error of an accuracy over {rows:,} rows is about {error:.1f} points. A row whose
answer does not fit into the model's 512 positions is left out on both sides and counted in run.json, and not in the table.

Generated answers before and after training are in each run's predictions.jsonl.
"""

if __name__ == "__main__":
    sys.exit(main())
