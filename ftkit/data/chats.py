"""Chats as token ids: each answer behind the prompt that it is served with, and whether all of it left a token there.

A row becomes as few examples as its template allows: an answer stands in the example of a later one where the template puts
the very same text before it, and in one of its own where the template drops something of earlier turns, as their thinking.
"""

import json
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from transformers import PreTrainedTokenizerBase

from ftkit.data.bounds import KEY, render_chat_template
from ftkit.data.chat_templates import TEMPLATE_ERRORS
from ftkit.data.encode import IGNORED
from ftkit.data.prompts import Example
from ftkit.data.turns import MARKS, REASONING, Turn, split_thought
from ftkit.errors import UserError

# What stands beside a turn's text and is never said in it.
NOT_SAID = {"role", "content", "tool_calls", "id", "tool_call_id", "name", "index", *MARKS, *REASONING}
STRUCTURE = ("properties", "$defs", "definitions")  # keys of a schema below which names stand
SHOWN = 40  # characters of a text that a message quotes


@dataclass(frozen=True)
class Chat:
    """A row as a chat.

    Attributes:
        messages: in the form that templates take.
        names: what each is called in messages, as `turn 3`.
        thoughts: under which name each has its reasoning.
        learnt: places of the assistant's turns that are supervised.
        tools: definitions of the tools that may be called.
    """

    messages: list[Turn]
    names: list[str]
    thoughts: list[str]
    learnt: list[int]
    tools: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Template:
    """A tokenizer's chat template with the values that it is given."""

    tokenizer: PreTrainedTokenizerBase
    arguments: dict[str, Any]

    def render(self, messages: list[Turn], tools: list[dict[str, Any]], *, opened: bool) -> str:
        """The text of a chat, with what an answer begins behind where it is opened for one.

        Raises:
            UserError: the template fails.
        """
        try:
            return render_chat_template(
                self.tokenizer, messages, tools=tools or None, add_generation_prompt=opened, **self.arguments
            )
        except TEMPLATE_ERRORS as error:
            words = " ".join(str(error).split())[:200]
            raise UserError(f"the chat template fails: {words}", "mend it, or the rows", key=KEY) from error


@dataclass(frozen=True)
class Answer:
    """One supervised turn as it is rendered.

    Attributes:
        place: of its turn among the chat's.
        text: the chat up to and with it.
        start: where it begins in the text, behind its prompt.
        learnt_from: where what is learnt begins: behind reasoning that is only shown.
        end: where it ends, less white space.
    """

    place: int
    text: str
    start: int
    learnt_from: int
    end: int

    @property
    def said(self) -> str:
        return self.text[self.start : self.end]


# How a call is handed to a template: with arguments as an object or as a JSON text, beside an empty content or none, which
# transformers leaves out.
FORMS = tuple((as_text, silent) for as_text in (False, True) for silent in ("", None))


def render_chat(template: Template, chat: Chat, *, shown: bool = False) -> tuple[Chat, list[Answer], list[str]]:
    """The chat in the form that the template takes calls in, its answers as rendered, and what left no trace in them.

    Args:
        shown: reasoning is given, and not learnt.

    Raises:
        UserError: the template fails, or does not put an answer behind its prompt.
    """
    first: tuple[Chat, list[Answer], list[str]] | UserError | None = None
    for form in FORMS if any("tool_calls" in turn for turn in chat.messages) else FORMS[:1]:
        tried = replace(chat, messages=[_in_form(turn, *form) for turn in chat.messages])
        try:
            answers = render_answers(template, tried, shown=shown)
        except UserError as error:
            first = first or error
            continue
        missing = lost(chat, answers)
        if not missing and not _holds_python(chat, answers):
            return tried, answers, []
        if first is None or isinstance(first, UserError):
            first = tried, answers, missing
    if isinstance(first, UserError):
        raise first
    assert first is not None
    return first


def _in_form(turn: Turn, as_text: bool, silent: str | None) -> Turn:
    if "tool_calls" not in turn:
        return turn
    calls = turn["tool_calls"]
    if as_text:
        calls = [call | {"function": _with_text(call["function"])} for call in calls]
    return turn | {"content": turn["content"] or silent, "tool_calls": calls}


def _with_text(function: dict[str, Any]) -> dict[str, Any]:
    return function | {"arguments": json.dumps(function["arguments"], ensure_ascii=False)}


