"""How fast ftkit trains a Llama of 7B on a GPU beside a plain script and TRL, and whether the plan knew its memory.

    python benchmarks/gpu.py                           LoRA and QLoRA at 2k and 8k tokens; writes its part of RESULTS.md
    python benchmarks/gpu.py --only qlora-2k --rounds 3
    python benchmarks/gpu.py --shape 1b                a Llama of 1.1B, for a smaller GPU; RESULTS.md stays as it is
    python benchmarks/gpu.py --shape tiny --steps 2    a trial on a CPU too, in two minutes where nothing else runs

Beside ftkit: `bf16`, the Trainer and PEFT script of the tutorials with bf16, rows padded to each batch's longest; `sft`,
TRL's SFTTrainer with packing, where it is installed. The weights are random (speed does not depend on them) and rest in
bfloat16, or in 4 bits. Rows are made from a seed: words, half of them supervised, lengths from a sixteenth of the context
up to nearly all of it. A step of the plain script takes as many rows as the blocks of a packed step hold on average. Each
training is a process of its own, forked from one that has imported all and never touched the GPU, which saves minutes; the
ways take turns, round by round. The first steps are not timed. Share of the matrix rate: four operations to each parameter
and real token (attention's own are not counted), over the rate of a large bf16 product measured in the same run. Planned:
the peak of training in tensors, which ftkit tells before the first step as `ftkit plan` does, beside what torch had
allocated at the most.
"""

import argparse
import importlib.util
import json
import math
import os
import random
import statistics
import sys
import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from forks import forked
from results_page import write_section

GIB = 2**30
OPERATIONS = 4  # to a parameter and token: forward, and backward through a frozen base
PROMPT = "{instruction}\n{input}\n\n"
LORA = {"r": 16, "lora_alpha": 32, "target_modules": ["q_proj", "k_proj", "v_proj", "o_proj"]}
SHAPES: dict[str, dict[str, Any]] = {
    "7b": {  # Llama 2, but for the positions
        "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32,
        "vocab_size": 32000, "max_position_embeddings": 8192,
    },
    "1b": {
        "hidden_size": 2048, "intermediate_size": 5632, "num_hidden_layers": 22, "num_attention_heads": 32,
        "num_key_value_heads": 4, "vocab_size": 32000, "max_position_embeddings": 8192,
    },
    "tiny": {
        "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
        "vocab_size": 500, "max_position_embeddings": 256,
    },
}  # fmt: skip
TRIAL = ("lora-2k", "qlora-8k")  # of the tiny shape: each strategy and each context once
OUT_OF_MEMORY = ("out of memory", "memory ran out")


@dataclass(frozen=True)
class Work:
    """One training. `context` is a share of the shape's positions; `blocks` are packed into a step."""

    strategy: str
    context: float
    blocks: int = 1
    checkpointing: bool = False


WORKS = {
    "lora-2k": Work("lora", 0.25, blocks=2),
    "qlora-2k": Work("qlora", 0.25, checkpointing=True),
    "lora-8k": Work("lora", 1.0, checkpointing=True),
    "qlora-8k": Work("qlora", 1.0, checkpointing=True),
}


@dataclass
class Found:
    """What the rounds of a work gave.

    Attributes:
        tokens: of all rows, none of them padding.
        results: by way, of each round what gpu_clock.py says; of one that came to nothing, why, under `lacking`.
        planned: bytes at the peak, as planned; levers: what was on. As ftkit's run.json says.
    """

    tokens: int
    results: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    planned: int = 0
    levers: dict[str, Any] = field(default_factory=dict)

    def speeds(self, way: str) -> list[float | None]:
        """Real tokens a second, of each round; None where it came to nothing."""
        mean = self.tokens  # of all entries; an entry is a row or a block
        return [mean / one["entries"] * one["rows"] / one["step"] if "step" in one else None for one in self.results[way]]

    def middle(self, way: str, name: str) -> float:
        return statistics.median(one[name] for one in self.results[way] if name in one)

    def lacking(self, way: str) -> str:
        """Why a way has no figures."""
        return str(self.results[way][0]["lacking"])


