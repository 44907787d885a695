"""What the packaged recipes name, tiny: models with random weights and sample rows under the names that the hub has them by."""

import io
from collections.abc import Callable
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

from datasets import ClassLabel, Dataset, Features, Sequence, Value
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, AutoTokenizer

from ftkit.data.samples.table import generate
from tests.hub.repositories import files_of
from tests.hub.server import Hub
from tests.small_models import save_small

# Positions as the recipes take them.
MODELS: dict[str, tuple[str, Any, dict[str, int]]] = {
    "distilbert/distilbert-base-uncased": ("distilbert", AutoModelForMaskedLM, {"max_position_embeddings": 512}),
    "distilbert/distilbert-base-cased": ("distilbert", AutoModelForMaskedLM, {"max_position_embeddings": 512}),
    "openai-community/gpt2": ("gpt2", AutoModelForCausalLM, {"max_position_embeddings": 512}),
    "meta-llama/Llama-2-7b-hf": ("llama", AutoModelForCausalLM, {"max_position_embeddings": 1024}),
}
SENTIMENTS = ClassLabel(names=["negative", "positive"])
TAGS = ClassLabel(names=["O", *(f"{place}-{kind}" for kind in ("person", "place", "organisation") for place in "BI")])
CARD = b"---\nconfigs:\n- config_name: wikitext-2-raw-v1\n  data_files: [{split: train, path: two/train*}]\n---\n"
Rows = list[dict[str, Any]]


def publish_packaged(hub: Hub, folder: Path, rows: int = 48) -> None:
    """Every repository that a packaged recipe names.

    Args:
        folder: an empty one, where models are made.
        rows: of each split of each data set.
    """
    for name, (kind, auto_class, sizes) in MODELS.items():
        save_small(kind, auto_class, folder / name, **sizes)
        words = AutoTokenizer.from_pretrained(folder / name)
        words.eos_token, words.model_max_length = words.sep_token, sizes["max_position_embeddings"]
        words.save_pretrained(folder / name)
        hub.publish("models", name, files_of(folder / name))
    words = {"text": Value("string"), "label": SENTIMENTS}
    hub.publish("datasets", "stanfordnlp/imdb", splits(in_order, rows, "train", "test", features=words))
    tagged = {"tokens": Sequence(Value("string")), "ner_tags": Sequence(TAGS)}
    converted = splits(entities, rows, "train", "validation", features=tagged)
    hub.publish("datasets", "leondz/wnut_17", {"wnut_17.py": b"import datasets"})
    hub.publish("datasets", "leondz/wnut_17", converted, "refs/convert/parquet")
    hub.publish("datasets", "tatsu-lab/alpaca", splits(partial(generate, "instructions"), rows + 32, "train"))
    hub.publish("datasets", "sentence-transformers/stsb", splits(pairs, rows, "train", "validation"))
    dialogues = splits(partial(generate, "dialogues"), rows, "train", "validation", "test")
    hub.publish("datasets", "knkarthick/dialogsum", dialogues)
    stories = splits(partial(generate, "text"), rows, "train")
    hub.publish("datasets", "Salesforce/wikitext", {"README.md": CARD, **{f"two/{name}": stories[name] for name in stories}})


def splits(make: Callable[..., Rows], rows: int, *names: str, features: dict[str, Any] | None = None) -> dict[str, bytes]:
    """A parquet file a split; training rows are in "train", others in the rest."""
    made = {name: make(rows=rows, split="train" if name == "train" else "eval", seed=1) for name in names}
    kinds = Features(features) if features else None
    return {f"{name}-00000-of-00001.parquet": parquet(Dataset.from_list(made[name], features=kinds)) for name in names}


def parquet(rows: Dataset) -> bytes:
    buffer = io.BytesIO()
    rows.to_parquet(buffer)
    return buffer.getvalue()


def in_order(**options: Any) -> Rows:
    """Reviews, the negative ones first, as imdb has them."""
    return sorted(generate("sentiment", **options), key=lambda row: row["label"])


def entities(**options: Any) -> Rows:
    return [{"tokens": row["tokens"], "ner_tags": row["tags"]} for row in generate("entities", **options)]


def pairs(**options: Any) -> Rows:
    """Two sentences, and which share of their words they have in common."""
    texts = [row["text"] for row in generate("sentiment", **options)]
    mixed = Random(1).sample(texts, len(texts))
    return [{"sentence1": one, "sentence2": two, "score": common(one, two)} for one, two in zip(texts, mixed, strict=True)]


def common(one: str, two: str) -> float:
    first, second = {*one.split()}, {*two.split()}
    return len(first & second) / len(first | second)
