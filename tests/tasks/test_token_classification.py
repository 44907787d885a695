"""Token classification: which token carries which tag, which rows are refused, and a run from end to end."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset, Features, List, Value
from transformers import AutoConfig, AutoTokenizer, EvalPrediction, PreTrainedTokenizerFast

from ftkit import Recipe, UserError, evaluate, train
from ftkit.data.encode import IGNORED
from ftkit.data.ledger import Outcome
from ftkit.data.samples.table import generate
from ftkit.reading import read_jsonl
from ftkit.recipe.load import load_values
from ftkit.recipe.schema import Data, Source
from ftkit.run import write_jsonl
from ftkit.tasks.token_classification import TokenClassification, needs_space
from ftkit.training.prepare import encode_rows

RecipeMaker = Callable[..., Recipe]
ROWS = [
    {"tokens": ["Anna", "flew", "to", "New", "York", "."], "tags": ["B-person", "O", "O", "B-place", "I-place", "O"]},
    {"tokens": ["Nothing", "happened", "."], "tags": ["O", "O", "O"]},
]
TAGS = ["O", "B-person", "B-place", "I-place"]


@pytest.fixture(scope="session")
def sentences(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "entities.jsonl"
    write_jsonl(path, generate("entities", rows=120, split="train", seed=1))
    return path


@pytest.fixture
def wordpiece(stand_in: Callable[[str], Path]) -> PreTrainedTokenizerFast:
    return AutoTokenizer.from_pretrained(stand_in("bert"))


def fitted(rows: Dataset, **data: Any) -> TokenClassification:
    task = TokenClassification(Data(train=[Source(path="sample:entities")], **data))
    task.fit(rows, AutoConfig.for_model("distilbert"))
    return task


def encoded(rows: Any, tokenizer: PreTrainedTokenizerFast, length: int = 64, **data: Any) -> Any:
    rows = rows if isinstance(rows, Dataset) else Dataset.from_list(rows)
    return encode_rows(fitted(rows, **data), rows, tokenizer, type("Config", (), {"model_type": "bert"}), length, "train")


def test_a_word_has_its_tag_on_its_first_token(wordpiece: PreTrainedTokenizerFast) -> None:
    rows = [{"tokens": ["Qwzx", "sees", "Oslo"], "tags": ["B-person", "O", "B-place"]}, *ROWS]
    result = encoded(rows, wordpiece)
    entry = result.dataset[0]
    words = wordpiece(rows[0]["tokens"], is_split_into_words=True).word_ids()
    assert len(words) > 5  # the first word is of several tokens
    assert entry["labels"][0] == entry["labels"][-1] == IGNORED
    for word, tag in enumerate(rows[0]["tags"]):
        first = words.index(word)
        assert TAGS[entry["labels"][first]] == tag
        rest = [label for place, label in enumerate(entry["labels"]) if words[place] == word and place != first]
        assert set(rest) <= {IGNORED}
    assert result.dataset.features["labels"] == List(Value("int32"))


@pytest.mark.parametrize("kind", ["gpt2", "llama", "bert"])
def test_words_are_read_as_in_running_text(stand_in: Callable[[str], Path], kind: str) -> None:
    tokenizer = AutoTokenizer.from_pretrained(stand_in(kind))
    assert needs_space(tokenizer) == (kind != "bert")
    entry = encoded(ROWS, tokenizer).dataset[0]
    assert entry["input_ids"] == tokenizer((" " if kind != "bert" else "") + " ".join(ROWS[0]["tokens"]))["input_ids"]
    assert [TAGS[label] for label in entry["labels"] if label != IGNORED] == ROWS[0]["tags"]


def test_a_tokenizer_that_adds_the_space_itself_gets_none(stand_in: Callable[[str], Path]) -> None:
    tokenizer = AutoTokenizer.from_pretrained(stand_in("gpt2"))
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    state["pre_tokenizer"]["add_prefix_space"] = True
    tokenizer.backend_tokenizer.pre_tokenizer = type(tokenizer.backend_tokenizer).from_str(json.dumps(state)).pre_tokenizer
    assert not needs_space(tokenizer)


def test_a_word_without_tokens_is_unknown_and_moves_no_tag(wordpiece: PreTrainedTokenizerFast) -> None:
    rows = [{"tokens": ["Anna", "\ufe0f", "", "York", "\u200d"], "tags": ["B-person", "O", "O", "B-place", "O"]}, *ROWS]
    entry = encoded(rows, wordpiece).dataset[0]
    assert [TAGS[label] for label in entry["labels"] if label != IGNORED] == rows[0]["tags"]
    assert entry["input_ids"].count(wordpiece.unk_token_id) == 3


def test_what_becomes_of_rows(wordpiece: PreTrainedTokenizerFast) -> None:
    rows = [
        *ROWS,
        {"tokens": [], "tags": []},
        {"tokens": ["Anna", "came"], "tags": ["B-person", None]},
        {"tokens": ["Acme", "."], "tags": ["B-firm", "O"]},
        {"tokens": ["we"] * 50, "tags": ["O"] * 50},
    ]
    result = encoded(rows, wordpiece, length=16, labels=TAGS, over_long="cut")
    kept, cut = Outcome.KEPT, Outcome.CUT_TEXT
    assert result.outcomes.tolist() == [kept, kept, Outcome.EMPTY, Outcome.EMPTY, Outcome.UNKNOWN_LABEL, cut]
    assert len(result.dataset[2]["labels"]) == 16
    assert sum(label != IGNORED for label in result.dataset[2]["labels"]) == 14


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"tokens": ["a", "b"], "tags": ["O"]}, "row 3: 2 tokens and 1 tags"),
        ({"tokens": ["a"], "tags": []}, "row 3: 1 tokens and 0 tags"),
    ],
)
def test_as_many_tags_as_words(wordpiece: PreTrainedTokenizerFast, row: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        encoded([*ROWS, row], wordpiece)


def test_text_is_no_list_of_words(wordpiece: PreTrainedTokenizerFast) -> None:
    rows = [{"tokens": f"Anna came {number}", "tags": ["B-person", "O"]} for number in range(3)]
    with pytest.raises(UserError, match="row 1: 'tokens' is no list: Anna came 0"):
        encoded(rows, wordpiece)
    rows = [{"tokens": ["Anna"], "tags": number % 2} for number in range(8)]
    with pytest.raises(UserError, match="row 1: 'tags' is no list: 0"):
        encoded(rows, wordpiece, labels=["O", "B-person"])


def test_tags_from_the_column_from_the_rows_and_from_the_recipe() -> None:
    named = Features({"tokens": List(Value("string")), "tags": List(ClassLabel(names=TAGS))})
    numbers = [{"tokens": row["tokens"], "tags": [TAGS.index(tag) for tag in row["tags"]]} for row in ROWS]
    assert fitted(Dataset.from_list(numbers, features=named)).labels == TAGS
    assert fitted(Dataset.from_list(ROWS)).labels == TAGS  # O first, then by type
    assert fitted(Dataset.from_list(ROWS), labels=TAGS[::-1]).labels == TAGS[::-1]
    assert fitted(Dataset.from_list(numbers), labels=TAGS).labels == TAGS
    with pytest.raises(UserError, match="numbers without names: 0, 1, 2, 3"):
        fitted(Dataset.from_list(numbers))
    with pytest.raises(UserError, match="one tag only, 'O'"):
        fitted(Dataset.from_list(ROWS[1:]))


def test_numbered_tags_are_encoded_as_named_ones(wordpiece: PreTrainedTokenizerFast) -> None:
    numbers = [{"tokens": row["tokens"], "tags": [TAGS.index(tag) for tag in row["tags"]]} for row in ROWS]
    assert encoded(numbers, wordpiece, labels=TAGS).dataset["labels"][:] == encoded(ROWS, wordpiece).dataset["labels"][:]


def test_logits_are_kept_as_best_label_and_loss() -> None:
    task = fitted(Dataset.from_list(ROWS))
    logits, labels = torch.randn(2, 5, 4), torch.tensor([[-100, 0, 1, 2, -100], [-100, 3, -100, -100, -100]])
    reduced = task.reduce_logits(logits, labels)
    assert reduced.shape == (2, 5, 2)
    assert torch.equal(reduced[..., 0], logits.argmax(-1).float())
    counted = labels != IGNORED
    mean = torch.nn.functional.cross_entropy(logits[counted], labels[counted])
    assert reduced[..., 1][counted].mean() == pytest.approx(mean.item())
    prediction = EvalPrediction(predictions=reduced.numpy(), label_ids=labels.numpy())
    assert task.score(prediction)["loss"] == pytest.approx(mean.item())


def test_predictions_are_told_as_entities() -> None:
    task = fitted(Dataset.from_list(ROWS))
    labels = np.array([[-100, 1, -100, 0, 2, 3, -100]])
    found = np.array([[0, 1, 2, 0, 2, 0, 0]])
    prediction = EvalPrediction(predictions=np.stack([found, np.zeros_like(found)], -1), label_ids=labels)
    told = json.loads(json.dumps(task.describe(prediction, 0)))
    assert told == {"target": [["person", 0, 0], ["place", 2, 3]], "predicted": [["person", 0, 0], ["place", 2, 2]]}


@pytest.mark.parametrize(
    ("strategy", "kind"),
    [("full", "distilbert"), ("transfer", "bert"), ("lora", "distilbert"), ("full", "gpt2"), ("qlora", "llama")],
)
@pytest.mark.slow
def test_a_run_from_end_to_end(recipe: RecipeMaker, sentences: Path, tmp_path: Path, strategy: str, kind: str) -> None:
    data = {"train": str(sentences), "drop_overlap": True}
    metrics = {"metrics": ["f1", "precision", "recall", "accuracy", "loss"]}
    made = recipe(strategy, task="token-classification", kind=kind, data=data, evaluation=metrics)
    result = train(made, output_dir=tmp_path / "run")
    assert result.metrics["tuned"]["loss"] < result.metrics["baseline"]["loss"]
    config = json.loads((result.folder / "model/config.json").read_text())
    assert config["id2label"]["0"] == "O"
    assert len(config["id2label"]) == 7
    row = json.loads((result.folder / "predictions.jsonl").read_text().splitlines()[0])
    assert len(row["tokens"]) == len(row["tags"])
    assert {"target", "tuned", "baseline"} <= row.keys()
    assert evaluate(result.folder).metrics == pytest.approx(result.metrics["tuned"])
    by_type = json.loads((result.folder / "analysis.json").read_text())["per_label"]
    assert [entry["label"] for entry in by_type] == ["organisation", "person", "place"]
    assert sum(entry["support"] for entry in by_type) == sum(
        tag.startswith("B-") for row in read_jsonl(result.folder / "predictions.jsonl") for tag in row["tags"]
    )


def test_a_trained_model_keeps_its_tags(recipe: RecipeMaker, sentences: Path, tmp_path: Path) -> None:
    made = recipe(task="token-classification", kind="distilbert", data={"train": str(sentences), "drop_overlap": True})
    train(made, output_dir=tmp_path / "run")
    write_jsonl(tmp_path / "few.jsonl", [{"tokens": ["Anna", "came"], "tags": ["B-person", "O"]}])  # not all tags occur
    found = evaluate(tmp_path / "run/model", task="token-classification", data=str(tmp_path / "few.jsonl"))
    assert set(found.metrics) == {"f1", "accuracy"}


def test_an_unseen_tag_in_eval_rows_is_named(recipe: RecipeMaker, sentences: Path, tmp_path: Path) -> None:
    write_jsonl(tmp_path / "eval.jsonl", [ROWS[1], {"tokens": ["Acme", "."], "tags": ["B-firm", "O"]}])
    made = recipe(task="token-classification", kind="distilbert", data={"train": str(sentences)})
    values = made.model_dump(exclude_unset=True)
    values["data"] = {"train": str(sentences), "eval": str(tmp_path / "eval.jsonl")}
    with pytest.raises(
        UserError, match=r"1/2 rows have a label that the model does not know: 'B-firm' \(eval.jsonl row 2\)"
    ):
        train(load_values(values), output_dir=tmp_path / "run")


@pytest.mark.parametrize("step", [{"strip": True}, {"min_characters": 3}, {"balance": True}])
def test_steps_over_texts_and_labels_are_refused(
    recipe: RecipeMaker, sentences: Path, tmp_path: Path, step: dict[str, Any]
) -> None:
    data = {"train": str(sentences), "clean": step}
    with pytest.raises(UserError, match=r"the rows have no (column of texts|label)"):
        train(recipe(task="token-classification", kind="distilbert", data=data), output_dir=tmp_path / "run")
