"""Prompts and masks: only the answer and its end token are supervised, and both whole."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset
from transformers import AutoConfig, PreTrainedTokenizerBase

from ftkit.data.chat_templates import CHAT_TEMPLATES, turn_ends
from ftkit.data.encode import IGNORED
from ftkit.data.prompts import ALPACA, fill, last_answer
from ftkit.errors import UserError
from ftkit.models.load import load_tokenizer
from ftkit.recipe.schema import Data, Model
from ftkit.tasks.base import Encoded
from ftkit.tasks.table import TASKS
from ftkit.training.prepare import encode_rows

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}{{ eos_token }}\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
CHAT = [
    {"role": "user", "content": "Who won?"},
    {"role": "assistant", "content": "The chef."},
    {"role": "user", "content": "And then?"},
    {"role": "assistant", "content": "He went home."},
]


@pytest.fixture(params=["gpt2", "llama"])
def tokenizer(request: pytest.FixtureRequest, stand_in: Callable[[str], Path]) -> PreTrainedTokenizerBase:
    return load_tokenizer(Model(name=str(stand_in(request.param))))


def encode(
    task: str,
    tokenizer: PreTrainedTokenizerBase,
    rows: list[dict[str, Any]],
    max_length: int = 200,
    kind: str = "gpt2",
    **data: Any,
) -> Encoded:
    made = TASKS[task](Data(train="x", **data))
    config = AutoConfig.for_model(kind)
    made.auto_class(config)
    encoded = encode_rows(made, Dataset.from_list(rows), tokenizer, config, max_length, "train")
    return made.arrange(encoded, max_length)


def supervised(entry: dict[str, Any]) -> list[int]:
    return [label for label in entry["labels"] if label != IGNORED]


ALPACA_ROW = {"instruction": "Convert the sentence.", "input": "The chef cooks.", "output": "It is cooked."}


@pytest.mark.parametrize("row", [ALPACA_ROW, ALPACA_ROW | {"input": ""}, {"prompt": "Say it:", "completion": "No."}])
def test_only_the_answer_and_its_end_token_are_supervised(tokenizer: PreTrainedTokenizerBase, row: dict[str, str]) -> None:
    entry = encode("instruction", tokenizer, [row]).dataset[0]
    answer = row.get("output") or row["completion"]
    assert supervised(entry)[-1] == tokenizer.eos_token_id
    assert tokenizer.decode(supervised(entry)[:-1]) == answer
    prompt, target = last_answer(entry["input_ids"], entry["labels"])
    assert prompt + target == entry["input_ids"]
    assert target == supervised(entry)


def test_a_prompts_ids_are_those_that_plain_transformers_builds(tokenizer: PreTrainedTokenizerBase) -> None:
    entry = encode("instruction", tokenizer, [{"prompt": "Say it: ", "completion": "No."}]).dataset[0]
    assert last_answer(entry["input_ids"], entry["labels"])[0] == tokenizer("Say it: ")["input_ids"]


def test_the_alpaca_form_is_the_published_one(tokenizer: PreTrainedTokenizerBase) -> None:
    entry = encode("instruction", tokenizer, [ALPACA_ROW]).dataset[0]
    text = tokenizer.decode(last_answer(entry["input_ids"], entry["labels"])[0], skip_special_tokens=True)
    assert text.endswith("### Instruction:\nConvert the sentence.\n\n### Input:\nThe chef cooks.\n\n### Response:\n")
    without = encode("instruction", tokenizer, [ALPACA_ROW | {"input": " "}]).dataset[0]
    assert "### Input" not in tokenizer.decode(without["input_ids"])


def test_a_row_that_is_too_long_is_dropped_whole_and_counted(tokenizer: PreTrainedTokenizerBase) -> None:
    rows = [{"prompt": "x", "completion": "short"}, {"prompt": "word " * 100, "completion": "short"}]
    encoded = encode("instruction", tokenizer, rows, max_length=32)
    assert encoded.rows == [0]
    assert encoded.counts == {"kept whole": 1, "dropped, too long": 1}
    assert encode("instruction", tokenizer, rows[1:], max_length=32).rows == []


def test_every_assistant_turn_of_a_chat_is_supervised_with_its_end(tokenizer: PreTrainedTokenizerBase) -> None:
    entry = encode("instruction", tokenizer, [{"messages": CHAT}], chat_template=CHATML).dataset[0]
    text = tokenizer.decode(supervised(entry))
    assert text == f"The chef.{tokenizer.eos_token}He went home.{tokenizer.eos_token}"
    prompt, _ = last_answer(entry["input_ids"], entry["labels"])
    assert prompt == tokenizer.apply_chat_template(CHAT[:3], add_generation_prompt=True, return_dict=False)


def test_a_template_without_an_end_of_turn_does_not_end_an_answer(tokenizer: PreTrainedTokenizerBase) -> None:
    silent = CHATML.replace("{{ eos_token }}", "")
    entry = encode("instruction", tokenizer, [{"messages": CHAT}], chat_template=silent).dataset[0]
    assert turn_ends(tokenizer) == set()
    assert supervised(entry)[-1] != tokenizer.eos_token_id
    entry = encode("instruction", tokenizer, [{"messages": CHAT}], chat_template=CHATML).dataset[0]
    assert turn_ends(tokenizer) == {supervised(entry)[-1]}


def test_the_last_turn_alone_can_be_supervised(tokenizer: PreTrainedTokenizerBase) -> None:
    entry = encode("instruction", tokenizer, [{"messages": CHAT}], chat_template=CHATML, supervise="last").dataset[0]
    assert tokenizer.decode(supervised(entry)) == f"He went home.{tokenizer.eos_token}"


@pytest.mark.parametrize("messages", [[{"role": "user", "content": "x"}], [{"role": "robot", "content": "x"}, CHAT[1]]])
def test_chats_without_an_answer_or_a_role_are_refused(
    tokenizer: PreTrainedTokenizerBase, messages: list[dict[str, str]]
) -> None:
    with pytest.raises(UserError, match="row 1: "):
        encode("instruction", tokenizer, [{"messages": messages}], chat_template=CHATML)


def test_no_chat_template_is_said(tokenizer: PreTrainedTokenizerBase) -> None:
    with pytest.raises(UserError, match=r"no chat template; give one with data\.chat_template: Jinja, or alpaca or chatml"):
        encode("instruction", tokenizer, [{"messages": CHAT}])


@pytest.mark.parametrize("name", ["mine.jinja", "llama3", "chat-ml", "./mine.jinja", " "])
def test_what_is_no_template_is_refused(
    tokenizer: PreTrainedTokenizerBase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Kind: a path or a name in place of Jinja, which would render every chat as that word."""
    monkeypatch.chdir(tmp_path)
    Path("mine.jinja").write_text(CHATML)
    said = "is a file and no chat template.* write what stands in the file" if "mine" in name else "is no chat template"
    with pytest.raises(UserError, match=said):
        encode("instruction", tokenizer, [{"messages": CHAT}], chat_template=name)


