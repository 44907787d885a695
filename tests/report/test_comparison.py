"""Runs side by side: which is called best, what is warned of, and one recipe under several strategies."""

import json
import subprocess
import sys
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from ftkit import Recipe, UserError, compare, load_recipe, train
from ftkit.report.comparison import ANY_WIDTH, Comparison
from ftkit.run import dump_recipe, write_json
from ftkit.training.variants import LEARNING_RATES, strategy_recipes

RecipeMaker = Callable[..., Recipe]


def printed(comparison: Comparison, width: int = ANY_WIDTH) -> str:
    text = StringIO()
    Console(file=text, width=width).print(comparison.table(width))
    return text.getvalue()


def rewrite(run: Path, **fields: Any) -> None:
    """Change fields of a run's metrics.json."""
    metrics = json.loads((run / "metrics.json").read_text())
    write_json(run / "metrics.json", metrics | fields)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, stand_in: Callable[[str], Path], reviews: Path) -> list[Path]:
    """Two finished runs of two steps on the same rows."""
    from ftkit.recipe.load import load_values

    folder = tmp_path_factory.mktemp("runs")
    values: dict[str, Any] = {
        "task": "text-classification", "model": {"name": str(stand_in("distilbert"))}, "training": {"max_steps": 2},
        "data": {"train": str(reviews), "eval_size": 20},
    }  # fmt: skip
    return [
        train(load_values(values | {"strategy": strategy}), output_dir=folder / name).folder
        for name, strategy in (("whole", "full"), ("head", "transfer"))
    ]


def with_intervals(runs: list[Path], *intervals: tuple[float, float]) -> Comparison:
    for run, interval in zip(runs, intervals, strict=True):
        rewrite(run, tuned={"accuracy": sum(interval) / 2}, intervals={"tuned": {"accuracy": interval}},
                higher_is_better={"accuracy": True})  # fmt: skip
    return compare(runs)


@pytest.mark.slow
def test_flags_stand_under_the_table(runs: list[Path]) -> None:
    flag = "the tuned model predicts one label only, 'legit'"
    rewrite(runs[0], flags=[flag])
    assert f"look into this: whole: {flag}" in printed(compare(runs))
    rewrite(runs[0], flags=[])
    assert flag not in printed(compare(runs))


@pytest.mark.slow
def test_every_column_is_filled(runs: list[Path]) -> None:
    for run in runs:
        rewrite(run, forgetting={"kind": "drift", "tuned": 0.0512, "interval": [0.04, 0.06]})
    comparison = compare(runs)
    whole, head = comparison.entries
    assert whole.trainable == whole.total > head.trainable
    assert whole.disk > 1000
    assert whole.peak_memory["process"] > 2**20
    shown = printed(comparison)
    assert "0.0512 drift" in shown
    assert " - " not in shown
    assert all(name in shown for name in ("whole", "head", "accuracy", f"{head.trainable:,}", "MiB"))


def test_the_best_is_marked_where_intervals_lie_apart(runs: list[Path]) -> None:
    assert with_intervals(runs, (0.80, 0.90), (0.60, 0.70)).best == {"accuracy": "whole"}
    assert "0.8500 *" in printed(compare(runs))
    assert with_intervals(runs, (0.60, 0.70), (0.80, 0.90)).best == {"accuracy": "head"}
    assert with_intervals(runs, (0.60, 0.81), (0.80, 0.90)).best == {"accuracy": None}
    assert "may be chance" in printed(compare(runs))


def test_the_same_draws_are_compared_in_pairs(runs: list[Path]) -> None:
    """Two intervals that overlap, and a difference that hardly varies; as a run of an earlier version kept it."""
    random = np.random.default_rng(0)
    rough = random.normal(0.8, 0.05, 1000)
    for run, values in zip(runs, (rough + random.normal(0.01, 0.001, 1000), rough), strict=True):
        interval = {"tuned": {"accuracy": np.quantile(values, [0.025, 0.975]).tolist()}, "seed": 42}
        rewrite(run, tuned={"accuracy": values.mean()}, intervals=interval, higher_is_better={"accuracy": True})
        np.savez(run / "outputs" / "draws.npz", accuracy=values)
    assert compare(runs).best == {"accuracy": "whole"}
    rewrite(runs[1], intervals=interval | {"seed": 43})
    assert compare(runs).best == {"accuracy": None}


def test_a_lower_loss_is_better(runs: list[Path]) -> None:
    for run, interval in zip(runs, ((0.1, 0.2), (0.3, 0.4)), strict=True):
        rewrite(run, tuned={"loss": 0.5}, intervals={"tuned": {"loss": interval}}, higher_is_better={"loss": False})
    assert compare(runs).best == {"loss": "whole"}


def test_runs_without_intervals_are_shown_and_not_ranked(runs: list[Path]) -> None:
    for run, value in zip(runs, (0.9, 0.1), strict=True):
        rewrite(run, tuned={"accuracy": value}, intervals=None, forgetting=None, higher_is_better=None)
    comparison = compare(runs)
    assert comparison.best == {"accuracy": None}
    assert "not every run has an interval" in printed(comparison)


def test_a_narrow_terminal_gets_a_column_a_run(runs: list[Path]) -> None:
    with_intervals(runs, (0.80, 0.90), (0.60, 0.70))
    narrow, wide = printed(compare(runs), 60), printed(compare(runs))
    assert all(len(line) <= 60 for line in narrow.splitlines())
    assert len(narrow.splitlines()) > len(wide.splitlines())
    assert "0.8500 *" in narrow