def _holds_python(chat: Chat, answers: list[Answer]) -> bool:
    """Whether a template that wants arguments as text has written an object as Python does."""
    return any(
        call["function"]["arguments"] and str(call["function"]["arguments"]) in answer.text
        for answer in answers for turn in chat.messages for call in turn.get("tool_calls", ())
        if isinstance(call["function"]["arguments"], dict | list)
        and str(call["function"]["arguments"]) != json.dumps(call["function"]["arguments"], ensure_ascii=False)
    )  # fmt: skip


def render_answers(template: Template, chat: Chat, *, shown: bool = False) -> list[Answer]:
    """Each supervised turn behind the prompt that it is served with."""
    answers = []
    for place in chat.learnt:
        before = template.render(chat.messages[:place], chat.tools, opened=True) if place else ""
        text = template.render(chat.messages[: place + 1], chat.tools, opened=False)
        if not text.startswith(before):
            message = f"the chat template does not put {chat.names[place]} behind the prompt that it is served with"
            ends, begins = _where_they_part(before, text)
            hint = f"served is '…{ends}', rendered is '…{begins}': see data.template_arguments, or give another template"
            raise UserError(message, hint, key=KEY)
        start, end = len(before), len(before) + len(text[len(before) :].rstrip())
        learnt_from = start + (length_of_thought(chat.messages[place], text[start:end]) if shown else 0)
        answers.append(Answer(place, text, start, learnt_from, end))
    return answers


