"""Real pretrained models on real data, through the real path; skipped where ../shared is not."""

from pathlib import Path
from typing import Any

import pytest
import torch

from ftkit import check, evaluate, train
from ftkit.recipe.load import load_values
from ftkit.recipe.schema import Recipe
from ftkit.training.dispatcher import build

TARGETS = {"target_modules": ["query", "value"], "r": 8, "lora_alpha": 16}
STRATEGIES: dict[str, dict[str, Any]] = {
    "full": {"name": "full"},
    "transfer": {"name": "transfer", "unfreeze_last": 1},
    "lora": {"name": "lora", **TARGETS},
    "qlora": {"name": "qlora", **TARGETS},
}


def polarity(shared: Path, strategy: str, rows: int, **training: Any) -> Recipe:
    """MiniLM on film reviews, a sentence a line in two latin-1 files."""
    folder = shared / "data" / "rt-polarity"
    names = {"pos": "positive", "neg": "negative"}
    sources = [
        {
            "path": str(folder / f"rt-polarity.{kind}"),
            "format": "text",
            "encoding": "latin-1",
            "values": {"label": label},
            "rows": rows,
        }
        for kind, label in names.items()
    ]
    return load_values(
        {
            "task": "text-classification",
            "model": {"name": str(shared / "models" / "minilm-l6"), "max_length": 64},
            "strategy": STRATEGIES[strategy],
            "data": {"train": sources, "eval_size": 0.2},
            "training": {
                "per_device_train_batch_size": 16,
                "learning_rate": 1e-4 if strategy == "full" else 1e-3,
                **training,
            },
        }
    )


def stories(shared: Path, strategy: str, **blocks: Any) -> Recipe:
    """A Llama of 260 thousand parameters on instruction rows."""
    adapters = {"r": 8, "lora_alpha": 16, "target_modules": ["q_proj", "k_proj", "v_proj", "o_proj"]}
    return load_values(
        {
            "task": "instruction",
            "model": str(shared / "models" / "stories260K"),
            "strategy": {"name": strategy, **({} if strategy == "full" else adapters)},
            "data": {
                "train": {"path": str(shared / "data/rasbt-instruct/instruction-data.json"), "rows": 400},
                "eval_size": 60,
            },
            "training": {
                "max_steps": 30,
                "per_device_train_batch_size": 8,
                "learning_rate": 5e-3,
                **blocks.pop("training", {}),
            },
            "evaluation": {"generation": {"rows": 4, "max_new_tokens": 16}},
        }
    )


def test_a_checkpoint_stored_in_float16_learns_in_float32(shared: Path, tmp_path: Path) -> None:
    parts = build(polarity(shared, "full", 100), tmp_path / "out", [])
    assert {p.dtype for p in parts.model.parameters()} == {torch.float32}


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_check_of_a_real_model(shared: Path, strategy: str) -> None:
    assert "gradient norm" in check(polarity(shared, strategy, 60)).facts["longest batch"]


@pytest.mark.parametrize("strategy", ["lora", "qlora"])
def test_a_small_real_decoder_learns_instructions(shared: Path, tmp_path: Path, strategy: str) -> None:
    result = train(stories(shared, strategy), output_dir=tmp_path / "run")
    assert result.metrics["tuned"]["loss"] < result.metrics["baseline"]["loss"] - 0.2
    assert evaluate(result.folder).metrics == result.metrics["tuned"]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_real_encoder_learns_sentiment(shared: Path, tmp_path: Path) -> None:
    """The other strategies, and a plain Trainer script beside them, are in benchmarks/against_plain_trainer.py."""
    result = train(polarity(shared, "full", 1000, num_train_epochs=3), output_dir=tmp_path / "run")
    assert result.metrics["tuned"]["accuracy"] > 0.68
    assert result.metrics["tuned"]["accuracy"] > result.metrics["baseline"]["accuracy"] + 0.1
