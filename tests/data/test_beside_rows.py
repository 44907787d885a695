"""What stands beside a chat or an answer: it is read under its role, and makes no two rows alike.

The kind: a column that belongs to the prompt, and is dropped or taken for the rest of the row.
"""

from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset

from ftkit.data.columns import given_rows, map_columns
from ftkit.data.splits import read_splits
from ftkit.recipe.schema import Data
from ftkit.recipe.tasks import TASK_SPECS
from ftkit.run import write_jsonl

CHAT = {"messages": [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "Tom."}]}
ALPACA = {"instruction": "Who?", "input": "", "output": "Tom."}
PROMPT = {"prompt": "Who?", "completion": "Tom."}
FORMS = [CHAT, ALPACA, PROMPT]
SPEC = TASK_SPECS["instruction"]


def mapped(rows: list[dict[str, Any]], **columns: str) -> Dataset:
    return map_columns(Dataset.from_list(rows, on_mixed_types="use_json"), SPEC, columns, "rows.jsonl")[1]


@pytest.mark.parametrize("row", FORMS)
def test_what_stands_beside_a_row_is_kept_under_its_role(row: dict[str, Any]) -> None:
    beside = {"system": "Be brief.", "history": [["Ahoy?", "Aye."]], "functions": '[{"name": "f"}]'}
    rows = mapped([row | beside], tools="functions")
    assert {"system", "history", "tools"} <= set(rows.column_names)
    assert rows[0]["system"] == "Be brief."


@pytest.mark.parametrize("row", FORMS)
def test_a_long_system_prompt_makes_no_two_rows_alike_and_earlier_answers_do_not_count(row: dict[str, Any]) -> None:
    first, second = (
        given_rows(mapped([row | {"system": "Be brief and kind.", "history": [["Ahoy?", answer]]}]))[0]
        for answer in ("Aye.", "No.")
    )
    assert first == second
    assert " " not in first["system"]
    assert first["history"] == "Ahoy?"


@pytest.mark.parametrize("said", ["", "Be brief."])
def test_columns_that_say_nothing_make_no_chats_of_rows(tmp_path: Path, said: str) -> None:
    rows = [ALPACA | {"instruction": f"Who is {number}?", "system": said, "history": []} for number in range(20)]
    write_jsonl(tmp_path / "rows.jsonl", rows)
    splits = read_splits(Data(train=str(tmp_path / "rows.jsonl")), SPEC, lambda rows: None)  # type: ignore[arg-type]
    assert all(("system" in split.column_names) == bool(said) for split in splits.rows.values())
    assert all("history" not in split.column_names for split in splits.rows.values())
