"""The training curve and the table of metrics show one figure for one thing, in half precision too.

The kind: the same model measured twice on the same rows, in other batches or by another way of computing, so that a row flips.
"""

from collections.abc import Callable
from pathlib import Path

import pytest

from ftkit import Recipe, train
from ftkit.reading import read_jsonl
from ftkit.run import Run

STEPS = {"max_steps": 6, "eval_strategy": "steps", "eval_steps": 6, "per_device_eval_batch_size": 8}


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["full", "lora", "transfer"])
@pytest.mark.parametrize("task", ["text-regression", "token-classification"])
def test_the_curve_ends_at_the_tables_figures(
    recipe: Callable[..., Recipe], tmp_path: Path, task: str, strategy: str
) -> None:
    sample = {"text-regression": "ratings", "token-classification": "entities"}[task]
    made = recipe(
        strategy, task=task, kind="distilbert", data={"train": f"sample:{sample}", "eval_size": 60},
        training={**STEPS, "bf16": True}, evaluation={"general_text": False, "baseline": False},
    )  # fmt: skip
    result = train(made, output_dir=tmp_path / "run")
    (logged,) = [event for event in read_jsonl(Run(tmp_path / "run").log_file) if "eval_loss" in event]
    tuned = result.metrics["tuned"]
    assert {name: logged[f"eval_{name}"] for name in tuned} == pytest.approx(tuned, rel=1e-5, abs=1e-5)
