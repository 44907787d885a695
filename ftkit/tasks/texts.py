"""What the tasks share that read texts and give labels: a new head on the model, the encoding of texts, names of labels."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from transformers import (
    AutoModelForSequenceClassification,
    DataCollatorWithPadding,
    PretrainedConfig,
    PreTrainedTokenizerBase,
)

from ftkit.models.architecture import require_class
from ftkit.models.label_head import Head
from ftkit.tasks.base import WithoutPrompts
from ftkit.tasks.language import text_of

COLUMNS = ("text", "text_pair")


class TextTask(WithoutPrompts):
    """The parts that are the same where a whole text, or a pair of texts, gets its label or number from one new head."""

    task: str
    """Its name in a recipe."""

    new_head = True
    generates = False
    head: Head | None = None

    def auto_class(self, config: PretrainedConfig) -> Any:
        return require_class(AutoModelForSequenceClassification, config, self.task)

    def collator(self, tokenizer: PreTrainedTokenizerBase, model: Any) -> Any:
        return DataCollatorWithPadding(tokenizer)

    def reduce_logits(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        reduced: torch.Tensor = logits.float()
        return reduced


@dataclass(frozen=True)
class Texts:
    """The texts of a batch of rows as token ids.

    Attributes:
        columns: what the model takes, by name.
        empty: of each row, whether one of its texts says nothing.
        cut: of each row, whether an end of its texts was cut off.
    """

    columns: dict[str, list[Any]]
    empty: list[bool]
    cut: list[bool]


def text_encoder(
    tokenizer: PreTrainedTokenizerBase, config: PretrainedConfig, max_length: int
) -> Callable[[dict[str, list[Any]], list[int]], Texts]:
    """A function from a batch of rows and their positions to their encoded texts; of a pair the longer text is cut first.

    An encoder-decoder's head reads a row's end token, of which all rows must have as many: where a text says `</s>`, it is
    read as text.

    That function raises RowError where a field is no text.
    """
    inputs = model_inputs(tokenizer)
    cutting = {"truncation": "longest_first", "max_length": max_length}
    cutting |= {"split_special_tokens": True} if config.is_encoder_decoder else {}

    def encode(batch: dict[str, list[Any]], positions: list[int]) -> Texts:
        names = [name for name in COLUMNS if name in batch]
        fields = [[text_of(batch, name, index, row) or "" for index, row in enumerate(positions)] for name in names]
        encoded = tokenizer(*fields, **cutting)
        empty = [not all(row) for row in zip(*fields, strict=True)]
        if encoded.is_fast:
            cut = [bool(encoded.encodings[index].overflowing) for index in range(len(positions))]
        else:  # a slow tokenizer does not tell
            whole = {key: value for key, value in cutting.items() if key not in ("truncation", "max_length")}
            cut = [
                len(ids) == max_length and len(tokenizer(*texts, **whole)["input_ids"]) > max_length
                for ids, *texts in zip(encoded["input_ids"], *fields, strict=True)
            ]
        return Texts({name: encoded[name] for name in inputs}, empty, cut)

    return encode


def model_inputs(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """What the tokenizer makes for the model, less the attention mask, which follows from the lengths."""
    return [name for name in tokenizer("a").keys() if name != "attention_mask"]  # noqa: SIM118


def is_list(feature: Any) -> bool:
    """Whether a column holds lists."""
    return isinstance(feature, list) or type(feature).__name__ in ("List", "LargeList", "Sequence")
