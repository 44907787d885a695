"""Formats whose rows do not lie side by side: JSON that is no object a line, SQuAD, and ShareGPT conversations."""

import difflib
import json
from collections.abc import Iterator, Sequence
from typing import Any

from datasets import Dataset, Features, Json, List, concatenate_datasets

from ftkit.data.diagnose import ReadableFile, load_json, mixed_types
from ftkit.errors import RowError, UserError

SHAREGPT_ROLES = {
    "human": "user", "gpt": "assistant", "system": "system", "tool": "tool", "function_call": "assistant",
    "function_response": "tool", "observation": "tool", "chatgpt": "assistant", "bot": "assistant",
}  # fmt: skip
OPENAI_ROLES = {"user", "assistant", "system", "tool", "developer"}
ONE_ROW_LISTS = {"messages", "conversations"}  # lists of objects that are one row each
FUNCTION_CALL = "function_call"
OF_TURN = ("from", "value", "role", "content")
JSON_HINT = "JSON data is a list of objects, or an object a line"


def json_shape(file: ReadableFile, encoding: str, field: str | None, *, lines: bool) -> str:
    """How the rows lie in a JSON file: "lines", one object a line; "squad"; or "value", one JSON value.

    Args:
        field: the key that the recipe names; the file is one object then.
        lines: the file's name says that it has an object a line.

    Raises:
        UserError: it begins with neither a list nor an object, or is one object that holds the rows under a key.
    """
    with file.path.open(encoding=encoding) as stream:
        filled = (line for line in stream if line.strip())
        first, second = next(filled, ""), next(filled, "")
    start = first.lstrip()[:1]
    if start not in ("[", "{", ""):
        raise UserError(f"{file}:1: begins with '{first.strip()[:40]}'", JSON_HINT)
    if start == "[" or field:
        return "value"
    if lines:
        return "lines" if second else "value"
    value = _loaded(first)
    if second and value is not None:
        return "lines"
    return _object_shape(file, _loaded(file.path.read_text(encoding=encoding)) if second else value)


def _loaded(text: str) -> Any:
    try:
        return load_json(text)
    except (ValueError, RecursionError):
        return None


def _object_shape(file: ReadableFile, value: Any) -> str:
    if not isinstance(value, dict):
        return "lines"  # broken, whatever it was meant to be; reading it says where
    if is_squad(value):
        return "squad"
    if not ONE_ROW_LISTS & set(value):
        holding = _lists_of_objects(value)
        if holding:
            message = f"{file} is one object; its {' and '.join(map(repr, holding[:5]))} holds a list of objects"
            raise UserError(message, f"say where the rows are, as {{path: …, field: {holding[0]}}}")
        if value and all(isinstance(item, list | dict) for item in value.values()):
            raise UserError(f"{file} is one object, and none of its values is a list of objects", JSON_HINT)
    return "value"


def _lists_of_objects(value: dict[str, Any]) -> list[str]:
    return [key for key, rows in value.items() if isinstance(rows, list) and rows and isinstance(rows[0], dict)]


def read_json(
    files: Sequence[ReadableFile], encoding: str, field: str | None, header: Sequence[str] | None = None
) -> Dataset:
    """The rows of JSON files, read by Python: those that are one value each, and lines that `datasets` takes amiss.

    Args:
        header: the names of the columns, where a row is a list.

    Raises:
        UserError: a file has no list of objects, or a column has several types.
        ValueError: a file is no JSON.
    """
    rows: list[dict[str, Any]] = []
    types: dict[str, str] = {}
    for file in files:
        found = _named_rows(file, _file_rows(file, encoding, field), header)
        for number, problem in mixed_types(found, types):
            raise UserError(f"{file}: row {number}: {problem}", "give the column one type")
        rows += found
    names = dict.fromkeys(name for row in rows for name in row)
    columns = {name: [row.get(name) for row in rows] for name in names}
    turns = [name for name in columns if name in ONE_ROW_LISTS and are_lists(columns[name])]
    # Definitions of tools differ in their keys; side by side each would get those of all.
    plain = {name: values for name, values in columns.items() if name not in turns}
    found = [Dataset.from_dict(plain, on_mixed_types="use_json" if turns else None)] if plain else []
    if turns:  # each turn as it was written: a text such as 123 or null stays a text
        features = Features(dict.fromkeys(turns, List(Json())))
        found.append(Dataset.from_dict({name: columns[name] for name in turns}, features=features))
    return found[0] if len(found) == 1 else concatenate_datasets(found, axis=1)


