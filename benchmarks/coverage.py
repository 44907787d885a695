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
from scipy.special import ndtr, ndtri

from ftkit.metrics.classification import CALIBRATION_BINS, classification_resamplers
from ftkit.metrics.estimates import RESAMPLES, as_estimate
from ftkit.metrics.intervals import Estimate, difference_interval
from ftkit.metrics.regression import regression_resamplers
from ftkit.metrics.resampling import Resampler, by_group, draws, of_share
from ftkit.metrics.text import loss_resamplers

ROWS = (10, 30, 100, 1000)
SEED = 42
TOGETHER = 0.6  # of what decides a row's answer, how much both models share
MANY = 2_000_000  # rows of which a truth is had that has no formula
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


def token_loss(name: str, spread: float, factor: float, rows: int) -> Pair:
    """Loss a token or what follows from it, of rows whose loss is lognormal; the tuned model's is `factor` times as high."""
    tokens, base = RANDOM.integers(5, 60, rows).astype(float), np.exp(RANDOM.normal(0, spread, rows))
    moved = base * factor * np.exp(RANDOM.normal(-0.02, 0.2, rows))
    one, other = (loss_resamplers(np.stack([each * tokens, tokens], 1))[name] for each in (base, moved))
    return one, other


def true_losses(name: str, spread: float, factor: float) -> tuple[float, float]:
    losses = float(np.exp(spread**2 / 2)) * np.array([1, factor])
    one, other = np.exp(losses) if name == "perplexity" else losses
    return float(one), float(other)


def scores(name: str, prior: float, gaps: tuple[float, float], rows: int) -> Pair:
    """A metric of two models' scores for two labels, normal around 0 and around a gap."""
    truth = (RANDOM.random(rows) < prior).astype(int)
    found = [ndtri(luck[:, 0]) + gap * truth for luck, gap in zip(latent(rows), gaps, strict=True)]
    one, other = (classification_resamplers(two_logits(given), truth)[name] for given in found)
    return one, other


def two_logits(margin: np.ndarray) -> np.ndarray:
    return np.stack([np.zeros_like(margin), margin], 1)


def label_loss(margins: tuple[float, float], rows: int) -> Pair:
    """A classifier's loss: the true label is so far ahead of the other, by 1.5 more or less."""
    truth = np.ones(rows, int)
    found = [margin + 1.5 * ndtri(luck[:, 0]) for luck, margin in zip(latent(rows), margins, strict=True)]
    one, other = (classification_resamplers(two_logits(given), truth)["loss"] for given in found)
    return one, other


@cache
def true_label_loss(margin: float) -> float:
    return float(np.logaddexp(0, -margin - 1.5 * np.random.default_rng(SEED).standard_normal(MANY)).mean())


def calibration(sure: float, rows: int) -> Pair:
    """The calibration error of models whose evidence is worth `sure` of what they make of it; 1 is truly calibrated."""
    found = []
    for luck in latent(rows):
        evidence = RANDOM.normal(0, 1.5, rows)
        chance = ndtr(evidence)
        truth = (luck[:, 0] < ndtr(sure * evidence)).astype(int)
        found.append(classification_resamplers(two_logits(np.log(chance / (1 - chance))), truth)["calibration_error"])
    return found[0], found[1]


@cache
def true_calibration(sure: float) -> float:
    evidence = np.abs(np.random.default_rng(SEED).normal(0, 1.5, MANY))
    gap = ndtr(evidence) - ndtr(sure * evidence)
    bins = np.ceil(ndtr(evidence) * CALIBRATION_BINS).astype(int) - 1
    return float(np.abs(np.bincount(bins, gap)).sum() / MANY)


def numbers(name: str, spreads: tuple[float, float], rows: int) -> Pair:
    """A metric of normal labels and predictions with such errors."""
    truth = RANDOM.standard_normal(rows)
    found = [truth + spread * ndtri(luck[:, 0]) for luck, spread in zip(latent(rows), spreads, strict=True)]
    one, other = (regression_resamplers(given, truth)[name] for given in found)
    return one, other


def together(name: str, correlations: tuple[float, float], rows: int) -> Pair:
    """A correlation of normal labels and predictions."""
    truth = RANDOM.standard_normal(rows)
    found = [
        much * truth + np.sqrt(1 - much**2) * ndtri(luck[:, 0])
        for luck, much in zip(latent(rows), correlations, strict=True)
    ]
    one, other = (regression_resamplers(given, truth)[name] for given in found)
    return one, other


def matthews_of(prior: tuple[float, float], chance: float) -> float:
    share, given = prior[1], chance * prior[1] + (1 - chance) * prior[0]
    return (chance * share - share * given) / float(np.sqrt(share * (1 - share) * given * (1 - given)))


def label_case(words: str, prior: tuple[float, ...], chances: tuple[float, float]) -> Case:
    one, other = (f1_of("f1", prior, chance) for chance in chances)
    return Case(words, partial(labels, "f1", prior, chances), (one, other))


