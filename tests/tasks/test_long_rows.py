"""Rows of words longer than a model takes: in windows each word gets one tag, and what is cut all the same counts as missed.

The kind: what is cut is not scored as if it were whole, in training, evaluation, streams, the report and `predict`.
"""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from transformers import AutoModelForTokenClassification, AutoTokenizer, CanineTokenizer, EvalPrediction
from transformers.trainer_pt_utils import nested_concat

from ftkit import Recipe, UserError, check, evaluate, predict, preview, train, verify
from ftkit.data.encode import IGNORED, LOST, Encoded
from ftkit.data.ledger import Outcome
from ftkit.data.sources import read_source
from ftkit.data.windows import Row, first_window, make_windows, read_row
from ftkit.errors import RecipeError
from ftkit.metrics.tokens import UNSEEN, add_unseen, join_entries, tags_of, token_metrics
from ftkit.models.load import load_config, load_tokenizer
from ftkit.reading import read_jsonl
from ftkit.recipe.load import load_values
from ftkit.recipe.schema import Data, Model, Source
from ftkit.run import write_jsonl
from ftkit.tasks.text_classification import TextClassification
from ftkit.tasks.text_regression import TextRegression
from ftkit.tasks.token_classification import TokenClassification
from ftkit.training.dispatcher import build
from ftkit.training.prepare import encode_rows

TAGS = ["O", "B-person"]
FILLERS = ["the", "chef", "cooked", "a", "good", "meal", "in", "town", "and", "everyone", "liked", "it"]
NAMES = ["Anna", "Oslo", "Qwzx", "Unbelievably"]


def long_row(words: int, names: set[int] = frozenset(), start: int = 0) -> dict[str, Any]:  # type: ignore[assignment]
    """So many words, with a name at some places, as at the first and the last."""
    tokens = [NAMES[(start + at) % 4] if at in names else FILLERS[(start + at * at) % 12] for at in range(words)]
    return {"tokens": tokens, "tags": ["B-person" if at in names else "O" for at in range(words)]}


