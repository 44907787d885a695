"""Transfer learning by ftkit, which computes the frozen body once, beside the plain `Trainer` script with a frozen body.

    python benchmarks/frozen_body.py                    all of it; prints the table
    python benchmarks/frozen_body.py --rounds 1         each figure once

A DistilBERT of the base size with random weights (speed does not depend on them), 960 sentences of rt-polarity, batches of
32. The plain script is float32 with dynamic padding; its body has no dropout, as ftkit's has none, so that both do the
same. Runs of both sides take turns in one process with one thread, and what is measured is processor time, so that other
processes on the machine do not count. Needs real data and a tokenizer (`--shared`, default ../shared); no network.
"""

import argparse
import os
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # before the libraries are imported
os.environ.setdefault("OMP_NUM_THREADS", "1")

import ftkit  # isort: skip  # noqa: F401  # first, so that it prepares the process for torch
import numpy as np
import torch
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    DistilBertConfig,
    DistilBertModel,
    PrinterCallback,
    Trainer,
    TrainingArguments,
    set_seed,
)

from ftkit import console
from ftkit.cache import CACHE
from ftkit.compat import hush_libraries
from ftkit.recipe.load import load_values
from ftkit.recipe.schema import Recipe
from ftkit.training.dispatcher import Parts, build, seed_everything, take_kept_rows

ROWS, EVAL_ROWS, BATCH, RATE, SEED = 960, 240, 32, 1e-3, 42
EPOCHS = (1, 3, 10, 20)
QUIET: dict[str, Any] = {
    "eval_strategy": "no", "save_strategy": "no", "logging_steps": 5, "logging_first_step": True, "report_to": "none",
    "use_cpu": True,
}  # fmt: skip


@dataclass
class Trained:
    """Processor and wall seconds of the training, the logged losses, and the accuracy on the eval rows."""

    seconds: float
    wall: float
    losses: list[float]
    accuracy: float


def main() -> None:
    options = parse_arguments()
    torch.set_num_threads(1)
    hush_libraries()
    console.set_quiet(True)
    with tempfile.TemporaryDirectory() as folder:
        model = make_model(Path(folder), options.shared)
        plain, runs, again = measure(model, options.shared, Path(folder), options.rounds)
        exact = train_ftkit(model, options.shared, Path(folder), 1, fresh=True, torchs_draws=True, bf16=False)
    print(table(plain, runs, again))
    print(comparison(plain[0], exact, runs[1][0]))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, default=Path("../shared"), help="the folder of real data and models")
    parser.add_argument("--rounds", type=int, default=3, help="how often each is measured; the table has medians")
    return parser.parse_args()


def make_model(folder: Path, shared: Path) -> Path:
    """The weights of a DistilBERT of the base size, drawn at random, with the tokenizer of BERT."""
    set_seed(SEED)
    DistilBertModel(DistilBertConfig()).save_pretrained(folder / "model")
    AutoTokenizer.from_pretrained(shared / "models/tokenizer-bert-uncased").save_pretrained(folder / "model")
    return folder / "model"


def measure(
    model: Path, shared: Path, folder: Path, rounds: int
) -> tuple[list[Trained], dict[int, list[Trained]], list[Trained]]:
    """One epoch of the plain script, ftkit's epochs with an empty cache, and 20 epochs with a full one, in turns."""
    plain, again = [], []
    runs: dict[int, list[Trained]] = {epochs: [] for epochs in EPOCHS}
    for number in range(rounds):
        plain.append(train_plain(model, shared, folder, 1))
        for epochs in EPOCHS:
            runs[epochs].append(train_ftkit(model, shared, folder, epochs, fresh=True))
        again.append(train_ftkit(model, shared, folder, EPOCHS[-1], fresh=False))
        print(f"round {number + 1}: plain {plain[-1].seconds:.1f} s an epoch, ftkit "
              + ", ".join(f"{runs[epochs][-1].seconds:.1f} s" for epochs in EPOCHS), flush=True)  # fmt: skip
    return plain, runs, again


def recipe_of(model: Path, shared: Path, epochs: int, *, torchs_draws: bool = False, **training: Any) -> Recipe:
    rows = (ROWS + EVAL_ROWS) // 2
    files = [
        {"path": str(shared / f"data/rt-polarity/rt-polarity.{end}"), "format": "text", "encoding": "latin-1",
         "values": {"label": label}, "rows": rows}
        for end, label in (("pos", "positive"), ("neg", "negative"))
    ]  # fmt: skip
    return load_values({
        "task": "text-classification",
        "model": {"name": str(model), "max_length": 128},
        "strategy": "transfer",
        "data": {"train": files, "eval_size": EVAL_ROWS, "gate": {"overlap": 1.0}},
        "training": {
            "num_train_epochs": epochs, "per_device_train_batch_size": BATCH, "learning_rate": RATE, "seed": SEED,
            **QUIET, **training,
        },
        "speed": {"fast_dropout": not torchs_draws},
    })  # fmt: skip


