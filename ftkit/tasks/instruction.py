"""Instruction following: an answer to an Alpaca row, a prompt or a chat; only answers and end tokens are supervised."""

from typing import Any

from datasets import Dataset
from transformers import PretrainedConfig, PreTrainedTokenizerBase

from ftkit.data.clean import require_filled
from ftkit.data.prompts import ALPACA, ALPACA_WITH_INPUT, answer_ids, chat_example, fill, join, prompt_ids
from ftkit.errors import UserError
from ftkit.tasks.base import Encoded
from ftkit.tasks.language import LanguageTask, collect, decoder_class

ROLES = {"system", "user", "assistant", "tool"}


class Instruction(LanguageTask):
    generates = True

    def auto_class(self, config: PretrainedConfig) -> Any:
        return decoder_class(config, "instruction")

    def encode(
        self, rows: Dataset, tokenizer: PreTrainedTokenizerBase, config: PretrainedConfig, max_length: int
    ) -> Encoded:
        required = [name for name in rows.column_names if name != "input"]
        rows, numbers, counts = require_filled(rows, required, drop=self.data.drop_empty)
        if "messages" in rows.column_names or self.data.chat_template:
            if self.data.prompt is not None:
                raise UserError("data.prompt has no effect on chats", "the template makes the prompt", key="data.prompt")
            chats = [as_messages(row, number) for row, number in zip(rows, numbers, strict=True)]
            examples = [chat_example(with_template(tokenizer, self.data.chat_template), chat) for chat in chats]
        else:
            prompts = [self.prompt(row) for row in rows]
            answers = rows["output" if "output" in rows.column_names else "completion"]
            pairs = zip(prompt_ids(tokenizer, prompts), answer_ids(tokenizer, list(answers)), strict=True)
            examples = [join(prompt, answer) for prompt, answer in pairs]
        fitting = [example if len(example.input_ids) <= max_length else None for example in examples]
        return collect(fitting, numbers, counts, max_length)

    def prompt(self, row: dict[str, Any]) -> str:
        """The text before the answer."""
        if self.data.prompt is not None:
            return fill(self.data.prompt, {**row, "input": row.get("input") or ""})
        if "prompt" in row:
            return str(row["prompt"])
        return fill(ALPACA_WITH_INPUT if (row.get("input") or "").strip() else ALPACA, row)


def with_template(tokenizer: PreTrainedTokenizerBase, template: str | None) -> PreTrainedTokenizerBase:
    """The tokenizer with the recipe's chat template, which is saved with it.

    Raises:
        UserError: neither the recipe nor the tokenizer has a template.
    """
    if template:
        tokenizer.chat_template = template
    if not tokenizer.chat_template:
        message = "the rows are chats, and the model's tokenizer has no chat template"
        raise UserError(message, "give one with data.chat_template", key="data.chat_template")
    return tokenizer


def as_messages(row: dict[str, Any], number: int) -> list[dict[str, Any]]:
    """A row of any format as a chat that ends with the assistant's answer.

    Raises:
        UserError: a turn has no known role or no text, or no turn is the assistant's.
    """
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