def rows_of(lengths: list[int]) -> list[dict[str, Any]]:
    return [long_row(words, {0, words // 2, words - 1}, start) for start, words in enumerate(lengths)]


def encoded(folder: Path, rows: list[dict[str, Any]], max_length: int, **data: Any) -> Encoded:
    task = TokenClassification(Data(train=[Source(path="sample:entities")], **{"labels": TAGS, **data}))
    model = Model(name=str(folder), max_length=max_length)
    config = load_config(model, {})
    task.fit(Dataset.from_list(rows), config)
    return encode_rows(task, Dataset.from_list(rows), load_tokenizer(model), config, max_length, "train")


@pytest.mark.parametrize("room", [5, 8, 31])
@pytest.mark.parametrize("tokens", [1, 5, 6, 8, 9, 40, 333])
@pytest.mark.parametrize("longest", [1, 3, 50])
def test_each_word_is_answered_for_once_where_most_stands_around_it(room: int, tokens: int, longest: int) -> None:
    sizes = np.random.default_rng(tokens).integers(1, longest + 1, tokens)
    starts = np.unique(np.minimum(np.cumsum(sizes) - sizes, tokens - 1))
    windows = make_windows(Row(1, tokens, starts), room, room // 4)
    assert [word for window in windows for word in range(window.first, window.last)] == list(range(len(starts)))
    assert all(window.end - window.start == min(room, tokens) for window in windows)

    def context(start: int, end: int, place: int) -> float:
        """Tokens on the poorer side; the row's own ends are no lack."""
        left, right = place - start if start else math.inf, end - 1 - place if end < tokens else math.inf
        return min(left, right) if start <= place < end else -1

    for window in windows:
        for place in starts[window.first : window.last]:
            best = max(context(other.start, other.end, place) for other in windows)
            assert context(window.start, window.end, place) >= best - 1  # in the middle of two it is either


def test_special_tokens_stand_at_the_ends_of_a_row() -> None:
    row = read_row([None, 0, 1, 1, 2, None, None])
    assert (row.before, row.tokens, row.starts.tolist()) == (1, 4, [0, 1, 3])
    assert first_window(row, 3) == (0, 3, 0, 2)
    assert read_row([0, 1, 1]).starts.tolist() == [0, 1]


@pytest.mark.parametrize("kind", ["bert", "gpt2", "llama", "t5"])
def test_windows_show_the_row_and_each_tag_once(stand_in: Callable[[str], Path], kind: str) -> None:
    rows, tokenizer = rows_of([3, 11, 12, 60]), AutoTokenizer.from_pretrained(stand_in(kind))
    found, whole = (encoded(stand_in(kind), rows, length) for length in (16, 512))
    assert whole.rows == [0, 1, 2, 3]
    assert found.outcomes.tolist() == whole.outcomes.tolist() == [Outcome.KEPT] * 4
    assert max(map(len, found.dataset["input_ids"])) <= 16
    assert found.rows.count(3) > 2
    for index in range(4):
        entries = [entry for entry, row in zip(found.dataset, found.rows, strict=True) if row == index]
        own = [label for entry in entries for label in entry["labels"] if label != IGNORED]
        assert [TAGS[label] for label in own] == rows[index]["tags"]
        ids = whole.dataset[index]["input_ids"]
        for entry in entries:
            assert len(entry["labels"]) == len(entry["input_ids"])
            body = " ".join(str(token) for token in entry["input_ids"] if token not in tokenizer.all_special_ids)
            assert body in " ".join(map(str, ids))
    assert found.known(LOST) == [[]] * len(found.rows)


def test_a_label_stands_on_the_first_token_of_its_word(stand_in: Callable[[str], Path]) -> None:
    rows = [{"tokens": [f"Qwzx{'y' * (at % 9)}" for at in range(30)], "tags": ["B-person"] * 30}, long_row(4)]
    tokenizer = AutoTokenizer.from_pretrained(stand_in("bert"))
    firsts = [tokenizer.tokenize(word)[0] for word in rows[0]["tokens"]]
    found = encoded(stand_in("bert"), rows, 24)
    marked = [
        tokenizer.convert_ids_to_tokens(token)
        for entry, row in zip(found.dataset, found.rows, strict=True)
        for token, label in zip(entry["input_ids"], entry["labels"], strict=True)
        if row == 0 and label != IGNORED
    ]
    assert marked == firsts


def test_a_word_longer_than_a_window_and_one_behind_it(stand_in: Callable[[str], Path]) -> None:
    rows = [{"tokens": ["x-" * 40, "Anna"], "tags": ["O", "B-person"]}, long_row(3)]
    found = encoded(stand_in("bert"), rows, 12)
    own = [[label for label in labels if label != IGNORED] for labels in found.dataset["labels"]]
    assert [labels for labels, row in zip(own, found.rows, strict=True) if row == 0] == [[0], [1]]


def test_what_the_recipe_cuts_or_drops(stand_in: Callable[[str], Path]) -> None:
    rows = rows_of([3, 40])
    cut, dropped = (encoded(stand_in("bert"), rows, 16, over_long=how) for how in ("cut", "drop"))
    assert cut.outcomes.tolist() == [Outcome.KEPT, Outcome.CUT_TEXT]
    lost = cut.known(LOST)
    assert lost is not None
    assert lost[0] == []
    seen = [label for label in cut.dataset[1]["labels"] if label != IGNORED]
    assert [TAGS[label] for label in [*seen, *lost[1]]] == rows[1]["tags"]
    assert dropped.outcomes.tolist() == [Outcome.KEPT, Outcome.TOO_LONG]
    assert dropped.rows == [0]


@pytest.mark.parametrize("overlap", [0, 3, 7])
def test_the_overlap_is_the_recipes(stand_in: Callable[[str], Path], overlap: int) -> None:
    found = encoded(stand_in("bert"), rows_of([300, 3]), 16, window_overlap=overlap)
    assert found.rows.count(0) >= (300 - 14) // (14 - overlap)
    with pytest.raises(UserError, match="windows of 14 tokens cannot share 8 with the next"):
        encoded(stand_in("bert"), rows_of([300, 3]), 16, window_overlap=8)


def test_windows_are_joined_and_lost_words_are_missed() -> None:
    labels = np.array([[IGNORED, 0, 1, IGNORED], [IGNORED, IGNORED, 2, 0], [1, IGNORED, IGNORED, IGNORED]])
    predictions = np.stack([np.where(labels < 0, 7, labels), np.full(labels.shape, 0.5)], -1).astype(np.float32)
    joined, truth = join_entries(predictions, labels, [4, 4, 9])
    assert truth.tolist() == [[0, 1, 2, 0], [1, IGNORED, IGNORED, IGNORED]]
    names = ["O", "B-person", "I-person"]
    assert token_metrics(joined, truth, names) == {
        "f1": 1, "precision": 1, "recall": 1, "f1_macro": 1, "accuracy": 1, "loss": 0.5
    }  # fmt: skip
    assert token_metrics(predictions, labels, names)["f1"] == 1  # but the person of two words counts as two
    found = token_metrics(*add_unseen(joined, truth, [[], [0, 1]]), names)
    assert found == pytest.approx(
        {"f1": 4 / 5, "precision": 1, "recall": 2 / 3, "f1_macro": 4 / 5, "accuracy": 5 / 7, "loss": 0.5}
    )
    assert (add_unseen(joined, truth, [[], [0, 1]])[0][0, 4:] == [[UNSEEN, 0]] * 2).all()


def local_model(folder: Path, labels: int) -> tuple[Any, int]:
    """A model whose attention reaches three tokens to each side in each block, and how far that is in all."""
    torch.manual_seed(0)
    config = load_config(Model(name=str(folder)), {"num_labels": labels})
    config.layer_types = ["sliding_attention"] * config.num_hidden_layers
    config.local_attention = config.sliding_window = 3
    config.max_position_embeddings = 4096
    return AutoModelForTokenClassification.from_config(config).eval(), 3 * config.num_hidden_layers


def measured(task: TokenClassification, model: Any, made: Encoded) -> EvalPrediction:
    """What the model says of each row, by plain calls, an entry at a time."""
    found: Any = None
    for entry in made.dataset:
        ids, labels = torch.tensor([entry["input_ids"]]), torch.tensor([entry["labels"]])
        with torch.no_grad():
            said = task.reduce_logits(model(ids).logits, labels).numpy(), labels.numpy()
        found = said if found is None else nested_concat(found, said, padding_index=IGNORED)
    prediction, rows = task.merge(EvalPrediction(*found), made.rows)
    assert rows == list(range(len(set(made.rows))))
    return prediction


def assert_the_same_in_windows(folder: Path, rows: list[dict[str, Any]], tags: list[str], longest: int) -> None:
    model, reach = local_model(folder, len(tags))
    task = TokenClassification(Data(train=[Source(path="sample:entities")], labels=tags))
    task.fit(Dataset.from_list(rows), model.config)
    whole, windows = (
        encoded(folder, rows, length, labels=tags, window_overlap=overlap)
        for length, overlap in ((longest, None), (8 * reach, 4 * reach - 4))
    )
    assert len(windows.rows) > len(whole.rows) == len(rows)
    found, wanted = (measured(task, model, made) for made in (windows, whole))
    for row in range(len(rows)):
        told = [tags_of(said.predictions[row], said.label_ids[row], tags) for said in (found, wanted)]
        assert told[0] == told[1]
        assert told[0][0] == rows[row]["tags"]
    assert task.score(found) == pytest.approx(task.score(wanted), rel=1e-5)


def test_windows_say_what_a_long_context_says(stand_in: Callable[[str], Path]) -> None:
    """With attention that reaches some tokens to each side, a row in windows gets the very tags that it gets whole."""
    assert_the_same_in_windows(stand_in("modernbert"), rows_of([5, 90, 200]), TAGS, 400)


def test_windows_say_of_real_sentences_what_a_long_context_says(stand_in: Callable[[str], Path], shared: Path) -> None:
    found = read_source(
        Source(path=str(shared / "data/wnut17/emerging.dev.conll")), split="eval", sample_by="line", seed=1, key="data.eval"
    )
    groups = [found[start : start + 25] for start in range(0, 200, 25)]
    rows = [{name: [word for words in group[name] for word in words] for name in ("tokens", "tags")} for group in groups]
    tags = sorted({tag for row in rows for tag in row["tags"]})
    assert_the_same_in_windows(stand_in("modernbert"), rows, tags, 4000)


def long_rows(folder: Path, count: int, words: int, start: int = 0) -> str:
    rows = [long_row(words, {0, words - 2, words - 1}, start + at) for at in range(count)]
    for at, row in enumerate(rows):
        row["tokens"][1] = f"number{start + at}"  # no row is another one
        row["tokens"][2:6] = [f"{word}{start + at}" for word in row["tokens"][2:6]]
    write_jsonl(folder / f"rows{start}.jsonl", rows)
    return str(folder / f"rows{start}.jsonl")


def tagging(stand_in: Callable[[str], Path], folder: Path, strategy: Any = "full", **data: Any) -> Recipe:
    """Rows of 60 words, of which two thirds do not fit."""
    sources = {"train": long_rows(folder, 40, 60), "eval": long_rows(folder, 9, 60, 40), "gate": {"overlap": 1.0}}
    training = {"max_steps": 30, "learning_rate": 3e-3, "eval_strategy": "steps", "eval_steps": 30}
    return load_values({
        "task": "token-classification", "model": {"name": str(stand_in("distilbert")), "max_length": 24},
        "strategy": strategy, "data": sources | data, "training": training,
        "evaluation": {"metrics": ["f1", "recall", "accuracy", "loss"]},
    })  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["full", "transfer", {"name": "lora", "r": 4, "target_modules": ["q_lin"]}])
def test_a_run_in_windows_from_end_to_end(stand_in: Callable[[str], Path], tmp_path: Path, strategy: Any) -> None:
    result = train(tagging(stand_in, tmp_path, strategy), output_dir=tmp_path / "run")
    assert result.record["verified"]["failures"] == []
    assert result.record["data"]["eval"]["rows with several entries"] == 9
    assert result.record["data"]["eval"]["entries"] > 18
    assert result.metrics["rows"] == 9
    assert "cut" not in str(result.metrics["caveats"])
    logged = [line for line in read_jsonl(tmp_path / "run/log.jsonl") if "eval_f1" in line]
    assert logged[-1]["eval_f1"] == pytest.approx(result.metrics["tuned"]["f1"])  # the Trainer's own, of whole rows
    assert logged[-1]["eval_recall"] == pytest.approx(result.metrics["tuned"]["recall"])
    assert evaluate(tmp_path / "run").metrics == pytest.approx(result.metrics["tuned"])
    shown = read_jsonl(tmp_path / "run/predictions.jsonl")
    assert [row["name"].split()[-1] for row in shown] == [str(at) for at in range(1, 10)]
    asked = [{"tokens": row["tokens"]} for row in shown]
    said = list(predict(tmp_path / "run", asked, batch_size=2))
    assert [len(row["predicted"]) for row in said] == [60] * 9
    assert all(None not in row["predicted"] and "cut" not in row for row in said)
    for row, answer in zip(shown, said, strict=True):
        assert [[entity["kind"], entity["first"], entity["last"]] for entity in answer["entities"]] == row["tuned"][
            "predicted"
        ]
    verify(tmp_path / "run")


@pytest.mark.slow
def test_a_run_that_cuts_counts_what_is_lost(stand_in: Callable[[str], Path], tmp_path: Path) -> None:
    result = train(tagging(stand_in, tmp_path, over_long="cut"), output_dir=tmp_path / "run")
    assert result.record["verified"]["failures"] == []
    assert result.metrics["tuned"]["recall"] <= 1 / 2  # one entity of two stands before the cut
    assert result.metrics["tuned"]["accuracy"] < 1 / 2
    caveat = next(caveat for caveat in result.metrics["caveats"] if "eval rows" in caveat)
    assert caveat.startswith("9 of 9 eval rows lose the end of their text, cut at model.max_length 24: ")
    assert "% of the words stand behind the cut and count as missed" in caveat
    logged = [line for line in read_jsonl(tmp_path / "run/log.jsonl") if "eval_f1" in line]
    assert logged[-1]["eval_f1"] == pytest.approx(result.metrics["tuned"]["f1"])
    assert evaluate(tmp_path / "run").metrics == pytest.approx(result.metrics["tuned"])
    confusion = json.loads((tmp_path / "run/analysis.json").read_text())["confusion"]["counts"]
    assert sum(map(sum, confusion)) == 9 * 60
    answer = next(predict(tmp_path / "run", [{"tokens": long_row(60)["tokens"]}]))
    assert answer["cut"]
    assert len(answer["predicted"]) == 60
    assert answer["predicted"][-1] is None
    verify(tmp_path / "run")


def test_streamed_rows_are_read_in_windows(stand_in: Callable[[str], Path], tmp_path: Path) -> None:
    parts = build(tagging(stand_in, tmp_path, streaming=True), tmp_path / "out", [])
    assert parts.data.stream is not None
    entries = iter(parts.data.stream)
    found = [next(entries) for _ in range(100)]
    assert max(len(entry["input_ids"]) for entry in found) == 24
    assert set(found[0]) == {"input_ids", "labels"}
    whole = sum(label != IGNORED for entry in found for label in entry["labels"])
    assert whole > 100 * 10  # about fifteen words of each window are its own


def test_a_preview_shows_windows(stand_in: Callable[[str], Path], tmp_path: Path) -> None:
    found = preview(tagging(stand_in, tmp_path), rows=3)
    assert found.unit == "part"
    assert [row.name for row in found.rows] == [f"rows0.jsonl row 1, part {part} of 5" for part in (1, 2, 3)]
    assert found.entries > 80


@pytest.mark.parametrize("task", [TextClassification, TextRegression])
def test_a_slow_tokenizer_tells_that_a_text_was_cut(task: Any) -> None:
    made, labels = task(Data(train=[Source(path="sample:text")])), [0.5, 1.0, 2.5]
    made.labels = ["0.5", "1.0", "2.5"]
    rows = Dataset.from_dict({"text": ["a"], "label": [0.5 if task is TextRegression else "0.5"]})
    config = type("Config", (), {"is_encoder_decoder": False})
    encode = made.encoder(rows.features, CanineTokenizer(), config, 12)
    given = labels if task is TextRegression else [str(label) for label in labels]
    outcomes = encode({"text": ["short", "much too long for it", "0123456789"], "label": given}, [0, 1, 2])["outcome"]
    assert outcomes == [Outcome.KEPT, Outcome.CUT_TEXT, Outcome.KEPT]


@pytest.mark.parametrize("task", ["text-classification", "summarization"])
def test_texts_that_were_cut_are_a_caveat_of_the_score(
    recipe: Callable[..., Recipe], dialogues: Path, tmp_path: Path, task: str
) -> None:
    length, columns = {"text-classification": (8, {}), "summarization": (48, {"document": "dialogue"})}[task]
    data = {"columns": columns, "gate": {"overlap": 1.0, "dropped": 1.0}} | ({"train": str(dialogues)} if columns else {})
    generation = {"generation": {"rows": 0}} if columns else {}
    result = train(
        recipe("full", task=task, data=data, model={"max_length": length}, evaluation=generation),
        output_dir=tmp_path / "run",
    )
    counted = result.record["data"]["eval"]
    cut = counted.get("kept, end of the text cut", 0) + counted.get("kept, prompt cut", 0)
    assert cut
    caveat = (
        f"{cut} of 20 eval rows lose the end of their text, cut at model.max_length {length} (allowed by data.gate.cut_text)"
    )
    assert caveat in result.metrics["caveats"]
    assert caveat in evaluate(tmp_path / "run").caveats


def test_a_gate_may_refuse_cut_rows(stand_in: Callable[[str], Path], tmp_path: Path) -> None:
    made = tagging(stand_in, tmp_path, over_long="cut", gate={"cut_text": 0.5, "overlap": 1.0})
    with pytest.raises(RecipeError, match=r"9/9 rows lose the end of their text, cut at model.max_length 24: 7\d % of the"):
        check(made)


@pytest.mark.parametrize(
    ("task", "data", "message"),
    [
        ("token-classification", {"over_long": "cut_answer"}, "cut_answer cannot be with token-classification"),
        ("summarization", {"over_long": "windows"}, "windows cannot be with summarization"),
        ("instruction", {"over_long": "cut_prompt"}, "cut_prompt cannot be with instruction"),
        ("token-classification", {"over_long": "cut", "window_overlap": 3}, "no effect with data.over_long: cut"),
        ("summarization", {"window_overlap": 3}, "'data.window_overlap' has no effect with task summarization"),
        ("token-classification", {"over_long": "window"}, "did you mean windows?"),
    ],
)
def test_what_cannot_be_done_with_long_rows(task: str, data: dict[str, Any], message: str) -> None:
    values = {"task": task, "model": "some/model", "strategy": "full", "data": {"train": "a.jsonl", **data}}
    with pytest.raises(RecipeError, match=message):
        load_values(values)
