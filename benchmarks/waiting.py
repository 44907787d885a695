"""How threads that wait should wait: a training step under each setting of OpenMP, alone and beside a busy process.

    python benchmarks/waiting.py                        three rounds, about six minutes
    python benchmarks/waiting.py --rounds 5 --threads 4

Full fine-tuning of a BERT of six layers of width 384 (random weights), 32 rows of 32 tokens, bfloat16 autocast. Each setting
is a process of its own and the settings take turns, first on a quiet machine, then beside a process that never waits; a
round's ratio is against that round's first.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys

from ftkit.process import WAITING

SETTINGS = {
    "as OpenMP has it": {},
    "give the core away at once": {"OMP_WAIT_POLICY": "PASSIVE"},
    "look 300 times": {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "300"},
    "look 1,000 times": {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "1000"},
    "as ftkit has it": WAITING,
    "look 10,000 times": {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "10000"},
}
CHILD = """
import json, statistics, sys, time
import torch
from transformers import BertConfig, BertForSequenceClassification
torch.manual_seed(0)
threads, steps = map(int, sys.argv[1:])
if threads:
    torch.set_num_threads(threads)
shape = {"hidden_size": 384, "intermediate_size": 1536, "num_hidden_layers": 6, "num_attention_heads": 12}
model = BertForSequenceClassification(BertConfig(**shape)).train()
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)
batch = {"input_ids": torch.randint(0, 30000, (32, 32)), "labels": torch.randint(0, 2, (32,))}
seconds = []
for _ in range(steps + 2):
    started = time.perf_counter()
    with torch.autocast("cpu", torch.bfloat16):
        loss = model(**batch).loss
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    seconds.append(time.perf_counter() - started)
print(json.dumps(statistics.median(seconds[2:])))
"""
BUSY = "while True: pass"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--threads", type=int, default=0, help="of a step (default: as many as torch takes)")
    options = parser.parse_args()
    print("| threads that wait | alone, s a step | ratio (spread) | beside a busy process, s a step | ratio (spread) |")
    print("| --- | ---: | ---: | ---: | ---: |")
    alone = rounds(options)
    with subprocess.Popen([sys.executable, "-c", BUSY]) as busy:
        try:
            beside = rounds(options)
        finally:
            busy.kill()
    for name in SETTINGS:
        print(f"| {name} | {cells(name, alone)} | {cells(name, beside)} |")


def rounds(options: argparse.Namespace) -> list[dict[str, float]]:
    return [{name: measure(setting, options) for name, setting in SETTINGS.items()} for _ in range(options.rounds)]


def measure(setting: dict[str, str], options: argparse.Namespace) -> float:
    """Seconds of a step, in a process with the setting and with nothing else said about threads."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
    command = [sys.executable, "-c", CHILD, str(options.threads), str(options.steps)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=kept | setting)
    return float(json.loads(done.stdout))


def cells(name: str, found: list[dict[str, float]]) -> str:
    first = next(iter(SETTINGS))
    ratios = sorted(one[name] / one[first] for one in found)
    middle = statistics.median(one[name] for one in found)
    return f"{middle:.3f} | {statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"


if __name__ == "__main__":
    main()
