"""What reading, encoding and judging many rows takes: time and memory, first start, second start, and streamed.

    python benchmarks/data_path.py                     1,000,000 rows of csv
    python benchmarks/data_path.py --rows 50000        to see that it runs

Each line is a process of its own, so that its peak memory is its own. Beside ftkit stands what many scripts do: read the
file with pandas and tokenize the column as one list, with nothing checked. `--model` is any folder with a tokenizer and
weights of an encoder.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

PLAIN = """
import sys, pandas
from transformers import AutoTokenizer
rows = pandas.read_csv(sys.argv[1])
ids = AutoTokenizer.from_pretrained(sys.argv[2])(rows["text"].tolist(), truncation=True, max_length=64)["input_ids"]
print(len(ids))
"""
PREPARE = """
import sys
from ftkit import load_recipe
from ftkit.models.load import load_config, load_tokenizer
from ftkit.tasks.table import TASKS
from ftkit.training.prepare import prepare
recipe = load_recipe(sys.argv[1])
task, tokenizer, config = TASKS[recipe.task](recipe.data), load_tokenizer(recipe.model), load_config(recipe.model, {})
task.auto_class(config)
data = prepare(recipe, task, tokenizer, config)
print(sum(data.ledger.counts().values()))
"""
MEASURED = """
import resource, runpy, sys
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


def main() -> None:
    options = parse_arguments()
    folder = options.output.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    os.environ["HF_DATASETS_CACHE"] = str(folder / f"cache-{int(time.time())}")  # the first start finds nothing
    small, large = (write_rows(folder, rows) for rows in (options.rows // 10, options.rows))
    for name, text in (("plain", PLAIN), ("prepare", PREPARE), ("measured", MEASURED)):
        (folder / f"{name}.py").write_text(text)
    whole = write_recipe(
        folder / "whole.yaml", options.model, large, {"eval_size": 10_000 if options.rows > 50_000 else 500}
    )
    lines = [
        ("pandas and one list, nothing checked", *run(folder, "plain", str(large), str(options.model))),
        ("ftkit, first start", *run(folder, "prepare", str(whole))),
        ("ftkit, second start", *run(folder, "prepare", str(whole))),
    ]
    measured = write_rows(folder, 500, first=10**9)
    for rows, file in ((options.rows // 10, small), (options.rows, large)):
        streamed = {"eval": str(measured), "streaming": True, "labels": ["a", "b"]}
        recipe = write_recipe(folder / "streamed.yaml", options.model, file, streamed)
        command = ["-m", "ftkit", "train", str(recipe), "--output-dir", str(folder / "run"), "--overwrite", "--quiet"]
        lines.append((f"ftkit train, 30 steps streamed from {rows:,} rows", *run(folder, command)))
        recipe = write_recipe(folder / "judged.yaml", options.model, file, streamed, steps=10**6)
        lines.append((f"ftkit, all of {rows:,} streamed rows judged before step 0", *run(folder, "prepare", str(recipe))))
    print(f"| {options.rows:,} rows of csv | seconds | against pandas | peak MiB |\n| --- | ---: | ---: | ---: |")
    for name, seconds, peak in lines:
        ratio = f"{seconds / lines[0][1]:.2f}" if "streamed" not in name else "-"
        print(f"| {name} | {seconds:.1f} | {ratio} | {peak:,} |")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--model", type=Path, default=Path("../shared/models/minilm-l6"))
    parser.add_argument("--output", type=Path, default=Path("runs/data_path"), help="where files and runs go")
    options = parser.parse_args()
    options.model = options.model.resolve()
    return options


def write_rows(folder: Path, rows: int, first: int = 0) -> Path:
    """A csv of random short texts, none like another."""
    file, dice = folder / f"rows_{first}_{rows}.csv", random.Random(first)
    words = [f"{start}{end}" for start in ("ka", "lo", "mi", "ter", "sun") for end in "abcdefghijklmnopqrstuvwxyz"]
    with file.open("w", encoding="utf-8") as stream:
        stream.write("text,label\n")
        for number in range(first, first + rows):
            stream.write(f"{' '.join(dice.choices(words, k=dice.randint(6, 16)))} {number},{'ab'[number % 2]}\n")
    return file


def write_recipe(file: Path, model: Path, train: Path, data: dict[str, object], steps: int = 30) -> Path:
    training = {"max_steps": steps, "per_device_train_batch_size": 64, "eval_strategy": "no", "save_strategy": "no"}
    values = {
        "task": "text-classification", "model": {"name": str(model), "max_length": 64}, "strategy": "transfer",
        "data": {"train": str(train), **data}, "training": training,
    }  # fmt: skip
    file.write_text(json.dumps(values), encoding="utf-8")  # JSON is YAML
    return file


def run(folder: Path, what: str | list[str], *words: str) -> tuple[float, int]:
    """Seconds and peak MiB of a script or command in a new process."""
    script = [str(folder / f"{what}.py"), *words] if isinstance(what, str) else None
    started = time.monotonic()
    if script:
        command = [sys.executable, str(folder / "measured.py"), *script]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return time.monotonic() - started, int(done.stdout.split()[-1])
    done = subprocess.run([sys.executable, *what], capture_output=True, text=True, check=True)
    record = json.loads((folder / "run" / "run.json").read_text(encoding="utf-8"))
    return time.monotonic() - started, max(record["peak_memory_bytes"].values()) // 2**20


if __name__ == "__main__":
    main()
