"""What a run says it took, unbroken beside resumed three times: after Ctrl-C, kill -9 between checkpoints, and SIGTERM.

    python benchmarks/resumed.py                        LoRA and full; writes its part of benchmarks/RESULTS.md
    python benchmarks/resumed.py --rounds 3 --steps 480 --only lora
    python benchmarks/resumed.py --processor            on a busy machine: seconds of the processor, not of the clock

MiniLM learns the sentiment of sentences, in processes of `ftkit train` that are sent real signals. In a round the unbroken
run comes first, then the other; ratios are medians of the rounds. Needs ../shared (MiniLM, sentences).
"""

import argparse
import json
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import yaml
from results_page import write_section

ROOT = Path(__file__).parent.parent
SHARED = ROOT.parent / "shared"
SENTENCES = SHARED / "data" / "rt-polarity"
STRATEGIES = {"lora": {"name": "lora", "r": 8, "target_modules": ["query", "value"]}, "full": {"name": "full"}}
ENDS = ((0.2, signal.SIGINT), (0.55, signal.SIGKILL), (0.8, signal.SIGTERM))  # after a share of the steps
FIGURES = {
    "steps": ("trained", "steps"),
    "rows": ("trained", "rows"),
    "tokens": ("trained", "tokens"),
    "floating-point operations": ("trained", "operations"),
    "seconds of training": ("seconds", "training"),
    "seconds of the run": ("seconds", "total"),
    "peak memory of training": ("training_peak_bytes", "process"),
    "peak memory of the run": ("peak_memory_bytes", "process"),
    "joules of training (processor)": ("training_energy_joules", "processor"),
}
BY_PROCESSOR = """
import sys, time, types
from ftkit.cli.main import main
from ftkit.training import account
account.time = types.SimpleNamespace(monotonic=time.process_time)
sys.argv[0] = "ftkit"
main()
"""
Record = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=240)
    parser.add_argument("--rows", type=int, default=64, help="a step (default: 64)")
    parser.add_argument("--processor", action="store_true", help="count seconds of the processor")
    parser.add_argument("--only", choices=[*STRATEGIES])
    options = parser.parse_args()
    lines = []
    for strategy in [options.only] if options.only else STRATEGIES:
        with tempfile.TemporaryDirectory() as folder:
            rounds = [one_round(Path(folder), strategy, options, number) for number in range(options.rounds)]
        lines += table(strategy, rounds)
    print("\n".join(lines))
    write_results(lines, options)


def one_round(folder: Path, strategy: str, options: argparse.Namespace, number: int) -> tuple[Record, Record]:
    """The records of an unbroken run and of one that was resumed three times."""
    recipe = folder / f"{strategy}.yaml"
    recipe.write_text(yaml.safe_dump(values(strategy, options.steps, options.rows)), encoding="utf-8")
    whole, broken = (folder / f"{strategy}-{number}-{kind}" for kind in ("whole", "broken"))
    train = ["-c", BY_PROCESSOR] if options.processor else ["-m", "ftkit"]
    command = [sys.executable, *train, "train", str(recipe), "--quiet", "--output-dir"]
    subprocess.run([*command, str(whole)], check=True, stdout=subprocess.DEVNULL)
    for share, how in ENDS:
        end(command, broken, after=int(share * options.steps), how=how)
    subprocess.run([*command, str(broken), "--resume"], check=True, stdout=subprocess.DEVNULL)
    found = [json.loads((run / "run.json").read_text(encoding="utf-8")) for run in (whole, broken)]
    print(f"{strategy}, round {number + 1}: {[record['seconds'] for record in found]}", file=sys.stderr)
    return found[0], found[1]


def values(strategy: str, steps: int, rows: int) -> dict[str, Any]:
    """The recipe."""
    files = [
        {"path": str(SENTENCES / f"rt-polarity.{end}"), "format": "text", "encoding": "latin-1", "values": {"label": label}}
        for end, label in (("pos", "positive"), ("neg", "negative"))
    ]
    return {
        "task": "text-classification", "model": {"name": str(SHARED / "models" / "minilm-l6"), "max_length": 128},
        "strategy": STRATEGIES[strategy], "data": {"train": files, "eval_size": 0.05, "drop_overlap": True},
        "training": {"max_steps": steps, "per_device_train_batch_size": rows, "learning_rate": 1e-4, "logging_steps": 1,
                     "save_strategy": "steps", "save_steps": steps // 6, "save_total_limit": 2, "eval_strategy": "steps",
                     "eval_steps": steps // 3},
        "evaluation": {"verify": False, "general_text": False},
    }  # fmt: skip


def end(command: list[str], run: Path, after: int, how: signal.Signals) -> None:
    """Train until so many steps are logged, then send the signal, and wait for the process to end."""
    go_on = ["--resume"] if run.exists() else []
    process = subprocess.Popen([*command, str(run), *go_on], stdout=subprocess.DEVNULL)
    while last_step(run) < after:
        if process.poll() is not None:
            raise SystemExit(f"the run ended by itself with status {process.returncode}")
        time.sleep(0.02)
    process.send_signal(how)
    process.wait()


def last_step(run: Path) -> int:
    log = run / "log.jsonl"
    lines = log.read_text(encoding="utf-8").splitlines() if log.is_file() else []
    return max((json.loads(line)["step"] for line in lines if line.endswith("}")), default=0)


def table(strategy: str, rounds: list[tuple[Record, Record]]) -> list[str]:
    """A line a figure: the medians of both, and the median of the ratios."""
    lines = []
    for name, (block, key) in FIGURES.items():
        pairs = [tuple(record.get(block, {}).get(key) for record in pair) for pair in rounds]
        if any(value is None for pair in pairs for value in pair):
            lines.append(f"| {strategy} | {name} | not told here | not told here | |")
            continue
        whole, broken = (median(pair[place] for pair in pairs) for place in (0, 1))
        ratios = [theirs / ours for ours, theirs in pairs]
        lines.append(f"| {strategy} | {name} | {figure(whole)} | {figure(broken)} | {spread(ratios)} |")
    going_on = median(broken["resuming"]["seconds"] for _, broken in rounds)
    return [*lines, f"| {strategy} | seconds of going on three times, told apart | | {figure(going_on)} | |"]


def figure(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:,.1f}"


def spread(ratios: list[float]) -> str:
    exact = all(ratio == 1 for ratio in ratios)
    return "equal" if exact else f"{median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})"


def write_results(lines: list[str], options: argparse.Namespace) -> None:
    """The section of RESULTS.md."""
    clock = "Seconds are the processor's, as the machine was busy with other work. " if options.processor else ""
    rounds = f"{options.rounds} {'round' if options.rounds == 1 else 'rounds'}"
    head = [
        "## A run resumed three times beside the unbroken one", "",
        f"`python {' '.join(sys.argv)}`, {time.strftime('%Y-%m-%d')}; {rounds} of {options.steps} steps. "
        f"MiniLM on sentences, {options.rows} rows a step; the resumed run was ended by Ctrl-C, by kill -9 between two "
        f"checkpoints, and by SIGTERM. {clock}Medians; the ratio is resumed to unbroken, with lowest and highest.", "",
        "| strategy | what run.json says | unbroken | resumed three times | ratio |",
        "|---|---|---:|---:|---:|",
    ]  # fmt: skip
    write_section("resumed.py", [*head, *lines])


if __name__ == "__main__":
    main()
