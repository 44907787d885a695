"""A base that has a head: kept in its own order where its labels are those of the data, else drawn anew, and said.

The kind that this guards: labels that are paired with a head's outputs by anything else than their names.
"""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
    BitsAndBytesConfig,
    pipeline,
)

from ftkit import api, train
from ftkit.api import Result
from ftkit.recipe.load import load_values
from ftkit.recipe.schema import Recipe
from ftkit.run import write_json, write_jsonl
from ftkit.training.dispatcher import Parts, build

StandIn = Callable[[str], Path]
FEELINGS = {
    "negative": ["bad", "awful", "sad"],
    "neutral": ["plain", "usual", "flat"],
    "positive": ["good", "great", "fine"],
}
OWN_ORDER = ["positive", "neutral", "negative"]
TAGS = {"O": ["walks", "and", "today"], "B-PER": ["Anna", "Bob", "Carl"], "B-LOC": ["Paris", "Rome", "Oslo"]}
TAG_ORDER = ["B-LOC", "O", "B-PER"]
LORA = {"r": 4, "target_modules": ["q_lin", "v_lin"]}
STRATEGIES = [{"name": "full"}, {"name": "transfer"}, {"name": "lora", **LORA}, {"name": "qlora", **LORA}]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FTKIT_CACHE", str(tmp_path / "cache"))


def feelings(file: Path, names: dict[str, str] | None = None, kept: tuple[str, ...] = tuple(FEELINGS)) -> str:
    """45 rows and 15 held back, the labels under other names where some are given."""
    generator = np.random.default_rng(0)
    rows = []
    for number in range(60):
        label = kept[number % len(kept)]
        words = [*generator.choice(["the", "film", "was", "very", str(number)], 4), generator.choice(FEELINGS[label])]
        rows.append({"text": " ".join(words), "label": (names or {}).get(label, label)})
    write_jsonl(file, rows)
    return str(file)


def sentences(file: Path) -> str:
    generator = np.random.default_rng(0)
    rows = []
    for number in range(40):
        tags = generator.choice(list(TAGS), 5).tolist()
        rows.append({"tokens": [str(generator.choice(TAGS[tag])) for tag in tags] + [str(number)], "tags": [*tags, "O"]})
    write_jsonl(file, rows)
    return str(file)


def fitted(features: torch.Tensor, targets: torch.Tensor, layer: Any) -> None:
    """Set a linear layer to tell the targets from the features, by least squares."""
    wanted = torch.nn.functional.one_hot(targets, layer.out_features).double()
    features = torch.cat([features, torch.ones(len(features), 1)], 1).double()
    solved = torch.linalg.lstsq(features, 6 * wanted - 3, driver="gelsd").solution.float()
    with torch.no_grad():
        layer.weight.copy_(solved[:-1].T)
        layer.bias.copy_(solved[-1])


def inputs_of(model: Any, layer: Any, tokenizer: Any, texts: list[Any], **options: Any) -> tuple[torch.Tensor, Any]:
    found: list[torch.Tensor] = []
    handle = layer.register_forward_pre_hook(lambda _module, given: found.append(given[0].detach()))
    batch = tokenizer(texts, padding=True, return_tensors="pt", **options)
    model.eval()(**{name: batch[name] for name in ("input_ids", "attention_mask")})
    handle.remove()
    return found[0], batch


@pytest.fixture
def classifier(stand_in: StandIn, tmp_path: Path) -> Path:
    """A model that gives every one of the sentences its label, in another order than the sorted one."""
    names = dict(enumerate(OWN_ORDER))
    rows = [json.loads(line) for line in Path(feelings(tmp_path / "fit.jsonl")).read_text().splitlines()]
    tokenizer = AutoTokenizer.from_pretrained(stand_in("distilbert"))
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_pretrained(
        stand_in("distilbert"), id2label=names, label2id={name: number for number, name in names.items()}
    )
    features, _ = inputs_of(model, model.classifier, tokenizer, [row["text"] for row in rows])
    fitted(features, torch.tensor([OWN_ORDER.index(row["label"]) for row in rows]), model.classifier)
    model.save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    return tmp_path / "base"


