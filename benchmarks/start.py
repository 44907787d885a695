"""From the command to the first optimizer step, `ftkit train` against a plain Trainer script; and what light commands take.

    python benchmarks/start.py --model MODEL --rows ROWS.jsonl          five rounds, a few minutes
    python benchmarks/start.py --model MODEL --rows ROWS.jsonl --rounds 1

MODEL is a folder of an encoder, ROWS.jsonl has `text` and `label`. The two take turns, each time in a process of its own;
a first round that fills the caches does not count. Both end when the optimizer has made its first step. ftkit does more on
the way: it judges the rows and, unless told otherwise, measures the baseline; both ways are shown. Medians over the rounds,
by the clock and in processor seconds, which other processes on the machine disturb less.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

# Both begin alike: the parts of the time, and an end with the first step.
BEGIN = """
import json, os, sys, time
marks = []
def mark(name): marks.append((name, time.time(), time.process_time()))
def stop(*_):
    mark("first step")
    print("MARKS " + json.dumps(marks), flush=True)
    os._exit(0)
"""
FTKIT = (
    BEGIN
    + """
import ftkit
from ftkit.cli.main import main
mark("ftkit's command")
import torch
mark("torch")
from torch.optim.optimizer import register_optimizer_step_post_hook
register_optimizer_step_post_hook(stop)
from transformers import Trainer
mark("transformers' Trainer")
from ftkit import api
mark("the rest of ftkit")
def timed(module, name, words):
    made = getattr(module, name)
    def call(*given, **named):
        result = made(*given, **named)
        mark(words)
        return result
    setattr(module, name, call)
from ftkit.training import dispatcher
timed(dispatcher, "prepare", "rows read, encoded and judged")
timed(dispatcher, "build_model", "model loaded")
timed(api, "build", "Trainer built")
timed(api, "measure_before", "run folder opened, baseline")
main()
"""
)
PLAIN = (
    BEGIN
    + """
import numpy as np, torch
mark("torch")
from torch.optim.optimizer import register_optimizer_step_post_hook
register_optimizer_step_post_hook(stop)
from datasets import load_dataset
from transformers import AutoModelForSequenceClassification, AutoTokenizer, DataCollatorWithPadding
from transformers import Trainer, TrainingArguments
mark("transformers' Trainer")
model, rows, folder = sys.argv[1:]
tokenizer = AutoTokenizer.from_pretrained(model)
data = load_dataset("json", data_files=rows, split="train").class_encode_column("label")
data = data.train_test_split(test_size=50, seed=42)
data = data.map(lambda batch: tokenizer(batch["text"], truncation=True, max_length=128), batched=True)
mark("rows read and encoded")
labels = data["train"].features["label"].num_classes
model = AutoModelForSequenceClassification.from_pretrained(model, num_labels=labels, dtype=torch.float32)
mark("model loaded")
def accuracy(given): return {"accuracy": float(np.mean(given.predictions.argmax(-1) == given.label_ids))}
settings = {"max_steps": 2, "per_device_train_batch_size": 8, "learning_rate": 2e-5, "use_cpu": True, "disable_tqdm": True}
arguments = TrainingArguments(output_dir=folder, report_to="none", **settings)
trainer = Trainer(model=model, args=arguments, train_dataset=data["train"], eval_dataset=data["test"],
                  data_collator=DataCollatorWithPadding(tokenizer), processing_class=tokenizer, compute_metrics=accuracy)
