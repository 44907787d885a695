"""Generated answers: the same whatever stands beside a prompt in its batch."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer

from ftkit.data.encode import IGNORED, Encoded
from ftkit.evaluation.generation import generate_answers, generate_ids
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
        generate_answers(model, tokenizer, encoded, block, batch_size=size, end_tokens={end}) for size in (1, 16)
    )
    assert [row["generated"] for row in one] == [row["generated"] for row in all_at_once]
    found = generate_ids(model, tokenizer, [words[:n] for n in lengths], block, stops=[])
    assert [len(ids) for ids in found] == [12, 12, 3, 0]
