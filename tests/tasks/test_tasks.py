"""Each task end to end in a few steps: what it is given, what it measures."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import Dataset
from tokenizers.processors import TemplateProcessing

from ftkit import Recipe, UserError, evaluate, train
from ftkit.models.load import load_config, load_tokenizer
from ftkit.recipe.schema import Data, Model, Source
from ftkit.recipe.tasks import HEALTH_METRICS
from ftkit.run import write_jsonl
from ftkit.tasks.summarization import Summarization
from ftkit.training.dispatcher import build
from ftkit.training.prepare import encode_rows
from tests.data.chat_manners import LATEST_THOUGHT

RecipeMaker = Callable[..., Recipe]


def rows_file(tmp_path: Path, rows: list[dict[str, Any]]) -> str:
    write_jsonl(tmp_path / "rows.jsonl", rows)
    return str(tmp_path / "rows.jsonl")


def config_of(folder: Path) -> Any:
    return json.loads((folder / "model/config.json").read_text())


def test_several_classes_keep_their_names_and_order(recipe: RecipeMaker, tmp_path: Path) -> None:
    rows = [{"text": f"text {i}", "label": i % 12} for i in range(120)]
    result = train(
        recipe("lora", data={"train": rows_file(tmp_path, rows)}, evaluation={"metrics": ["f1", "roc_auc", "loss"]}),
        output_dir=tmp_path / "run",
    )
    assert [config_of(result.folder)["id2label"][str(i)] for i in range(12)] == [str(i) for i in range(12)]
    assert set(result.metrics["tuned"]) == {"f1", "roc_auc", "loss"}
    assert evaluate(result.folder).metrics == result.metrics["tuned"]


@pytest.mark.parametrize("separated", [False, True])
def test_several_labels_at_once(recipe: RecipeMaker, tmp_path: Path, separated: bool) -> None:
    sets = [["film"], ["film", "food"], ["food", "hotel"], []]
    rows = [{"text": f"text {i}", "label": ";".join(sets[i % 3]) if separated else sets[i % 3]} for i in range(90)]
    data = {"train": rows_file(tmp_path, rows)} | ({"label_separator": ";"} if separated else {})
    result = train(recipe("full", data=data), output_dir=tmp_path / "run")
    assert config_of(result.folder)["problem_type"] == "multi_label_classification"
    assert set(config_of(result.folder)["label2id"]) == {"film", "food", "hotel"}
    predicted = json.loads((result.folder / "predictions.jsonl").read_text().splitlines()[0])["tuned"]
    assert len(predicted["probabilities"]) == 3
    by_label = json.loads((result.folder / "analysis.json").read_text())["per_label"]
    assert [entry["label"] for entry in by_label] == ["film", "food", "hotel"]
    assert np.mean([entry["f1"] for entry in by_label]) == pytest.approx(result.metrics["tuned"]["f1"])


def test_pairs_of_texts(recipe: RecipeMaker, tmp_path: Path) -> None:
    rows = [{"a": f"text {i}", "b": f"other {i}", "y": ["same", "other"][i % 2]} for i in range(60)]
    data = {"train": rows_file(tmp_path, rows), "columns": {"text": "a", "text_pair": "b", "label": "y"}}
    assert train(recipe("full", kind="bert", data=data), output_dir=tmp_path / "run").metrics["rows"] == 20


def test_an_unseen_label_in_eval_rows_is_named(recipe: RecipeMaker, tmp_path: Path) -> None:
    write_jsonl(tmp_path / "train.jsonl", [{"text": f"t {i}", "label": "ab"[i % 2]} for i in range(20)])
    write_jsonl(tmp_path / "eval.jsonl", [{"text": "t", "label": "a"}, {"text": "t", "label": "c"}])
    made = recipe("full")
    values = made.model_dump(exclude_unset=True)
    values["data"] = {"train": str(tmp_path / "train.jsonl"), "eval": str(tmp_path / "eval.jsonl")}
    from ftkit.recipe.load import load_values

    with pytest.raises(UserError, match=r"1/2 rows have a label that the model does not know: 'c' \(eval.jsonl row 2\)"):
        train(load_values(values), output_dir=tmp_path / "run")


@pytest.mark.parametrize(("kind", "strategy"), [("t5", "full"), ("t5", "lora"), ("llama", "qlora")])
def test_summaries_by_encoder_and_decoder_and_by_prompt(
    recipe: RecipeMaker, tmp_path: Path, dialogues: Path, kind: str, strategy: str
) -> None:
    data = {"train": str(dialogues), "columns": {"document": "dialogue"}}
    made = recipe(
        strategy, task="summarization", kind=kind, data=data, evaluation={"generation": {"rows": 4, "max_new_tokens": 8}}
    )
    result = train(made, output_dir=tmp_path / "run")
    assert set(result.metrics["tuned"]) == {"rouge1", "rouge2", "rougeL", "loss", *HEALTH_METRICS}
    assert result.metrics["tuned"]["loss"] < result.metrics["baseline"]["loss"]
    assert evaluate(result.folder).metrics == result.metrics["tuned"]


def test_chats_through_a_template_of_the_recipe(recipe: RecipeMaker, tmp_path: Path) -> None:
    template = "{% for m in messages %}{{ m.role }}: {{ m.content }}{{ eos_token if m.role == 'assistant' else '' }}\n{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}"
    rows = [
        {"messages": [{"role": "user", "content": f"Say {i}."}, {"role": "assistant", "content": f"It is {i}."}]}
        for i in range(60)
    ]
    made = recipe(
        "full",
        task="instruction",
        data={"train": rows_file(tmp_path, rows), "chat_template": template},
        evaluation={"generation": {"rows": 4}},
    )
    result = train(made, output_dir=tmp_path / "run")
    assert template in (result.folder / "model/chat_template.jinja").read_text()
    found = map(json.loads, (result.folder / "predictions.jsonl").read_text().splitlines())
    row = next(row for row in found if row["prompt"] is not None)  # of those for which answers were generated
    assert row["prompt"].endswith("assistant: ")
    assert row["target"].startswith("It is")


def test_figures_of_chats_with_several_answers_are_of_rows(recipe: RecipeMaker, tmp_path: Path) -> None:
    """Under a template that drops earlier thinking each answer is an entry; they are counted and drawn as one row."""

    def chat(number: int) -> dict[str, Any]:
        answers = [{"role": "assistant", "content": f"It is {number}.", "reasoning_content": f"so {i}"} for i in range(3)]
        return {"messages": [turn for i, answer in enumerate(answers) for turn in (
            {"role": "user", "content": f"Say {number} now {i}."}, answer)]}  # fmt: skip

    made = recipe(
        "full", task="instruction", kind="llama",
        data={"train": rows_file(tmp_path, [chat(i) for i in range(50)]), "eval_size": 10, "chat_template": LATEST_THOUGHT,
              "gate": {"overlap": 1.0, "similarity": 1.0}},
        training={"max_steps": 2}, evaluation={"generation": {"rows": 12, "max_new_tokens": 4}},
    )  # fmt: skip
    result = train(made, output_dir=tmp_path / "run")
    assert result.metrics["rows"] == 10
    assert result.metrics["generated_rows"] == 12
    assert len((result.folder / "predictions.jsonl").read_text().splitlines()) == 30
    low, high = result.metrics["intervals"]["tuned"]["loss"]
    assert low < result.metrics["tuned"]["loss"] < high


@pytest.mark.parametrize(("task", "kind"), [("language-modeling", "gpt2"), ("masked-language-modeling", "bert")])
def test_plain_text(recipe: RecipeMaker, tmp_path: Path, task: str, kind: str) -> None:
    (tmp_path / "text.txt").write_text("\n\n".join(f"The chef cooked meal {i}.\nIt was good." for i in range(200)))
    result = train(
        recipe("full", task=task, kind=kind, data={"train": str(tmp_path / "text.txt")}), output_dir=tmp_path / "run"
    )
    assert result.metrics["tuned"]["loss"] < result.metrics["baseline"]["loss"]
    assert result.metrics["tuned"]["perplexity"] > 1


def test_a_task_refuses_a_model_that_cannot_do_it(recipe: RecipeMaker, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="t5 is an encoder-decoder"):
        train(recipe("full", task="instruction", kind="t5"), output_dir=tmp_path / "run")
    with pytest.raises(UserError, match="model"):
        train(recipe("full", task="instruction", kind="distilbert"), output_dir=tmp_path / "run")


def test_bart_answers_begin_as_bart_was_trained(stand_in: Callable[[str], Path]) -> None:
    tokenizer = load_tokenizer(Model(name=str(stand_in("bart"))))
    form = TemplateProcessing(single="<pad> $A </s>", special_tokens=[("<pad>", 0), ("</s>", 1)])
    tokenizer.backend_tokenizer.post_processor = form  # BART's own puts <s> before a text
    rows = Dataset.from_list([{"document": "Ann: Hello.", "summary": "Ann greets."}])
    config = load_config(Model(name=str(stand_in("bart"))), {})
    task = Summarization(Data(train=[Source(path="sample:dialogues")]))
    task.auto_class(config)
    entry = encode_rows(task, rows, tokenizer, config, 64, "train").dataset[0]
    assert entry["labels"] == tokenizer(text_target="Ann greets.")["input_ids"]
    assert (entry["labels"][0], entry["labels"][-1]) == (0, tokenizer.eos_token_id)
    assert (entry["input_ids"][0], entry["input_ids"][-1]) == (0, tokenizer.eos_token_id)


def test_label_smoothing_with_an_encoder_decoder(recipe: RecipeMaker, dialogues: Path, tmp_path: Path) -> None:
    made = recipe(
        task="summarization",
        kind="t5",
        data={"train": str(dialogues), "columns": {"document": "dialogue"}},
        training={"label_smoothing_factor": 0.1},
    )
    build(made, tmp_path / "out", []).trainer.train()
