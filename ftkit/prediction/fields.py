"""A row's fields under the names of the run's task; without torch, so that a file can be looked at before it is loaded."""

import re
from collections.abc import Mapping
from typing import Any

from ftkit.data.columns import ANSWERS
from ftkit.data.nested import to_messages
from ftkit.errors import UserError
from ftkit.prediction.rows import TEXT
from ftkit.recipe.schema import Recipe


def matched(row: Mapping[str, Any], pattern: str | None) -> Mapping[str, Any]:
    """A line as the fields that the pattern of training finds in it; where that does not fit, as it is."""
    if pattern is None or set(row) != {TEXT}:
        return row
    found = re.fullmatch(pattern, str(row[TEXT]), re.S)
    return found.groupdict() if found else row


def fields_under_roles(row: Mapping[str, Any], recipe: Recipe) -> dict[str, Any] | None:
    """A row's fields under the task's names; None of a line of plain text, which stands for the one that is asked about.

    Raises:
        UserError: a field is missing.
    """
    row = matched(row, recipe.data.pattern)
    return None if set(row) == {TEXT} else role_values(row, recipe)


def role_values(row: Mapping[str, Any], recipe: Recipe) -> dict[str, Any]:
    """A row's fields under the task's names, as `data.columns` maps them or by those very names; answers are left out.

    Raises:
        UserError: the row has not the fields of any of the task's formats.
    """
    columns = {role: column for role, column in recipe.data.columns.items() if isinstance(column, str)}
    if isinstance(row.get("conversations"), list) and "messages" not in row:
        row = {**row, "messages": to_messages(row["conversations"])}
    forms = [form for form in recipe.spec.formats if set(columns) <= set(form.roles)]
    for form in forms:
        names = {role: columns[role] if columns.get(role) in row else role for role in form.roles if role not in ANSWERS}
        if all(names[role] in row for role in form.required if role in names):
            found = {role: row[name] for role, name in names.items() if name in row}
            return dict.fromkeys(role for role in columns if role in names) | found
    missing = "; or ".join(
        " and ".join(f"'{columns.get(role, role)}'" for role in form.required if role not in ANSWERS) for form in forms
    )
    raise UserError(f"no field {missing}", f"it has {', '.join(map(str, row))[:200] or 'none'}")
