"""How time and memory of a training grow: rows x 10, length x 4, model x 4, by ftkit and by the plain Trainer script.

    python benchmarks/growth.py                        all sizes; writes its part of benchmarks/RESULTS.md
    python benchmarks/growth.py --only encoder --scale 0.2

Every weight of a small encoder learns on sentences, and of a small decoder on instruction pairs; each training is a process
of its own, as in speed.py. Ten times the rows are trained on in ten times the steps; longer rows are several put together;
the larger model has four times the parameters in its blocks. Needs ../shared (tokenizers, sentences, pairs).
"""

import argparse
import time
from dataclasses import replace
from pathlib import Path
from statistics import median

from results_page import write_section
from speed import Case, Found, measure

FULL, BESIDE = {"name": "full"}, ("plain",)
BASES = {
    "encoder": Case(
        "text-classification", "distilbert-3m", FULL, BESIDE, steps=10, batch=8, learning_rate=5e-5, max_length=512
    ),
    "decoder": Case("instruction", "gpt2-3m", FULL, BESIDE, steps=10, batch=4, learning_rate=5e-5, max_length=1024),
}
LARGER = {"distilbert-3m": "distilbert-13m", "gpt2-3m": "gpt2-13m"}


def sizes(base: Case) -> dict[str, Case]:
    return {
        "base": base,
        "rows x 10": replace(base, steps=10 * base.steps),
        "length x 4": replace(base, joined=4),
        "model x 4": replace(base, model=LARGER[base.model]),
    }


def main() -> None:
    options = parse_arguments()
    wanted = options.only or list(BASES)
    found = measure({f"{name} {size}": case for name in wanted for size, case in sizes(BASES[name]).items()}, options)
    lines = []
    for name in wanted:
        lines += lines_of(name, {size: found[f"{name} {size}"] for size in sizes(BASES[name])})
    print("\n".join(lines), flush=True)
    if not options.only and options.scale == 1.0:
        write_results(lines, options.rounds)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, default=Path("../shared"), help="the folder of real data")
    parser.add_argument("--output", type=Path, default=Path("runs/growth"), help="where models and runs go")
    parser.add_argument("--only", nargs="+", default=[], choices=list(BASES), help="RESULTS.md stays as it is")
    parser.add_argument("--rounds", type=int, default=1, help="how often each way trains (default 1)")
    parser.add_argument("--minutes", type=float, default=6, help="after which no size trains again (default 6)")
    parser.add_argument("--scale", type=float, default=1.0, help="of the steps, so many")
    return parser.parse_args()


def lines_of(name: str, sizes: dict[str, Found]) -> list[str]:
    """Lines of the table: a size and way each."""
    lines, base = [], sizes["base"]
    for size, found in sizes.items():
        for way in found.seconds:
            (pace, memory), (base_pace, base_memory) = figures(found, way), figures(base, way)
            lines.append(
                f"| {name} | {size} | {way} | {found.tokens:,} | {pace:,.0f} | {pace / base_pace:.2f} | "
                f"{memory:,.0f} | {memory / base_memory:.2f} |"
            )
    return lines


def figures(found: Found, way: str) -> tuple[float, float]:
    """Microseconds a real token, and MiB above the loaded model; medians of the rounds."""
    return 1e6 * median(found.seconds[way]) / found.tokens, median(found.above[way]) / 2**20


def write_results(lines: list[str], rounds: int) -> None:
    import machine  # here, so that --help need not wait for torch

    head = [
        f"## Growth, on a processor that multiplies in {machine.PRECISION}", "",
        f"`python benchmarks/growth.py`, {time.strftime('%Y-%m-%d')}; {rounds} {'round' if rounds == 1 else 'rounds'}. "
        "Every weight learns: an encoder of 3.2 million parameters in its blocks on sentences, batches of 8, and a decoder "
        "of as many on instruction pairs, batches of 4. Real (unpadded) tokens trained on; microseconds of training a token "
        "and how many times the base's; peak memory above the loaded model, and how many times the base's.", "",
        "| model | size | way | tokens | us/token | of base | MiB | of base |",
        "|---|---|---|---:|---:|---:|---:|---:|",
    ]  # fmt: skip
    write_section(f"growth.py {machine.PRECISION}", [*head, *lines])


if __name__ == "__main__":
    main()
