"""Our metrics through the interface of the `evaluate` package: without the network, and as runs report them."""

import socket
import subprocess
import sys
from typing import Any

import evaluate
import freeze
import numpy as np
import pytest
import sacrebleu
import torch
from scipy import stats
from sklearn import metrics as sk

import ftkit
from ftkit import UserError, load_metric
from ftkit.metrics.classification import classification_metrics, multi_label_metrics


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def frozen(name: str) -> tuple[Any, Any]:
    rows = freeze.frozen_rows(name)
    return freeze.column(rows, "prediction"), freeze.column(rows, "reference")


def figure(name: str, predictions: Any, references: Any, task: str | None = None, **options: Any) -> float:
    found = load_metric(name, task).compute(predictions=predictions, references=references, **options)
    assert list(found) == [name]
    return found[name]


def test_it_is_a_metric_of_the_package() -> None:
    metric = load_metric("accuracy")
    assert isinstance(metric, evaluate.Metric)
    metric.add_batch(predictions=[1, 0], references=[1, 1])
    metric.add(prediction=2, reference=2)
    assert metric.compute() == {"accuracy": 2 / 3}
    both = evaluate.combine([load_metric("accuracy"), load_metric("f1")])
    assert both.compute(predictions=[1, 0, 1], references=[1, 1, 1]) == {"accuracy": 2 / 3, "f1": 0.8}


@pytest.mark.parametrize("file", ["two_labels", "four_labels", "label_sets"])
@pytest.mark.parametrize("name", ftkit.metric_names()["text-classification"])
def test_classification_is_what_runs_report(file: str, name: str) -> None:
    logits, references = frozen(file)
    several = file == "label_sets"
    reported = (multi_label_metrics if several else classification_metrics)(np.array(logits), np.array(references))
    by_score = name in ("roc_auc", "calibration_error", "loss")
    ids = (np.array(logits) > 0).astype(int) if several else np.array(logits).argmax(1)
    assert figure(name, logits if by_score else ids, references) == reported[name]


def test_classification_is_scikit_learns() -> None:
    logits, references = frozen("four_labels")
    ids = np.array(logits).argmax(1)
    for wanted, name in ((sk.accuracy_score, "accuracy"), (sk.matthews_corrcoef, "matthews_correlation")):
        assert figure(name, ids.tolist(), references) == wanted(references, ids)
    assert figure("f1", torch.tensor(ids), references) == sk.f1_score(references, ids, average="macro")
    chances = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    area = sk.roc_auc_score(references, chances, multi_class="ovr")
    assert figure("roc_auc", logits, references) == pytest.approx(area, abs=1e-12)
    assert figure("roc_auc", np.log(chances), references) == pytest.approx(area, abs=1e-12)


def test_how_many_labels_there_are_may_be_said() -> None:
    assert figure("f1", [0, 1, 1], [0, 1, 0]) == sk.f1_score([0, 1, 0], [0, 1, 1])
    of_both = sk.f1_score([0, 1, 0, 0], [0, 1, 1, 0], average=None)
    assert figure("f1", [0, 1, 1, 0], [0, 1, 0, 0], num_labels=3) == pytest.approx(of_both.mean())  # label 2 is nobody's
    assert figure("f1", [0, 1, 1, 0], [0, 1, 0, 0], pos_label=0) == pytest.approx(of_both[0])


def test_numbers_are_those_of_scikit_learn_and_scipy() -> None:
    given, wanted = frozen("numbers")
    assert figure("mse", given, wanted) == sk.mean_squared_error(wanted, given)
    assert figure("r2", given, wanted) == sk.r2_score(wanted, given)
    assert figure("pearson", given, wanted) == stats.pearsonr(given, wanted).statistic
    assert figure("spearman", given, wanted) == stats.spearmanr(given, wanted).statistic


@pytest.mark.parametrize("name", ftkit.metric_names()["summarization"])
def test_texts_are_what_the_libraries_say(name: str) -> None:
    assert figure(name, *frozen("texts")) == pytest.approx(freeze.of_texts(freeze.frozen_rows("texts"))[name], abs=1e-12)


def test_bleu_is_sacrebleus_to_all_digits() -> None:
    given, wanted = frozen("texts")
    assert figure("bleu", given, wanted) == sacrebleu.corpus_bleu(given, [wanted]).score


@pytest.mark.parametrize("name", ftkit.metric_names()["token-classification"])
def test_tags_are_scored_by_entity(name: str) -> None:
    from test_frozen import EXPECTED

    assert figure(name, *frozen("tags"), task="token-classification") == pytest.approx(EXPECTED["tags"][name], rel=1e-12)


def test_a_figure_that_cannot_be_had_is_not_a_number() -> None:
    assert np.isnan(figure("roc_auc", [[0.1, 0.9], [0.8, 0.2]], [1, 1]))
    assert np.isnan(figure("pearson", [1.0, 1.0], [1.0, 2.0]))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: load_metric("acuracy"), "no metric 'acuracy'; did you mean accuracy? there are accuracy, f1,"),
        (lambda: load_metric("mse", "instruction"), "no metric 'mse'; there are rouge1,"),
        (lambda: load_metric("f1", "regression"), "no metrics of the task 'regression'"),
        (lambda: figure("accuracy", [0.3, 1], [0, 1]), "0.3 is no label id"),
        (lambda: figure("accuracy", [-1, 1], [0, 1]), "-1 is no label id"),
        (lambda: figure("f1", [0, 1], [0, 1], pos_label=2), "2 is none of two labels"),
        (lambda: figure("loss", [[0.3, 1]], [2]), "a reference is label 2, and a row has 2 logits"),
        (lambda: figure("f1", [["O"]], [["O", "O"]], "token-classification"), "row 1 has 1 predicted tags and 2 references"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_said(call: Any, words: str) -> None:
    with pytest.raises(UserError) as raised:
        call()
    assert words in str(raised.value)


@pytest.mark.slow
def test_the_package_is_imported_on_first_use_alone() -> None:
    code = "import sys, ftkit, ftkit.api; print('evaluate' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
