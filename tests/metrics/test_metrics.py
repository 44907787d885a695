"""Metrics equal the standard implementations."""

import math

import numpy as np
import pytest
import sacrebleu
from rouge_score.rouge_scorer import RougeScorer
from sklearn import metrics as sk

from ftkit.metrics.classification import classification_metrics, multi_label_metrics
from ftkit.metrics.text import loss_metrics, text_metrics
from ftkit.recipe.tasks import TASK_SPECS

RANDOM = np.random.default_rng(0)


@pytest.mark.parametrize("labels", [2, 5])
def test_classification_is_scikit_learns(labels: int) -> None:
    logits, truth = RANDOM.normal(size=(200, labels)), RANDOM.integers(0, labels, 200)
    scores, predicted = classification_metrics(logits, truth), logits.argmax(-1)
    assert scores["accuracy"] == sk.accuracy_score(truth, predicted)
    assert scores["f1"] == sk.f1_score(truth, predicted, average="binary" if labels == 2 else "macro")
    assert scores["matthews_correlation"] == sk.matthews_corrcoef(truth, predicted)
    probability = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    assert scores["loss"] == pytest.approx(sk.log_loss(truth, probability))
    area = sk.roc_auc_score(truth, probability[:, 1] if labels == 2 else probability, multi_class="ovr")
    assert scores["roc_auc"] == pytest.approx(area)
    assert scores.keys() == TASK_SPECS["text-classification"].metrics.keys()


def test_multi_label_is_scikit_learns() -> None:
    logits, truth = RANDOM.normal(size=(200, 4)), RANDOM.integers(0, 2, (200, 4))
    scores = multi_label_metrics(logits, truth.astype(float))
    assert scores["accuracy"] == sk.accuracy_score(truth, logits > 0)
    assert scores["f1"] == sk.f1_score(truth, logits > 0, average="macro")
    probability = 1 / (1 + np.exp(-logits))
    assert scores["loss"] == pytest.approx(-(truth * np.log(probability) + (1 - truth) * np.log(1 - probability)).mean())


def test_one_label_alone_in_the_rows_is_no_crash() -> None:
    scores = classification_metrics(np.array([[1.0, 0.0], [0.5, 0.1]]), np.array([0, 0]))
    assert scores["accuracy"] == 1
    assert "roc_auc" not in scores


def test_text_metrics_are_those_of_rouge_score_and_sacrebleu() -> None:
    generated, targets = ["the cat sat on a mat", "yes", ""], ["the cat sat on the mat", "yes", "no"]
    scores = text_metrics(generated, targets)
    scorer = RougeScorer(["rougeL"], use_stemmer=True)
    assert scores["rougeL"] == pytest.approx(
        np.mean([scorer.score(t, g)["rougeL"].fmeasure for g, t in zip(generated, targets, strict=True)])
    )
    assert scores["bleu"] == sacrebleu.corpus_bleu(generated, [targets]).score
    assert scores["chrf"] == sacrebleu.corpus_chrf(generated, [targets]).score
    assert scores["exact_match"] == pytest.approx(1 / 3)


def test_loss_is_the_mean_over_tokens_not_over_rows() -> None:
    scores = loss_metrics(np.array([[1.0, 1.0], [9.0, 9.0], [20.0, 10.0]]))
    assert scores["loss"] == 1.5
    assert scores["perplexity"] == pytest.approx(math.exp(1.5))