def test_runs_on_other_rows_are_warned_of_and_not_ranked(runs: list[Path], recipe: RecipeMaker, tmp_path: Path) -> None:
    other = train(recipe("full", data={"eval_size": 30}, training={"max_steps": 1}), output_dir=tmp_path / "other").folder
    comparison = with_intervals([*runs, other], (0.80, 0.90), (0.60, 0.70), (0.1, 0.2))
    assert comparison.best == {"accuracy": None}
    assert "different eval rows: whole, head (20 rows); other (30 rows)" in comparison.warnings[0]
    assert "different eval rows" in printed(comparison)


def test_what_is_no_finished_run_is_refused(runs: list[Path], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        compare([*runs, tmp_path / "nowhere"])
    with pytest.raises(UserError, match="is named twice"):
        compare([runs[0], runs[0]])


@pytest.fixture
def recipe_file(recipe: RecipeMaker, tmp_path: Path) -> Path:
    path = tmp_path / "mine.yaml"
    path.write_text(dump_recipe(recipe({"name": "lora", "r": 3}, training={"max_steps": 2, "learning_rate": 7e-4})))
    return path


def test_each_strategy_takes_its_own_keys_and_rate(recipe_file: Path) -> None:
    made = strategy_recipes(recipe_file, ["full", "transfer", "lora", "qlora"], ["strategy.unfreeze_last=1", "strategy.r=5"])
    assert [made[name].strategy.name for name in made] == ["full", "transfer", "lora", "qlora"]
    assert made["transfer"].strategy.unfreeze_last == 1  # type: ignore[union-attr]
    for name in ("lora", "qlora"):
        assert (made[name].strategy.r, made[name].strategy.target_modules) == (5, ["q_lin"])  # type: ignore[union-attr]
        assert made[name].training.learning_rate == 7e-4
    for name in ("full", "transfer"):
        assert made[name].training.learning_rate == LEARNING_RATES[name]
    same = strategy_recipes(recipe_file, ["full", "lora"], ["training.learning_rate=3e-4"])
    assert {found.training.learning_rate for found in same.values()} == {3e-4}
    assert {found.data.model_dump_json() for found in made.values()} == {load_recipe(recipe_file).data.model_dump_json()}


def test_adapters_of_a_recipe_without_them_go_on_all_layers(recipe: RecipeMaker, tmp_path: Path) -> None:
    (tmp_path / "full.yaml").write_text(dump_recipe(recipe("full")))
    assert strategy_recipes(tmp_path / "full.yaml", ["lora"], [])["lora"].strategy.target_modules == "all-linear"  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("strategies", "overrides", "words"),
    [
        (["lorra"], [], "no strategy 'lorra'"),
        (["full", "full"], [], "named twice"),
        (["full"], ["strategy.r=4"], "'strategy.r' has no effect with full"),
        (["full"], ["strategy=lora"], "named by --strategies"),
        (["full"], ["training.learning_rte=1"], "learning_rate"),
    ],
)
def test_mistakes_are_found_before_anything_is_trained(
    recipe_file: Path, strategies: list[str], overrides: list[str], words: str
) -> None:
    with pytest.raises(UserError) as raised:
        strategy_recipes(recipe_file, strategies, overrides)
    assert words in str(raised.value)


def test_a_strategy_that_the_task_does_not_have_is_refused(recipe: RecipeMaker, tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(dump_recipe(recipe("full", task="instruction")))
    with pytest.raises(UserError, match="transfer cannot be with task instruction"):
        strategy_recipes(tmp_path / "r.yaml", ["full", "transfer"], [])


@pytest.mark.slow
def test_one_recipe_under_two_strategies_and_again(recipe_file: Path, tmp_path: Path) -> None:
    words = [sys.executable, "-m", "ftkit", "compare", str(recipe_file), "--strategies", "transfer,lora", "-o", "both"]
    first = subprocess.run([*words, "--json"], capture_output=True, text=True)
    assert first.returncode == 0, first.stderr
    found = json.loads(first.stdout)["runs"]
    assert [(run["name"], run["strategy"]) for run in found] == [("transfer", "transfer"), ("lora", "lora")]
    assert found[0]["data"] == found[1]["data"]
    before = (tmp_path / "both/lora/run.json").read_text()
    again = subprocess.run(words, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    assert again.stderr.count("finished before, with the same recipe") == 2
    assert (tmp_path / "both/lora/run.json").read_text() == before
    changed = subprocess.run([*words, "training.max_steps=3"], capture_output=True, text=True)
    assert changed.returncode == 2
    assert "holds a run of another recipe" in changed.stderr


@pytest.mark.slow
def test_a_strategy_that_fails_is_named_and_the_others_are_compared(recipe_file: Path) -> None:
    words = [sys.executable, "-m", "ftkit", "compare", str(recipe_file), "--strategies", "transfer,lora", "-o", "both"]
    done = subprocess.run([*words, "strategy.target_modules=[nothing_so]"], capture_output=True, text=True)
    assert done.returncode == 2
    assert "'nothing_so' matches no layer" in done.stderr
    assert "error: no run of lora" in done.stderr
    assert "transfer" in done.stdout
