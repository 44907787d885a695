"""Turns of chats as people write them, brought to the one form that chat templates take.

A turn is then a role and a text, and of the assistant also `tool_calls` with arguments that are objects, and its reasoning
under every name by which templates ask for it. What cannot be read is refused by the turn and the field.
"""

import json
import re
from typing import Any

from ftkit.errors import UserError

ROLES = {"system", "user", "assistant", "tool", "developer"}
OTHER_ROLES = {"function": "tool"}  # as the first chats with functions had it
REASONING = ("reasoning_content", "reasoning", "thinking")  # the names that templates know it by
THOUGHT = re.compile(r"\s*<think>(.*?)</think>\s*", re.DOTALL)  # reasoning that stands at a text's beginning
MARKS = ("weight", "train")  # whether a turn is learnt
TEXT_PARTS = ("text", "input_text", "output_text")

Turn = dict[str, Any]


def read_turn(turn: Any, name: str, *, keep_nulls: bool = True) -> Turn:
    """A turn in the form that templates take.

    Args:
        name: what it is called in messages, as `turn 3`.
        keep_nulls: a null among the arguments of a call was written; else it stands for what is not there, as where rows
            lie side by side in columns.

    Raises:
        UserError: it has no known role, no text, or a call that cannot be read.
    """
    if not isinstance(turn, dict):
        raise UserError(f"{name} is no object: {str(turn)[:60]}", "a turn has a role and a content")
    role = OTHER_ROLES.get(str(turn.get("role")), turn.get("role"))
    if role not in ROLES:
        said = f"has the role '{role}'" if role is not None else f"has no role: {str(turn)[:60]}"
        raise UserError(f"{name} {said}", f"there are {', '.join(sorted(ROLES))}")
    read = {key: value for key, value in turn.items() if value is not None and key not in ("role", "content", *REASONING)}
    calls = read_calls(read, name, keep_nulls)
    may_be_silent = role in ("assistant", "tool")
    read = {"role": role, "content": read_text(turn.get("content"), name, may_be_silent), **read}
    read.pop("function_call", None)
    read.pop("tool_calls", None)
    if calls:
        read["tool_calls"] = calls
    if thought := next((str(turn[key]) for key in REASONING if turn.get(key)), ""):
        read |= dict.fromkeys(REASONING, thought)
    return read


def read_text(content: Any, name: str, may_be_silent: bool) -> str:
    """A turn's text; of a list of parts the texts, joined."""
    if content is None and may_be_silent:
        return ""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "".join(_part(part, name) for part in content)
    what = "no content" if content is None else f"a content that is no text: {str(content)[:60]}"
    raise UserError(f"{name} has {what}", "give it a text, or remove the row")


def _part(part: Any, name: str) -> str:
    if isinstance(part, str):
        return part
    if isinstance(part, dict) and part.get("type", "text") in TEXT_PARTS and isinstance(part.get("text"), str):
        return str(part["text"])
    kind = part.get("type") if isinstance(part, dict) else type(part).__name__
    raise UserError(f"{name} has a part of type '{kind}'", "only text is learnt: remove the part, or the row")


def read_calls(turn: Turn, name: str, keep_nulls: bool = True) -> list[dict[str, Any]]:
    """The calls of a turn, under `tool_calls` or the older `function_call`, with arguments that are no text of JSON."""
    calls = turn.get("tool_calls") or []
    if turn.get("function_call"):
        calls = [turn["function_call"]]
    if isinstance(calls, str):
        calls = from_json(calls, f"tool_calls of {name}")
    if not isinstance(calls, list):
        raise UserError(f"tool_calls of {name} is no list: {str(calls)[:60]}", "give a list of calls")
    return [_read_call(call, f"tool_calls of {name}", keep_nulls) for call in calls]


def _read_call(call: Any, name: str, keep_nulls: bool) -> dict[str, Any]:
    function = call.get("function", call) if isinstance(call, dict) else {}
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise UserError(f"{name} has a call without a name: {str(call)[:60]}", "a call is {name, arguments}")
    arguments = function.get("arguments", function.get("parameters"))
    while isinstance(arguments, str):
        arguments = from_json(arguments, f"arguments of {function['name']} in {name}") if arguments.strip() else {}
    arguments = {} if arguments is None else arguments
    number = {"id": call["id"]} if call.get("id") is not None else {}
    made = arguments if keep_nulls else without_nulls(arguments)
    return {**number, "type": "function", "function": {"name": function["name"], "arguments": made}}