@pytest.fixture
def tagger(stand_in: StandIn, tmp_path: Path) -> Path:
    names = dict(enumerate(TAG_ORDER))
    rows = [json.loads(line) for line in Path(sentences(tmp_path / "fit.jsonl")).read_text().splitlines()]
    tokenizer = AutoTokenizer.from_pretrained(stand_in("distilbert"))
    torch.manual_seed(0)
    model = AutoModelForTokenClassification.from_pretrained(
        stand_in("distilbert"), id2label=names, label2id={name: number for number, name in names.items()}
    )
    words = [row["tokens"] for row in rows]
    features, batch = inputs_of(model, model.classifier, tokenizer, words, is_split_into_words=True)
    chosen, targets = [], []
    for index, row in enumerate(rows):
        for place, word in enumerate(batch.word_ids(index)):
            if word is not None:
                chosen.append(features[index, place])
                targets.append(TAG_ORDER.index(row["tags"][word]))
    fitted(torch.stack(chosen), torch.tensor(targets), model.classifier)
    model.save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    return tmp_path / "base"


def made(base: Path, rows: str, task: str = "text-classification", **blocks: Any) -> Recipe:
    """One step that learns next to nothing: with a head made by hand a usual one would undo it."""
    training = {"max_steps": 1, "per_device_train_batch_size": 8, "learning_rate": 1e-7, "bf16": False, "logging_steps": 1}
    return load_values({
        "task": task, "model": {"name": str(base), "max_length": 32}, "strategy": blocks.pop("strategy", {"name": "full"}),
        "data": {"train": rows, "eval_size": 15, "gate": {"overlap": 1.0, "similarity": 1.0}, **blocks.pop("data", {})},
        "training": {**training, **blocks.pop("training", {})},
        "evaluation": {"verify": False, "general_text": False, **blocks.pop("evaluation", {})},
    })  # fmt: skip


def plain_accuracy(base: Path, result: Result) -> float:
    """What transformers' own pipeline reaches with the base on the run's eval rows."""
    rows = [json.loads(line) for line in (result.folder / "predictions.jsonl").read_text().splitlines()]
    options = {}
    if found := result.record["load"].get("quantization"):
        options["quantization_config"] = BitsAndBytesConfig(**found)
    model = AutoModelForSequenceClassification.from_pretrained(base, **options)
    classify = pipeline("text-classification", model=model, tokenizer=AutoTokenizer.from_pretrained(base))
    return float(np.mean([classify(row["text"])[0]["label"] == row["label"] for row in rows]))


def head_of(recipe: Recipe, folder: Path) -> tuple[Parts, torch.Tensor]:
    parts = build(recipe, folder / "out", [])
    layers = [m for n, m in parts.model.named_modules() if n.endswith(("classifier", "classifier.modules_to_save.default"))]
    return parts, layers[-1].weight.detach().clone()


def stored_head(base: Path) -> torch.Tensor:
    weight: torch.Tensor = AutoModelForSequenceClassification.from_pretrained(base).classifier.weight.detach()
    return weight


