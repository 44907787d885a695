"""The gate: every input row is accounted for, and no fault of the rows goes unnoticed."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
from datasets import Dataset
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import AutoConfig, AutoTokenizer, PreTrainedTokenizerBase

from ftkit import Recipe, UserError, check, train
from ftkit.api import evaluate, preview, verify
from ftkit.data.chats import Chat, Template, chat_examples, render_answers
from ftkit.data.encode import IGNORED
from ftkit.data.ledger import Ledger, ranges
from ftkit.data.prompts import last_answer
from ftkit.errors import Unverified
from ftkit.models.load import load_config, load_tokenizer
from ftkit.recipe.load import load_values
from ftkit.recipe.schema import Data, Model
from ftkit.run import Run, resolved_values, write_jsonl
from ftkit.tasks.table import TASKS
from ftkit.training import prepare
from ftkit.training.dispatcher import build
from ftkit.training.prepare import encode_rows

RecipeMaker = Callable[..., Recipe]
CHATML = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}{{ eos_token }}\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
WORDS = [
    "the",
    "old",
    "dog",
    "saw",
    "a",
    "small",
    "red",
    "bird",
    "near",
    "our",
    "quiet",
    "green",
    "house",
    "while",
    "rain",
    "fell",
    "on",
    "warm",
    "stone",
    "steps",
    "below",
]


def sentence(number: int, words: int = 8) -> str:
    return " ".join(Random(number).choices(WORDS, k=words)) + f" {number}"


def prompts(count: int, **row: Any) -> list[dict[str, Any]]:
    return [{"prompt": f"Say it: {sentence(number)}", "completion": f"It is {number}.", **row} for number in range(count)]


def chats(count: int) -> list[dict[str, Any]]:
    return [
        {"messages": [{"role": "user", "content": row["prompt"]}, {"role": "assistant", "content": row["completion"]}]}
        for row in prompts(count)
    ]


@pytest.fixture
def instruct(recipe: RecipeMaker, tmp_path: Path) -> Callable[..., Recipe]:
    """A recipe on given training and eval rows: `instruct(train_rows, eval_rows, data={...}, model={...})`."""

    def make(rows: list[dict[str, Any]], measured: list[dict[str, Any]], **blocks: Any) -> Recipe:
        write_jsonl(tmp_path / "train.jsonl", rows)
        write_jsonl(tmp_path / "eval.jsonl", measured)
        values = recipe("full", task="instruction", kind="llama", **blocks).model_dump(exclude_unset=True)
        values["data"] |= {"train": str(tmp_path / "train.jsonl"), "eval": str(tmp_path / "eval.jsonl")}
        values["data"].pop("eval_size", None)
        return Recipe.model_validate(values)

    return make


def refusal(recipe: Recipe) -> str:
    with pytest.raises(UserError) as caught:
        check(recipe)
    return str(caught.value)


def test_prompts_longer_than_max_length_are_refused_and_the_report_sums_to_all(
    instruct: Callable[..., Recipe], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"prompt": sentence(n, 40) if n < 6 else "Say", "completion": "No."} for n in range(10)]
    made = instruct(rows, [{"prompt": "Tell", "completion": "Yes."}], model={"max_length": 16})
    words = refusal(made)
    assert "train: 6/10 rows lose their answer: it does not fit into model.max_length 16 (train.jsonl rows 1-6)" in words
    assert "allow it with data.gate.dropped: 0.6" in words
    assert "11" in next(line for line in capsys.readouterr().err.splitlines() if "sum" in line)
    made.data.gate.dropped = 0.6
    result = train(made, output_dir=tmp_path / "run")
    report = json.loads(Run(result.folder).data_report.read_text(encoding="utf-8"))
    assert report["fates"] == {"train: kept whole": 4, "train: dropped, too long": 6, "eval: kept whole": 1}
    assert report["sum_of_fates"] == report["rows"] == 11
    assert report["row_ids"]["train: dropped, too long"] == {str(tmp_path / "train.jsonl"): "1-6"}
    assert "6 of 10 train rows lose their answer" in result.metrics["caveats"][0]


def test_answers_are_cut_only_where_the_recipe_says_so_twice(instruct: Callable[..., Recipe]) -> None:
    rows = [{"prompt": "Say", "completion": sentence(n, 40 if n < 2 else 3)} for n in range(10)]
    made = instruct(rows, prompts(3), model={"max_length": 32}, data={"over_long": "cut_answer"})
    assert "2/10 rows lose the end of their answer, cut at model.max_length 32 (train.jsonl rows 1-2)" in refusal(made)
    made.data.gate.cut_answer = 0.2
    assert check(made)


def test_a_template_without_an_end_of_turn_is_refused(instruct: Callable[..., Recipe]) -> None:
    made = instruct(chats(8), chats(12)[8:], data={"chat_template": CHATML.replace("{{ eos_token }}", "")})
    assert "train: 8/8 rows have an answer that does not end with an end token" in refusal(made)


def test_rows_without_a_supervised_token_are_refused(instruct: Callable[..., Recipe]) -> None:
    silent = "{% for message in messages %}{% if message.role == 'user' %}{{ message.content }}{% endif %}{% endfor %}"
    made = instruct(chats(8), chats(12)[8:], data={"chat_template": silent})
    assert "train: 8/8 rows have a field that leaves no token: content of turn 2" in refusal(made)
    made = instruct(chats(8), chats(12)[8:], data={"chat_template": silent, "gate": {"lost_text": 1.0}})
    assert "no train row is left: see the table above; mend the data" in refusal(made)


def test_two_start_tokens_are_refused(instruct: Callable[..., Recipe]) -> None:
    made = instruct(prompts(8), prompts(12)[8:])
    start = load_tokenizer(made.model).bos_token
    doubled = instruct(prompts(8), prompts(12)[8:], data={"prompt": start + "{prompt}"})
    assert "train: 8/8 rows start with two start tokens" in refusal(doubled)


def test_end_tokens_that_are_also_padding_stay_supervised(
    instruct: Callable[..., Recipe], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = instruct(prompts(8), prompts(12)[8:])
    tokenizer = load_tokenizer(made.model)
    tokenizer.pad_token = tokenizer.eos_token
    monkeypatch.setattr("ftkit.training.dispatcher.load_tokenizer", lambda _: tokenizer)
    check(made)
    from transformers import DataCollatorForLanguageModeling

    masking = DataCollatorForLanguageModeling(tokenizer, mlm=False)
    monkeypatch.setattr("ftkit.tasks.instruction.Instruction.collator", lambda *_: lambda rows: masking(
        [{"input_ids": row["input_ids"]} for row in rows]
    ))  # fmt: skip
    with pytest.raises(RuntimeError, match="a batch holds"):
        check(made)


def test_eval_rows_among_the_training_rows_are_refused_each_kind_by_name(instruct: Callable[..., Recipe]) -> None:
    rows, measured = prompts(40), prompts(60)[40:]
    near = rows[5]["prompt"].replace("Say it: ", "Say it: and then ") + " with some further words at its end to be longer"
    other = near.removesuffix("longer") + "much longer"
    rows.append({"prompt": near, "completion": "x"})
    made = instruct(rows, [*measured, *rows[:3], {"prompt": rows[4]["prompt"].upper() + "!", "completion": "y"},
                           {"prompt": other, "completion": "z"}])  # fmt: skip
    words = refusal(made)
    assert "eval: 5/25 rows are also training rows: 3 equal, 1 equal but for case and punctuation, 1 nearly equal" in words
    assert "eval.jsonl row 21 to train.jsonl row 1" in words
    made.data.drop_overlap = True
    assert check(made)


def test_an_allowed_overlap_is_said_beside_every_score(instruct: Callable[..., Recipe], tmp_path: Path) -> None:
    rows = prompts(20)
    made = instruct(rows, [*prompts(29)[20:], rows[0]], data={"gate": {"overlap": 0.1}})
    result = train(made, output_dir=tmp_path / "run")
    assert result.metrics["caveats"] == [
        "1 of 10 eval rows are also training rows: 1 equal; eval.jsonl row 10 to train.jsonl row 1 "
        "(allowed by data.gate.overlap)"
    ]
    assert "Read with care: 1 of 10" in (result.folder / "README.md").read_text(encoding="utf-8")


def test_test_rows_among_the_training_rows_are_refused_or_dropped(instruct: Callable[..., Recipe], tmp_path: Path) -> None:
    rows = prompts(40)
    write_jsonl(
        tmp_path / "test.jsonl", [*prompts(70)[60:], rows[7], {"prompt": rows[9]["prompt"].upper(), "completion": "x"}]
    )
    made = instruct(rows, prompts(60)[40:], data={"test": str(tmp_path / "test.jsonl")})
    words = refusal(made)
    assert "test: 2/12 rows are also training rows: 1 equal, 1 equal but for case and punctuation" in words
    assert "test.jsonl row 11 to train.jsonl row 8" in words
    assert "eval:" not in words
    made.data.drop_overlap = True
    report = Run(train(made, output_dir=tmp_path / "run").folder).data_report
    fates = json.loads(report.read_text(encoding="utf-8"))["fates"]
    assert fates["removed: among the test rows too"] == 2
    assert (fates["train: kept whole"], fates["test: kept whole"]) == (38, 12)


def test_an_allowed_overlap_of_test_rows_is_said_beside_their_score_alone(
    instruct: Callable[..., Recipe], tmp_path: Path
) -> None:
    rows = prompts(20)
    write_jsonl(tmp_path / "test.jsonl", [*prompts(39)[30:], rows[0]])
    made = instruct(rows, prompts(30)[20:], data={"gate": {"overlap": 0.1}, "test": str(tmp_path / "test.jsonl")})
    result = train(made, output_dir=tmp_path / "run")
    caveat = (
        "1 of 10 test rows are also training rows: 1 equal; test.jsonl row 10 to train.jsonl row 1 "
        "(allowed by data.gate.overlap)"
    )
    report = json.loads(Run(result.folder).data_report.read_text(encoding="utf-8"))
    assert report["caveats"] == {"eval": [], "test": [caveat]}
    assert result.metrics["caveats"] == evaluate(result.folder).caveats == []
    assert evaluate(result.folder, split="test").caveats == [caveat]
    write_jsonl(tmp_path / "test.jsonl", prompts(39)[30:])
    assert "these are not its test rows" in evaluate(result.folder, split="test").caveats[0]


def test_test_rows_that_a_split_column_names_are_compared_too(recipe: RecipeMaker, tmp_path: Path) -> None:
    parts = ("train", "train", "dev", "test")
    rows = [{"text": sentence(n), "label": "ab"[n % 2], "part": parts[n % 4]} for n in range(60)]
    values = resolved_values(recipe("full"))
    values["data"] = {"train": str(tmp_path / "rows.jsonl"), "split_column": "part"}
    made = load_values(values)
    write_jsonl(tmp_path / "rows.jsonl", [*rows, rows[0] | {"part": "test"}])
    assert "test: 1/16 rows are also training rows: 1 equal; rows.jsonl row 61 to rows.jsonl row 1" in refusal(made)
    write_jsonl(tmp_path / "rows.jsonl", [row for row in rows if row["part"] != "test"])
    assert check(made)
    with pytest.raises(UserError, match="the column 'part' names no test row"):
        preview(made, split="test")


def test_real_test_rows_are_compared_too(shared: Path) -> None:
    folder = shared / "data/mts-dialog"
    names = {"train": "TrainingSet", "eval": "ValidationSet", "test": "TestSet-1-MEDIQA-Chat-2023"}
    data = {part: str(folder / f"MTS-Dialog-{name}.csv") for part, name in names.items()}
    columns = {"document": "dialogue", "summary": "section_text"}
    model = {"name": str(shared / "models/stories260K"), "max_length": 512}
    values = {"task": "summarization", "model": model, "strategy": "full", "data": {**data, "columns": columns}}
    words = refusal(load_values(values | {"data": values["data"] | {"gate": {"dropped": 1.0}}}))
    assert "rows are also training rows" in words.partition("test: ")[2]


def test_chats_with_the_same_question_overlap_whatever_the_answer(instruct: Callable[..., Recipe]) -> None:
    rows, other = chats(30), chats(45)[30:]
    for row, answer in ((rows[2], "No."), (rows[3], "Quite another answer than that.")):
        other.append({"messages": [row["messages"][0], {"role": "assistant", "content": answer}]})
    made = instruct(rows, other, data={"chat_template": CHATML})
    assert "eval: 2/17 rows are also training rows: 2 equal" in refusal(made)
    made.data.drop_overlap = True
    assert check(made)


@pytest.mark.slow
def test_a_second_start_on_chats_knows_their_template(instruct: Callable[..., Recipe], tmp_path: Path) -> None:
    made = instruct(chats(20), chats(30)[20:], data={"chat_template": CHATML})
    assert check(made)
    folder = train(made, output_dir=tmp_path / "run").folder
    assert (folder / "model/chat_template.jinja").read_text(encoding="utf-8") == CHATML


@pytest.mark.parametrize(("supervise", "empty"), [("all", 3), ("last", 2)])
def test_a_chat_with_an_empty_answer_is_treated_as_an_empty_output(
    instruct: Callable[..., Recipe], supervise: str, empty: int
) -> None:
    def chat(number: int, *answers: str) -> dict[str, Any]:
        turns = [[{"role": "user", "content": f"{sentence(number)} {n}"}, {"role": "assistant", "content": text}]
                 for n, text in enumerate(answers)]  # fmt: skip
        return {"messages": [turn for pair in turns for turn in pair]}

    rows = [chat(1, "Yes.", " \n"), chat(2, ""), chat(3, "", "Yes."), chat(4, "Yes.", "No."), *chats(8)]
    made = instruct(rows, chats(18)[8:], data={"chat_template": CHATML, "supervise": supervise})
    named = {"all": "1-3", "last": "1-2"}[supervise]
    assert f"train: {empty}/12 rows have an empty field (train.jsonl rows {named})" in refusal(made)
    made.data.drop_empty = True
    assert check(made)


def test_an_unknown_label_among_several_in_a_cell_is_named(recipe: RecipeMaker, tmp_path: Path) -> None:
    labels = ["food; film", "film", "food"]
    write_jsonl(tmp_path / "train.jsonl", [{"text": sentence(n), "label": labels[n % 3]} for n in range(30)])
    measured = [*labels, "film; fodo", "hotel;food", "film;fodo"]
    write_jsonl(tmp_path / "eval.jsonl", [{"text": sentence(50 + n), "label": label} for n, label in enumerate(measured)])
    data = {"train": str(tmp_path / "train.jsonl"), "eval": str(tmp_path / "eval.jsonl"), "label_separator": ";"}
    values = resolved_values(recipe("full", data={"label_separator": ";"}))
    values["data"] = data
    words = "rows have a label that the model does not know: 'fodo' in eval.jsonl row 4, nearest 'food'; "
    assert words + "'hotel' in eval.jsonl row 5 (eval.jsonl rows 4-6)" in refusal(load_values(values))


def test_source_and_target_of_an_encoder_decoder_are_counted_apart(
    recipe: RecipeMaker, dialogues: Path, tmp_path: Path
) -> None:
    data = {"train": str(dialogues), "columns": {"document": "dialogue"}, "gate": {"overlap": 1.0, "dropped": 1.0}}
    made = recipe(task="summarization", kind="t5", data=data, model={"max_length": 256})
    assert re.fullmatch(r"40 entries, [\d,]+ source and [\d,]+ target tokens, .+", check(made).facts["train rows"])
    parts = build(made, tmp_path / "out", [])
    found, rows = parts.data.report(8)["splits"]["train"], parts.data.encoded["train"].dataset
    assert found["entries"] == 40
    for side, column in (("source", "input_ids"), ("target", "labels")):
        lengths = [len(ids) for ids in rows[column]]
        assert found[side]["tokens"] == sum(lengths)
        assert found[side]["length"]["max"] == max(lengths)
        assert sum(found[side]["histogram"]["counts"]) == 40


def test_rows_that_are_lost_in_measuring_are_said(instruct: Callable[..., Recipe], tmp_path: Path) -> None:
    made = instruct(prompts(20), prompts(30)[20:], model={"max_length": 48})
    folder = train(made, output_dir=tmp_path / "run").folder
    write_jsonl(
        tmp_path / "long.jsonl", [*prompts(34)[30:], *({"prompt": sentence(n, 99), "completion": "x"} for n in range(4))]
    )
    caveats = evaluate(folder, data=str(tmp_path / "long.jsonl")).caveats
    assert caveats[0].startswith("4 of 8 eval rows lose their answer")
    assert caveats[0].endswith("(beyond data.gate.dropped)")


def test_a_second_start_encodes_nothing(
    instruct: Callable[..., Recipe], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    made = instruct(prompts(30), prompts(40)[30:])
    first = check(made)

    def fail(*_: Any) -> None:
        raise AssertionError("encoded again")

    monkeypatch.setattr("ftkit.tasks.instruction.prompt_ids", fail)
    assert check(made).facts["parameters"] == first.facts["parameters"]
    changed = instruct(prompts(30), prompts(40)[30:], data={"prompt": "Another form: {prompt}\n"})
    with pytest.raises(AssertionError, match="encoded again"):
        check(changed)


def test_every_row_has_one_fate() -> None:
    ledger = Ledger()
    first, second = ledger.enter("a.csv", "train", 5), ledger.enter("b/b.csv", "eval", 3)
    ledger.mark(first[:2], "removed: exact duplicate")
    ledger.mark(first[2:], "train: kept whole")
    ledger.mark(second, "eval: kept whole")
    assert ledger.counts() == {"removed: exact duplicate": 2, "train: kept whole": 3, "eval: kept whole": 3}
    assert ledger.report()["row_ids"] == {"removed: exact duplicate": {"a.csv": "1-2"}}
    assert ledger.name([first[0], first[3], second[2]]) == "a.csv rows 1, 4; b.csv row 3"
    assert ranges([1, 2, 3, 7, 9, 10]) == ["1-3", "7", "9-10"]


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
@given(
    rows=st.lists(st.tuples(st.text(min_size=1), st.text(min_size=1)), min_size=1, max_size=8),
    form=st.sampled_from(["{prompt}", "Q: {prompt}\nA:", "{prompt} ", "<s>{prompt}</s>"]),
    max_length=st.integers(8, 60),
)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_supervised_text_is_exactly_the_answer_and_its_end_token(
    stand_in: Callable[[str], Path], kind: str, rows: list[tuple[str, str]], form: str, max_length: int
) -> None:
    tokenizer, config = load_tokenizer(Model(name=str(stand_in(kind)))), AutoConfig.for_model(kind)
    task = TASKS["instruction"](Data(train="x", prompt=form))
    source = Dataset.from_list([{"prompt": prompt, "completion": answer} for prompt, answer in rows])
    encoded = encode_rows(task, source, tokenizer, config, max_length, "train")
    assert len(encoded.outcomes) == len(rows)
    for entry, row in zip(encoded.dataset, encoded.rows, strict=True):
        require_whole_answer(tokenizer, entry, rows[row][1], max_length)


def require_whole_answer(tokenizer: PreTrainedTokenizerBase, entry: dict[str, Any], answer: str, max_length: int) -> None:
    supervised = [label for label in entry["labels"] if label != IGNORED]
    prompt, target = last_answer(entry["input_ids"], entry["labels"])
    assert supervised[-1] == tokenizer.eos_token_id
    assert target == supervised
    assert prompt + target == entry["input_ids"]
    assert len(entry["input_ids"]) <= max_length
    special = {tokenizer.eos_token, tokenizer.bos_token, tokenizer.pad_token}
    if not any(token in answer for token in special if token):
        assert tokenizer.decode(supervised[:-1], clean_up_tokenization_spaces=False) == answer


@given(turns=st.lists(st.text("abc é日\n", min_size=1).filter(str.strip), min_size=2, max_size=6), last=st.booleans())
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_supervised_turns_of_a_chat_are_exactly_the_assistants(
    stand_in: Callable[[str], Path], turns: list[str], last: bool
) -> None:
    name = Model(name=str(stand_in("gpt2")))
    tokenizer, config = load_tokenizer(name), load_config(name, {})
    turns = turns[: len(turns) // 2 * 2]
    messages = [{"role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate(turns)]
    task = TASKS["instruction"](Data(train="x", chat_template=CHATML, supervise="last" if last else "all"))
    encoded = encode_rows(task, Dataset.from_list([{"messages": messages}]), tokenizer, config, 4096, "train")
    supervised = [label for label in encoded.dataset[0]["labels"] if label != IGNORED]
    answers = turns[1::2][-1:] if last else turns[1::2]
    assert tokenizer.decode(supervised) == "".join(f"{answer}{tokenizer.eos_token}" for answer in answers)


def test_the_padding_share_is_that_of_random_batches() -> None:
    facts = prepare.inspect(
        Dataset.from_dict({"input_ids": [[1]] * 4 + [[1] * 9] * 4, "labels": [[1]] * 4 + [[1] * 9] * 4}), set(), None
    )
    assert facts.describe(1)["padding_share"] == 0
    assert facts.describe(8)["padding_share"] == pytest.approx(1 - 40 / 72, abs=1e-4)


@pytest.mark.parametrize("rows", ["chat", "alpaca"])
def test_a_changed_space_in_the_saved_template_is_found(instruct: Callable[..., Recipe], tmp_path: Path, rows: str) -> None:
    alpaca = [{"instruction": row["prompt"], "input": "", "output": row["completion"]} for row in prompts(20)]
    made = chats(20) if rows == "chat" else alpaca
    template = {"data": {"chat_template": CHATML}} if rows == "chat" else {}
    folder = train(instruct(made[:16], made[16:], **template), output_dir=tmp_path / "run").folder
    assert verify(folder).facts["prompts"] == "12 prompts have the token ids of training"
    name, before, after = {
        "chat": ("chat_template.jinja", "<|im_start|>assistant", "<|im_start|> assistant"),
        "alpaca": ("prompt_template.json", "### Response:", "###  Response:"),
    }[rows]
    file = folder / "model" / name
    text = file.read_text(encoding="utf-8")
    assert before in text
    file.write_text(text.replace(before, after), encoding="utf-8")
    with pytest.raises(Unverified, match=r"12 of 12 prompts are not those of training; train.jsonl row 1 has") as caught:
        verify(folder)
    assert "+ " in str(caught.value)


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
@pytest.mark.slow
def test_packed_rows_train_like_unpacked_ones(recipe: RecipeMaker, tmp_path: Path, kind: str) -> None:
    """All rows in one batch: the mean loss over their answer tokens is the same, whether they are packed or padded."""
    losses = []
    for packing in (False, True):
        data = {"packing": packing, "drop_overlap": True}
        training = {"max_steps": 1, "per_device_train_batch_size": 64, "bf16": False, "eval_strategy": "no"}
        made = recipe("full", task="instruction", kind=kind, data=data, training=training, model={"max_length": 256})
        result = train(made, output_dir=tmp_path / str(packing))
        events = [json.loads(line) for line in Run(result.folder).log_file.read_text(encoding="utf-8").splitlines()]
        losses.append(next(event["loss"] for event in events if "loss" in event))
        record = result.record["data"]["train"]
    assert record["entries"] < record["packed examples"]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_an_answer_that_was_cut_teaches_no_stop(instruct: Callable[..., Recipe], tmp_path: Path) -> None:
    rows = [{"prompt": sentence(n, 3), "completion": sentence(n, 40)} for n in range(10)]
    data = {"over_long": "cut_answer", "gate": {"cut_answer": 1.0}}
    made = instruct(rows[:8], rows[8:], model={"max_length": 32}, data=data)
    folder = train(made, output_dir=tmp_path / "run").folder
    ends = json.loads((folder / "model/generation_config.json").read_text(encoding="utf-8"))["eos_token_id"]
    assert ends in (load_tokenizer(made.model).eos_token_id, [load_tokenizer(made.model).eos_token_id])


def test_an_input_that_is_no_text_is_refused(instruct: Callable[..., Recipe]) -> None:
    rows = [{"instruction": sentence(n), "input": n, "output": "x"} for n in range(12)]
    assert "train.jsonl row 1: 'input' is no text: 0" in refusal(instruct(rows[:8], rows[8:]))


@pytest.mark.parametrize("first", [None, ["a"]])
def test_rows_without_labels_do_not_hide_that_there_may_be_several(
    recipe: RecipeMaker, tmp_path: Path, first: list[str] | None
) -> None:
    labels = [first, *([["a", "b"], ["b"], [], None][n % 4] for n in range(59))]
    write_jsonl(tmp_path / "rows.jsonl", [{"text": sentence(n), "label": label} for n, label in enumerate(labels)])
    made = recipe("full", data={"train": str(tmp_path / "rows.jsonl"), "drop_empty": True}, training={"max_steps": 1})
    result = train(made, output_dir=tmp_path / "run")
    config = json.loads((result.folder / "model/config.json").read_text(encoding="utf-8"))
    assert set(config["label2id"]) == {"a", "b"}
    assert config["problem_type"] == "multi_label_classification"
    fates = json.loads(Run(result.folder).data_report.read_text(encoding="utf-8"))["fates"]
    assert sum(count for fate, count in fates.items() if "empty" in fate) == labels.count(None)


def test_a_tokenizer_that_looks_at_what_follows_still_gets_the_prompts_of_training(shared: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(shared / "models/tokenizer-gpt2")
    tokenizer.chat_template = (
        "{% for m in messages %}{% if m.role == 'user' %}Q: {{ m.content }}\n\nA:\n\n{% else %}{{ m.content }}{{ eos_token }}"
        "{% endif %}{% endfor %}"
    )
    chat = chats(1)[0]["messages"]
    made = Chat(chat, ["turn 1", "turn 2"], ["", ""], [1])
    template = Template(tokenizer, {})
    example = chat_examples(template, render_answers(template, made))[0]
    served = tokenizer.apply_chat_template(chat[:1], add_generation_prompt=True, return_dict=False)
    assert last_answer(example.input_ids, example.labels)[0] == served


def test_data_that_changed_since_the_run_is_said_beside_its_score(recipe: RecipeMaker, tmp_path: Path) -> None:
    rows = [{"text": sentence(n), "label": "ab"[n % 2]} for n in range(60)]
    write_jsonl(tmp_path / "rows.jsonl", rows)
    made = recipe("full", data={"train": str(tmp_path / "rows.jsonl")}, training={"max_steps": 1})
    folder = train(made, output_dir=tmp_path / "run").folder
    assert evaluate(folder).caveats == []
    write_jsonl(tmp_path / "rows.jsonl", [*rows, {"text": "one more row", "label": "a"}])
    assert "the data changed since the run" in evaluate(folder).caveats[0]