def _where_they_part(served: str, rendered: str) -> tuple[str, str]:
    """The ends of two texts from shortly before they differ."""
    same = next(
        (place for place, pair in enumerate(zip(served, rendered, strict=False)) if pair[0] != pair[1]), len(rendered)
    )
    start = max(0, same - SHOWN // 2)
    return served[start : start + SHOWN], rendered[start : start + SHOWN]


def length_of_thought(turn: Turn, said: str) -> int:
    """How many characters of a rendered answer are its reasoning, with what leads to the text behind it."""
    thought, rest = (text.strip() for text in split_thought(turn))
    if not thought or thought not in said:
        return 0
    end = said.index(thought) + len(thought)
    return said.index(rest, end) if rest and rest in said[end:] else end


def chat_examples(template: Template, answers: list[Answer]) -> list[Example]:
    """The examples of a row; the last answer stands at the end of the last one."""
    examples, left = list[Example](), answers
    while left:
        text = left[-1].text
        inside = [answer for answer in left if text.startswith(answer.text[: answer.end])]
        left = [answer for answer in left if answer not in inside]
        examples.append(example_of(template.tokenizer, text, inside))
    return examples[::-1]


def example_of(tokenizer: PreTrainedTokenizerBase, text: str, answers: list[Answer]) -> Example:
    """A text as token ids, with the answers in it and their end tokens supervised."""
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    offsets = encoded["offset_mapping"]
    starts, learnt = [answer.start for answer in answers], [answer.learnt_from for answer in answers]
    begun = [(bisect_right(starts, first), bisect_left(starts, last)) for first, last in offsets]
    crossing = any(before < within for before, within in begun)
    if crossing or not all(_prompt_is_served(tokenizer, text, start, encoded) for start in starts):
        return _by_pieces(tokenizer, text, answers)
    labels = [IGNORED] * len(offsets)
    for index, (first, last) in enumerate(offsets):
        place = bisect_right(learnt, first) - 1  # of the one answer that may hold the token: they lie one behind another
        if place >= 0 and first < last <= answers[place].end:
            labels[index] = encoded["input_ids"][index]
    return Example(list(encoded["input_ids"]), labels)


def _prompt_is_served(tokenizer: PreTrainedTokenizerBase, text: str, start: int, encoded: Any) -> bool:
    """Whether the tokens before an answer are those of the prompt alone: some tokenizers look at what follows."""
    before = sum(first < start for first, _ in encoded["offset_mapping"])
    alone = tokenizer(text[:start], add_special_tokens=False)["input_ids"]
    return list(encoded["input_ids"][:before]) == list(alone)


def _by_pieces(tokenizer: PreTrainedTokenizerBase, text: str, answers: list[Answer]) -> Example:
    """As `example_of`, for a tokenizer that would merge the border of prompt and answer into one token."""
    example, position = Example([], []), 0
    borders = [(answer.start, answer.learnt_from, answer.end) for answer in answers]
    for start, learnt_from, end in [*borders, (len(text), len(text), len(text))]:
        pieces = (position, start, False), (start, learnt_from, False), (learnt_from, end, True)
        for first, last, supervised in pieces:
            ids = tokenizer(text[first:last], add_special_tokens=False)["input_ids"] if first < last else []
            example.input_ids += ids
            example.labels += ids if supervised else [IGNORED] * len(ids)
        position = end
    return example


def lost(chat: Chat, answers: list[Answer]) -> list[str]:
    """What of the supervised turns, of the turns that nobody generates and of the tools is not in the rendered text."""
    missing = []
    for answer in answers:
        place = answer.place
        missing += _lost_of_turn(chat.messages[place], chat.names[place], chat.thoughts[place], answer.said)
    prompt = answers[-1].text if answers else ""
    for turn, name in zip(chat.messages[: answers[-1].place] if answers else (), chat.names, strict=False):
        if turn["role"] != "assistant" and not is_in(turn["content"], prompt):
            missing.append(f"{turn['role']} ({name})" if turn["role"] not in name else name)
    for tool in chat.tools if answers else ():
        if absent := next((text for text in texts_of_tool(tool) if not is_in(text, prompt)), None):
            missing.append(f"tools, of which '{tool['function']['name']}' lacks '{absent[:SHOWN]}'")
    return missing


def _lost_of_turn(turn: Turn, name: str, thought_name: str, said: str) -> list[str]:
    """The fields of a supervised turn that are not said; what was found is taken out, so that nothing is found twice."""
    thought, text = split_thought(turn)
    parts = [("content", text), (thought_name, thought)]
    for function in (call["function"] for call in turn.get("tool_calls", ())):
        parts += [("tool_calls", leaf) for leaf in (function["name"], *leaves(function["arguments"]))]
    parts += [(key, value) for key, value in turn.items() if isinstance(value, str) and key not in NOT_SAID]
    missing = dict[str, str]()
    for field_name, part in sorted(parts, key=lambda pair: -len(pair[1])):
        rest = taken_out(part, said)
        if rest is None:
            missing.setdefault(field_name, part)
        else:
            said = rest
    return [f"{field_name} of {name} ('{part.strip()[:SHOWN]}')" for field_name, part in missing.items()]


def leaves(value: Any) -> Iterator[str]:
    """All that nested values say: texts, numbers and the names of keys."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield str(key)
            yield from leaves(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from leaves(inner)
    elif value is not None:
        yield value if isinstance(value, str) else json.dumps(value)


def texts_of_tool(tool: dict[str, Any]) -> Iterator[str]:
    """What a definition says: its name, its description, and the names, descriptions and values of its parameters."""
    function = tool["function"]
    yield from (str(function[key]) for key in ("name", "description") if function.get(key))
    yield from _texts_of_schema(function.get("parameters"))


def _texts_of_schema(schema: Any) -> Iterator[str]:
    if not isinstance(schema, dict):
        return
    for key, value in schema.items():
        if key in STRUCTURE and isinstance(value, dict):
            for name, inner in value.items():
                yield str(name)
                yield from _texts_of_schema(inner)
        elif key == "description" and isinstance(value, str):
            yield value
        elif key == "enum" and isinstance(value, list):
            yield from (item for item in value if isinstance(item, str))
        elif key == "items":
            yield from _texts_of_schema(value)


def is_in(text: str, rendered: str) -> bool:
    """Whether a text stands in a rendered one, but for white space around it, as it is or as JSON writes it."""
    return taken_out(text, rendered) is not None


def taken_out(text: str, rendered: str) -> str | None:
    """The rendered text less one place where the text stands; None where it does not."""
    text = text.strip()
    for form in spellings(text):
        if form in rendered:
            return rendered.replace(form, "\0", 1)
    words, squeezed = " ".join(text.split()), " ".join(rendered.split())
    return squeezed.replace(words, "\0", 1) if words in squeezed else None


def spellings(text: str) -> Sequence[str]:
    """A text, as JSON writes it, and as Python writes the values that JSON writes otherwise."""
    forms = (text, json.dumps(text, ensure_ascii=False)[1:-1], json.dumps(text)[1:-1], text.capitalize())
    return forms if text in ("true", "false") else forms[:3]