def test_each_of_very_many_answers_is_supervised_alone(tokenizer: PreTrainedTokenizerBase) -> None:
    turns = [
        turn
        for at in range(40)
        for turn in ({"role": "user", "content": f"ask {at}"}, {"role": "assistant", "content": f"say {at}"})
    ]
    entry = encode("instruction", tokenizer, [{"messages": turns}], max_length=4000, chat_template=CHATML).dataset[0]
    said = tokenizer.decode(supervised(entry))
    assert [said.count(f"say {at}<") for at in range(40)] == [1] * 40
    assert "ask" not in said


def test_a_long_document_is_cut_at_its_end_and_the_summary_stays_whole(tokenizer: PreTrainedTokenizerBase) -> None:
    rows = [{"document": "one two three " * 50, "summary": "A summary."}]
    encoded = encode("summarization", tokenizer, rows, max_length=64, prompt="Text: {document}\nShort:\n")
    entry = encoded.dataset[0]
    assert len(entry["input_ids"]) <= 64
    assert encoded.counts == {"kept, prompt cut": 1}
    assert tokenizer.decode(supervised(entry)[:-1]) == "A summary."
    text = tokenizer.decode(last_answer(entry["input_ids"], entry["labels"])[0], skip_special_tokens=True)
    assert text.startswith("Text: one two")
    assert text.endswith("\nShort:\n")


def test_encoder_and_decoder_get_document_and_summary_apart(stand_in: Callable[[str], Path]) -> None:
    tokenizer = load_tokenizer(Model(name=str(stand_in("t5"))))
    rows = [{"document": "one two three " * 50, "summary": "A summary."}]
    entry = encode("summarization", tokenizer, rows, max_length=32, kind="t5").dataset[0]
    assert len(entry["input_ids"]) <= 32
    assert entry["input_ids"][-1] == entry["labels"][-1] == tokenizer.eos_token_id
    assert tokenizer.decode(entry["labels"], skip_special_tokens=True) == "A summary."


def test_language_modeling_loses_no_token(tokenizer: PreTrainedTokenizerBase) -> None:
    texts = [f"Story {number} has some words." for number in range(20)]
    encoded = encode("language-modeling", tokenizer, [{"text": text} for text in texts], max_length=16)
    stream = [token for entry in encoded.dataset for token in entry["input_ids"]]
    parts = tokenizer.decode(
        [token for token in stream if token != tokenizer.bos_token_id or token == tokenizer.eos_token_id]
    ).split(tokenizer.eos_token)
    assert parts[:-1] == texts
    assert encoded.dataset[0]["labels"] == encoded.dataset[0]["input_ids"]


def test_fill_leaves_other_braces_alone() -> None:
    assert fill("{a} {b} {{a}}", {"a": "{b}"}) == "{b} {b} {{b}}"


@pytest.mark.parametrize("name", CHAT_TEMPLATES)
def test_a_named_template_ends_every_answer(tokenizer: PreTrainedTokenizerBase, name: str) -> None:
    entry = encode("instruction", tokenizer, [{"messages": CHAT}], chat_template=name).dataset[0]
    end = tokenizer.eos_token  # <|im_end|> is no token of these
    assert tokenizer.decode(supervised(entry)) == f"The chef.{end}He went home.{end}"


def test_the_alpaca_template_is_the_alpaca_form(tokenizer: PreTrainedTokenizerBase) -> None:
    chat = [{"role": "user", "content": "Say it."}, {"role": "assistant", "content": "It."}]
    entry = encode("instruction", tokenizer, [{"messages": chat}], chat_template="alpaca").dataset[0]
    prompt, _ = last_answer(entry["input_ids"], entry["labels"])
    assert tokenizer.decode(prompt) == fill(ALPACA, {"instruction": "Say it."})


def test_a_batch_of_empty_rows_alone_is_dropped(tokenizer: PreTrainedTokenizerBase) -> None:
    assert encode("instruction", tokenizer, [{"prompt": "x", "completion": "\r"}]).counts == {"dropped, empty field": 1}
    assert encode("summarization", tokenizer, [{"document": " ", "summary": "x"}]).counts == {"dropped, empty field": 1}
