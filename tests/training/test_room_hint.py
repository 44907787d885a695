"""Kind: a hint that cannot be followed. A longer model.max_length is advised only where the model takes one."""

from collections.abc import Callable
from pathlib import Path

import pytest

from ftkit import Recipe, UserError, check
from ftkit.run import write_jsonl

RAISE, NO_MORE = "raise model.max_length", "the model takes no more"


@pytest.mark.parametrize(
    ("kind", "length", "expected"),
    [("gpt2", 64, RAISE), ("gpt2", 256, NO_MORE), ("llama", 64, RAISE), ("llama", 256, NO_MORE)],
)
@pytest.mark.parametrize("over_long", ["drop", "cut_answer"])
@pytest.mark.parametrize("every_row", [False, True])
def test_longer_rows_are_advised_only_where_the_model_takes_them(
    recipe: Callable[..., Recipe], tmp_path: Path, kind: str, length: int, expected: str, over_long: str, every_row: bool
) -> None:
    rows = [
        {"prompt": f"Count to {number}.", "completion": f"{number} " * (2000 if every_row or number % 2 else 1)}
        for number in range(40)
    ]
    write_jsonl(tmp_path / "long.jsonl", rows)
    data = {"train": str(tmp_path / "long.jsonl"), "over_long": over_long, "eval_size": 4}
    with pytest.raises(UserError) as caught:
        check(recipe("full", task="instruction", kind=kind, data=data, model={"max_length": length}))
    said = str(caught.value)
    assert expected in said
    assert ({RAISE, NO_MORE} - {expected}).pop() not in said