@pytest.mark.parametrize("strategy", STRATEGIES, ids=lambda strategy: strategy["name"])
@pytest.mark.slow
def test_the_baseline_is_that_of_the_plain_pipeline(
    classifier: Path, tmp_path: Path, strategy: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    data = feelings(tmp_path / "rows.jsonl")
    result = train(made(classifier, data, strategy=strategy), output_dir=tmp_path / "run")
    one_row = (
        1 / result.metrics["rows"] if strategy["name"] == "qlora" else 0
    )  # in 4 bits a batch rounds otherwise than a row
    assert result.metrics["baseline"]["accuracy"] == pytest.approx(plain_accuracy(classifier, result), abs=one_row + 1e-9)
    assert strategy["name"] == "qlora" or result.metrics["baseline"]["accuracy"] == 1.0
    assert result.record["head"] == {"kept": True, "labels": OWN_ORDER}
    said = " ".join(capsys.readouterr().err.split())
    assert re.search(r"keeps the head of \S+base: labels positive, neutral, negative", said)
    saved = AutoConfig.from_pretrained(result.folder / "model")
    assert [saved.id2label[number] for number in range(3)] == OWN_ORDER


@pytest.mark.parametrize("strategy", STRATEGIES, ids=lambda strategy: strategy["name"])
def test_what_learns_starts_from_the_kept_head(classifier: Path, tmp_path: Path, strategy: dict[str, Any]) -> None:
    data = feelings(tmp_path / "rows.jsonl")
    for folder in ("first", "again"):  # of a 4-bit base the second reads what the first kept
        _, weight = head_of(made(classifier, data, strategy=strategy), tmp_path / folder)
        assert torch.equal(weight, stored_head(classifier))


@pytest.mark.parametrize("strategy", STRATEGIES, ids=lambda strategy: strategy["name"])
def test_a_head_kept_and_one_drawn_share_no_4bit_base(classifier: Path, tmp_path: Path, strategy: dict[str, Any]) -> None:
    other = {"negative": "tea", "neutral": "milk", "positive": "ale"}
    heads = []
    for number, names in enumerate([other, None, other, None]):
        data = feelings(tmp_path / f"{number}.jsonl", names)
        heads.append(head_of(made(classifier, data, strategy=strategy), tmp_path / str(number))[1])
    assert torch.equal(heads[0], heads[2])
    assert torch.equal(heads[1], stored_head(classifier))
    assert torch.equal(heads[3], stored_head(classifier))


NAMES = {
    "case": {"negative": "Negative", "neutral": "NEUTRAL", "positive": "Positive"},
    "other names": {"negative": "tea", "neutral": "milk", "positive": "ale"},
    "one other name": {"negative": "negative", "neutral": "neither", "positive": "positive"},
}


def test_names_that_differ_in_case_agree(classifier: Path, tmp_path: Path) -> None:
    data = feelings(tmp_path / "rows.jsonl", NAMES["case"])
    result = train(made(classifier, data), output_dir=tmp_path / "run")
    assert result.metrics["baseline"]["accuracy"] == 1.0
    assert result.record["head"]["labels"] == ["Positive", "NEUTRAL", "Negative"]  # spelt as the data do
    found = list(api.predict(result.folder, [{"text": "the film was very good"}]))
    assert set(found[0]["probabilities"]) == {"Positive", "NEUTRAL", "Negative"}


@pytest.mark.parametrize("names", ["other names", "one other name"])
@pytest.mark.parametrize("strategy", STRATEGIES, ids=lambda strategy: strategy["name"])
def test_other_names_get_a_new_head_of_the_same_size(
    classifier: Path, tmp_path: Path, strategy: dict[str, Any], names: str, capsys: pytest.CaptureFixture[str]
) -> None:
    data = feelings(tmp_path / "rows.jsonl", NAMES[names])
    parts, weight = head_of(made(classifier, data, strategy=strategy), tmp_path)
    assert parts.task.head is not None
    assert not parts.task.head.kept
    assert weight.shape == stored_head(classifier).shape
    assert float((weight - stored_head(classifier)).abs().max()) > 0.1
    assert float(weight.std()) < 0.1  # drawn as transformers draws one
    others = [tensor for name, tensor in parts.model.named_parameters() if "pre_classifier" in name and "weight" in name]
    stored = AutoModelForSequenceClassification.from_pretrained(classifier).pre_classifier.weight
    assert torch.equal(others[-1].detach().float(), stored.detach())  # no other weight is touched
    said = " ".join(capsys.readouterr().err.split())
    assert "draws a new head: the labels of the checkpoint are positive, neutral, negative; those of the data" in said
    assert parts.task.config_values()["id2label"] == dict(enumerate(sorted(NAMES[names].values())))


@pytest.mark.slow
def test_another_number_gets_a_new_head_and_says_what_would_keep_it(classifier: Path, tmp_path: Path) -> None:
    data = feelings(tmp_path / "rows.jsonl", kept=("negative", "positive"))
    result = train(made(classifier, data), output_dir=tmp_path / "run")
    assert not result.record["head"]["kept"]
    assert result.record["head"]["labels"] == ["negative", "positive"]
    assert "to keep its head, name all of them in data.labels" in result.record["head"]["reason"]
    named = made(classifier, data, data={"labels": ["negative", "neutral", "positive"]})
    again = train(named, output_dir=tmp_path / "named")
    assert again.record["head"] == {"kept": True, "labels": OWN_ORDER}
    assert again.metrics["baseline"]["accuracy"] == plain_accuracy(classifier, again) == 1.0


@pytest.mark.parametrize("values", [
    {"id2label": {0: "LABEL_0", 1: "LABEL_1", 2: "LABEL_2"}}, {"problem_type": "multi_label_classification"},
    {"architectures": ["DistilBertForTokenClassification"]}, {"id2label": {"0": "positive", "1": "neutral", "2": "neutral"}},
])  # fmt: skip
def test_what_tells_nothing_of_these_labels_is_not_kept(classifier: Path, tmp_path: Path, values: dict[str, Any]) -> None:
    file = classifier / "config.json"
    write_json(file, json.loads(file.read_text()) | values)
    parts, weight = head_of(made(classifier, feelings(tmp_path / "rows.jsonl")), tmp_path)
    assert parts.task.head is not None
    assert parts.task.head.reason
    assert float((weight - stored_head(classifier)).abs().max()) > 0.1


def test_a_config_that_names_labels_of_a_head_that_is_not_there(stand_in: StandIn, tmp_path: Path) -> None:
    base = tmp_path / "base"
    model = AutoModelForSequenceClassification.from_pretrained(stand_in("distilbert"), id2label=dict(enumerate(OWN_ORDER)))
    model.distilbert.save_pretrained(base)
    AutoTokenizer.from_pretrained(stand_in("distilbert")).save_pretrained(base)
    file = base / "config.json"
    write_json(file, json.loads(file.read_text()) | {"architectures": ["DistilBertForSequenceClassification"]})
    parts, _ = head_of(made(base, feelings(tmp_path / "rows.jsonl")), tmp_path)
    assert parts.task.head is not None
    assert parts.task.head.reason == "the checkpoint has no weights for the labels that its config names"


@pytest.mark.parametrize("labels", [None, ["O", "B-PER", "B-LOC"]])
def test_the_baseline_of_a_tagger(tagger: Path, tmp_path: Path, labels: list[str] | None) -> None:
    data = sentences(tmp_path / "rows.jsonl")
    if labels:  # numbers stand for the recipe's names, whatever the order of the head
        rows = [json.loads(line) for line in Path(data).read_text().splitlines()]
        write_jsonl(Path(data), [row | {"tags": [labels.index(tag) for tag in row["tags"]]} for row in rows])
    recipe = made(tagger, data, "token-classification", data={"labels": labels})
    result = train(recipe, output_dir=tmp_path / "run")
    assert result.record["head"] == {"kept": True, "labels": TAG_ORDER}
    assert result.metrics["baseline"]["accuracy"] == 1.0
    assert api.evaluate(result.folder).metrics == pytest.approx(result.metrics["tuned"])
    tag, row = pipeline("token-classification", model=str(tagger), device="cpu"), first_row(tmp_path / "fit.jsonl")
    told = {found["word"]: found["entity"] for found in tag(" ".join(row["tokens"]))}
    tags = {word.lower(): tag for word, tag in zip(row["tokens"], row["tags"], strict=True) if word.lower() in told}
    assert tags
    assert tags == {word: told[word] for word in tags}


def first_row(file: Path) -> dict[str, Any]:
    """The first row that names something."""
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    return next(row for row in rows if set(row["tags"]) != {"O"})


def test_other_tags_get_a_new_head(tagger: Path, tmp_path: Path) -> None:
    data = Path(sentences(tmp_path / "rows.jsonl"))
    data.write_text(data.read_text().replace("B-LOC", "B-ORG"))
    parts, weight = head_of(made(tagger, str(data), "token-classification"), tmp_path)
    assert parts.task.head is not None
    assert not parts.task.head.kept
    stored = AutoModelForTokenClassification.from_pretrained(tagger).classifier.weight
    assert float((weight - stored).abs().max()) > 0.1


def test_a_head_of_one_number_is_kept_and_others_are_not(classifier: Path, stand_in: StandIn, tmp_path: Path) -> None:
    rows = [{"text": f"row {number}", "label": number / 7} for number in range(60)]
    write_jsonl(tmp_path / "rows.jsonl", rows)
    base = tmp_path / "number"
    AutoModelForSequenceClassification.from_pretrained(stand_in("distilbert"), num_labels=1).save_pretrained(base)
    AutoTokenizer.from_pretrained(stand_in("distilbert")).save_pretrained(base)
    parts, weight = head_of(made(base, str(tmp_path / "rows.jsonl"), "text-regression"), tmp_path / "a")
    assert parts.task.head is not None
    assert parts.task.head.kept
    assert torch.equal(weight, stored_head(base))
    parts, _ = head_of(made(classifier, str(tmp_path / "rows.jsonl"), "text-regression"), tmp_path / "b")
    assert parts.task.head is not None
    assert parts.task.head.reason == "the checkpoint's gives positive, neutral, negative, the data have a number"


def test_several_labels_at_once(classifier: Path, tmp_path: Path) -> None:
    rows = [json.loads(line) for line in Path(feelings(tmp_path / "rows.jsonl")).read_text().splitlines()]
    write_jsonl(tmp_path / "rows.jsonl", [row | {"label": [row["label"]]} for row in rows])
    recipe = made(classifier, str(tmp_path / "rows.jsonl"))
    file = classifier / "config.json"
    write_json(file, json.loads(file.read_text()) | {"problem_type": "single_label_classification"})
    parts, _ = head_of(recipe, tmp_path / "a")
    assert parts.task.head is not None
    assert "gives one label of several, the data have several labels at once" in parts.task.head.reason
    write_json(file, json.loads(file.read_text()) | {"problem_type": "multi_label_classification"})
    parts, weight = head_of(recipe, tmp_path / "b")
    assert parts.task.head is not None
    assert parts.task.head.labels == OWN_ORDER
    assert torch.equal(weight, stored_head(classifier))


@pytest.mark.slow
def test_every_later_command_has_the_order_of_training(classifier: Path, tmp_path: Path) -> None:
    data = feelings(tmp_path / "rows.jsonl")
    blocks = {"training": {"max_steps": 4, "save_steps": 2, "save_strategy": "steps"}, "evaluation": {"verify": True}}
    recipe = made(classifier, data, **blocks)
    result = train(recipe, output_dir=tmp_path / "run")
    assert result.record["verified"]["good"]
    assert api.evaluate(result.folder).metrics == pytest.approx(result.metrics["tuned"])
    assert api.evaluate(classifier, task="text-classification", data=data).metrics["accuracy"] == 1.0
    rows = [json.loads(line) for line in (result.folder / "predictions.jsonl").read_text().splitlines()]
    told = list(api.predict(result.folder, [{"text": row["text"]} for row in rows]))
    assert [row["predicted"] for row in told] == [row["tuned"]["predicted"] for row in rows]


def test_an_adapter_is_told_how_it_is_loaded_with_its_own_names(classifier: Path, tmp_path: Path) -> None:
    """A base of other labels in the same number must not lend the adapter its names."""
    names = NAMES["other names"]
    result = train(made(classifier, feelings(tmp_path / "rows.jsonl", names), strategy=STRATEGIES[2]), output_dir="run")
    lines = re.search(r"```python\n(.*?)```", (result.folder / "README.md").read_text(), re.DOTALL)
    assert lines
    told: dict[str, Any] = {}
    exec(lines[1].replace('"model"', repr(str(result.folder / "model"))), told)
    assert [told["model"].config.id2label[number] for number in range(3)] == sorted(names.values())
