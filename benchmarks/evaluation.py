"""What ftkit's evaluation takes beside a plain `Trainer.predict` over the same encoded rows: time, and memory by rows.

    python benchmarks/evaluation.py --model FOLDER                  10,000 rows, three times each, in turn
    python benchmarks/evaluation.py --model FOLDER --rows 1000      to see that it runs

Each measurement is a process of its own. ftkit's side predicts, scores, describes every row and draws the intervals; the
plain side predicts and computes accuracy. Both load the model, encode the same sentences and use the same batches, outside
the clock.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

ONE = """
import json, resource, sys, tempfile, time
from pathlib import Path
from ftkit.recipe.load import load_values
from ftkit.training.dispatcher import build
from ftkit.metrics.estimates import estimate_all
from ftkit.evaluation.measure import measure
from transformers import Trainer
side, model, rows = sys.argv[1], sys.argv[2], int(sys.argv[3])
recipe = load_values({
    "task": "text-classification", "strategy": "transfer",
    "model": {"name": model, "max_length": 64},
    "data": {"train": {"path": "sample:sentiment", "rows": 200},
             "eval": {"path": "sample:sentiment", "rows": rows, "split": "train"},
             "gate": {"overlap": 1.0, "similarity": 1.0}},
    "training": {"max_steps": 1, "per_device_eval_batch_size": 64, "eval_strategy": "no"},
})
parts = build(recipe, Path(tempfile.mkdtemp()), [])
encoded = parts.data.encoded["eval"]
before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
if side == "ftkit":
    found = measure(parts.trainer, parts.task, parts.tokenizer, encoded, recipe.evaluation, recipe.spec, seed=42)
    estimate_all({"tuned": found.resamplers}, seed=42)
    accuracy = found.metrics["accuracy"]
else:
    plain = Trainer(model=parts.model, args=parts.trainer.args, data_collator=parts.trainer.data_collator,
                    processing_class=parts.tokenizer)
    output = plain.predict(encoded.dataset)
    accuracy = float((output.predictions.argmax(-1) == output.label_ids).mean())
seconds = time.perf_counter() - started
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps({"seconds": seconds, "accuracy": accuracy, "grown_mib": (peak - before) // 1024, "peak_mib": peak // 1024}))
"""


def main() -> None:
    options = parse_arguments()
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "one.py"
        script.write_text(ONE)
        found: dict[str, list[dict[str, float]]] = {"plain": [], "ftkit": []}
        for turn in range(options.repeats):
            for side in ("plain", "ftkit") if turn % 2 == 0 else ("ftkit", "plain"):
                found[side].append(measure_once(script, side, options.model, options.rows))
                print(f"{side:6} {found[side][-1]}", file=sys.stderr)
        few = measure_once(script, "ftkit", options.model, options.rows // 10)
    seconds = {side: statistics.median(one["seconds"] for one in runs) for side, runs in found.items()}
    peak, ratio = max(one["peak_mib"] for one in found["ftkit"]), seconds["ftkit"] / seconds["plain"]
    print(f"| {options.rows:,} rows | seconds (median of {options.repeats}) | ratio |\n| --- | --- | --- |")
    print(f"| plain Trainer.predict and accuracy | {seconds['plain']:.1f} | 1.00 |")
    print(f"| ftkit, with rows described and intervals | {seconds['ftkit']:.1f} | {ratio:.2f} |")
    print(
        f"\npeak memory of ftkit: {few['peak_mib']:,} MiB at {options.rows // 10:,} rows, {peak:,} MiB at {options.rows:,}"
    )


def measure_once(script: Path, side: str, model: str, rows: int) -> dict[str, float]:
    command = [sys.executable, str(script), side, model, str(rows)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", required=True, help="a folder with an encoder and its tokenizer")
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=3)
    return parser.parse_args()


if __name__ == "__main__":
    main()
