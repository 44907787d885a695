"""Smoke runs: a tiny stand-in, sample data and few steps in place of the recipe's own, on the same code path.

A stand-in is warmed up once on the packaged sample text by a run of ftkit itself, and kept in the cache.
"""

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ftkit import console
from ftkit.data.prompts import ALPACA, ALPACA_WITH_INPUT, fill
from ftkit.data.samples.table import generate
from ftkit.models.standins import architecture_of, make_stand_in
from ftkit.recipe.load import load_values
from ftkit.recipe.schema import Recipe
from ftkit.run import resolved_values, write_jsonl

CACHE = "FTKIT_CACHE"
MAX_LENGTH = 128
WARM_UP_ROWS = 10_000
TRAIN_ROWS, EVAL_ROWS = 4000, 200
STEPS = {"text-classification": 150}
LEARNING_RATES = {"full": 2e-3, "transfer": 3e-3, "lora": 5e-3, "qlora": 5e-3}
WARM_UP: dict[str, Any] = {
    "max_steps": 300, "per_device_train_batch_size": 32, "learning_rate": 2e-3, "warmup_steps": 20,
    "lr_scheduler_type": "cosine", "save_strategy": "no", "eval_strategy": "no", "logging_steps": 50,
}  # fmt: skip


def smoke_recipe(recipe: Recipe, train: Callable[..., Any]) -> Recipe:
    """The recipe with a stand-in for its model, sample data, and a short training.

    Args:
        train: `ftkit.api.train`, which warms a stand-in up.
    """
    values = resolved_values(recipe)
    kind = architecture_of(recipe.model.name)
    values["model"] = {"name": str(stand_in(kind, train)), "max_length": MAX_LENGTH, "dtype": recipe.model.dtype, "attn_implementation": "eager"}
    sample = f"sample:{recipe.spec.sample}"
    kept = {name: values["data"][name] for name in ("prompt", "chat_template", "seed") if name in values["data"]}
    values["data"] = {"train": {"path": sample, "rows": TRAIN_ROWS}, "eval": {"path": sample, "rows": EVAL_ROWS}, **kept}
    values["training"] = smoke_training(values["training"], recipe)
    return load_values(values, "the recipe under --smoke")


def smoke_training(values: dict[str, Any], recipe: Recipe) -> dict[str, Any]:
    steps = STEPS.get(recipe.task, 300)
    return values | {
        "max_steps": steps, "learning_rate": LEARNING_RATES[recipe.strategy.name], "per_device_train_batch_size": 32,
        "gradient_accumulation_steps": 1, "warmup_steps": 20, "per_device_eval_batch_size": 50,
    }  # fmt: skip


def cache_folder() -> Path:
    """Where stand-ins are kept: $FTKIT_CACHE, else $XDG_CACHE_HOME/ftkit, else ~/.cache/ftkit."""
    if given := os.environ.get(CACHE):
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "ftkit"


def stand_in(kind: str, train: Callable[..., Any]) -> Path:
    """The folder of a warmed-up stand-in, made on first use."""
    folder = cache_folder() / "standins" / f"{kind}-{recipe_digest()}"
    if (folder / "config.json").is_file():
        return folder
    console.say(f"making a tiny {kind} stand-in (once; kept in {folder})")
    beside = folder.with_name(f".{folder.name}.{os.getpid()}")
    shutil.rmtree(beside, ignore_errors=True)
    make_stand_in(kind, tokenizer_texts(), beside / "random")
    warm_up(beside, train)
    shutil.rmtree(folder, ignore_errors=True)
    (beside / "run" / "model").rename(folder)
    shutil.rmtree(beside)
    return folder


def warm_up(folder: Path, train: Callable[..., Any]) -> None:
    """Self-supervised: repeat a text, and go on with a story, so that the stand-in can copy and tell before it is tuned."""
    write_jsonl(folder / "text.jsonl", self_supervised_rows(WARM_UP_ROWS))
    values = {
        "task": "instruction",
        "model": {"name": str(folder / "random"), "max_length": MAX_LENGTH, "attn_implementation": "eager"},
        "strategy": "full",
        "data": {"train": str(folder / "text.jsonl"), "eval_size": 100},
        "evaluation": {"generation": {"rows": 0}},
        "training": WARM_UP,
    }
    train(load_values(values, "the warm-up"), output_dir=folder / "run")


def self_supervised_rows(count: int) -> Iterator[dict[str, str]]:
    """Rows made of plain text alone: half repeat a text's first sentence, half go on from it."""
    for number, row in enumerate(generate("text", rows=count, split="train", seed=0)):
        first, _, rest = row["text"].partition(". ")
        first += "" if first.endswith(".") else "."
        if number % 2 or not rest:
            yield {"instruction": "Repeat the text.", "input": first, "output": first}
        else:
            yield {"instruction": "Go on with the story.", "input": first, "output": rest}


def tokenizer_texts() -> list[str]:
    """Text that holds the words of every sample and prompt."""
    texts = [row["text"] for name in ("text", "sentiment") for row in generate(name, rows=2000, split="train", seed=0)]
    for row in generate("instructions", rows=2000, split="train", seed=0):
        texts.append(fill(ALPACA_WITH_INPUT if row["input"] else ALPACA, row) + row["output"])
    for row in generate("dialogues", rows=2000, split="train", seed=0):
        texts += [row["dialogue"], row["summary"]]
    return texts


def recipe_digest() -> str:
    """Changes whenever the way a stand-in is made does, so that an old one is not taken for it."""
    parts = [Path(__file__), Path(__file__).parent.parent / "models" / "standins.py"]
    return hashlib.sha256(b"".join(part.read_bytes() for part in parts)).hexdigest()[:10]
