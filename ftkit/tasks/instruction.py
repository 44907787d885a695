"""Instruction following: an answer to an Alpaca row, a prompt or a chat; only answers and end tokens are supervised."""

from typing import Any

from datasets import Features
from transformers import PretrainedConfig, PreTrainedTokenizerBase

from ftkit.data.encode import REFERENCES, Encoder, is_empty
from ftkit.data.ledger import ROW, Outcome
from ftkit.data.prompts import (
    ALPACA,
    ALPACA_WITH_INPUT,
    CHAT_TEMPLATES,
    Example,
    answer_ids,
    chat_example,
    end_token,
    fill,
    prompt_ids,
    turn_ends,
)
from ftkit.errors import UserError
from ftkit.tasks.base import BLANK
from ftkit.tasks.language import LanguageTask, as_columns, decoder_class, first_answers, fitted, text_of

ROLES = {"system", "user", "assistant", "tool"}


class Instruction(LanguageTask):
    generates = True

    def auto_class(self, config: PretrainedConfig) -> Any:
        return decoder_class(config, "instruction")

    def encoder(
        self, rows: Features, tokenizer: PreTrainedTokenizerBase, config: PretrainedConfig, max_length: int
    ) -> Encoder:
        over_long = self.data.over_long or "drop"
        if over_long == "cut_prompt":
            message = "an instruction's prompt is not cut: half a question has another answer"
            raise UserError(message, "drop or cut_answer", key="data.over_long")

        chats = "messages" in rows or bool(self.data.chat_template)
        if chats:  # now, not with the first row: where all are in the cache, none is encoded
            tokenizer = with_template(tokenizer, self.data.chat_template)

        def encode(batch: dict[str, list[Any]], positions: list[int]) -> dict[str, list[Any]]:
            if "messages" in batch:
                return self._encode_chats(batch, positions, tokenizer, max_length, over_long)
            answer = "output" if "output" in batch else "completion"
            batch, references = first_answers(batch, answer, positions)
            if chats:
                return self._encode_chats(batch, positions, tokenizer, max_length, over_long) | {REFERENCES: references}
            asked = "prompt" if "prompt" in batch else "instruction"
            for index, row in enumerate(positions if "input" in batch else ()):
                text_of(batch, "input", index, row)  # refuses what is no text
            full = [
                index
                for index, row in enumerate(positions)
                if text_of(batch, answer, index, row) and text_of(batch, asked, index, row)
            ]
            forms, rows = self.prompt_forms(), [{name: values[index] for name, values in batch.items()} for index in full]
            prompts = [fill(forms[parts["form"]], parts["values"]) for parts in map(self.prompt_parts, rows)]
            pairs = zip(prompt_ids(tokenizer, prompts), answer_ids(tokenizer, [batch[answer][i] for i in full]), strict=True)
            made = {index: fitted(*pair, max_length, over_long) for index, pair in zip(full, pairs, strict=True)}
            columns = as_columns([made.get(index, (None, Outcome.EMPTY)) for index in range(len(positions))])
            return columns | {REFERENCES: references}

        return encode

    def _encode_chats(
        self, batch: dict[str, list[Any]], positions: list[int],
        tokenizer: PreTrainedTokenizerBase, max_length: int, over_long: str,
    ) -> dict[str, list[Any]]:  # fmt: skip
        if self.data.prompt is not None:
            raise UserError("data.prompt has no effect on chats", "the template makes the prompt", key="data.prompt")
        made: list[tuple[Example | None, Outcome]] = []
        for index, row in enumerate(positions):
            messages = as_messages({name: values[index] for name, values in batch.items()}, row)
            if not messages or has_empty_answer(messages, self.data.supervise):
                made.append((None, Outcome.EMPTY))
                continue
            example = chat_example(tokenizer, messages, self.data.supervise)
            if len(example.input_ids) <= max_length:
                made.append((example, Outcome.KEPT))
            elif over_long == "cut_answer":
                made.append((Example(example.input_ids[:max_length], example.labels[:max_length]), Outcome.CUT_ANSWER))
            else:
                made.append((None, Outcome.TOO_LONG))
        return as_columns(made)

    def end_tokens(self, tokenizer: PreTrainedTokenizerBase) -> set[int]:
        return {end_token(tokenizer)} | turn_ends(tokenizer)

    def ask(self, row: dict[str, Any]) -> dict[str, Any]:
        if isinstance(row.get("messages"), list):
            return row | {"messages": [*unanswered(row["messages"]), {"role": "assistant", "content": BLANK}]}
        return row | {"completion" if "prompt" in row else "output": BLANK}

    def prompt_forms(self) -> dict[str, str]:
        if self.data.chat_template:
            return {}
        if self.data.prompt is not None:
            return {"prompt": self.data.prompt}
        return {"alpaca": ALPACA, "alpaca with input": ALPACA_WITH_INPUT, "prompt": "{prompt}"}

    def prompt_parts(self, row: dict[str, Any]) -> dict[str, Any]:
        if "messages" in row or self.data.chat_template:
            messages = as_messages(row, 0)
            last = max(index for index, message in enumerate(messages) if message["role"] == "assistant")
            while last and messages[last - 1]["role"] == "assistant":  # turns in a row are one answer
                last -= 1
            return {"messages": messages[:last]}
        values = {name: row.get(name) or "" for name in ("instruction", "input", "prompt")}
        if self.data.prompt is not None or "prompt" in row:
            return {"form": "prompt", "values": values}
        return {"form": "alpaca with input" if values["input"].strip() else "alpaca", "values": values}