def main() -> None:
    options = parse_arguments()
    # before torch comes in; it must not touch the GPU in the process that forks
    os.environ |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "true", "PYTORCH_NVML_BASED_CUDA_CHECK": "1"}
    if unknown := sorted(set(options.only) - set(WORKS)):
        sys.exit(f"no case {', '.join(unknown)}; there are {', '.join(WORKS)}")
    folder = options.output.resolve() / options.shape
    folder.mkdir(parents=True, exist_ok=True)
    machine = child("make", write_case(folder, {"model": str(folder / "model"), "shape": SHAPES[options.shape]}))
    if "lacking" in machine:
        sys.exit("the model could not be made")
    ways = ["ftkit", "bf16", *(["sft"] if importlib.util.find_spec("trl") else [])]
    if "sft" not in ways:
        say("TRL is not installed: pip install 'ftkit[bench]' sets its SFTTrainer beside the others")
    page = heading(machine, options, "sft" in ways)
    print("\n".join(page), flush=True)
    for name in options.only or (TRIAL if options.shape == "tiny" else WORKS):
        found = run_rounds(name, WORKS[name], folder, ways, options)
        page += (lines := lines_of(name, found, machine))
        print("\n".join(lines), flush=True)  # as they come: a machine may be lent for so long
    if machine["gpu"] and options.shape == "7b" and not options.only:
        write_section("gpu.py", page)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, default="7b", help="of the model; tiny is for a trial")
    parser.add_argument("--steps", type=int, default=16, help="of each training, at least 2 (default 16)")
    parser.add_argument("--rounds", type=int, default=0, help="how often each way trains (default 2; tiny: 1)")
    parser.add_argument("--only", nargs="+", default=[], metavar="CASE", help=f"of {', '.join(WORKS)}; not written")
    parser.add_argument("--output", type=Path, default=Path("runs/gpu"), help="where the model (13 GB) and the runs go")
    options = parser.parse_args()
    if options.steps < 2:
        parser.error("--steps: the first step is not timed, so that at least 2 are needed")
    options.rounds = options.rounds or (1 if options.shape == "tiny" else 2)
    return options


def run_rounds(name: str, work: Work, folder: Path, ways: list[str], options: argparse.Namespace) -> Found:
    folder = folder / name
    folder.mkdir(exist_ok=True)
    case, tokens, fill = prepare(work, folder, options)
    found = Found(tokens)
    for number in range(options.rounds):
        for way in ways:
            say(f"{name}, round {number + 1}: {way}")
            own = case | (case_of_others(way, work, fill) if way != "ftkit" else {})
            found.results.setdefault(way, []).append(child(way, write_case(folder, own)))
    if (path := folder / "ftkit/run.json").is_file():
        record = json.loads(path.read_text(encoding="utf-8"))
        found.levers = record.get("speed") or {}
        found.planned = max((record.get("plan") or {}).get("training_peak_bytes", {"": 0}).values())
    return found


def prepare(work: Work, folder: Path, options: argparse.Namespace) -> tuple[dict[str, Any], int, float]:
    """Write the rows; the case as ftkit gets it, the tokens of the rows, and how many rows fill a block."""
    shape = SHAPES[options.shape]
    context = round(shape["max_position_embeddings"] * work.context)
    draw, rows, lengths = random.Random(0), [], []
    while sum(lengths) < (options.steps + 2) * work.blocks * context:
        row, length = make_row(draw, context, shape["vocab_size"])
        rows.append(row)
        lengths.append(length)
    for name, part in (("train", rows), ("eval", [make_row(draw, context, shape["vocab_size"])[0] for _ in range(4)])):
        text = "".join(json.dumps(row) + "\n" for row in part)
        (folder / f"{name}.jsonl").write_text(text, encoding="utf-8")
    case = {
        "task": "instruction", "model": str(folder.parent / "model"), "shape": shape,
        "train": str(folder / "train.jsonl"), "eval": str(folder / "eval.jsonl"),
        "strategy": {"name": work.strategy, **LORA}, "steps": options.steps, "batch": work.blocks, "learning_rate": 2e-4,
        "max_length": context, "dtype": "bfloat16", "checkpointing": work.checkpointing, "prompt": PROMPT,
    }  # fmt: skip
    return case, sum(lengths), context / statistics.mean(lengths)