def are_lists(values: list[Any]) -> bool:
    """Whether all are lists of objects, or nothing."""
    return all(
        value is None or (isinstance(value, list) and all(isinstance(item, dict) for item in value)) for value in values
    )


def loses_texts(features: Features) -> bool:
    """Whether turns were read so that a text of theirs which is JSON by itself, as 123, became its value."""
    kinds = (kind for name, kind in features.items() if name in ONE_ROW_LISTS)
    return any("Json" in str(kind) and kind != List(Json()) for kind in kinds)


def _named_rows(file: ReadableFile, rows: list[Any], header: Sequence[str] | None) -> list[Any]:
    """Rows that are lists as objects, by the names of the columns."""
    if not any(isinstance(row, list) for row in rows):
        if header:
            raise UserError(f"'header' has no effect on {file}: its rows are no lists", "remove header")
        return rows
    if not header:
        message = f"{file}: its rows are lists, as {json.dumps(rows[0], ensure_ascii=False)[:80]}"
        raise UserError(message, "name their columns, as {path: …, header: [text, label]}")
    for number, row in enumerate(rows, 1):
        if not isinstance(row, list) or len(row) != len(header):
            size = f"{len(row)} items" if isinstance(row, list) else f"a JSON {type(row).__name__}"
            raise UserError(f"{file}: row {number}: {size} where `header` names {len(header)}", "mend the row")
    return [dict(zip(header, row, strict=True)) for row in rows]


def _file_rows(file: ReadableFile, encoding: str, field: str | None) -> list[Any]:
    text = file.path.read_text(encoding=encoding)
    value = _loaded(text)
    if field:
        value = _at_field(file, load_json(text) if value is None else value, field)
    elif isinstance(value, dict):
        return [value]
    elif not isinstance(value, list):
        return [load_json(line) for line in text.split("\n") if line.strip()]  # U+2028 may stand within a line
    if value and all(isinstance(item, str) for item in value):
        return [{"text": item} for item in value]
    return value


def _at_field(file: ReadableFile, value: Any, field: str) -> list[Any]:
    if not isinstance(value, dict):
        raise UserError(f"{file} is no object, so it has no '{field}'", f"remove field: {field}")
    if field not in value:
        near = difflib.get_close_matches(field, value, n=1)
        hint = f"did you mean {near[0]}?" if near else f"it has {', '.join(value)[:200]}"
        raise UserError(f"{file} has no '{field}'", hint)
    rows = value[field]
    if not isinstance(rows, list):
        holding = _lists_of_objects(value)
        hint = f"a list of objects is in {', '.join(holding)}" if holding else JSON_HINT
        raise UserError(f"{file}: '{field}' is a JSON {type(rows).__name__} where a list of objects is needed", hint)
    return rows


def is_squad(value: Any) -> bool:
    """Whether a JSON value has SQuAD's form: {"data": [{"paragraphs": [{"context", "qas"}]}]}."""
    articles = value.get("data") if isinstance(value, dict) else None
    return isinstance(articles, list) and bool(articles) and isinstance(articles[0], dict) and "paragraphs" in articles[0]


def read_squad(files: Sequence[ReadableFile], encoding: str) -> Dataset:
    """One row a question: id, title, context, question, answers (texts), answer (the first, or ""), answer_start (or -1).

    Raises:
        UserError: something of the form is missing, named by its path in the JSON.
        ValueError: a file is no JSON.
    """
    columns: dict[str, list[Any]] = {
        name: [] for name in ("id", "title", "context", "question", "answers", "answer", "answer_start")
    }
    for file in files:
        value = load_json(file.path.read_text(encoding=encoding))
        if not is_squad(value):
            hint = 'its form is {"data": [{"title", "paragraphs": [{"context", "qas": […]}]}]}'
            raise UserError(f"{file} has not the form of SQuAD", hint)
        for row in _squad_rows(file, value):
            for name, cell in row.items():
                columns[name].append(cell)
    return Dataset.from_dict(columns)