TWO, FOUR = (0.8, 0.2), (0.5, 0.25, 0.15, 0.1)
SHARES = [
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
]


def pair_case(words: str, make: Callable[..., Pair], truth: Callable[[float], float], pair: tuple[float, float]) -> Case:
    """Of two models that one number each describes, as what makes them and their true metric take it."""
    return Case(f"{words}, {pair[0]:g} → {pair[1]:g}", partial(make, pair), (truth(pair[0]), truth(pair[1])))


LOSSES = (
    ("loss", 0.5, "no difference", 1), ("loss", 0.5, "-5 %", 0.95), ("perplexity", 0.5, "-5 %", 0.95),
    ("loss", 1, "-5 %", 0.95), ("loss", 1.5, "-5 %", 0.95),
)  # fmt: skip
MEANS = [
    *(
        Case(
            f"{name}, lognormal {spread:g}, {words}", partial(token_loss, name, spread, factor),
            true_losses(name, spread, factor),
        )
        for name, spread, words, factor in LOSSES
    ),
    *(pair_case("classifier's loss, margin", label_loss, true_label_loss, pair) for pair in ((2, 2), (2, 2.3))),
    *(
        pair_case(f"{name}, errors", partial(numbers, name), truth, (0.6, 0.5))
        for name, truth in (
            ("mse", lambda error: error**2),
            ("mae", lambda error: error * np.sqrt(2 / np.pi)),
            ("r2", lambda error: 1 - error**2),
        )
    ),
]  # fmt: skip
OTHERS = [
    *(
        pair_case(name, partial(together, name), truth, pair)
        for name, truth in (("pearson", float), ("spearman", lambda much: 6 / np.pi * np.arcsin(much / 2)))
        for pair in ((0.7, 0.8), (0.95, 0.97))
    ),
    *(
        pair_case(
            f"MCC, {100 * prior[1]:.0f} % of label 1, accuracy", partial(labels, "matthews_correlation", prior),
            partial(matthews_of, prior), pair,
        )
        for prior, pair in (((0.5, 0.5), (0.8, 0.85)), (TWO, (0.8, 0.85)), (TWO, (0.95, 1)))
    ),
    *(
        pair_case(
            f"ROC AUC, {100 * prior:.0f} % of label 1, gap", partial(scores, "roc_auc", prior),
            lambda gap: float(ndtr(gap / np.sqrt(2))), pair,
        )
        for prior, pair in ((0.5, (1, 1.5)), (0.2, (1, 1.5)), (0.5, (3, 3)))
    ),
    *(
        Case(f"calibration error, evidence worth {sure:g}", partial(calibration, sure), (truth, truth))
        for sure, truth in ((1, 0), (0.8, true_calibration(0.8)), (0.5, true_calibration(0.5)))
    ),
]  # fmt: skip
CASES = [*SHARES, *MEANS, *OTHERS]


@cache
def weights_of(rows: int) -> list[np.ndarray]:
    return [*draws(rows, RESAMPLES, SEED)]


def estimate(metric: Resampler) -> Estimate:
    return as_estimate(metric, np.concatenate([metric.compute(weights) for weights in weights_of(metric.rows)]))


def percentiles(values: np.ndarray) -> list[float]:
    return [float(end) for end in np.quantile(values[np.isfinite(values)], [0.025, 0.975])]


@dataclass
class Count:
    """How many intervals held the truth of how many, and how wide they were together."""

    runs: int = 0
    held: int = 0
    width: float = 0.0

    def add(self, interval: list[float], truth: float) -> None:
        low, high = interval
        self.runs += 1
        self.held += low - 1e-9 <= truth <= high + 1e-9
        self.width += high - low


def simulate(case: Case, rows: int, runs: int) -> dict[str, Count]:
    RANDOM.bit_generator.state = np.random.default_rng([*case.name.encode(), rows]).bit_generator.state
    counts = {name: Count() for name in ("plain", "ours", "plain difference", "our difference")}
    gap = case.truth[1] - case.truth[0]
    for _ in range(runs):
        base, tuned = (estimate(metric) for metric in case.make(rows))
        if not np.isfinite(base.value + tuned.value):
            continue  # rows of one label have no area, and no view shows one
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
            held = " | ".join(f"{100 * count.held / count.runs:.1f}" for count in found.values())
            widths = ", ".join(
                f"{found[name].width / found[name].runs:.3f}" for name in ("plain difference", "our difference")
            )
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
        "Below 93 by more than chance are a classifier's loss at 10 rows, by a point, and losses that are lognormal with a",
        "spread of 1 or more: few rows mostly have none of the tail in which much of the mean lies, and no method can know",
        "of it (Bahadur and Savage, 1956). Above 97 is much of 10 and 30 rows: counts, F1, ranks and areas, differences of",
        "perplexity and R²; at any number of rows what is at its bound, as an accuracy of 1; and calibration errors.",
        "",
        *lines,
    ]


if __name__ == "__main__":
    main()
