"""What the allocator's settings do to a training step: processor time, time by the clock, peak memory.

    python benchmarks/allocator.py                      three rounds on one thread, a few minutes
    python benchmarks/allocator.py --threads 2

Full fine-tuning of a model of DistilBERT-base's shape (random weights), 16 rows of 64 tokens, bfloat16 autocast. Each
setting is a process of its own, and the settings take turns; a round's ratio is against that round's first.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys

OFF = {"FTKIT_ALLOCATOR": "0"}
KEEP = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "4294967296"}
SETTINGS = {
    "as they come": OFF,
    "blocks kept": OFF | KEEP,
    "blocks kept, huge pages by glibc": OFF | KEEP | {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"},
    "blocks kept, huge pages by torch (keep)": {"FTKIT_ALLOCATOR": "keep"},
    "ftkit: huge pages by torch": {},
}
CHILD = """
import ftkit, json, resource, statistics, sys, time
import torch
from transformers import DistilBertConfig, DistilBertForSequenceClassification
torch.manual_seed(0)
model = DistilBertForSequenceClassification(DistilBertConfig()).train()
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)
batch = {"input_ids": torch.randint(0, 30000, (16, 64)), "labels": torch.randint(0, 2, (16,))}
seconds = []
for _ in range(int(sys.argv[1]) + 2):
    started, clock = time.process_time(), time.perf_counter()
    with torch.autocast("cpu", torch.bfloat16):
        loss = model(**batch).loss
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()
    seconds.append((time.process_time() - started, time.perf_counter() - clock))
processor, clock = (statistics.median(one) for one in zip(*seconds[2:]))
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps({"processor": processor, "clock": clock, "peak": peak, "loss": loss.item()}))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    rounds = [
        {name: measure(setting, options.threads, options.steps) for name, setting in SETTINGS.items()}
        for _ in range(options.rounds)
    ]
    print("| setting | processor s a step | ratio (spread) | seconds a step | peak MiB | ratio | loss |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for name in SETTINGS:
        found = {key: statistics.median(one[name][key] for one in rounds) for key in ("processor", "clock", "peak", "loss")}
        ratios, peaks = (
            sorted(one[name][key] / one["as they come"][key] for one in rounds) for key in ("processor", "peak")
        )
        spread = f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
        print(
            f"| {name} | {found['processor']:.3f} | {spread} | {found['clock']:.3f} | {found['peak']:,.0f} "
            f"| {statistics.median(peaks):.2f} | {found['loss']:.6f} |"
        )


def measure(setting: dict[str, str], threads: int, steps: int) -> dict[str, float]:
    """One process with the setting and with nothing else said about memory."""
    said = ("MALLOC_", "GLIBC_TUNABLES", "THP_", "FTKIT_ALLOCATOR")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(said)}
    environment = kept | {"OMP_NUM_THREADS": str(threads)} | setting
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(steps)], capture_output=True, text=True, check=True, env=environment
    )
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


if __name__ == "__main__":
    main()