def train_ftkit(
    model: Path, shared: Path, folder: Path, epochs: int, *, fresh: bool, torchs_draws: bool = False, **training: Any
) -> Trained:
    """Train as `ftkit train` does; the time has in it what is computed once for the training rows.

    Args:
        fresh: nothing of the body is computed yet.
        torchs_draws: the head's dropout draws as in the plain script.
    """
    if fresh:
        os.environ[CACHE] = tempfile.mkdtemp(dir=folder)
    recipe = recipe_of(model, shared, epochs, torchs_draws=torchs_draws, **training)
    parts = build(recipe, folder / "ftkit" / "checkpoints", [])
    assert parts.frozen is not None
    assert len(parts.data.encoded["train"].dataset) == ROWS
    eval_rows = parts.frozen.rows("eval")  # measuring the baseline has computed them before training
    started, wall = time.process_time(), time.monotonic()
    take_kept_rows(parts)
    seed_everything(recipe)
    parts.trainer.train()
    seconds, wall = time.process_time() - started, time.monotonic() - wall
    return Trained(seconds, wall, losses_of(parts.trainer), accuracy_of(parts.trainer, eval_rows))


def train_plain(model_folder: Path, shared: Path, folder: Path, epochs: int) -> Trained:
    """The script of the tutorials with a frozen body, on the rows as ftkit encoded them."""
    data = encoded_rows(model_folder, shared, folder)
    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    set_seed(SEED)
    model = AutoModelForSequenceClassification.from_pretrained(
        model_folder, num_labels=2, dropout=0.0, attention_dropout=0.0
    )
    model.base_model.requires_grad_(False)
    arguments = TrainingArguments(
        output_dir=str(folder / "plain"), num_train_epochs=epochs, per_device_train_batch_size=BATCH, learning_rate=RATE,
        seed=SEED, disable_tqdm=True, **QUIET,
    )  # fmt: skip
    collate = DataCollatorWithPadding(tokenizer)
    rows = data.data.encoded["train"].dataset
    trainer = Trainer(model=model, args=arguments, train_dataset=rows, data_collator=collate, processing_class=tokenizer)
    trainer.remove_callback(PrinterCallback)
    set_seed(SEED)
    started, wall = time.process_time(), time.monotonic()
    trainer.train()
    seconds, wall = time.process_time() - started, time.monotonic() - wall
    return Trained(seconds, wall, losses_of(trainer), accuracy_of(trainer, data.data.encoded["eval"].dataset))


def encoded_rows(model: Path, shared: Path, folder: Path) -> Parts:
    return build(recipe_of(model, shared, 1), folder / "encoded", [])


def losses_of(trainer: Trainer) -> list[float]:
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def accuracy_of(trainer: Trainer, rows: Any) -> float:
    output = trainer.predict(rows)
    return float(np.mean(output.predictions.argmax(-1) == output.label_ids))


def table(plain: list[Trained], runs: dict[int, list[Trained]], again: list[Trained]) -> str:
    epoch = statistics.median(run.seconds for run in plain)
    first = statistics.median(run.seconds for run in runs[1])
    lines = [
        "| epochs | plain, s (one epoch measured × epochs) | ftkit, s | ratio (least to most) | of ftkit's one epoch |",
        "| ---: | ---: | ---: | ---: | ---: |",
    ]
    named = [*((str(epochs), epochs, found) for epochs, found in runs.items()), ("20, second run", EPOCHS[-1], again)]
    for name, epochs, found in named:
        ratios = sorted(one.seconds * epochs / run.seconds for one, run in zip(plain, found, strict=True))
        seconds = statistics.median(run.seconds for run in found)
        spread = f"{statistics.median(ratios):.1f} ({ratios[0]:.1f} to {ratios[-1]:.1f})"
        lines.append(f"| {name} | {epoch * epochs:.1f} | {seconds:.2f} | {spread} | {seconds / first:.2f} |")
    return "\n".join(lines)


def comparison(reference: Trained, exact: Trained, run: Trained) -> str:
    """How far the logged losses are from those of the plain script."""
    lines = [
        f"| one epoch, {len(reference.losses)} logged losses | the last | most that one differs | accuracy |",
        "| --- | ---: | ---: | ---: |",
    ]
    for name, found in (
        ("plain, float32", reference),
        ("ftkit, float32, torch's draws of dropout", exact),
        ("ftkit as it comes", run),
    ):
        worst = max(abs(a - b) for a, b in zip(found.losses, reference.losses, strict=True))
        lines.append(f"| {name} | {found.losses[-1]:.6f} | {worst:.1e} | {found.accuracy:.4f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
