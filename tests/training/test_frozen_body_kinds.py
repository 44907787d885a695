"""The frozen body over many architectures: kept or not, the losses are those of computing it, and a reason is told.

The kind that this guards: a body whose outputs do not stand for it, or that cannot be asked for them.
"""

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForSequenceClassification, AutoModelForTokenClassification

from ftkit.data.samples.table import generate
from ftkit.recipe.load import load_values
from ftkit.run import write_jsonl
from ftkit.training.dispatcher import Parts, build, seed_everything, take_kept_rows
from tests.small_models import DECODERS, ENCODERS, save_small

pytestmark = pytest.mark.slow
TASKS = {"text-classification": AutoModelForSequenceClassification, "token-classification": AutoModelForTokenClassification}
WORDS = ["Anna", "Paris", "walks", "sleeps", "today", "Bob"]
NOT_KEPT = {
    "convbert": "how far the row is padded", "fnet": "how far the row is padded", "longformer": "a block gives",
    "nystromformer": "how far the row is padded", "squeezebert": "do not run as modules", "yoso": "how far the row is padded",
}  # fmt: skip
WITHOUT_TAGS = ["ctrl", "gptj", "olmo2", "openai-gpt", "opt"]  # transformers has no class for them
CASES = [(kind, "text-classification") for kind in ENCODERS | DECODERS]
CASES += [(kind, "token-classification") for kind in ENCODERS | DECODERS if kind not in WITHOUT_TAGS]


def rows_of(task: str, file: Path) -> str:
    if task == "text-classification":
        write_jsonl(file, generate("sentiment", rows=40, split="train", seed=1))
    else:
        lengths = [1 + number % 7 for number in range(40)]
        write_jsonl(file, [
            {"tokens": [WORDS[(i + j) % 6] for j in range(n)], "tags": ["A" if (i + j) % 2 else "O" for j in range(n)]}
            for i, n in enumerate(lengths)
        ])  # fmt: skip
    return str(file)


def trained(base: Path, task: str, data: str, folder: Path, **strategy: Any) -> tuple[Parts, list[float]]:
    recipe = load_values({
        "task": task, "model": {"name": str(base), "max_length": 32}, "strategy": {"name": "transfer", **strategy},
        "data": {"train": data, "eval_size": 8, "gate": {"overlap": 1.0, "similarity": 1.0}},
        "training": {
            "max_steps": 10, "per_device_train_batch_size": 5, "learning_rate": 1e-3, "logging_steps": 1, "bf16": False,
            "eval_strategy": "no", "save_strategy": "no",
        },
        "speed": {"micro_batches": False},
    })  # fmt: skip
    parts = build(recipe, folder, [])
    take_kept_rows(parts)
    seed_everything(recipe)
    parts.trainer.train()
    return parts, [entry["loss"] for entry in parts.trainer.state.log_history if "loss" in entry]


@pytest.mark.swept
@pytest.mark.parametrize(("kind", "task"), CASES)
def test_kept_or_not_the_losses_are_those_of_computing_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, task: str
) -> None:
    monkeypatch.setenv("FTKIT_CACHE", str(tmp_path / "cache"))
    base = save_small(kind, TASKS[task], tmp_path / "base")
    data = rows_of(task, tmp_path / "rows.jsonl")
    with_it, losses = trained(base, task, data, tmp_path / "with")
    _, others = trained(base, task, data, tmp_path / "without", cache_frozen=False)
    assert losses == pytest.approx(others, abs=1e-5)
    assert with_it.frozen is not None
    told = json.dumps(with_it.frozen.describe())
    assert NOT_KEPT.get(kind, '"computed": "once"') in told
