"""Smoke runs: a tiny stand-in, sample data and few steps in place of the recipe's own, on the same code path.

A stand-in is warmed up once on the packaged sample text by a run of ftkit itself, and kept in the cache.
"""

import hashlib
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ftkit import console
from ftkit.cache import cache_folder
from ftkit.data.chat_templates import CHAT_TEMPLATES
from ftkit.data.prompts import ALPACA, ALPACA_WITH_INPUT, fill
from ftkit.data.samples.table import generate
from ftkit.errors import Interrupted, UserError
from ftkit.models.standins import BLOCKS, architecture_of, make_stand_in, require_type
from ftkit.recipe.load import load_values
from ftkit.recipe.schema import Recipe
from ftkit.run import resolved_values, write_jsonl
from ftkit.shelf import is_left, unfinished

MAX_LENGTH = 128
SMOKE_ROWS = 16  # of a step
WARM_UP_ROWS = 8_000
TRAIN_ROWS, EVAL_ROWS = 4000, 200
KEPT_DATA = (
    "prompt",
    "chat_template",
    "label_separator",
    "seed",
    "supervise",
    "reasoning",
    "template_arguments",
    "over_long",
    "packing",
    "drop_overlap",
    "augment",
    "gate",
)  # of the recipe, beside the sample
SAMPLE_COLUMNS = {"summarization": {"document": "dialogue"}}
LEARNING_RATE = 2e-3
ADAPTER_RATE = 1e-2  # of adapters on a decoder without a head to learn
ANY_OVERLAP = {"overlap": 1.0, "similarity": 1.0}  # a stand-in is to learn, not to be measured
WARM_UP: dict[str, Any] = {
    "per_device_train_batch_size": 24, "warmup_steps": 20,
    "lr_scheduler_type": "cosine", "save_strategy": "no", "eval_strategy": "no", "logging_steps": 50,
}  # fmt: skip


def smoke_recipe(recipe: Recipe, train: Callable[..., Any]) -> Recipe:
    """The recipe with a stand-in for its model, sample data, and a short training.

    Args:
        train: `ftkit.api.train`, which warms a stand-in up.
    """
    require_effect(recipe)
    values = resolved_values(recipe)
    values["strategy"] |= shrunk(values["strategy"])
    named = recipe.model.stand_in
    kind = architecture_of(recipe.model.name) if named is None else require_type(named)
    values["model"] = {
        "name": str(stand_in(kind, train)),
        "max_length": MAX_LENGTH,
        "dtype": recipe.model.dtype,
        "attn_implementation": "eager",
    }
    sample = f"sample:{recipe.spec.sample}"
    kept = {name: values["data"][name] for name in KEPT_DATA if name in values["data"]}
    sources = {"train": {"path": sample, "rows": TRAIN_ROWS}, "eval": {"path": sample, "rows": EVAL_ROWS}}
    if recipe.data.chat_template not in (None, *CHAT_TEMPLATES):  # its end of turn need be no token of a stand-in's
        kept["gate"] = kept.get("gate", {}) | {"without_end": 1.0}
    values["data"] = sources | kept | {"drop_overlap": True, "columns": SAMPLE_COLUMNS.get(recipe.task, {})}
    values["training"] = smoke_training(values["training"], recipe)
    values.setdefault("speed", {})["liger_kernel"] = None  # else a recipe for a GPU would be refused without one
    training = [override for override in recipe.overrides if override.startswith("training.")]
    return load_values(values, "the recipe under --smoke", training)


def require_effect(recipe: Recipe) -> None:
    """Raises UserError where an override is of what the stand-in and the sample take the place of."""
    kept = {f"data.{name}" for name in KEPT_DATA} | {"model.dtype", "model.stand_in"}
    for override in recipe.overrides:
        key = override.partition("=")[0].strip()
        within = any(f"{key}.".startswith(f"{name}.") for name in kept)
        if key.partition(".")[0] in ("model", "data") and not within:
            raise UserError("this has no effect under --smoke", "a stand-in and sample data take its place", override)


def shrunk(strategy: dict[str, Any]) -> dict[str, Any]:
    """The strategy's keys that name transformer blocks, within those that a stand-in has."""
    found: dict[str, Any] = {}
    if strategy.get("unfreeze_last", 0) > BLOCKS:
        found["unfreeze_last"] = BLOCKS
    if (layers := strategy.get("layers_to_transform")) is not None:
        wanted = layers if isinstance(layers, list) else [layers]
        found["layers_to_transform"] = sorted({min(layer, BLOCKS - 1) for layer in wanted})
    return found


def smoke_training(values: dict[str, Any], recipe: Recipe) -> dict[str, Any]:
    """The recipe's training with the steps and rates of a tiny model."""
    generating_adapter = recipe.generates and recipe.strategy.name in ("lora", "qlora")
    rows = {"per_device_train_batch_size": SMOKE_ROWS, "gradient_accumulation_steps": 1}
    return values | ({"effective_batch_size": SMOKE_ROWS} if recipe.training.finds_batch else rows) | {
        "max_steps": recipe.spec.smoke_steps, "warmup_steps": 20,
        "learning_rate": ADAPTER_RATE if generating_adapter else LEARNING_RATE,
        "per_device_eval_batch_size": 50, "use_liger_kernel": False,
    }  # fmt: skip


