"""The untrained model with examples in its prompt: what may be had without fine-tuning."""

from dataclasses import replace
from typing import Any

import numpy as np
from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from ftkit.data.encode import IGNORED, Encoded

SEPARATOR = "\n\n"


def with_shots(
    encoded: Encoded, train: Encoded, tokenizer: PreTrainedTokenizerBase, *, count: int, room: int, seed: int
) -> Encoded:
    """Entries whose prompts begin with whole training rows, the same ones for all, as many as there is room for.

    Args:
        encoded: what is measured; its labels stay, those of the examples are masked.
        room: the most tokens of an entry.
        seed: of the draw of the examples.
    """
    drawn = np.random.default_rng(seed).permutation(len(train.dataset))[:count]
    separator = tokenizer(SEPARATOR, add_special_tokens=False)["input_ids"]
    shots = [[*example(train.dataset[int(row)], tokenizer), *separator] for row in drawn]
    start = [tokenizer.bos_token_id] if starts(encoded.dataset[0]["input_ids"], tokenizer) else []

    def prefixed(entry: dict[str, Any]) -> dict[str, Any]:
        ids, labels = entry["input_ids"][len(start) :], entry["labels"][len(start) :]
        left, prefix = room - len(start) - len(ids), list[int]()
        for shot in shots:
            prefix += shot if len(prefix) + len(shot) <= left else []
        return {"input_ids": [*start, *prefix, *ids], "labels": [IGNORED] * (len(start) + len(prefix)) + labels}

    entries = [prefixed(entry) for entry in encoded.dataset.select_columns(["input_ids", "labels"])]
    return replace(encoded, dataset=Dataset.from_list(entries))


def example(entry: dict[str, Any], tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """One row as it stands in a prompt: of a packed block the first row; without start and end token."""
    ids: list[int] = entry["input_ids"]
    positions = entry.get("position_ids") or list(range(len(ids)))
    ids = ids[: next((place for place in range(1, len(ids)) if positions[place] == 0), len(ids))]
    ids = ids[1:] if starts(ids, tokenizer) else ids
    return ids[:-1] if ids[-1:] == [tokenizer.eos_token_id] else ids


def starts(ids: list[int], tokenizer: PreTrainedTokenizerBase) -> bool:
    return tokenizer.bos_token_id is not None and ids[:1] == [tokenizer.bos_token_id]
