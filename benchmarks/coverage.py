"""How often an interval holds the true value: simulated runs of which it is known, beside the plain percentile bootstrap.

    python benchmarks/coverage.py                 1,000 runs of each; writes its part of benchmarks/RESULTS.md
    python benchmarks/coverage.py --runs 100      prints the table alone
    python benchmarks/coverage.py --only ROUGE    these cases alone; each has draws of its own, so that they stay the same

Two models' answers to the same 10 to 1,000 rows are drawn with known chances, which go together as a baseline and a tuned
model do. Metrics and intervals are those of runs, from the same thousand draws of the rows as the plain bootstrap has. No
model is loaded.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial

import numpy as np
from results_page import write_section
from scipy.special import ndtr

from ftkit.metrics.classification import classification_resamplers
from ftkit.metrics.estimates import RESAMPLES, as_estimate
from ftkit.metrics.intervals import Estimate, difference_interval
from ftkit.metrics.resampling import Resampler, by_group, draws, of_ratio, of_share

ROWS = (10, 30, 100, 1000)
SEED = 42
TOGETHER = 0.6  # of what decides a row's answer, how much both models share
RANDOM = np.random.default_rng()

Pair = tuple[Resampler, Resampler]  # of the baseline and of the tuned model


@dataclass(frozen=True)
class Case:
    """Runs of one kind.

    Attributes:
        make: two models' metric over so many rows.
        truth: the metric of either over all rows that there could be.
    """

    name: str
    make: Callable[[int], Pair]
    truth: tuple[float, float]


def latent(rows: int, answers: int = 1) -> list[np.ndarray]:
    """Two models' luck with each answer, even between 0 and 1, shape (rows, answers) each; a row's answers go together."""
    row, own = RANDOM.standard_normal((rows, 1)), partial(RANDOM.standard_normal, (rows, answers))
    shared = np.sqrt(0.5) * row + np.sqrt(0.5) * own() if answers > 1 else row
    return [ndtr(np.sqrt(TOGETHER) * shared + np.sqrt(1 - TOGETHER) * own()) for _ in range(2)]


def accuracy(chances: tuple[float, float], rows: int) -> Pair:
    one, other = (of_share(luck[:, 0] < chance) for luck, chance in zip(latent(rows), chances, strict=True))
    return one, other


def chats(chances: tuple[float, float], rows: int) -> Pair:
    """Exact match of three answers a chat."""
    groups = np.repeat(np.arange(rows), 3).tolist()
    one, other = (
        by_group(of_share((luck < chance).ravel()), groups) for luck, chance in zip(latent(rows, 3), chances, strict=True)
    )
    return one, other


def labels(name: str, prior: tuple[float, ...], chances: tuple[float, float], rows: int) -> Pair:
    """A metric of one label a row, of which a wrong one is any other."""
    count = len(prior)
    truth, shift = RANDOM.choice(count, rows, p=prior), RANDOM.integers(1, count, rows)
    found = [
        np.where(luck[:, 0] < chance, truth, (truth + shift) % count)
        for luck, chance in zip(latent(rows), chances, strict=True)
    ]
    one, other = (classification_resamplers(np.eye(count)[given] * 5.0, truth)[name] for given in found)
    return one, other


def f1_of(name: str, prior: tuple[float, ...], chance: float) -> float:
    """F1 over all rows that there could be: of label 1 where there are two, else the mean."""
    given = [chance * share + (1 - chance) * (1 - share) / (len(prior) - 1) for share in prior]
    scores = [2 * chance * share / (share + found) for share, found in zip(prior, given, strict=True)]
    return scores[1] if name == "f1" and len(prior) == 2 else float(np.mean(scores))


def rouge(lift: float, rows: int) -> Pair:
    """Values between 0 and 1, the tuned model's nearer to 1 by `lift` of what is missing."""
    one, other = latent(rows)
    return of_share(one[:, 0] ** 2), of_share(1 - (1 - other[:, 0] ** 2) * (1 - lift))


def loss(factor: float, rows: int) -> Pair:
    """Loss a token, of rows whose loss is lognormal."""
    tokens, base = RANDOM.integers(5, 60, rows).astype(float), np.exp(RANDOM.normal(0, 0.5, rows))
    moved = base * factor * np.exp(RANDOM.normal(-0.02, 0.2, rows))
    return of_ratio(base * tokens, tokens), of_ratio(moved * tokens, tokens)


def label_case(words: str, prior: tuple[float, ...], chances: tuple[float, float]) -> Case:
    one, other = (f1_of("f1", prior, chance) for chance in chances)
    return Case(words, partial(labels, "f1", prior, chances), (one, other))