def stand_in(kind: str, train: Callable[..., Any]) -> Path:
    """The folder of a warmed-up stand-in, made on first use."""
    folder = cache_folder() / "standins" / f"{kind}-{making_digest()}"
    if (folder / "config.json").is_file():
        return folder
    beside = unfinished(folder)
    for left in (beside, *filter(is_left, folder.parent.glob(".*.*"))):
        shutil.rmtree(left, ignore_errors=True)
    try:
        with console.status(f"making a tiny {kind} stand-in (once, about 30 s)"), console.hushed():
            role = make_stand_in(kind, tokenizer_texts(), beside / "random")
            made = warm_up(*WARM_UPS[role], beside, train) if role in WARM_UPS else beside / "random"
        shutil.rmtree(folder, ignore_errors=True)
        made.rename(folder)
    except Interrupted:  # which names the run that warms up, a folder that nobody knows
        raise KeyboardInterrupt from None
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    console.say(f"the stand-in is kept in {folder}")
    return folder


def warm_up(
    make: Callable[[Path], dict[str, Any]], training: dict[str, Any], folder: Path, train: Callable[..., Any]
) -> Path:
    """Train the random stand-in on rows made of plain text alone, and return its folder."""
    made = make(folder)
    values = made | {
        "evaluation": {**made["evaluation"], "verify": False},
        "model": {"name": str(folder / "random"), "max_length": MAX_LENGTH, "attn_implementation": "eager"},
        "strategy": "full",
        "training": WARM_UP | training,
    }
    train(load_values(values, "the warm-up"), output_dir=folder / "run")
    return folder / "run" / "model"


def decoder_warm_up(folder: Path) -> dict[str, Any]:
    """Repeat a text's first sentence, or go on from it: so that a decoder can copy and tell before it is tuned."""
    rows = folder / "text.jsonl"
    write_jsonl(rows, map(repeat_or_go_on, *zip(*enumerate(plain_texts("text", WARM_UP_ROWS)), strict=True)))
    return {
        "task": "instruction",
        "data": {"train": str(rows), "eval_size": 100, "gate": ANY_OVERLAP, "prompt": "{instruction}\n{input}\n"},
        "evaluation": {"generation": {"rows": 0}, "general_text": False},
    }


def repeat_or_go_on(number: int, text: str) -> dict[str, str]:
    first, _, rest = text.partition(". ")
    first = first.removesuffix(".") + "."
    if number % 4 or not rest:
        return {"instruction": "Repeat the text.", "input": first, "output": first}
    return {"instruction": "Go on with the story.", "input": first, "output": rest}


def encoder_warm_up(folder: Path) -> dict[str, Any]:
    """Foretell how a story ends: somebody says something of a thing, and the words for how they felt are to be named."""
    rows = folder / "text.jsonl"
    endings = (re.fullmatch(r"(.+\. \w+) ([\w ]+) it\.", text) for text in plain_texts("text", 4 * WARM_UP_ROWS))
    write_jsonl(rows, ({"text": f"{ending[1]}.", "label": ending[2]} for ending in endings if ending))
    return {
        "task": "text-classification",
        "data": {"train": str(rows), "eval_size": 100, "gate": ANY_OVERLAP},
        "evaluation": {"metrics": ["loss"], "general_text": False},
    }


# The rows, and what their training sets otherwise than WARM_UP.
WARM_UPS: dict[str, tuple[Callable[[Path], dict[str, Any]], dict[str, Any]]] = {
    "decoder": (decoder_warm_up, {"learning_rate": 3e-3, "max_steps": 300}),
    "encoder": (encoder_warm_up, {"learning_rate": 1e-3, "max_steps": 400}),
}


def plain_texts(sample: str, rows: int) -> list[str]:
    return [row["text"] for row in generate(sample, rows=rows, split="train", seed=0)]


def tokenizer_texts() -> list[str]:
    """Text that holds the words of every sample and prompt."""
    texts = plain_texts("text", 2000) + plain_texts("sentiment", 2000)
    for row in generate("instructions", rows=2000, split="train", seed=0):
        texts.append(fill(ALPACA_WITH_INPUT if row["input"] else ALPACA, row) + row["output"])
    for row in generate("dialogues", rows=2000, split="train", seed=0):
        texts += [row["dialogue"], row["summary"]]
    return texts


def making_digest() -> str:
    """Changes whenever the way a stand-in is made does, so that an old one is not taken for it."""
    parts = [Path(__file__), Path(__file__).parent.parent / "models" / "standins.py"]
    return hashlib.sha256(b"".join(part.read_bytes() for part in parts)).hexdigest()[:10]