def make_row(draw: random.Random, context: int, vocabulary: int) -> tuple[dict[str, str], int]:
    """A row of words, half of them the answer, and its tokens with the end token."""
    length = int(context / 16 * math.exp(draw.random() * math.log(0.9 * 16)))
    words = [f"w{int(draw.paretovariate(0.7)) % (vocabulary - 10)}" for _ in range(max(6, length))]
    quarter, half = len(words) // 4, len(words) // 2
    row = {"instruction": words[:quarter], "input": words[quarter:half], "output": words[half:]}
    return {name: " ".join(part) for name, part in row.items()}, len(words) + 1


def case_of_others(way: str, work: Work, fill: float) -> dict[str, Any]:
    """What others.py is told beside: the same memory savings; TRL packs, the plain script takes as many rows."""
    arguments: dict[str, Any] = {"gradient_checkpointing": work.checkpointing}
    more: dict[str, Any] = {"quantized": work.strategy == "qlora", "arguments": arguments}
    if way == "sft":
        arguments["packing"] = True
        return more
    return more | {"batch": max(1, round(work.blocks * fill))}


def write_case(folder: Path, case: dict[str, Any]) -> Path:
    path = folder / "case.json"
    path.write_text(json.dumps(case), encoding="utf-8")
    return path


def child(what: str, case: Path) -> dict[str, Any]:
    """What a process of its own finds; under `lacking` why it finds nothing."""
    import gpu_child  # here, so that --help need not wait for it

    started = time.perf_counter()
    found = forked(partial(gpu_child.work, what, case), case.with_name(f"{what}.log"))
    say(f"  {time.perf_counter() - started:.0f} s")
    if isinstance(found, dict):
        return found
    if any(words in found for words in OUT_OF_MEMORY):
        return {"lacking": "out of memory"}
    say(f"{what} failed:\n{found[-3000:]}")
    return {"lacking": "failed"}


def lines_of(name: str, found: Found, machine: dict[str, Any]) -> list[str]:
    """A line of the table for each way."""
    lines = []
    for way in found.results:
        speeds = [speed for speed in found.speeds(way) if speed]
        if not speeds:
            lines.append(f"| {name} | {way} | {found.lacking(way)} | | | | | |")
            continue
        middle, allocated = statistics.median(speeds), found.middle(way, "allocated")
        pairs = zip(found.speeds("ftkit"), found.speeds(way), strict=True)
        ratios = [ours / theirs for ours, theirs in pairs if ours and theirs]
        ratio = f"{statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})" if ratios and way != "ftkit" else ""
        share = OPERATIONS * machine["parameters"] * middle / machine["rate"]
        planned = f"{found.planned / GIB:.2f} ({found.planned / allocated:.2f})" if way == "ftkit" else ""
        lines.append(
            f"| {name} | {way} | {middle:,.0f} | {ratio} | {share:.1%} | {allocated / GIB:.2f} | "
            f"{found.middle(way, 'reserved') / GIB:.2f} | {planned} |"
        )
    on = ", ".join(lever.replace("_", " ") for lever, value in found.levers.items() if value) or "nothing said"
    return [*lines, f"| {name} | ftkit's levers | {on} | | | | | |"]


def heading(machine: dict[str, Any], options: argparse.Namespace, with_sft: bool) -> list[str]:
    where = f"{machine['device']}, {machine['memory'] / GIB:.0f} GiB" if machine["gpu"] else (
        "**on a CPU: a trial of the script, whose figures say nothing of a GPU**; memory is that of the process"
    )  # fmt: skip
    return [
        "## On a GPU", "",
        f"`python benchmarks/gpu.py --shape {options.shape}`, {time.strftime('%Y-%m-%d')}, {where}; torch "
        f"{machine['torch']}, transformers {machine['transformers']}; large bf16 product: {machine['rate'] / 1e12:,.2f} "
        f"TFLOP/s; {options.steps} steps, rounds in turns: {options.rounds}, medians."
        + ("" if with_sft else " TRL was not installed."), "",
        "Real tokens a second after the first steps; how many times as fast ftkit was (least-most of the rounds); share of "
        "the matrix rate; GiB allocated and reserved at the peak; the peak that was planned, and as a share of what was "
        "allocated.", "",
        "| case | way | tokens/s | ftkit's times | of the rate | allocated | reserved | planned |",
        "|---|---|---|---|---|---|---|---|",
    ]  # fmt: skip


def say(words: str) -> None:
    print(words, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
