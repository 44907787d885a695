"""Instruction following: an answer to an Alpaca row, a prompt or a chat; only answers and end tokens are supervised."""

from dataclasses import replace
from typing import Any

from datasets import Features
from transformers import PretrainedConfig, PreTrainedTokenizerBase

from ftkit import console
from ftkit.data.chat_rows import Reading, are_chats, chat_of, has_empty_answer
from ftkit.data.chat_templates import turn_ends, with_template
from ftkit.data.chats import Answer, Template, chat_examples, render_chat
from ftkit.data.encode import OF, REFERENCES, Encoder
from ftkit.data.ledger import Outcome
from ftkit.data.prompts import (
    ALPACA,
    ALPACA_WITH_INPUT,
    PLACEHOLDER,
    Example,
    answer_ids,
    end_token,
    fill,
    prompt_ids,
)
from ftkit.data.turns import read_tools
from ftkit.errors import RowError, UserError
from ftkit.recipe.schema import Data
from ftkit.recipe.tasks import BESIDE_CHATS
from ftkit.tasks.base import BLANK
from ftkit.tasks.language import LanguageTask, as_columns, decoder_class, first_answers, fitted, text_of

Made = list[tuple[Example | None, Outcome]]


class Instruction(LanguageTask):
    generates = True
    several = "are learnt as one example an answer, each as the template serves it"

    def __init__(self, data: Data) -> None:
        super().__init__(data)
        self.reading = Reading(data.supervise, data.reasoning, self._tools())
        self.template: Template | None = None  # once there was an encoder that met chats

    def _tools(self) -> list[dict[str, Any]]:
        try:
            return read_tools(self.data.tools, "data.tools")
        except UserError as error:
            raise UserError(error.message, error.hint, key="data.tools") from None

    def auto_class(self, config: PretrainedConfig) -> Any:
        return decoder_class(config, "instruction")

    def are_chats(self, columns: Any) -> bool:
        """Whether rows with these columns are said as chats; what a prompt of the recipe's own names is in its place."""
        if self.data.prompt is not None and "messages" not in columns:
            require_place(self.data.prompt, columns)
            return bool(self.data.chat_template)
        return are_chats(columns) or bool(self.data.chat_template or self.data.tools or self.data.template_arguments)

    def encoder(
        self, rows: Features, tokenizer: PreTrainedTokenizerBase, config: PretrainedConfig, max_length: int
    ) -> Encoder:
        over_long = self.data.over_long or "drop"
        if over_long == "cut_prompt":
            message = "an instruction's prompt is not cut: half a question has another answer"
            raise UserError(message, "drop or cut_answer", key="data.over_long")
        # now, not with the first row: where all are in the cache, none is encoded
        template = self.template_of(tokenizer, rows) if self.are_chats(rows) else None
        if "messages" in rows and "Json" not in str(rows["messages"]):  # columns side by side: what a turn lacks is null
            self.reading = replace(self.reading, keep_nulls=False)

        def encode(batch: dict[str, list[Any]], positions: list[int]) -> dict[str, list[Any]]:
            if "messages" in batch:
                found = template or self.template_of(tokenizer, batch)
                return self._encode_chats(batch, positions, found, max_length, over_long)
            batch, references = first_answers(batch, "output" if "output" in batch else "completion", positions)
            if self.are_chats(batch):
                found = template or self.template_of(tokenizer, batch)
                made = self._encode_chats(batch, positions, found, max_length, over_long)
                return made | {REFERENCES: [references[index] for index in made[OF]]}
            made = as_columns(self._encode_prompts(batch, positions, tokenizer, max_length, over_long))
            return made | {REFERENCES: references}

        return encode

    def template_of(self, tokenizer: PreTrainedTokenizerBase, columns: Any) -> Template:
        """The chat template of the run, which the tokenizer then has; of rows that are no turns it may be Alpaca's.

        Raises:
            UserError: there is none, or the recipe has a prompt too.
        """
        if self.data.prompt is not None:
            raise UserError("data.prompt has no effect on chats", "the template makes the prompt", key="data.prompt")
        arguments = self.data.template_arguments
        fallback = None if "messages" in columns else "alpaca"
        must_end = not self.data.gate.without_end
        if fallback and not (self.data.chat_template or tokenizer.chat_template):
            console.say(f"rows with {', '.join(BESIDE_CHATS)} beside them are chats: they get the chat template {fallback}")
        with_template(tokenizer, self.data.chat_template, arguments, fallback, must_end=must_end)
        if self.template is None and self.reading.reasoning == "drop":
            console.say("reasoning is left out of the chats (data.reasoning: drop)")
        self.template = Template(tokenizer, arguments)
        return self.template

    def _encode_prompts(
        self, batch: dict[str, list[Any]], positions: list[int],
        tokenizer: PreTrainedTokenizerBase, max_length: int, over_long: str,
    ) -> Made:  # fmt: skip
        answer = "output" if "output" in batch else "completion"
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
        return [made.get(index, (None, Outcome.EMPTY)) for index in range(len(positions))]

    def _encode_chats(
        self, batch: dict[str, list[Any]], positions: list[int], template: Template, max_length: int, over_long: str
    ) -> dict[str, list[Any]]:
        made: Made = []
        places: list[int] = []
        for index, position in enumerate(positions):
            row = {name: values[index] for name, values in batch.items()}
            try:
                found = self._encode_chat(row, template, max_length, over_long)
            except UserError as error:
                raise RowError(position, error.message, error.hint, key=error.key) from error
            made += found
            places += [index] * len(found)
        return as_columns(made) | {OF: places}

    def _encode_chat(self, row: dict[str, Any], template: Template, max_length: int, over_long: str) -> Made:
        """The examples of one row, none of them where one is too long."""
        chat = chat_of(row, self.reading)
        if chat is None or has_empty_answer(chat):
            return [(None, Outcome.EMPTY)]
        if not chat.learnt:
            return [(None, Outcome.UNSUPERVISED)]
        _, answers, missing = render_chat(template, chat, shown=self.reading.reasoning == "show")
        if missing:
            return [(None, Outcome.LOST_TEXT)]
        examples = chat_examples(template, answers)
        if all(len(example.input_ids) <= max_length for example in examples):
            return [(example, Outcome.KEPT) for example in examples]
        if over_long == "cut_answer":
            cut = [Example(example.input_ids[:max_length], example.labels[:max_length]) for example in examples]
            return [(example, Outcome.CUT_ANSWER) for example in cut]
        return [(None, Outcome.TOO_LONG)]

    def lost_fields(self, row: dict[str, Any]) -> list[str]:
        chat = chat_of(row, self.reading)
        return [] if chat is None or self.template is None else render_chat(self.template, chat)[2]

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
        if self.are_chats(row):
            return self._chat_parts(row)
        values = {name: row.get(name) or "" for name in ("instruction", "input", "prompt", "system")}
        if self.data.prompt is not None or "prompt" in row:
            return {"form": "prompt", "values": values}
        return {"form": "alpaca with input" if values["input"].strip() else "alpaca", "values": values}

    def _chat_parts(self, row: dict[str, Any]) -> dict[str, Any]:
        """What the prompt of a chat's last supervised stretch is made of; nothing where it has no turn before it."""
        chat = chat_of(row, self.reading)
        if chat is None or not chat.learnt or self.template is None:
            return {}
        rendered, answers, _ = render_chat(self.template, chat)
        place = first_of_stretch(answers)
        parts = {"messages": rendered.messages[:place], "tools": chat.tools, "arguments": self.data.template_arguments}
        thinks = self.reading.reasoning == "show"  # it then stands before what is supervised
        return {**parts, "shown": thinks} if place else {}


def require_place(prompt: str, columns: Any) -> None:
    """Raises UserError where rows have something beside them that the recipe's prompt does not show."""
    for name in BESIDE_CHATS:
        if name in columns and not (name == "system" and name in PLACEHOLDER.findall(prompt)):
            hint = "write {system} into it, or " if name == "system" else ""
            hint += "give data.chat_template in place of data.prompt"
            raise UserError(f"the prompt has no place for the column '{name}'", hint, key="data.prompt")


def first_of_stretch(answers: list[Answer]) -> int:
    """The place of the first turn of the last supervised stretch: turns with nothing between them are one."""
    last = answers[-1]
    for earlier in reversed(answers[:-1]):
        if earlier.end != last.start or not last.text.startswith(earlier.text):
            break
        last = earlier
    return last.place


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
