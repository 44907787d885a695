"""Generated answers: the same whatever stands beside a prompt in its batch, and of rows that were drawn."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer

from ftkit import Recipe, evaluate, train
from ftkit.data.encode import IGNORED, Encoded
from ftkit.evaluation.forgetting import TEXTS, general_text
from ftkit.evaluation.generation import drawn_places, generate_answers, generate_ids
from ftkit.metrics.text import text_metrics
from ftkit.reading import read_jsonl
from ftkit.recipe.schema import Generation


def test_a_long_prompt_does_not_cut_the_answers_beside_it(stand_in: Callable[[str], Path]) -> None:
    tokenizer = AutoTokenizer.from_pretrained(stand_in("llama"))
    model = AutoModelForCausalLM.from_pretrained(stand_in("llama"))
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    end, longest = tokenizer.eos_token_id, model.config.max_position_embeddings
    words = tokenizer("the red fox saw a box in the park", add_special_tokens=False)["input_ids"] * longest
    lengths = (5, longest - 20, longest - 3, longest)
    rows = [{"input_ids": [*words[:n], end], "labels": [IGNORED] * n + [end]} for n in lengths]
    encoded, block = Encoded(Dataset.from_list(rows), list(range(len(rows))), np.zeros(0)), Generation(max_new_tokens=12)
    one, all_at_once = (
        generate_answers(model, tokenizer, encoded, block, batch_size=size, end_tokens={end}, seed=1) for size in (1, 16)
    )
    assert [row["generated"] for row in one] == [row["generated"] for row in all_at_once]
    found = generate_ids(model, tokenizer, [words[:n] for n in lengths], block, stops=[])
    assert [len(ids) for ids in found] == [12, 12, 3, 0]


@pytest.mark.parametrize(("count", "wanted"), [(10, 3), (200, 32), (5, 5), (3, 9), (4, 0)])
def test_places_are_drawn_and_stand_in_their_order(count: int, wanted: int) -> None:
    found = [drawn_places(count, wanted, seed) for seed in range(99)]
    assert all(places == sorted(set(places)) and len(places) == min(count, wanted) for places in found)
    assert found == [drawn_places(count, wanted, seed) for seed in range(99)]
    if 0 < wanted < count:  # over the seeds no place is left out, and the first ones are no more likely than others
        assert {place for places in found for place in places} == set(range(count))


@pytest.mark.parametrize("task", ["instruction", "summarization"])
def test_answers_are_measured_of_drawn_rows(
    recipe: Callable[..., Recipe], dialogues: Path, tmp_path: Path, task: str
) -> None:
    """The kind: figures of a part of the rows are of a part that was drawn, and say whose they are."""
    data = {} if task == "instruction" else {"train": str(dialogues), "columns": {"document": "dialogue"}}
    generation = {"rows": 5, "max_new_tokens": 4}
    made = recipe("full", task=task, kind="gpt2", data=data | {"drop_overlap": True}, evaluation={"generation": generation})
    result = train(made, output_dir=tmp_path / "run")
    rows = read_jsonl(tmp_path / "run/predictions.jsonl")
    drawn = drawn_places(len(rows), 5, made.data.seed)
    assert [index for index, row in enumerate(rows) if row["tuned"]["generated"] is not None] == drawn != list(range(5))
    assert [index for index, row in enumerate(rows) if row["baseline"]["generated"] is not None] == drawn
    assert all("entry" not in row["tuned"] for row in rows)
    column = {"instruction": "output", "summarization": "summary"}[task]
    assert (result.metrics["generated_rows"], result.metrics["generated_seed"]) == (5, made.data.seed)
    right = [rows[index]["name"] for index in drawn]
    analysis = json.loads((tmp_path / "run/analysis.json").read_text())
    assert {row["row"] for row in analysis["worst"] + analysis["changed"]} <= set(right)
    texts, targets = [rows[index]["tuned"]["generated"] for index in drawn], [rows[index]["target"] for index in drawn]
    assert result.metrics["tuned"]["rougeL"] == pytest.approx(text_metrics(texts, targets)["rougeL"])
    source = {row[column].strip() for row in read_jsonl(Path(made.data.train[0].path))}
    assert set(targets) <= source
    found = evaluate(tmp_path / "run")
    assert found.metrics == pytest.approx(result.metrics["tuned"])
    assert "5 rows drawn with data.seed" in str(found.table().renderables[0].columns[0].header)


def test_general_text_is_drawn(stand_in: Callable[[str], Path]) -> None:
    tokenizer = AutoTokenizer.from_pretrained(stand_in("llama"))
    rows = Dataset.from_dict({"text": [f"text number {number}" for number in range(3 * TEXTS)]})
    one, same, other = (
        general_text(rows, "a.txt", tokenizer, kind="loss", masked=False, room=64, seed=seed) for seed in (1, 1, 2)
    )
    assert one.ids == same.ids != other.ids
    assert len(one.ids) == TEXTS
    assert one.ids != tokenizer(rows[:TEXTS]["text"])["input_ids"]
