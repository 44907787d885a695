"""Prompts and masks: token ids of a prompt and its answer, of which only the answer and its end token are supervised.

A prompt and its answer are tokenized apart, so that the prompt's ids are the ones that plain transformers builds from the
prompt's text alone when the model is used; a token never reaches across the border.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from ftkit.data.encode import IGNORED
from ftkit.errors import UserError

ANY_ANSWER = "any answer at all"
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


# Chat templates that a recipe may name, each with an end token behind every answer.
CHAT_TEMPLATES = {
    "alpaca": (
        "{% for message in messages %}{% if message.role == 'assistant' %}{{ message.content }}{{ eos_token }}"
        "{% elif message.role == 'system' %}{{ message.content }}\n\n"
        "{% else %}{% if loop.first %}" + ALPACA.partition("{")[0] + "{% else %}\n\n### Instruction:\n{% endif %}"
        "{{ message.content }}\n\n### Response:\n{% endif %}{% endfor %}"
    ),
    "chatml": (
        "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    ),
}


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


def turn_ends(tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """The last token of an assistant's turn in the tokenizer's chat template, where that is more than the turn's text."""
    if not tokenizer.chat_template:
        return set()
    chat = [{"role": "user", "content": "question"}, {"role": "assistant", "content": ANY_ANSWER}]
    try:
        text = str(tokenizer.apply_chat_template(chat, tokenize=False)).rstrip()
    except TemplateError:
        return set()
    closing = text.rpartition(ANY_ANSWER)[2].strip()
    return set(tokenizer(closing, add_special_tokens=False)["input_ids"][-1:]) if closing else set()


def chat_example(tokenizer: PreTrainedTokenizerBase, messages: list[dict[str, Any]], supervise: str = "all") -> Example:
    """A chat through the tokenizer's template, with the assistant's turns and their end tokens supervised.

    Args:
        supervise: "all" turns of the assistant, or the "last" one.

    Raises:
        UserError: the template fails, or does not put a turn behind the turns before it.
    """
    text, spans = _assistant_spans(tokenizer, messages)
    if supervise == "last":
        spans = spans[-1:]
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    offsets = encoded["offset_mapping"]
    crossing = any(first < start < last for first, last in offsets for start, _ in spans)
    if crossing or not all(_prompt_is_served(tokenizer, text, start, encoded) for start, _ in spans):
        return _chat_by_pieces(tokenizer, text, spans)
    labels = [IGNORED] * len(offsets)
    for start, end in spans:
        for index, (first, last) in enumerate(offsets):
            if start <= first and last <= end and first < last:
                labels[index] = encoded["input_ids"][index]
    return Example(list(encoded["input_ids"]), labels)


def _assistant_spans(
    tokenizer: PreTrainedTokenizerBase, messages: list[dict[str, Any]]
) -> tuple[str, list[tuple[int, int]]]:
    def render(turns: list[dict[str, Any]], opened: bool) -> str:
        try:
            return str(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=opened))
        except TemplateError as error:
            raise UserError(f"the chat template fails: {error}", "mend it, or the rows", key="data.chat_template") from error

    text, spans = render(messages, False), []
    for index, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        before, through = render(messages[:index], True) if index else "", render(messages[: index + 1], False)
        if not (text.startswith(before) and text.startswith(through)):
            message_text = (
                "the chat template rewrites earlier turns, so that an answer's prompt is not what stands before it"
            )
            raise UserError(message_text, "give another with data.chat_template", key="data.chat_template")
        turn = text[len(before) : len(through)].rstrip()
        spans.append((len(before), len(before) + len(turn)))
    return text, spans


def _prompt_is_served(tokenizer: PreTrainedTokenizerBase, text: str, start: int, encoded: Any) -> bool:
    """Whether the tokens before an answer are those of the prompt alone: some tokenizers look at what follows."""
    before = sum(first < start for first, _ in encoded["offset_mapping"])
    alone = tokenizer(text[:start], add_special_tokens=False)["input_ids"]
    return list(encoded["input_ids"][:before]) == list(alone)


def _chat_by_pieces(tokenizer: PreTrainedTokenizerBase, text: str, spans: list[tuple[int, int]]) -> Example:
    """As `chat_example`, for a tokenizer that would merge the border of prompt and answer into one token."""
    example, position = Example([], []), 0
    for start, end in [*spans, (len(text), len(text))]:
        for piece, supervised in ((text[position:start], False), (text[start:end], True)):
            ids = tokenizer(piece, add_special_tokens=False)["input_ids"] if piece else []
            example.input_ids += ids
            example.labels += ids if supervised else [IGNORED] * len(ids)
        position = end
    return example