def read_tools(tools: Any, name: str = "tools") -> list[dict[str, Any]]:
    """Definitions of tools, bare or under `function`, as a list or as the text of one.

    Raises:
        UserError: one has no name, or the text is no JSON.
    """
    if isinstance(tools, str):
        tools = from_json(tools, name) if tools.strip() else []
    found = [tools] if isinstance(tools, dict) else tools or []
    if not isinstance(found, list):
        raise UserError(f"{name} is no list: {str(tools)[:60]}", "give a list of definitions of tools")
    return [_read_tool(from_json(tool, name) if isinstance(tool, str) else tool, name) for tool in found]


def _read_tool(tool: Any, name: str) -> dict[str, Any]:
    function = tool.get("function", tool) if isinstance(tool, dict) else {}
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise UserError(
            f"{name} has a definition without a name: {str(tool)[:60]}", "it has {name, description, parameters}"
        )
    function = {key: value for key, value in without_nulls(function).items() if tool is not function or key != "type"}
    if isinstance(function.get("parameters"), str):
        function["parameters"] = from_json(function["parameters"], f"parameters of {function['name']} in {name}")
    return {"type": "function", "function": function}


def from_json(text: str, name: str) -> Any:
    """The value of a JSON text, or a UserError that names it."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise UserError(f"{name}: no JSON: {text[:60]}", "write it as an object, or as the text of one") from None


def without_nulls(value: Any) -> Any:
    """Nested values less those that are null, as every row has them where rows lie side by side in columns."""
    if isinstance(value, dict):
        return {key: without_nulls(inner) for key, inner in value.items() if inner is not None}
    return [without_nulls(inner) for inner in value] if isinstance(value, list) else value


def read_history(history: Any) -> list[Turn]:
    """Earlier questions and answers, [question, answer] or turns, as turns.

    Raises:
        UserError: it holds something else.
    """
    if isinstance(history, str):
        history = from_json(history, "history") if history.strip() else []
    if not isinstance(history or [], list):
        raise UserError(f"history is no list: {str(history)[:60]}", "it is a list of [question, answer]")
    turns: list[Turn] = []
    for number, pair in enumerate(history or [], 1):
        if isinstance(pair, dict) and "role" in pair:
            turns.append(pair)
            continue
        if not isinstance(pair, list | tuple) or len(pair) != 2 or not all(isinstance(text, str) for text in pair):
            raise UserError(f"history {number} is no pair of texts: {str(pair)[:60]}", "it is a list of [question, answer]")
        turns += [{"role": "user", "content": pair[0]}, {"role": "assistant", "content": pair[1]}]
    return turns


def split_thought(turn: Turn) -> tuple[str, str]:
    """A turn's reasoning and the text behind it, whether the reasoning stands apart or between <think> and </think>."""
    if turn.get(REASONING[0]):
        return str(turn[REASONING[0]]), str(turn["content"])
    found = THOUGHT.match(turn["content"] or "")
    return (found[1], turn["content"][found.end() :]) if found else ("", str(turn["content"] or ""))


def without_thought(turn: Turn) -> Turn:
    """An assistant's turn less its reasoning; others as they are."""
    if turn["role"] != "assistant":
        return turn
    kept = {key: value for key, value in turn.items() if key not in REASONING}
    return kept | {"content": split_thought(turn)[1]}


def is_marked_off(turn: Turn) -> bool:
    """Whether a turn says of itself that it is not to be learnt.

    Raises:
        UserError: its weight is neither 0 nor 1.
    """
    weight, train = turn.get("weight"), turn.get("train")
    if weight is not None and weight not in (0, 1):
        raise UserError(f"its weight is {weight}", "a turn's weight is 0, not learnt, or 1, learnt")
    if train is not None and not isinstance(train, bool):
        raise UserError(f"its train is {train}", "a turn's train is true or false")
    return weight == 0 or train is False
