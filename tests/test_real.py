"""Real pretrained models on real data, through the real path; skipped where ../shared is not."""

import json
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
            "data": {"train": sources, "eval_size": 0.2, "drop_overlap": True},
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
                "drop_overlap": True,
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
@pytest.mark.slow
def test_check_of_a_real_model(shared: Path, strategy: str) -> None:
    assert "gradient norm" in check(polarity(shared, strategy, 60)).facts["longest batch"]


@pytest.mark.parametrize("strategy", ["lora", pytest.param("qlora", marks=pytest.mark.slow)])
@pytest.mark.slow
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


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_real_encoder_learns_how_pleasant_a_sentence_is(shared: Path, tmp_path: Path) -> None:
    """EmoBank's valence, a mean of human judgements from 1 to 5."""
    made = {
        "task": "text-regression",
        "model": {"name": str(shared / "models" / "minilm-l6"), "max_length": 32},
        "strategy": STRATEGIES["lora"],
        "data": {
            "train": {"path": str(shared / "data/emobank/emobank.csv"), "rows": 1500},
            "split_column": "split",
            "columns": {"label": "V"},
            "drop_overlap": True,
        },
        "training": {
            "num_train_epochs": 2,
            "per_device_train_batch_size": 16,
            "learning_rate": 1e-3,
            "warmup_steps": 20,
            "eval_strategy": "no",
            "save_strategy": "no",
        },
        "evaluation": {"metrics": ["pearson", "spearman", "mae", "mse", "r2"]},
    }
    result = train(load_values(made), output_dir=tmp_path / "run")
    assert result.metrics["tuned"]["pearson"] > 0.3
    assert result.metrics["intervals"]["tuned"]["pearson"][0] > 0.1
    (mean,) = result.metrics["other_baselines"]
    assert mean.startswith("mean of the training labels (2.9")
    assert evaluate(result.folder).metrics == pytest.approx(result.metrics["tuned"])


RAW_FILES: dict[str, dict[str, Any]] = {
    "latin-1 text": {
        "task": "text-classification",
        "data": {"train": [
            {"path": "rt-polarity/rt-polarity.pos", "format": "text", "encoding": "latin-1", "values": {"label": "positive"}},
            {"path": "rt-polarity/rt-polarity.neg", "format": "text", "encoding": "latin-1", "values": {"label": "negative"}},
        ]},
    },
    "csv with a byte order mark": {
        "task": "summarization",
        "data": {"train": "mts-dialog/MTS-Dialog-TrainingSet.csv", "eval": "mts-dialog/MTS-Dialog-ValidationSet.csv",
                 "columns": {"document": "dialogue", "summary": "section_text"}},
    },
    "nested SQuAD": {
        "task": "instruction",
        "data": {"train": "squadshifts/new_wiki_v1.0.json", "group_column": "title",
                 "columns": {"instruction": "question", "output": "answer"}},
    },
    "CoNLL": {
        "task": "token-classification",
        "data": {"train": "wnut17/wnut17train.conll", "eval": "wnut17/emerging.dev.conll",
                 "test": {"path": "wnut17/emerging.test.annotated", "format": "conll"}},
    },
    "csv read without its header": {
        "task": "text-classification",
        "data": {"train": {"path": "banking77/test.csv", "header": ["words", "intent"]},
                 "columns": {"text": "words", "label": "intent"}},
    },
    "a column that names the split": {
        "task": "text-classification",
        "data": {"train": "emobank/emobank.csv", "split_column": "split", "columns": {"label": "V"}},
    },
    "plain text": {"task": "language-modeling", "data": {"train": "tinyshakespeare/input.txt"}},
    "nested seed tasks": {
        "task": "instruction",
        "data": {
            "train": "rasbt-instruct/instruction-data-with-preference.json",
            "ignore_columns": ["chosen", "rejected"],  # their outputs are learnt, and no preferences
        },
    },
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", RAW_FILES)
def test_raw_files_train_as_they_lie(shared: Path, tmp_path: Path, name: str) -> None:
    values = RAW_FILES[name]
    encoder = values["task"].endswith("classification")
    model = {
        "name": str(shared / "models" / ("minilm-l6" if encoder else "stories260K")),
        "max_length": 128 if encoder else 512,
    }
    strategy = {"name": "lora", "r": 4, "target_modules": ["query"] if encoder else ["q_proj"]}
    data = {key: placed(value, shared / "data") if key in ("train", "eval", "test") else value
            for key, value in values["data"].items()}  # fmt: skip
    rest = {"evaluation": {"rows": 16, "generation": {"rows": 2}}} if "generat" in name else {"evaluation": {"rows": 16}}
    made = {"task": values["task"], "model": model, "strategy": strategy, "data": {**data, "drop_overlap": True},
            "training": {"max_steps": 3, "eval_strategy": "no", "save_strategy": "no"}, **rest}  # fmt: skip
    result = train(load_values(made), output_dir=tmp_path / "run")
    report = json.loads((result.folder / "data_report.json").read_text(encoding="utf-8"))
    assert report["sum_of_fates"] == report["rows"] == sum(source["count"] for source in report["sources"])
    assert result.metrics["tuned"]


def placed(source: Any, folder: Path) -> Any:
    """The source with its path under the folder."""
    if isinstance(source, list):
        return [placed(item, folder) for item in source]
    return {**source, "path": str(folder / source["path"])} if isinstance(source, dict) else str(folder / source)
