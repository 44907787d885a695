"""Prompts and masks: token ids of a prompt and its answer, of which only the answer and its end token are supervised.

A prompt and its answer are tokenized apart, so that the prompt's ids are the ones that plain transformers builds from the
prompt's text alone when the model is used; a token never reaches across the border.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedTokenizerBase

from ftkit.data.encode import IGNORED
from ftkit.errors import UserError

PLACEHOLDER = re.compile(r"\{(\w+)\}")

ALPACA = (
    "Below is an instruction that describes a task. Write a response that appropriately completes the request."
    "\n\n### Instruction:\n{instruction}\n\n### Response:\n"
)
ALPACA_WITH_INPUT = (
    "Below is an instruction that describes a task, paired with an input that provides further context. "
    "Write a response that appropriately completes the request."
    "\n\n### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n### Response:\n"
)


TextIds = Callable[[PreTrainedTokenizerBase, list[str]], list[list[int]]]


@dataclass
class Example:
    """One row as token ids; `labels` is -100 wherever a token is not supervised."""

    input_ids: list[int]
    labels: list[int]


def fill(template: str, values: dict[str, Any]) -> str:
    """The template with `{column}` replaced by the row's text; other braces stay as they are."""
    return PLACEHOLDER.sub(lambda match: str(values[match[1]]) if match[1] in values else match[0], template)


def end_token(tokenizer: PreTrainedTokenizerBase) -> int:
    """The id that ends an answer.

    Raises:
        UserError: the tokenizer has none, so that a model could never learn to stop.
    """
    if tokenizer.eos_token_id is None:
        raise UserError("the tokenizer has no end token (eos_token)", "set it in tokenizer_config.json", key="model.name")
    return int(tokenizer.eos_token_id)


def token_ids(tokenizer: PreTrainedTokenizerBase, texts: list[str], **options: Any) -> list[list[int]]:
    """Token ids of each text; of none, none: a tokenizer fails on an empty list."""
    return list(tokenizer(texts, **options)["input_ids"]) if texts else []


def prompt_ids(tokenizer: PreTrainedTokenizerBase, prompts: list[str]) -> list[list[int]]:
    """Ids of prompts as they are built when the model is used, less an end token that the tokenizer may append."""
    end = end_token(tokenizer)
    return [ids[:-1] if ids and ids[-1] == end else ids for ids in token_ids(tokenizer, prompts)]


def answer_ids(tokenizer: PreTrainedTokenizerBase, answers: list[str]) -> list[list[int]]:
    """Ids of answers, each with its end token."""
    end = end_token(tokenizer)
    return [[*ids, end] for ids in token_ids(tokenizer, answers, add_special_tokens=False)]


def whole_ids(tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> list[list[int]]:
    """Ids of texts for an encoder, with all that the tokenizer puts around them; its end token where it forgets that."""
    end = end_token(tokenizer)
    return [ids if end in ids[-2:] else [*ids, end] for ids in token_ids(tokenizer, texts)]


def own_answer_ids(tokenizer: PreTrainedTokenizerBase, answers: list[str]) -> list[list[int]]:
    """Ids of answers for a decoder with an encoder: BART's begin with `<s>`, mBART's with the language."""
    end = end_token(tokenizer)
    encoded = tokenizer(text_target=answers)["input_ids"] if answers else []
    return [ids if ids[-1:] == [end] else [*ids, end] for ids in encoded]


def join(prompt: list[int], answer: list[int]) -> Example:
    return Example(prompt + answer, [IGNORED] * len(prompt) + answer)


def last_answer(input_ids: list[int], labels: list[int]) -> tuple[list[int], list[int]]:
    """The ids before the last supervised stretch of a row, and that stretch: what to generate from, and the target."""
    end = max(index for index, label in enumerate(labels) if label != IGNORED) + 1
    start = end
    while start and labels[start - 1] != IGNORED:
        start -= 1
    return input_ids[:start], labels[start:end]
