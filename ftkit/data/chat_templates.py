"""Chat templates: those that a recipe may name, the one of a run, and the token that ends a turn in it."""

import json
from pathlib import Path
from typing import Any

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from ftkit.data.bounds import KEY, render_chat_template
from ftkit.data.prompts import ALPACA
from ftkit.errors import UserError

ANY_ANSWER = "any answer at all"
# What a template of somebody else's may raise on a chat that it was not written for.
TEMPLATE_ERRORS = (
    TemplateError, TypeError, ValueError, LookupError, AttributeError, ArithmeticError, RecursionError, SyntaxError
)  # fmt: skip

LONGEST_PATH = 4096
CHATML_END = "<|im_end|>"
# A first line of a template; the tokenizer's own end token takes the marker's place where that is no token of its.
SET_END = "{%- set turn_end = '" + CHATML_END + "' %}"
TOOLS_ASKED = (
    "You may call these functions, each by a <tool_call> with its name and arguments:\n<tools>"
    "{% for tool in tools %}{{ '\\n' + tool | tojson }}{% endfor %}{{ '\\n' }}</tools>"
)

CHAT_TEMPLATES = {
    "alpaca": (
        "{% for message in messages %}{% if message.role == 'assistant' %}{{ message.content }}{{ eos_token }}"
        "{% elif message.role == 'system' %}{{ message.content }}\n\n"
        "{% else %}{% if loop.first %}" + ALPACA.partition("{")[0] + "{% else %}\n\n### Instruction:\n{% endif %}"
        "{{ message.content }}\n\n### Response:\n{% endif %}{% endfor %}"
    ),
    # Calls, what they give and reasoning as in the templates of Hermes and Qwen.
    "chatml": (
        SET_END + "{% set spoken = messages %}"
        "{% if tools %}<|im_start|>system\n"
        "{% if messages and messages[0].role == 'system' %}{% set spoken = messages[1:] %}"
        "{{ messages[0].content + '\\n\\n' }}{% endif %}" + TOOLS_ASKED + "{{ turn_end + '\\n' }}{% endif %}"
        "{% for message in spoken %}"
        "{% if message.role == 'tool' %}"
        "{% if loop.first or loop.previtem.role != 'tool' %}<|im_start|>user{% endif %}"
        "{{ '\\n<tool_response>\\n' + message.content + '\\n</tool_response>' }}"
        "{% if loop.last or loop.nextitem.role != 'tool' %}{{ turn_end + '\\n' }}{% endif %}"
        "{% else %}<|im_start|>{{ message.role + '\\n' }}"
        "{% if message.reasoning_content %}{{ '<think>\\n' + message.reasoning_content + '\\n</think>\\n\\n' }}{% endif %}"
        "{{ message.content }}"
        "{% for call in message.tool_calls or [] %}"
        "{% if message.content or not loop.first %}{{ '\\n' }}{% endif %}"
        "<tool_call>{{ '\\n{\"name\": ' + call.function.name | tojson + ', \"arguments\": ' }}"
        "{{ call.function.arguments | tojson + '}\\n' }}</tool_call>{% endfor %}"
        "{{ turn_end + '\\n' }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    ),
}


def with_template(
    tokenizer: PreTrainedTokenizerBase, template: str | None, arguments: dict[str, Any], fallback: str | None = None,
    *, must_end: bool = True,
) -> PreTrainedTokenizerBase:  # fmt: skip
    """The tokenizer with the recipe's chat template, which is saved with it.

    Args:
        arguments: what the template is given; they become what it takes where who serves the model says nothing.
        fallback: the named template where neither recipe nor tokenizer has one.
        must_end: refuse one that ends a turn with ordinary tokens.

    Raises:
        UserError: there is no template, or one that ends a turn with ordinary tokens.
    """
    if template or (fallback and not tokenizer.chat_template):
        name = template or str(fallback)
        require_jinja(name)
        tokenizer.chat_template = named_template(name, tokenizer) if name in CHAT_TEMPLATES else name
    if not tokenizer.chat_template:
        message = "the rows are chats, and the model's tokenizer has no chat template"
        raise UserError(message, "give one with data.chat_template: Jinja, or alpaca or chatml", key=KEY)
    found: Any = tokenizer.chat_template  # some have several by name
    several = isinstance(found, dict)
    tokenizer.chat_template = (
        {name: with_defaults(text, arguments) for name, text in found.items()}
        if several
        else with_defaults(found, arguments)
    )
    if must_end:
        require_end(tokenizer)
    return tokenizer


def require_jinja(template: str) -> None:
    """Raises UserError for what is no template at all: a file's path, or a name that is none of those known."""
    if template in CHAT_TEMPLATES or "{{" in template or "{%" in template:
        return
    is_file = len(template) < LONGEST_PATH and Path(template).expanduser().is_file()
    hint = "write what stands in the file, behind `chat_template: |`" if is_file else "give Jinja, or alpaca or chatml"
    raise UserError(
        f"'{template[:60]}' is {'a file and ' if is_file else ''}no chat template: every chat would be that", hint, key=KEY
    )


def named_template(name: str, tokenizer: PreTrainedTokenizerBase) -> str:
    """A packaged template; turns end with the tokenizer's own end token where the template's is no token of its."""
    template = CHAT_TEMPLATES[name]
    if is_marker(tokenizer, ids_of(tokenizer, CHATML_END)):
        return template
    return template.replace(SET_END, "{%- set turn_end = eos_token %}")


def with_defaults(template: str, arguments: dict[str, Any]) -> str:
    """The template with the values that it has where none are given: whoever serves the model gets those of training."""
    lines = [f"{{%- if {name} is not defined %}}{{%- set {name} = {literal(value)} %}}{{%- endif %}}"
             for name, value in arguments.items()]  # fmt: skip
    start = "".join(lines)
    return template if template.startswith(start) else start + template


def literal(value: Any) -> str:
    """A value as Jinja writes it."""
    return json.dumps(value) if isinstance(value, str) else str(value).lower() if isinstance(value, bool) else str(value)


def ids_of(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False)["input_ids"]) if text else []


