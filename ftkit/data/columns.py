"""From the data's column names to the task's: which format the rows have, and which column plays which role."""

from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b
from typing import Any

from datasets import Dataset, Features, Value

from ftkit.data.cells import join_columns, read_lists
from ftkit.data.files import header_hint
from ftkit.data.ledger import ROW
from ftkit.data.texts import as_text, normalise
from ftkit.errors import UserError
from ftkit.recipe.hints import did_you_mean
from ftkit.recipe.tasks import Format, TaskSpec
from ftkit.recipe.words import COLUMNS, plain

ANSWERS = ("label", "output", "completion", "summary", "tags", "answers")  # what is learnt; the rest of a row is given
LABELS = "_labels"  # the column that is made of one column a label
CHAT = "messages"  # a column of turns, of which some are learnt and the others are given


def map_columns(
    rows: Any,
    spec: TaskSpec,
    columns: Mapping[str, str | list[str]],
    source: str,
    helpers: Sequence[str] = (),
    *,
    first: int = 0,
) -> tuple[Format, Any]:
    """Keep the task's columns, under the task's names.

    Args:
        rows: a Dataset, or an IterableDataset.
        columns: role → column of the data, as the recipe says; roles not named are looked for under their own name.
        source: where the rows come from, for messages.
        helpers: further columns that are kept under their own name.
        first: what is added to a row's position where it is named.

    Raises:
        UserError: a column is missing.
        RowError: a cell is not what its column is for.
    """
    require_columns(rows.column_names, spec, columns, source, helpers)
    form, roles = choose_roles(rows.column_names, spec, columns, source)
    several = label_columns(columns)
    if several:
        rows = join_columns(rows, several, LABELS, first)
    chosen = {role: column for role, column in roles.items() if column not in helpers}
    for role, column in roles.items():  # a helper that is a role's column too is kept under both names
        if column in helpers and role != column:
            rows = rows.add_column(role, rows[column][:])
            chosen[role] = role
    kept = rows.select_columns(list(dict.fromkeys([*chosen.values(), *helpers])))
    renamed = kept.rename_columns({column: role for role, column in chosen.items() if column != role})
    return form, read_lists(renamed, spec.list_texts, first)


def choose_roles(
    found: list[str], spec: TaskSpec, columns: Mapping[str, str | list[str]], source: str
) -> tuple[Format, dict[str, str]]:
    """The rows' format, and the column of each of its roles; `LABELS` where the label is made of several.

    Raises:
        UserError: a column is missing, or has two roles.
    """
    named = {role: column for role, column in columns.items() if isinstance(column, str)}
    if label_columns(columns):
        named["label"], found = LABELS, [*found, LABELS]
    form = choose_format(found, spec, named, source)
    roles = {role: named.get(role, role) for role in form.roles if named.get(role, role) in found}
    if len(set(roles.values())) < len(roles):
        raise UserError("two roles name the same column", "name each column once", key="data.columns")
    return form, roles


def label_columns(columns: Mapping[str, str | list[str]]) -> list[str]:
    """The columns that say 0 or 1 of a label each."""
    return next((column for column in columns.values() if isinstance(column, list)), [])


def read_columns(
    found: list[str], spec: TaskSpec, columns: Mapping[str, str | list[str]], source: str, helpers: Sequence[str]
) -> dict[str, str]:
    """The columns that are read, by their roles; those without one under their own name."""
    roles = choose_roles(found, spec, columns, source)[1]
    return roles | {name: name for name in (*helpers, *label_columns(columns)) if name not in roles.values()}


def require_columns(
    found: list[str], spec: TaskSpec, columns: Mapping[str, str | list[str]], source: str, helpers: Sequence[str]
) -> None:
    """Raises UserError where a named column is not there, or a role is given several that takes one."""
    for name in helpers:
        if name not in found:
            raise UserError(f"{source} has no column '{name}'", _hint(name, found), key="data")
    for role, column in columns.items():
        if isinstance(column, list) != (role in spec.list_roles):
            message = f"'{role}' takes {'a list of columns' if role in spec.list_roles else 'one column'}"
            hint = "write columns: {labels: [a, b]} where each label has a column of 0 and 1"
            raise UserError(message, hint, key=f"data.columns.{role}")
        for name in [column] if isinstance(column, str) else column:
            if name not in found:
                raise UserError(f"{source} has no column '{name}'", _hint(name, found), key=f"data.columns.{role}")


def given_columns(rows: Dataset) -> list[str]:
    """The columns that are given to the model, without what it is to learn."""
    return [name for name in rows.column_names if name not in (ROW, *ANSWERS)]


def given_rows(rows: Dataset) -> Dataset:
    """The rows as they are compared: the given columns alone, and of chats as text what is given to the model."""
    given = rows.select_columns(given_columns(rows))
    said = [name for name in SAID_BY if name in given.column_names]
    if not said:
        return given
    features = Features({**given.features, **{name: Value("string") for name in said}})
    return given.map(_said_batch, batched=True, features=features)


def asked(chat: Any) -> str:
    """What is given to the model in a chat: a line for each turn that is not the assistant's.

    A system prompt is one word, a digest of it: many chats share a long one, which makes no two of them alike. A chat in
    which nobody asks is read whole.
    """
    turns = [turn for turn in chat if isinstance(turn, dict)] if isinstance(chat, list) else []
    texts = [(turn.get("role"), _content_text(turn.get("content"))) for turn in turns]
    if not any(text.strip() for role, text in texts if role not in ("system", "assistant")):
        return as_text(chat)
    return "\n".join(_as_word(text) if role == "system" else text for role, text in texts if role != "assistant")


def _content_text(content: Any) -> str:
    """A turn's content; of a list of parts the texts alone."""
    parts = content if isinstance(content, list) else [content]
    return "".join(as_text(part.get("text") if isinstance(part, dict) else part) for part in parts)


def _as_word(value: Any) -> str:
    return blake2b(normalise(as_text(value)).encode(), digest_size=8).hexdigest() if value else ""


def _asked_before(history: Any) -> str:
    """The questions of earlier turns, a line each."""
    pairs = history if isinstance(history, list) else [history]
    return "\n".join(as_text(pair[0]) if isinstance(pair, list) and pair else as_text(pair) for pair in pairs)


# What is compared of the columns that only chats have; what many rows share, as a system prompt or tools, is one word.
SAID_BY: dict[str, Callable[[Any], str]] = {CHAT: asked, "history": _asked_before, "system": _as_word, "tools": _as_word}


def _said_batch(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
    return {name: [say(value) for value in batch[name]] for name, say in SAID_BY.items() if name in batch}


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
    several = (
        " or, of one 0/1 column a label, data.columns: {labels: [a, b]}" if "label" in missing and spec.list_roles else ""
    )
    hint = f"{_hint(missing[0], found)}; map it with data.columns: {{{missing[0]}: …}}{several}"
    raise UserError(message, hint, key="data.columns" if columns else "data")


def _hint(column: str, found: list[str]) -> str:
    same = [
        name for name in found if column in COLUMNS.get(plain(name), "").split()[:1]
    ]  # category, where label is looked for
    advice = header_hint(found)
    return f"{did_you_mean(column, found, *same)}it has {', '.join(found)}{f'; {advice}' if advice else ''}"
