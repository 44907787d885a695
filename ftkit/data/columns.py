"""From the data's column names to the task's: which format the rows have, and which column plays which role."""

from collections.abc import Sequence
from hashlib import blake2b
from typing import Any

from datasets import Dataset, Features, Value

from ftkit.data.files import header_hint
from ftkit.data.ledger import ROW
from ftkit.data.texts import as_text, normalise
from ftkit.errors import UserError
from ftkit.recipe.hints import did_you_mean
from ftkit.recipe.tasks import Format, TaskSpec
from ftkit.recipe.words import COLUMNS, plain

ANSWERS = ("label", "output", "completion", "summary", "tags", "answers")  # what is learnt; the rest of a row is given
CHAT = "messages"  # a column of turns, of which some are learnt and the others are given


def map_columns(
    rows: Dataset, spec: TaskSpec, columns: dict[str, str], source: str, helpers: Sequence[str] = ()
) -> tuple[Format, Dataset]:
    """Keep the task's columns, under the task's names.

    Args:
        columns: role → column of the data, as the recipe says; roles not named are looked for under their own name.
        source: where the rows come from, for messages.
        helpers: further columns that are kept under their own name.

    Raises:
        UserError: a column is missing.
    """
    found = rows.column_names
    for name in helpers:
        if name not in found:
            raise UserError(f"{source} has no column '{name}'", _hint(name, found), key="data")
    for role, column in columns.items():
        if column not in found:
            raise UserError(f"{source} has no column '{column}'", _hint(column, found), key=f"data.columns.{role}")
    form = choose_format(found, spec, columns, source)
    roles = {role: columns.get(role, role) for role in form.roles if columns.get(role, role) in found}
    if len(set(roles.values())) < len(roles):
        raise UserError("two roles name the same column", "name each column once", key="data.columns")
    chosen = {role: column for role, column in roles.items() if column not in helpers}
    for role, column in roles.items():  # a helper that is a role's column too is kept under both names
        if column in helpers and role != column:
            rows = rows.add_column(role, rows[column][:])
            chosen[role] = role
    kept = rows.select_columns(list(dict.fromkeys([*chosen.values(), *helpers])))
    return form, kept.rename_columns({column: role for role, column in chosen.items() if column != role})


def given_columns(rows: Dataset) -> list[str]:
    """The columns that are given to the model, without what it is to learn."""
    return [name for name in rows.column_names if name not in (ROW, *ANSWERS)]


def given_rows(rows: Dataset) -> Dataset:
    """The rows as they are compared: the given columns alone, and of chats as text what is given to the model."""
    given = rows.select_columns(given_columns(rows))
    if CHAT not in given.column_names:
        return given
    return given.map(_asked_batch, batched=True, features=Features({**given.features, CHAT: Value("string")}))


def asked(chat: Any) -> str:
    """What is given to the model in a chat: a line for each turn that is not the assistant's.

    A system prompt is one word, a digest of it: many chats share a long one, which makes no two of them alike. A chat in
    which nobody asks is read whole.
    """
    turns = [turn for turn in chat if isinstance(turn, dict)] if isinstance(chat, list) else []
    texts = [(turn.get("role"), as_text(turn.get("content"))) for turn in turns]
    if not any(text.strip() for role, text in texts if role not in ("system", "assistant")):
        return as_text(chat)
    return "\n".join(_as_word(text) if role == "system" else text for role, text in texts if role != "assistant")


def _as_word(text: str) -> str:
    return blake2b(normalise(text).encode(), digest_size=8).hexdigest()


def _asked_batch(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
    return {CHAT: [asked(chat) for chat in batch[CHAT]]}


def choose_format(found: list[str], spec: TaskSpec, columns: dict[str, str], source: str) -> Format:
    """The first format of the task whose required roles all have a column."""
    for form in spec.formats:
        if set(columns) <= set(form.roles) and all(columns.get(role, role) in found for role in form.required):
            return form
    meant = [form for form in spec.formats if set(columns) & set(form.roles)] or list(spec.formats)
    missing = [role for role in meant[0].required if columns.get(role, role) not in found]
    if len(spec.formats) > 1 and not columns:
        wanted = "; or ".join(", ".join(form.required) for form in spec.formats)
        message = f"{source} has none of the formats of this task ({wanted})"
    else:
        message = f"{source} has no column '{missing[0]}'"
    hint = f"{_hint(missing[0], found)}; map it with data.columns: {{{missing[0]}: …}}"
    raise UserError(message, hint, key="data.columns" if columns else "data")


def _hint(column: str, found: list[str]) -> str:
    same = [
        name for name in found if column in COLUMNS.get(plain(name), "").split()[:1]
    ]  # category, where label is looked for
    advice = header_hint(found)
    return f"{did_you_mean(column, found, *same)}it has {', '.join(found)}{f'; {advice}' if advice else ''}"
