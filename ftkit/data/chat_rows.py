"""Rows of any format as chats: turns, Alpaca rows and prompts with what stands beside them, as a system prompt or tools."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from ftkit.data.chats import Chat
from ftkit.data.encode import is_empty
from ftkit.data.turns import (
    REASONING,
    Turn,
    is_marked_off,
    read_history,
    read_tools,
    read_turn,
    split_thought,
    without_thought,
)
from ftkit.errors import UserError
from ftkit.recipe.tasks import BESIDE_CHATS

OPTIONAL = {"input", *BESIDE_CHATS}
KEY = "data.columns.messages"


@dataclass(frozen=True)
class Reading:
    """How rows are read as chats.

    Attributes:
        supervise: which of the assistant's turns are learnt: all, the last, or those that are not marked off.
        reasoning: learn, show or drop.
        tools: those of every row that has none of its own.
        keep_nulls: a null in a call was written.
    """

    supervise: str = "marked"
    reasoning: str = "learn"
    tools: list[dict[str, Any]] = field(default_factory=list)
    keep_nulls: bool = True


def are_chats(columns: Iterable[str]) -> bool:
    """Whether rows with these columns can only be said as chats."""
    return bool({"messages", *BESIDE_CHATS} & set(columns))


def chat_of(row: dict[str, Any], reading: Reading) -> Chat | None:
    """A row as a chat; None where a field is empty.

    Raises:
        UserError: something in it cannot be read, or no turn is the assistant's.
    """
    if any(is_empty(value) for name, value in row.items() if name not in OPTIONAL and not name.startswith("_")):
        return None
    named = _less_repeated_system([*_turns_beside(row), *_turns(row)])
    messages = [read_turn(turn, name, keep_nulls=reading.keep_nulls) for name, turn in named]
    _require_one_system(messages, [name for name, _ in named])
    answers = [place for place, turn in enumerate(messages) if turn["role"] == "assistant"]
    if not answers:
        raise UserError("the chat has no assistant's turn", "there is nothing to learn in it: remove the row", key=KEY)
    thoughts = [_name_of_thought(turn, read) for (_, turn), read in zip(named, messages, strict=True)]
    if reading.reasoning == "drop":
        messages = [without_thought(turn) for turn in messages]
    tools = read_tools(row.get("tools")) or reading.tools
    return Chat(messages, [name for name, _ in named], thoughts, learnt_turns(messages, answers, reading.supervise), tools)


def learnt_turns(messages: list[Turn], answers: list[int], supervise: str) -> list[int]:
    """Which of the assistant's turns are supervised."""
    if supervise == "last":
        return answers[-1:]
    return [place for place in answers if supervise == "all" or not is_marked_off(messages[place])]


def has_empty_answer(chat: Chat) -> bool:
    """Whether a supervised turn of the assistant says nothing; one that calls tools says something."""
    turns = [chat.messages[place] for place in chat.learnt]
    return any(is_empty(split_thought(turn)[1]) and not turn.get("tool_calls") for turn in turns)


def _turns_beside(row: dict[str, Any]) -> list[tuple[str, Turn]]:
    """The system prompt and the earlier turns that stand in columns of their own."""
    system = row.get("system")
    if not is_empty(system) and not isinstance(system, str):
        raise UserError(f"system is no text: {str(system)[:60]}", "give it a text, or leave it empty")
    first = [] if is_empty(system) else [("system", {"role": "system", "content": system})]
    return first + [(f"turn {number} of history", turn) for number, turn in enumerate(read_history(row.get("history")), 1)]


def _turns(row: dict[str, Any]) -> list[tuple[str, Turn]]:
    if "messages" in row:
        turns = row["messages"]
        if isinstance(turns, str):
            hint = "write it as [{role, content}, …], or make a prompt and a completion of it"
            raise UserError(f"messages is a text, not a list of turns: {' '.join(turns.split())[:40]}", hint, key=KEY)
        if not isinstance(turns, list):
            raise UserError(f"messages is no list of turns: {str(turns)[:60]}", "write it as [{role, content}, …]", key=KEY)
        return [(f"turn {number}", turn) for number, turn in enumerate(turns, 1)]
    asked, answer = ("prompt", "completion") if "prompt" in row else ("instruction", "output")
    if isinstance(row[answer], list) and row[answer]:
        row = row | {answer: row[answer][0]}  # of several, the first
    for name in (asked, answer, *(["input"] if row.get("input") else [])):
        if not isinstance(row[name], str):
            raise UserError(f"'{name}' is no text: {str(row[name])[:60]}", "is the right column mapped?", key="data.columns")
    question = "\n\n".join(filter(None, [row[asked], row.get("input") if asked == "instruction" else None]))
    return [(asked, {"role": "user", "content": question}), (answer, {"role": "assistant", "content": row[answer]})]


def _less_repeated_system(named: list[tuple[str, Turn]]) -> list[tuple[str, Turn]]:
    """The turns less a column's system prompt that the first turn has too."""
    first = [turn for _, turn in named[:2]]
    return named[1:] if named[0][0] == "system" and first[0] == first[-1] and len(first) == 2 else named


def _require_one_system(messages: list[Turn], names: list[str]) -> None:
    """Raises UserError where a system prompt stands both beside the turns and among them."""
    both = [place for place, turn in enumerate(messages) if turn["role"] == "system" and place]
    if names and names[0] == "system" and both:
        message = f"a system prompt stands both in the column system and in {names[both[0]]}"
        raise UserError(message, "leave one of them out, as with another name for the column", key="data.columns")


def _name_of_thought(turn: Turn, read: Turn) -> str:
    own = next((name for name in REASONING if isinstance(turn, dict) and turn.get(name)), "")
    return own or ("reasoning (in the content)" if read["role"] == "assistant" else "")
