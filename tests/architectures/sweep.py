"""The sweep: small models of many types through every task and strategy that makes sense, a line a job.

    python tests/architectures/sweep.py --out tests/architectures/matrix.csv --docs docs/models.md
    python tests/architectures/sweep.py --only llama bert --task pairs --strategy full
    python tests/architectures/sweep.py --precision bf16
    python tests/architectures/sweep.py --dropout

Without --only it takes all types, in bfloat16 and with dropout one of each kind (`SELECTED`). A type runs in a process of its
own, forked when all is imported. It ends with 1 where a job was wrong or crashed.
"""

import argparse
import gc
import json
import os
import shutil
import signal
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import IO

os.environ |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
HOME = Path(tempfile.mkdtemp(prefix="sweep-"))
os.environ |= {"HF_DATASETS_CACHE": str(HOME / "datasets"), "FTKIT_CACHE": str(HOME / "cache")}

import bitsandbytes  # noqa: F401  here and not in each process
import scipy.stats  # noqa: F401
import sklearn.metrics  # noqa: F401
import torch
import transformers.models.bert.modeling_bert
import transformers.models.llama.modeling_llama
import transformers.models.t5.modeling_t5  # noqa: F401
from configurations import SELECTED, TYPES, save_small_model
from jobs import Job, Outcome, Place, jobs_of, run_job
from matrix import Row, line_of, models_page, summary, write_csv
from sweep_rows import write_rows

from ftkit import console
from ftkit.compat import hush_libraries
from ftkit.training import micro_batches

PATIENCE = 600  # seconds that a type may take
CACHES = ("out", "cache", "datasets")


def main() -> int:
    arguments, started = parse(), time.monotonic()
    try:
        write_rows(HOME)
        rows: list[Row] = []
        for row in all_rows(arguments):
            rows.append(row)
            print(line_of(row), flush=True)
            if arguments.out:
                write_csv(arguments.out, rows)
    finally:
        shutil.rmtree(HOME, ignore_errors=True)
    if arguments.docs:
        arguments.docs.write_text(models_page(rows), encoding="utf-8")
    print(f"{summary(rows)}; {time.monotonic() - started:.0f} s")
    return int(any(row["verdict"] in ("wrong", "crash") for row in rows))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("only", "task", "strategy", "variant"):
        parser.add_argument(f"--{name}", nargs="+", default=[])
    parser.add_argument("--precision", default="float32", choices=["float32", "bf16"])
    parser.add_argument("--dropout", action="store_true")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--docs", type=Path)
    return parser.parse_args()


def all_rows(arguments: argparse.Namespace) -> Iterator[Row]:
    bf16, dropout = arguments.precision == "bf16", arguments.dropout
    chosen = {name: getattr(arguments, name) for name in ("task", "strategy", "variant")}
    chosen["variant"] = ["steps"] if dropout else chosen["variant"]
    for kind in arguments.only or (SELECTED if bf16 or dropout else TYPES):
        jobs = [job for job in jobs_of(kind, brief=bf16 or dropout) if is_chosen(job, chosen)]
        yield from rows_of(jobs, Place(HOME / kind, HOME, HOME / "out", bf16, dropout))


def is_chosen(job: Job, chosen: dict[str, list[str]]) -> bool:
    return all(not values or getattr(job, name) in values for name, values in chosen.items())


def rows_of(jobs: list[Job], place: Place) -> Iterator[Row]:
    """The rows of a type's jobs, made in a process of its own; a job in which it dies says so, and the next goes on."""
    left = list(jobs)
    while left:
        reading, writing = os.pipe()
        if (child := os.fork()) == 0:
            os.close(reading)
            with os.fdopen(writing, "w") as out:
                work(left, place, out)
            os._exit(0)
        os.close(writing)
        with os.fdopen(reading) as lines:
            for line in lines:
                left.pop(0)
                yield json.loads(line)
        _, status = os.waitpid(child, 0)
        for name in (*CACHES, jobs[0].kind):
            shutil.rmtree(HOME / name, ignore_errors=True)
        if left:
            yield row_of(Outcome(left.pop(0), "crash", f"the process ended with {status}"))


def work(jobs: list[Job], place: Place, out: IO[str]) -> None:
    """In the process of a type: make its models, do its jobs, and write a line of JSON each."""
    signal.alarm(PATIENCE)
    torch.set_num_threads(1)
    make_quiet()
    for cost in ("PART_TOKENS", "PART_UNPACKED_TOKENS", "PART_WEIGHT_TOKENS"):
        setattr(micro_batches, cost, 0)  # so small a model would never be computed in parts
    gc.freeze()  # the Trainer collects after each training, and would go through all modules' objects
    save_small_model(jobs[0].kind, place.models / "model", dropout=place.dropout)
    save_small_model(jobs[0].kind, place.models / "plain", dropout=place.dropout, router=False)
    for job in jobs:
        out.write(json.dumps(row_of(run_job(job, place))) + "\n")
        out.flush()
        shutil.rmtree(place.out, ignore_errors=True)
        gc.freeze()


def make_quiet() -> None:
    warnings.filterwarnings("ignore")
    hush_libraries()
    console.set_quiet(True)
    if not sys.flags.dev_mode:  # python -X dev shows what the libraries print
        silent = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silent, 1)
        os.dup2(silent, 2)


def row_of(outcome: Outcome) -> Row:
    gaps = {name: f"{found:.1e}" for name, found in outcome.gaps.items()}
    names = {"verdict": outcome.verdict, "levers": outcome.levers, "detail": outcome.detail}
    kind, task, strategy, variant = outcome.job
    own = {"type": kind, "task": task, "strategy": strategy, "variant": variant}
    return {**own, **names, **gaps, "seconds": round(outcome.seconds, 1)}


if __name__ == "__main__":
    sys.exit(main())
