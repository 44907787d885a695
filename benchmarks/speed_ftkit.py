"""ftkit's side of speed.py: the case as a recipe, trained as a user would; prints one JSON object."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import ftkit  # isort: skip  # noqa: F401  # first, so that it prepares the process for torch
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


def main() -> None:
    case = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    if "--strategy" in sys.argv:
        case["strategy"]["name"] = sys.argv[sys.argv.index("--strategy") + 1]
    folder = Path(sys.argv[1]).parent / "ftkit"
    shutil.rmtree(folder, ignore_errors=True)
    found: dict[str, Any] = {}
    measure_trainer(found)
    result = train(load_values(recipe_values(case), "the case"), output_dir=folder)
    print(json.dumps(found | {"loss": result.metrics["tuned"]["loss"]}))


if __name__ == "__main__":
    main()