def is_marker(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> bool:
    """Whether a text is one token that no text has: a special or an added one."""
    return len(ids) == 1 and (ids[0] in tokenizer.added_tokens_decoder or ids[0] in tokenizer.all_special_ids)


def closing(tokenizer: PreTrainedTokenizerBase) -> str:
    """What the tokenizer's chat template puts behind an answer, less white space; nothing where it shows no answer."""
    if not tokenizer.chat_template:
        return ""
    chat = [{"role": "user", "content": "question"}, {"role": "assistant", "content": ANY_ANSWER}]
    try:
        text = render_chat_template(tokenizer, chat).rstrip()
    except TEMPLATE_ERRORS:
        return ""
    return text.rpartition(ANY_ANSWER)[2].strip() if ANY_ANSWER in text else ""


def turn_ends(tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """The token that ends an assistant's turn in the tokenizer's chat template; an ordinary token never does."""
    last = ids_of(tokenizer, closing(tokenizer))[-1:]
    return set(last) if is_marker(tokenizer, last) else set()


def require_end(tokenizer: PreTrainedTokenizerBase) -> None:
    """Raises UserError where the template ends a turn with ordinary tokens, at which no generation can stop.

    One that puts nothing behind an answer is for the gate, which looks at the rows.
    """
    end = closing(tokenizer)
    if end and not turn_ends(tokenizer):
        count = len(ids_of(tokenizer, end))
        message = f"the chat template ends an answer with '{end[:60]}', which is {count} ordinary tokens of this tokenizer"
        if count == 1:
            message = f"the chat template ends an answer with '{end[:60]}', an ordinary token of this tokenizer"
        raise UserError(
            message,
            "write {{ eos_token }} there, or give data.chat_template: chatml; data.gate.without_end allows it",
            key=KEY,
        )