def _squad_rows(file: ReadableFile, value: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for place, article in _objects(file, value, "", "data"):
        title = _text(file, article, place, "title") if "title" in article else ""
        for inner, paragraph in _objects(file, article, place, "paragraphs"):
            context = _text(file, paragraph, inner, "context")
            for innermost, question in _objects(file, paragraph, inner, "qas"):
                answers = list(_objects(file, question, innermost, "answers")) if "answers" in question else []
                texts = [_text(file, answer, where, "text") for where, answer in answers]
                start = answers[0][1].get("answer_start") if answers else None
                yield {
                    "id": str(question.get("id", "")), "title": title, "context": context,
                    "question": _text(file, question, innermost, "question"), "answers": texts,
                    "answer": texts[0] if texts else "", "answer_start": start if isinstance(start, int) else -1,
                }  # fmt: skip


def _objects(file: ReadableFile, value: dict[str, Any], place: str, name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The objects in the list `name` of a value, each with its path in the JSON."""
    where = f"{place}.{name}" if place else name
    items = value.get(name)
    if not isinstance(items, list):
        raise UserError(f"{file}: {where} is {_kind(items)} where a list is needed", "mend the file")
    for number, item in enumerate(items):
        if not isinstance(item, dict):
            raise UserError(f"{file}: {where}[{number}] is {_kind(item)} where an object is needed", "mend the file")
        yield f"{where}[{number}]", item


def _text(file: ReadableFile, value: dict[str, Any], place: str, name: str) -> str:
    text = value.get(name)
    if not isinstance(text, str):
        raise UserError(f"{file}: {place}.{name} is {_kind(text)} where text is needed", "mend the file")
    return text


def _kind(value: Any) -> str:
    return "missing" if value is None else f"a JSON {type(value).__name__}"


def to_messages(conversations: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A ShareGPT conversation, [{from, value}], as messages of the OpenAI form, [{role, content}].

    Raises:
        UserError: a turn has no text, or is from someone unknown.
    """
    messages = []
    for number, turn in enumerate(conversations, 1):
        speaker, content = turn.get("from"), turn.get("value")
        if speaker is None and turn.get("role") in OPENAI_ROLES:
            speaker, content = turn["role"], turn.get("content")
        role = SHAREGPT_ROLES.get(str(speaker), str(speaker) if speaker in OPENAI_ROLES else "")
        if not role:
            hint = f"each turn is {{from, value}}, from one of {', '.join(SHAREGPT_ROLES)}"
            raise UserError(f"turn {number} of a conversation is from '{speaker}'", hint)
        kept = {key: value for key, value in turn.items() if value is not None and key not in OF_TURN}
        if speaker == FUNCTION_CALL:
            kept, content = kept | {"tool_calls": _calls(number, content)}, ""
        if not isinstance(content, str | list) and not (content is None and kept.get("tool_calls")):
            raise UserError(f"turn {number} of a conversation has no text", "give each turn a value, or remove the row")
        messages.append({"role": role, "content": content, **kept})
    return messages


def _calls(number: int, value: Any) -> list[dict[str, Any]]:
    """The calls of a turn of ShareGPT's, {name, arguments} or a list of them, mostly as the text of JSON."""
    found = _loaded(value) if isinstance(value, str) else value
    calls = found if isinstance(found, list) else [found]
    if not all(isinstance(call, dict) and "name" in call for call in calls):
        message = f"turn {number} of a conversation is no call: {' '.join(str(value).split())[:60]}"
        raise UserError(message, 'a call is {"name": …, "arguments": {…}}')
    return [{"type": "function", "function": call} for call in calls]


def with_messages(rows: Dataset) -> Dataset:
    """A column `conversations` of turns becomes `messages`, where there is none; other rows stay as they are.

    Raises:
        RowError: a turn cannot be read.
    """
    if "conversations" not in rows.column_names or "messages" in rows.column_names or not len(rows):
        return rows
    first = next((turns for turns in rows["conversations"] if turns), None)
    if not isinstance(first, list) or not isinstance(first[0], dict) or not {"from", "role"} & set(first[0]):
        return rows

    def convert(batch: dict[str, list[Any]], numbers: list[int]) -> dict[str, list[Any]]:
        converted = []
        for number, turns in zip(numbers, batch["conversations"], strict=True):
            try:
                converted.append(to_messages(turns or []))
            except UserError as error:
                raise RowError(number, error.message, error.hint) from None
        return {"messages": converted}

    others = {column: kind for column, kind in (rows.features or {}).items() if column != "conversations"}
    features = Features({**others, "messages": List(Json())})  # turns differ in their keys
    return rows.map(convert, batched=True, with_indices=True, remove_columns=["conversations"], features=features)