mark("Trainer built")
trainer.train()
"""
)
RECIPE = """task: text-classification
model: {{name: {model}, max_length: 128}}
strategy: full
data: {{train: {rows}, eval_size: 50}}
training: {{max_steps: 2, per_device_train_batch_size: 8, learning_rate: 2.0e-5}}
evaluation: {{verify: false}}
"""
Marks = list[tuple[str, float, float]]


def main() -> None:
    options = parse_arguments()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        commands = start_commands(folder, options.model.resolve(), options.rows.resolve())
        marks: dict[str, list[Marks]] = {name: [] for name in commands}
        for number in range(options.rounds + 1):
            for name, command in commands.items():
                measured = run_to_first_step(command)
                if number:
                    marks[name].append(measured)
        print_starts(marks)
        print_light_commands(folder, options.rounds)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--rows", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=5)
    return parser.parse_args()


def start_commands(folder: Path, model: Path, rows: Path) -> dict[str, list[str]]:
    """The scripts are written into the folder; ftkit's run goes there too."""
    for name, text in (("ftkit_start.py", FTKIT), ("plain_start.py", PLAIN)):
        (folder / name).write_text(text)
    recipe = folder / "recipe.yaml"
    recipe.write_text(RECIPE.format(model=model, rows=rows))
    train = [str(folder / "ftkit_start.py"), "train", str(recipe), "-o", str(folder / "run"), "--overwrite", "--quiet"]
    return {
        "plain script": [str(folder / "plain_start.py"), str(model), str(rows), str(folder / "plain")],
        "ftkit, no baseline": [*train, "evaluation.baseline=false"],
        "ftkit": train,
    }


def run_to_first_step(command: list[str]) -> Marks:
    """What was done when: seconds by the clock since the command, and processor seconds."""
    started = time.time()
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True)
    lines = [line for line in done.stdout.splitlines() if line.startswith("MARKS ")]
    if not lines:
        raise RuntimeError(done.stderr[-2000:])
    return [(name, clock - started, processor) for name, clock, processor in json.loads(lines[0].removeprefix("MARKS "))]


def print_starts(marks: dict[str, list[Marks]]) -> None:
    plain = marks["plain script"]
    print("| to the first step | seconds | processor s | ratio of processor s (spread) |\n| --- | ---: | ---: | ---: |")
    for name, rounds in marks.items():
        ratios = sorted(one[-1][2] / other[-1][2] for one, other in zip(rounds, plain, strict=True))
        clock, processor = (statistics.median(one[-1][place] for one in rounds) for place in (1, 2))
        spread = f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
        print(f"| {name} | {clock:.1f} | {processor:.2f} | {spread} |")
    print("\n| part | of | processor s |\n| --- | --- | ---: |")
    for name, rounds in marks.items():
        for place, (part, _, _) in enumerate(rounds[0]):
            spent = [one[place][2] - (one[place - 1][2] if place else 0.0) for one in rounds]
            print(f"| {part} | {name} | {statistics.median(spent):.2f} |")


def print_light_commands(folder: Path, rounds: int) -> None:
    """Commands that load no torch, and a check that finds a mistake in the recipe itself; then the whole check."""
    recipe = folder / "recipe.yaml"
    mistaken = folder / "mistaken.yaml"
    mistaken.write_text(recipe.read_text().replace("learning_rate", "learning_rat"))
    absent = folder / "absent.yaml"
    absent.write_text(recipe.read_text().replace("train: /", "train: /no/such"))
    commands = {
        "ftkit --help": ["--help"],
        "ftkit recipes": ["recipes"],
        "ftkit schema": ["schema"],
        "ftkit check, a key misspelt": ["check", str(mistaken)],
        "ftkit check, a file of rows that is not there": ["check", str(absent)],
        "ftkit check, a sound recipe": ["check", str(recipe), "--again"],
        "ftkit check, the same again": ["check", str(recipe)],
    }
    print("\n| command | seconds | processor s | exit status |\n| --- | ---: | ---: | ---: |")
    for name, words in commands.items():
        found = [run_command(words) for _ in range(rounds)]
        clock, processor = (statistics.median(one[place] for one in found) for place in (0, 1))
        print(f"| {name} | {clock:.2f} | {processor:.2f} | {found[0][2]} |", flush=True)


def run_command(words: list[str]) -> tuple[float, float, int]:
    """Seconds, processor seconds, exit status."""
    before, started = os.times(), time.monotonic()
    done = subprocess.run([sys.executable, "-m", "ftkit", *words], capture_output=True)
    after = os.times()
    spent = after.children_user + after.children_system - before.children_user - before.children_system
    return time.monotonic() - started, spent, done.returncode


if __name__ == "__main__":
    main()