def unanswered(messages: list[Any]) -> list[Any]:
    """A chat up to what is to be answered: the assistant's turns at its end are left out, and not looked at.

    Raises:
        UserError: nothing is left.
    """
    end = len(messages)
    while end and isinstance(messages[end - 1], dict) and messages[end - 1].get("role") == "assistant":
        end -= 1
    if not end:
        raise UserError("the chat has no turn to be answered", "end it with a turn of the user's")
    return messages[:end]


def with_template(tokenizer: PreTrainedTokenizerBase, template: str | None) -> PreTrainedTokenizerBase:
    """The tokenizer with the recipe's chat template, which is saved with it.

    Raises:
        UserError: neither the recipe nor the tokenizer has a template.
    """
    if template:
        tokenizer.chat_template = CHAT_TEMPLATES.get(template, template)
    if not tokenizer.chat_template:
        message = "the rows are chats, and the model's tokenizer has no chat template"
        raise UserError(message, "give one with data.chat_template: Jinja, or alpaca or chatml", key="data.chat_template")
    return tokenizer


def has_empty_answer(messages: list[dict[str, Any]], supervise: str) -> bool:
    """Whether a supervised turn of the assistant says nothing; one that calls tools says something."""
    answers = [turn for turn in messages if turn["role"] == "assistant"]
    asked = answers[-1:] if supervise == "last" else answers
    return any(is_empty(turn["content"]) and not turn.get("tool_calls") for turn in asked)


def as_messages(row: dict[str, Any], number: int) -> list[dict[str, Any]]:
    """A row of any format as a chat; an empty list where a field is empty.

    Raises:
        UserError: a turn has no known role or no text, or no turn is the assistant's.
    """
    if any(is_empty(value) for name, value in row.items() if name not in ("input", ROW)):
        return []
    if "messages" not in row:
        if "prompt" in row:
            question, answer = row["prompt"], row["completion"]
        else:
            question, answer = "\n\n".join(filter(None, [row["instruction"], row.get("input")])), row["output"]
        return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    messages = row["messages"]
    for message in messages:
        if not isinstance(message, dict) or message.get("role") not in ROLES or message.get("content") is None:
            needed = f"a turn needs a role ({', '.join(sorted(ROLES))}) and a content"
            raise UserError(
                f"row {number + 1}: {str(message)[:80]} is no turn of a chat", needed, key="data.columns.messages"
            )
    if not any(message["role"] == "assistant" for message in messages):
        raise UserError(
            f"row {number + 1}: the chat has no assistant's turn",
            "there is nothing to learn in it",
            key="data.columns.messages",
        )
    return list(messages)
