"""ftkit's side of speed.py: the case as a recipe, trained as a user would.

python benchmarks/speed_ftkit.py CASE.json [STRATEGY]      prints one JSON object; with --serve it is asked by speed.py
"""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import ftkit  # isort: skip  # noqa: F401  # first, so that it prepares the process for torch
from forks import serve
from instrument import measure_trainer

from ftkit import train
from ftkit.recipe.load import load_values


def recipe_values(case: dict[str, Any]) -> dict[str, Any]:
    """What a user would write; nothing of it is about speed."""
    answers = case["task"] == "instruction"
    data: dict[str, Any] = {"train": case["train"], "eval": case["eval"], "gate": {"overlap": 1.0, "similarity": 1.0}}
    if answers:
        data |= {"prompt": case["prompt"], "drop_empty": True}
    strategy = dict(case["strategy"])
    return {
        "task": case["task"],
        "model": {"name": case["model"], "max_length": case["max_length"]},
        "strategy": strategy,
        "data": data,
        "training": {
            "max_steps": case["steps"], "per_device_train_batch_size": case["batch"],
            "learning_rate": case["learning_rate"], "eval_strategy": "no", "save_strategy": "no",
            "per_device_eval_batch_size": case["batch"], "logging_steps": 1,
        },
        "evaluation": {
            "metrics": ["loss"], "baseline": False, "general_text": False, "verify": False,
            **({"generation": {"rows": 0}} if answers else {}),
        },
    }  # fmt: skip


def train_case(path: str, strategy: str = "") -> dict[str, Any]:
    """Train the case in the file, under another strategy where one is named."""
    case = json.loads(Path(path).read_text(encoding="utf-8"))
    if strategy:
        case["strategy"]["name"] = strategy
    folder = Path(path).parent / "ftkit"
    shutil.rmtree(folder, ignore_errors=True)
    found: dict[str, Any] = {}
    measure_trainer(found)
    result = train(load_values(recipe_values(case), "the case"), output_dir=folder)
    return found | {"loss": result.metrics["tuned"]["loss"]}


if __name__ == "__main__":
    if sys.argv[1:] == ["--serve"]:
        serve(train_case)
    else:
        print(json.dumps(train_case(*sys.argv[1:])))