TWO, FOUR = (0.8, 0.2), (0.5, 0.25, 0.15, 0.1)
MEAN_LOSS = float(np.exp(0.125))
CASES = [
    *(
        Case(f"{words}, {one:g} → {other:g}", partial(make, (one, other)), (one, other))
        for words, make, pairs in (
            ("accuracy", accuracy, [(0.7, 0.7), (0.7, 0.75), (1, 1), (0.95, 1), (0, 0), (0, 0.05)]),
            ("exact match, three answers a chat", chats, [(0.6, 0.6), (0.6, 0.65), (1, 1), (0.95, 1)]),
        )
        for one, other in pairs
    ),
    *(
        label_case(f"{words}, accuracy {one:g} → {other:g}", prior, (one, other))
        for words, prior in (("F1 of a label with 20 % of the rows", TWO), ("F1, mean over four labels", FOUR))
        for one, other in ((0.8, 0.8), (0.8, 0.85), (0.95, 1), (1, 1))
    ),
    Case("ROUGE, no difference", partial(rouge, 0), (1 / 3, 1 / 3)),
    Case("ROUGE, +0.03", partial(rouge, 0.045), (1 / 3, 1 - 2 / 3 * 0.955)),
    Case("loss, no difference", partial(loss, 1), (MEAN_LOSS, MEAN_LOSS)),
    Case("loss, -5 %", partial(loss, 0.95), (MEAN_LOSS, 0.95 * MEAN_LOSS)),
]


@cache
def weights_of(rows: int) -> np.ndarray:
    return np.concatenate([*draws(rows, RESAMPLES, SEED)])


def estimate(metric: Resampler) -> Estimate:
    return as_estimate(metric, metric.compute(weights_of(metric.rows)))


def percentiles(values: np.ndarray) -> list[float]:
    return [float(end) for end in np.quantile(values, [0.025, 0.975])]


@dataclass
class Count:
    """How many intervals held the truth, and how wide they were together."""

    held: int = 0
    width: float = 0.0

    def add(self, interval: list[float], truth: float) -> None:
        low, high = interval
        self.held += low - 1e-9 <= truth <= high + 1e-9
        self.width += high - low


def simulate(case: Case, rows: int, runs: int) -> dict[str, Count]:
    RANDOM.bit_generator.state = np.random.default_rng([*case.name.encode(), rows]).bit_generator.state
    counts = {name: Count() for name in ("plain", "ours", "plain difference", "our difference")}
    gap = case.truth[1] - case.truth[0]
    for _ in range(runs):
        base, tuned = (estimate(metric) for metric in case.make(rows))
        counts["plain"].add(percentiles(tuned.draws), case.truth[1])
        counts["ours"].add(tuned.interval(), case.truth[1])
        counts["plain difference"].add(percentiles(tuned.draws - base.draws), gap)
        counts["our difference"].add(difference_interval(tuned, base), gap)
    return counts


def table(runs: int, cases: list[Case]) -> list[str]:
    lines = [
        "| simulated | rows | metric: bootstrap | ours | difference: bootstrap | ours | mean width: bootstrap, ours |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]  # fmt: skip
    for case in cases:
        for rows in ROWS:
            found = simulate(case, rows, runs)
            held = " | ".join(f"{100 * count.held / runs:.1f}" for count in found.values())
            widths = ", ".join(f"{found[name].width / runs:.3f}" for name in ("plain difference", "our difference"))
            lines.append(f"| {case.name} | {rows:,} | {held} | {widths} |")
            print(lines[-1], flush=True)
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--only", default="", help="cases whose name has this in it; prints the table alone")
    options = parser.parse_args()
    found = table(options.runs, [case for case in CASES if options.only in case.name])
    if options.runs >= 1000 and not options.only:
        write_section("coverage.py", page(options.runs, found))


def page(runs: int, lines: list[str]) -> list[str]:
    return [
        "## How often an interval holds the true value",
        "",
        f"Printed by `python benchmarks/coverage.py`: {runs:,} simulated runs of each line, of which the truth is known, in",
        "percent; 95 is what an interval promises, and 1.4 either way is chance. *bootstrap* is the plain percentile",
        "method that ftkit had, from the same draws. Counts of few rows cannot hit 95 exactly; where a metric is 1 or 0 for",
        "all rows that there could be, every honest interval holds it. Widths are those of the difference.",
        "",
        *lines,
    ]


if __name__ == "__main__":
    main()
