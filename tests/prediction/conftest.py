"""Small finished runs of each task, trained once a session."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ftkit import train
from ftkit.compat import hush_libraries
from ftkit.data.samples.table import generate
from ftkit.recipe.load import load_values
from ftkit.run import write_jsonl

Trained = Callable[[str], Path]
CHATS = [
    {"messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": f"What comes after {number}{', please' * (number % 6)}?"},
        {"role": "assistant", "content": f"{number + 1}."},
        {"role": "user", "content": "And then?"},
        {"role": "assistant", "content": f"{number + 2}."},
    ]}
    for number in range(60)
]  # fmt: skip
LABELS = [["film"], ["film", "food"], ["food", "hotel"], []]
KINDS: dict[str, dict[str, Any]] = {
    "labels": {"task": "text-classification", "kind": "distilbert", "sample": "sentiment", "max_length": 32},
    "mapped": {"task": "text-classification", "kind": "bert", "columns": {"text": "a", "text_pair": "b", "label": "y"}},
    "several": {"task": "text-classification", "kind": "distilbert"},
    "numbers": {"task": "text-regression", "kind": "distilbert", "sample": "ratings"},
    "tags": {"task": "token-classification", "kind": "distilbert", "sample": "entities"},
    "alpaca": {"task": "instruction", "kind": "gpt2", "sample": "instructions"},
    "completion": {"task": "instruction", "kind": "gpt2"},
    "chat": {"task": "instruction", "kind": "llama", "chat_template": "chatml", "max_length": 200, "max_steps": 1},
    "summary": {"task": "summarization", "kind": "llama", "sample": "dialogues",
                "columns": {"document": "dialogue", "summary": "summary"}},
    "pairs": {"task": "summarization", "kind": "t5", "sample": "dialogues",
              "columns": {"document": "dialogue", "summary": "summary"}},
    "plain": {"task": "language-modeling", "kind": "gpt2", "sample": "text"},
    "adapter": {"task": "instruction", "kind": "gpt2", "sample": "instructions",
                "strategy": {"name": "lora", "r": 4, "target_modules": ["c_attn"]}},
    "spaced tags": {"task": "token-classification", "kind": "gpt2", "sample": "entities"},
    "hidden": {"task": "masked-language-modeling", "kind": "bert", "sample": "text"},
}  # fmt: skip


def rows_of(kind: str) -> list[dict[str, Any]]:
    """60 rows as a run of this kind is trained on."""
    if sample := KINDS[kind].get("sample"):
        return generate(sample, rows=60, split="train", seed=1)
    made: dict[str, list[dict[str, Any]]] = {
        "mapped": [{"a": f"text {i}", "b": f"other {i % 7}", "y": ["same", "other"][i % 2]} for i in range(60)],
        "several": [{"text": f"text {i}", "label": LABELS[i % 4]} for i in range(60)],
        "completion": [{"prompt": f"{i} and {i} is", "completion": str(2 * i)} for i in range(60)],
        "chat": CHATS,
    }
    return made[kind]


@pytest.fixture(scope="session")
def trained(stand_in: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """The folder of a finished run of a kind; its eval rows are in eval.jsonl beside it."""
    made: dict[str, Path] = {}

    def make(kind: str) -> Path:
        if kind not in made:
            hush_libraries()
            folder = tmp_path_factory.mktemp(f"run_{kind}")
            given, rows = KINDS[kind], rows_of(kind)
            write_jsonl(folder / "train.jsonl", rows[:44])
            write_jsonl(folder / "eval.jsonl", rows[44:])
            data = {"train": str(folder / "train.jsonl"), "eval": str(folder / "eval.jsonl"), "gate": {"overlap": 1.0}}
            data |= {key: given[key] for key in ("columns", "chat_template") if key in given}
            values: dict[str, Any] = {
                "task": given["task"],
                "model": {"name": str(stand_in(given["kind"])), "max_length": given.get("max_length", 128)},
                "strategy": given.get("strategy", "full"),
                "data": data,
                "training": {
                    "max_steps": given.get("max_steps", 12),
                    "learning_rate": 2e-3,
                    "per_device_eval_batch_size": 16,
                    "eval_strategy": "no",
                },
            }
            values["evaluation"] = {"verify": "strategy" in given, "general_text": False}  # which takes seconds each
            if given["task"] in ("instruction", "summarization"):
                values["evaluation"]["generation"] = {"rows": 16, "max_new_tokens": 24}
            made[kind] = train(load_values(values), output_dir=folder / "run").folder
        return made[kind]

    return make
