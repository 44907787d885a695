"""Guards a kind of fault: a field of a chat row that leaves no trace in what is learnt, or another one than was written.

A sweep of fields over templates in the manners of many models: what a template has a place for is in the tokens, what it has
none for is refused by the field's name and the row.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from chat_manners import LATEST_THOUGHT, LEAVES_OUT, LLAMA_3, MANNERS, WHOLE
from datasets import Dataset, Json, List
from transformers import AutoConfig, PreTrainedTokenizerBase

from ftkit.data.chat_templates import turn_ends
from ftkit.data.encode import IGNORED, Encoded
from ftkit.data.nested import with_messages
from ftkit.data.sources import read_source
from ftkit.errors import UserError
from ftkit.evaluation.parity import build
from ftkit.models.load import load_tokenizer
from ftkit.recipe.schema import Data, Model, Source
from ftkit.tasks.instruction import Instruction
from ftkit.training.prepare import encode_rows

TOOL = {
    "type": "function",
    "function": {
        "name": "find_item", "description": 'finds an "item"',
        "parameters": {
            "type": "object", "required": ["who"],
            "properties": {"who": {"type": "string", "description": "whose it is", "enum": ["Tom", "Sue"]}},
        },
    },
}  # fmt: skip
ASKED = {"role": "user", "content": "What has Tom?"}
SAID = {"role": "assistant", "content": "It is a boat."}
CALL = {"role": "assistant", "content": "", "tool_calls": [{"id": "c1", "type": "function", "function": {
    "name": "find_item", "arguments": {"who": "Tom", "count": 3, "sure": True}}}]}  # fmt: skip
FOUND = {"role": "tool", "tool_call_id": "c1", "content": "a boat"}
FIELDS: dict[str, dict[str, Any]] = {
    "content": {"messages": [ASKED, SAID]},
    "tool_calls": {"messages": [ASKED, CALL, FOUND, SAID]},
    "tools": {"messages": [ASKED, SAID], "tools": [TOOL]},
    "reasoning": {"messages": [ASKED, SAID | {"reasoning_content": "I look around."}]},
    "system": {"messages": [ASKED, SAID], "system": "You are a pirate."},
    "history": {"messages": [ASKED, SAID], "history": [["Ahoy?", "Aye."], ["Who is there?", "Tom is."]]},
}
WORDS = {
    "content": ["It is a boat."], "tool_calls": ["find_item", "Tom", "count", "3", "a boat"], "reasoning": ["I look around."],
    "tools": ["find_item", "whose it is", "Sue"], "system": ["You are a pirate."], "history": ["Ahoy?", "Aye.", "Who is there?"],
}  # fmt: skip


@pytest.fixture
def tokenizer(stand_in: Callable[[str], Path]) -> PreTrainedTokenizerBase:
    made = load_tokenizer(Model(name=str(stand_in("gpt2"))))
    made.bos_token = made.bos_token or made.eos_token
    return made


def encoded(
    tokenizer: PreTrainedTokenizerBase, rows: list[dict[str, Any]], **data: Any
) -> tuple[Encoded, Instruction, Dataset]:
    task = Instruction(Data(train="x", **{"chat_template": WHOLE, **data}))
    held = Dataset.from_list(rows, on_mixed_types="use_json")
    config = AutoConfig.for_model("gpt2")
    return encode_rows(task, held, tokenizer, config, 2000, "train"), task, held


def entries(made: Encoded) -> list[tuple[list[int], list[int]]]:
    return [(entry["input_ids"], [label for label in entry["labels"] if label != IGNORED]) for entry in made.dataset]


def texts(tokenizer: PreTrainedTokenizerBase, row: dict[str, Any], **data: Any) -> list[tuple[str, str]]:
    """Of each example of a row all of its text, and what of it is supervised."""
    made, _, _ = encoded(tokenizer, [row], **data)
    return [(tokenizer.decode(ids), tokenizer.decode(learnt)) for ids, learnt in entries(made)]


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("manner", MANNERS)
def test_a_field_is_in_the_tokens_or_is_refused_by_its_name(
    tokenizer: PreTrainedTokenizerBase, manner: str, field: str
) -> None:
    if manner == "llama 3":
        tokenizer.add_special_tokens({"additional_special_tokens": ["<|eot_id|>"]})
    row, data = FIELDS[field], {"chat_template": MANNERS[manner]}
    if manner == "gemma" and field == "system":
        with pytest.raises(UserError, match="row 1: the chat template fails: System role not supported"):
            encoded(tokenizer, [row], **data)
        return
    made, task, held = encoded(tokenizer, [row], **data)
    if field in LEAVES_OUT.get(manner, ()):
        assert made.counts == {"dropped, a field leaves no token": 1}
        assert any(field in found for found in task.lost_fields(held[0])), task.lost_fields(held[0])
        return
    assert set(made.counts) == {"kept whole"}
    whole = [tokenizer.decode(ids) for ids, _ in entries(made)]
    for word in WORDS[field]:
        assert any(word in text or json.dumps(word)[1:-1] in text for text in whole)
    for _, learnt in entries(made):
        assert learnt[-1] in task.end_tokens(tokenizer)
    learnt = "".join(tokenizer.decode(ids) for _, ids in entries(made))
    assert "It is a boat." in learnt
    if field in ("tool_calls", "reasoning"):
        assert all(word in learnt for word in WORDS[field] if word != "a boat")
    assert '\\"who\\"' not in learnt  # no arguments that are quoted twice


@pytest.mark.parametrize("manner", MANNERS)
def test_the_prompts_of_training_are_those_that_plain_transformers_builds(
    tokenizer: PreTrainedTokenizerBase, manner: str
) -> None:
    """With all that the template has a place for at once."""
    if manner == "llama 3":
        tokenizer.add_special_tokens({"additional_special_tokens": ["<|eot_id|>"]})
    out = LEAVES_OUT.get(manner, set())
    row: dict[str, Any] = {"messages": [ASKED, SAID, ASKED, *([] if "tool_calls" in out else [CALL, FOUND]), SAID]}
    row |= {name: FIELDS[name][name] for name in ("tools", "system", "history") if name not in out}
    made, task, held = encoded(tokenizer, [row], chat_template=MANNERS[manner])
    parts = json.loads(json.dumps(task.prompt_parts(held[0])))
    ids, labels = made.dataset[-1]["input_ids"], made.dataset[-1]["labels"]
    start = max(place for place in range(1, len(ids)) if labels[place] != IGNORED and labels[place - 1] == IGNORED)
    assert build(tokenizer, {}, parts | {"ids": []}) == ids[:start]


@pytest.mark.parametrize("arguments", [{"who": "Tom"}, '{"who": "Tom"}', '"{\\"who\\": \\"Tom\\"}"', None, ""])
def test_arguments_are_the_same_however_they_are_written(tokenizer: PreTrainedTokenizerBase, arguments: Any) -> None:
    call = {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"function": {"name": "find_item", "arguments": arguments}}],
    }
    wanted = '{"who": "Tom"}' if arguments else "{}"
    for manner, name in (
        ("whole", '"arguments": '),
        ("deepseek", "json\n"),
        ("tilde", "find_item "),
        ("chatml", '"arguments": '),
    ):
        [(_, learnt)] = texts(tokenizer, {"messages": [ASKED, call]}, chat_template=MANNERS[manner])
        assert name + wanted in learnt


def test_what_is_written_as_text_parts_is_read_and_other_parts_are_refused(tokenizer: PreTrainedTokenizerBase) -> None:
    parts = [{"type": "text", "text": "What has "}, {"type": "text", "text": "Tom?"}]
    row = {"messages": [{"role": "user", "content": parts}, SAID | {"content": [{"type": "text", "text": "It is a boat."}]}]}
    assert texts(tokenizer, row) == texts(tokenizer, FIELDS["content"])
    for part, kind in (({"type": "image_url", "image_url": "x"}, "image_url"), (3, "int")):
        wrong = {"messages": [{"role": "user", "content": [part]}, SAID]}
        with pytest.raises(UserError, match=f"row 2: turn 1 has a part of type '{kind}'"):
            encoded(tokenizer, [row, wrong])


@pytest.mark.parametrize(("turns", "message"), [
    ("\n\nHuman: hello", "row 1: messages is a text, not a list of turns: Human: hello;"),
    ([ASKED], "row 1: the chat has no assistant's turn"),
    ([{"role": "robot", "content": "x"}, SAID], "row 1: turn 1 has the role 'robot'"),
    ([{"content": "x"}, SAID], "row 1: turn 1 has no role"),
    ([{"role": "user", "content": None}, SAID], "row 1: turn 1 has no content"),
    ([ASKED, CALL | {"tool_calls": [{"function": {"name": "f", "arguments": "{who"}}]}], "row 1: arguments of f in tool_calls of turn 2: no JSON"),
    ([ASKED, CALL | {"tool_calls": [{"function": {"arguments": {}}}]}], "row 1: tool_calls of turn 2 has a call without a name"),
])  # fmt: skip
def test_what_is_no_chat_is_refused_in_one_line(tokenizer: PreTrainedTokenizerBase, turns: Any, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        encoded(tokenizer, [{"messages": turns}])
    assert "\n" not in str(caught.value)


def test_a_turn_that_says_nothing_is_an_empty_field_and_one_that_calls_is_not(tokenizer: PreTrainedTokenizerBase) -> None:
    silent = {"messages": [ASKED, SAID | {"content": None}]}
    assert encoded(tokenizer, [silent])[0].counts == {"dropped, empty field": 1}
    assert encoded(tokenizer, [{"messages": [ASKED, CALL | {"content": None}]}])[0].counts == {"kept whole": 1}


@pytest.mark.parametrize("inline", [True, False])
@pytest.mark.parametrize(("reasoning", "given", "learnt"), [
    ("learn", True, True), ("show", True, False), ("drop", False, False),
])  # fmt: skip
def test_reasoning_is_learnt_shown_or_dropped(
    tokenizer: PreTrainedTokenizerBase, reasoning: str, given: bool, learnt: bool, inline: bool
) -> None:
    turn = SAID | {"content": "<think>\nI look.\n</think>\n\nIt is a boat."} if inline else SAID | {"reasoning": "I look."}
    [(whole, supervised)] = texts(tokenizer, {"messages": [ASKED, turn]}, reasoning=reasoning)
    assert ("I look." in whole, "I look." in supervised) == (given, learnt)
    assert supervised.endswith("It is a boat." + tokenizer.eos_token)
    assert learnt or supervised.startswith("It is")


@pytest.mark.parametrize("inline", [True, False])
def test_under_a_template_that_drops_earlier_thinking_each_answer_is_rendered_as_served(
    tokenizer: PreTrainedTokenizerBase, inline: bool
) -> None:
    def thinking(thought: str, text: str) -> dict[str, Any]:
        whole = {"role": "assistant", "content": f"<think>\n{thought}\n</think>\n\n{text}"}
        return whole if inline else {"role": "assistant", "content": text, "reasoning_content": thought}

    chat = [ASKED, thinking("First.", "A boat."), ASKED, thinking("Second.", "A tree.")]
    end = tokenizer.eos_token
    made = texts(tokenizer, {"messages": chat}, chat_template=LATEST_THOUGHT)
    assert [learnt for _, learnt in made] == [
        f"<think>\nFirst.\n</think>\n\nA boat.{end}", f"<think>\nSecond.\n</think>\n\nA tree.{end}"
    ]  # fmt: skip
    assert "First." not in made[1][0]
    assert "A boat." in made[1][0]
    last = texts(tokenizer, {"messages": chat}, chat_template=LATEST_THOUGHT, supervise="last")
    assert last == made[1:]
    [(_, both)] = texts(tokenizer, {"messages": chat}, chat_template=WHOLE)  # one example where nothing is rewritten
    assert "First." in both
    assert "Second." in both


def test_a_rows_examples_are_counted_as_one_row_and_named_as_it(tokenizer: PreTrainedTokenizerBase) -> None:
    chat = {"messages": [ASKED, SAID | {"thinking": "a"}, ASKED, SAID | {"thinking": "b"}]}
    rows = [FIELDS["content"], chat, {"messages": [ASKED, SAID | {"content": ""}]}, chat]
    made, _, _ = encoded(tokenizer, rows, chat_template=LATEST_THOUGHT)
    assert made.rows == [0, 1, 1, 3, 3]
    assert made.counts == {"kept whole": 3, "dropped, empty field": 1}


@pytest.mark.parametrize("mark", [{"weight": 0}, {"train": False}])
def test_turns_are_learnt_as_they_are_marked(tokenizer: PreTrainedTokenizerBase, mark: dict[str, Any]) -> None:
    chat = {
        "messages": [ASKED, SAID | {"content": "No."} | mark, ASKED, SAID | {"content": "Yes."}, ASKED, SAID | {"weight": 1}]
    }
    end = tokenizer.eos_token
    wanted = {"marked": ["Yes.", "It is a boat."], "all": ["No.", "Yes.", "It is a boat."], "last": ["It is a boat."]}
    for supervise, answers in wanted.items():
        [(_, learnt)] = texts(tokenizer, chat, supervise=supervise)
        assert learnt == "".join(answer + end for answer in answers)
    none = {"messages": [ASKED, SAID | mark]}
    assert encoded(tokenizer, [none])[0].counts == {"dropped, no supervised token": 1}
    with pytest.raises(UserError, match=r"row 1: .*weight is 0.5"):
        encoded(tokenizer, [{"messages": [ASKED, SAID | {"weight": 0.5}]}])


@pytest.mark.parametrize("row", [
    {"instruction": "What has Tom?", "input": "", "output": "It is a boat."},
    {"prompt": "What has Tom?", "completion": "It is a boat."},
])  # fmt: skip
@pytest.mark.parametrize("template", [None, "alpaca", "chatml", WHOLE])
def test_what_stands_beside_rows_that_are_no_turns_is_read(
    tokenizer: PreTrainedTokenizerBase, row: dict[str, Any], template: str | None
) -> None:
    beside = {"system": "You are a pirate.", "history": [["Ahoy?", "Aye."]]}
    [(whole, learnt)] = texts(tokenizer, row | beside, chat_template=template)
    places = [whole.index(text) for text in ("You are a pirate.", "Ahoy?", "Aye.", "What has Tom?", "It is a boat.")]
    assert places == sorted(places)
    assert learnt == f"Aye.{tokenizer.eos_token}It is a boat.{tokenizer.eos_token}"
    [(empty, _)] = texts(tokenizer, row | {"system": None, "history": []}, chat_template=template)
    assert "Ahoy" not in empty


def test_a_prompt_of_the_recipes_has_a_place_for_what_stands_beside_or_the_column_is_refused(
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    row = {"prompt": "What has Tom?", "completion": "It is a boat.", "system": "You are a pirate."}
    [(whole, _)] = texts(tokenizer, row, chat_template=None, prompt="{system}\n{prompt}\n")
    assert whole.startswith("You are a pirate.\nWhat has Tom?\n")
    for name, value in (("system", "x"), ("history", [["a", "b"]]), ("tools", [TOOL])):
        prompt = "{prompt}\n" if name == "system" else "{system}{prompt}\n"
        with pytest.raises(UserError, match=f"the prompt has no place for the column '{name}'"):
            encoded(tokenizer, [row | {name: value}], chat_template=None, prompt=prompt)


def test_a_system_prompt_that_stands_twice_is_refused_unless_it_is_the_same(tokenizer: PreTrainedTokenizerBase) -> None:
    chat = [{"role": "system", "content": "Be brief."}, ASKED, SAID]
    same = texts(tokenizer, {"messages": chat, "system": "Be brief."})
    assert same == texts(tokenizer, {"messages": chat})
    with pytest.raises(UserError, match="row 1: a system prompt stands both in the column system and in turn 1"):
        encoded(tokenizer, [{"messages": chat, "system": "Be long."}])


@pytest.mark.parametrize("form", [[TOOL], [TOOL["function"]], json.dumps([TOOL]), json.dumps(TOOL["function"])])
def test_definitions_of_tools_are_read_in_every_form_and_from_the_recipe(
    tokenizer: PreTrainedTokenizerBase, form: Any
) -> None:
    wanted = texts(tokenizer, FIELDS["tools"])
    assert texts(tokenizer, FIELDS["content"] | {"tools": form}) == wanted
    if isinstance(form, list):
        assert texts(tokenizer, FIELDS["content"], tools=form) == wanted
    with pytest.raises(UserError, match="row 1: tools has a definition without a name"):
        encoded(tokenizer, [FIELDS["content"] | {"tools": [{"description": "x"}]}])


def test_values_for_the_template_are_used_and_saved_in_it(tokenizer: PreTrainedTokenizerBase) -> None:
    shut = {"enable_thinking": False}
    [(whole, learnt)] = texts(tokenizer, FIELDS["content"], chat_template=LATEST_THOUGHT, template_arguments=shut)
    assert learnt == "It is a boat." + tokenizer.eos_token
    plain = tokenizer.apply_chat_template([ASKED], tokenize=False, add_generation_prompt=True)
    assert whole.startswith(plain)
    assert plain.endswith("</think>\n\n")
    other = tokenizer.apply_chat_template([ASKED], tokenize=False, add_generation_prompt=True, enable_thinking=True)
    assert "<think>" not in other


@pytest.mark.parametrize(
    "value", ['{"name": "find_item", "arguments": {"who": "Tom"}}', {"name": "find_item", "arguments": '{"who": "Tom"}'}]
)
def test_conversations_with_calls_are_read(tokenizer: PreTrainedTokenizerBase, value: Any) -> None:
    turns = [
        {"from": "human", "value": "What has Tom?"}, {"from": "function_call", "value": value},
        {"from": "observation", "value": "a boat"}, {"from": "gpt", "value": "It is a boat."},
    ]  # fmt: skip
    rows = Dataset.from_list([{"conversations": turns, "system": "Be brief."}], on_mixed_types="use_json")
    read = with_messages(rows)
    assert read.features["messages"] == List(Json())
    [(whole, learnt)] = texts(tokenizer, read[0])
    assert '<call>{"name": "find_item", "arguments": {"who": "Tom"}}</call>' in learnt
    assert whole.index("Be brief.") < whole.index("<|tool|>\na boat")
    broken = Dataset.from_list([{"conversations": [turns[0], turns[1] | {"value": "find it"}]}], on_mixed_types="use_json")
    with pytest.raises(UserError, match="row 1: turn 2 of a conversation is no call: find it"):
        with_messages(broken)


@pytest.mark.parametrize("ending", ["jsonl", "json"])
@pytest.mark.parametrize("role", ["role", "from"])
def test_turns_come_out_of_a_file_as_they_were_written(tmp_path: Path, ending: str, role: str) -> None:
    """Texts that are JSON by themselves beside parts, and calls and tools with keys of their own."""
    said, by = ("content", {}) if role == "role" else ("value", {"user": "human", "assistant": "gpt"})
    contents: list[Any] = ["123", "null", '{"a": 1}', [{"type": "text", "text": "x"}], "2020-01-01"]
    rows = [
        {
            "messages" if role == "role" else "conversations": [
                {role: by.get("user", "user"), said: content}, {role: by.get("assistant", "assistant"), said: "true"}
            ],
            "tools": [{"name": f"f{number}", "parameters": {"properties": {f"p{number}": {"type": "string"}}}}],
        }
        for number, content in enumerate(contents)
    ]  # fmt: skip
    file = tmp_path / f"rows.{ending}"
    lines = "\n".join(json.dumps(row) for row in rows)
    file.write_text(lines if ending == "jsonl" else json.dumps(rows))
    read = read_source(Source(path=str(file)), split="train", sample_by="line", seed=0, key="data.train")
    assert [row["messages"][0]["content"] for row in read] == contents
    assert {row["messages"][1]["content"] for row in read} == {"true"}
    assert [list(row["tools"][0]["parameters"]["properties"]) for row in read] == [[f"p{n}"] for n in range(5)]


def test_nulls_of_columns_side_by_side_are_not_said(tokenizer: PreTrainedTokenizerBase) -> None:
    """Parquet gives every call the arguments of all; lines of JSON hold only what was written."""

    def call(arguments: dict[str, Any]) -> dict[str, Any]:
        made = {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "f", "arguments": arguments}}]}
        return {"messages": [ASKED | {"tool_calls": None}, made]}

    struct = Dataset.from_list([call({"who": "Tom", "count": None}), call({"who": None, "count": 3})])
    task = Instruction(Data(train="x", chat_template=WHOLE))
    made = encode_rows(task, struct, tokenizer, AutoConfig.for_model("gpt2"), 2000, "train")
    assert ["null" in tokenizer.decode(ids) for ids, _ in entries(made)] == [False, False]
    [(_, learnt)] = texts(tokenizer, call({"who": "Tom", "count": None, "odd": [1, "a"]}))
    assert '"count": null' in learnt


def test_no_ordinary_token_ends_an_answer(tokenizer: PreTrainedTokenizerBase) -> None:
    """A sweep of ends: those of one token that is none of text are taken, those of ordinary ones refused."""
    template = WHOLE.replace("{{ eos_token }}", "<|end|>")
    with pytest.raises(UserError, match=r"ends an answer with '<\|end\|>', which is \d+ ordinary tokens of this tokenizer"):
        encoded(tokenizer, [FIELDS["content"]], chat_template=template)
    allowed, task, _ = encoded(tokenizer, [FIELDS["content"]], chat_template=template, gate={"without_end": 1.0})
    assert task.end_tokens(tokenizer) == {tokenizer.eos_token_id}
    assert allowed.counts == {"kept whole": 1}
    word = WHOLE.replace("{{ eos_token }}", "x")
    with pytest.raises(UserError, match="ends an answer with 'x', an ordinary token of this tokenizer"):
        encoded(tokenizer, [FIELDS["content"]], chat_template=word)
    tokenizer.add_tokens(["<|end|>"])  # an added one that is not special
    encoded(tokenizer, [FIELDS["content"]], chat_template=template)
    assert turn_ends(tokenizer) == {tokenizer.convert_tokens_to_ids("<|end|>")}


@pytest.mark.parametrize("known", [True, False])
def test_chatml_ends_with_its_own_token_where_there_is_one_else_with_the_tokenizers(
    tokenizer: PreTrainedTokenizerBase, known: bool
) -> None:
    if known:
        tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_end|>"]})
    [(whole, learnt)] = texts(tokenizer, FIELDS["tool_calls"] | {"tools": [TOOL]}, chat_template="chatml")
    end = "<|im_end|>" if known else tokenizer.eos_token
    assert learnt.endswith(f"It is a boat.{end}")
    assert ("<|im_end|>" in whole) == known


def test_llama_3_ends_with_the_token_that_was_added(tokenizer: PreTrainedTokenizerBase) -> None:
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|eot_id|>"]})
    made, task, _ = encoded(tokenizer, [FIELDS["content"]], chat_template=LLAMA_3)
    assert entries(made)[0][1][-1] == tokenizer.convert_tokens_to_ids("<|eot_id|>")
    assert task.end_tokens(tokenizer) == {tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids("<|eot_id|>")}
