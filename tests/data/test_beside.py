"""Guards a kind of fault: a column beside a chat that changes what the row means, and is dropped without a word."""

from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset

from ftkit.data.columns import given_rows, map_columns
from ftkit.data.splits import read_splits
from ftkit.errors import UserError
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
def test_unwanted_answers_are_refused_as_preference_data(row: dict[str, Any]) -> None:
    rows = [row | {"label": True}, row | {"label": False}]
    with pytest.raises(UserError, match=r"rows.jsonl: these rows are preference data \(KTO\): in row 2 'label' says false"):
        mapped(rows)
    assert "label" not in mapped(rows[:1] * 2).column_names
    assert len(mapped([row | {"label": topic} for topic in ("chess", "cooking")])) == 2


@pytest.mark.parametrize("row", FORMS)
@pytest.mark.parametrize("name", ["chosen", "rejected"])
def test_pairs_are_refused_as_preference_data(row: dict[str, Any], name: str) -> None:
    with pytest.raises(UserError, match=rf"these rows are preference data \(DPO\): the column '{name}'"):
        mapped([row | {name: "Sue."}])


@pytest.mark.parametrize("row", FORMS)
def test_a_weight_of_rows_is_refused_unless_it_is_one(row: dict[str, Any]) -> None:
    assert len(mapped([row | {"weight": 1.0}] * 2)) == 2
    with pytest.raises(UserError, match="the column 'weight' gives rows a weight"):
        mapped([row | {"weight": 1.0}, row | {"weight": 0.5}])


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
