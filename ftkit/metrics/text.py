"""Metrics of generated text, computed by rouge-score and sacreBLEU, and of the loss of given text."""

import math

import numpy as np
import sacrebleu
from rouge_score import rouge_scorer

ROUGE_NAMES = ("rouge1", "rouge2", "rougeL", "rougeLsum")


def text_metrics(generated: list[str], targets: list[str]) -> dict[str, float]:
    """ROUGE F-measures (0 to 1, mean over rows, stemmed), corpus BLEU and chrF (0 to 100), and the share of exact matches.

    Args:
        generated: what the model wrote, one text a row.
        targets: the reference of each row.
    """
    scorer = rouge_scorer.RougeScorer(ROUGE_NAMES, use_stemmer=True)
    rows = [scorer.score(target, text) for target, text in zip(targets, generated, strict=True)]
    scores = {name: float(np.mean([row[name].fmeasure for row in rows])) for name in ROUGE_NAMES}
    scores["bleu"] = float(sacrebleu.corpus_bleu(generated, [targets]).score)
    scores["chrf"] = float(sacrebleu.corpus_chrf(generated, [targets]).score)
    scores["exact_match"] = float(
        np.mean([text.strip() == target.strip() for text, target in zip(generated, targets, strict=True)])
    )
    return scores


def loss_metrics(sums: np.ndarray) -> dict[str, float]:
    """Mean loss in nats a supervised token, and perplexity, its exponential.

    Args:
        sums: shape (rows, 2), each row's summed loss and number of supervised tokens.
    """
    total, tokens = (float(value) for value in sums.astype(np.float64).sum(axis=0))
    loss = total / tokens if tokens else math.nan
    return {"loss": loss, "perplexity": math.exp(min(loss, 700.0))}
