"""Metrics of generated text, computed by rouge-score and sacreBLEU, and of the loss of given text."""

import math
import re
import string
from collections import Counter
from collections.abc import Sequence
from importlib.metadata import version
from itertools import zip_longest
from typing import Any

import numpy as np
import sacrebleu

from ftkit.metrics.resampling import POSITIVE_BOUNDS, Bounds, Kind, Resampler, of_ratio, of_share, of_sums, ratio
from ftkit.metrics.scales import LARGEST_EXPONENT
from ftkit.metrics.scripts import CHARACTERS, bleu_tokenizer, is_latin, rouge_tokens, tokens, written

ROUGE_NAMES = ("rouge1", "rouge2", "rougeL", "rougeLsum")
CORPUS_METRICS = ("bleu", "chrf")  # of all texts together
REPEATED_WORDS = 4
BLEU_ORDER = 4
NO_RUNS = "0 without a reference of 4 words"  # of equal texts too

Targets = Sequence[str | Sequence[str]]  # of each row its reference, or all of several
PERPLEXITY_BOUNDS = Bounds(1, math.inf, False, Kind.EXPONENTIAL)


def text_metrics(generated: list[str], targets: Targets) -> dict[str, float]:
    """ROUGE F-measures (0 to 1, mean over rows, stemmed), corpus BLEU and chrF (0 to 100), exact match and token F1.

    Of several references each metric takes what its own definition says: BLEU and chrF count against all of them
    (sacreBLEU), ROUGE is that of the best one (rouge-score's `score_multi`, as in `evaluate`), and so are exact match and
    token F1 (SQuAD's script). Words and characters are those of the texts' scripts.

    Args:
        generated: what the model wrote, one text a row.
        targets: the reference of each row, or a list of all.
    """
    scores = {name: float(values.mean()) for name, values in text_scores(generated, targets).items()}
    return scores | {name: text_metric(name, generated, targets) for name in CORPUS_METRICS}


def text_metric(name: str, generated: list[str], targets: Targets) -> float:
    """One of `text_metrics` alone."""
    if name in CORPUS_METRICS:
        return float(corpus_metric(name, targets).corpus_score(generated, reference_streams(targets)).score)
    rouge = name in ROUGE_NAMES
    return float((rouge_scores if rouge else word_scores)(generated, targets)[name].mean())


def corpus_metric(name: str, targets: Targets) -> sacrebleu.BLEU | sacrebleu.CHRF:
    """BLEU, with sacreBLEU's tokenizer for the script of the references, or chrF."""
    return sacrebleu.BLEU(tokenize=bleu_tokenizer(all_references(targets))) if name == "bleu" else sacrebleu.CHRF()


def all_references(targets: Targets) -> list[str]:
    return [text for target in targets for text in references_of(target)]


def text_details(targets: Targets) -> dict[str, str]:
    """What the names of the metrics leave open, by metric: what was counted, where that is not words of Latin letters."""
    texts = all_references(targets)
    counted, tokenizer = rouge_tokens(texts), bleu_tokenizer(texts)
    split = corpus_metric("bleu", targets).tokenizer
    short = not any(len(split(text).split()) >= BLEU_ORDER for text in texts)
    found = dict.fromkeys((*ROUGE_NAMES, "token_f1"), counted) if counted else {}
    found |= dict.fromkeys(("repetition", "length_ratio"), counted) if counted == CHARACTERS else {}
    parts = [*([tokenizer] if tokenizer != "13a" else []), *([NO_RUNS] if short else [])]
    return found | ({"bleu": ", ".join(parts)} if parts else {})


def references_of(target: str | Sequence[str]) -> list[str]:
    """All references of a row."""
    return [target] if isinstance(target, str) else list(target)


def reference_streams(targets: Targets) -> list[list[str | None]]:
    """The references as sacreBLEU takes them: a list of first ones, of second ones, …; None where a row has no more."""
    return [list(stream) for stream in zip_longest(*map(references_of, targets))]


def text_scores(generated: list[str], targets: Targets) -> dict[str, np.ndarray]:
    """Those metrics that are means over rows, shape (rows,) each."""
    return rouge_scores(generated, targets) | word_scores(generated, targets)


def rouge_scores(generated: list[str], targets: Targets) -> dict[str, np.ndarray]:
    from rouge_score import rouge_scorer  # it brings nltk and scikit-learn, which is time that other metrics need not take

    pairs = list(zip(generated, targets, strict=True))
    scorer = rouge_scorer.RougeScorer(ROUGE_NAMES, tokenizer=script_tokenizer())
    rows = [scorer.score_multi(references_of(target), text) for text, target in pairs]
    return {name: np.array([row[name].fmeasure for row in rows], dtype=float) for name in ROUGE_NAMES}


def script_tokenizer() -> Any:
    """rouge-score's own tokenizer with its stemmer, which also reads letters that are not Latin."""
    from rouge_score.tokenizers import DefaultTokenizer

    class ScriptTokenizer(DefaultTokenizer):
        def tokenize(self, text: str) -> list[str]:
            own = super().tokenize
            if is_latin(text):
                return list(own(text))
            return [part for token in tokens(text) for part in (own(token) if token.isascii() else [token])]

    return ScriptTokenizer(use_stemmer=True)


def word_scores(generated: list[str], targets: Targets) -> dict[str, np.ndarray]:
    pairs = list(zip(generated, map(references_of, targets), strict=True))
    return {
        "exact_match": np.array([max(float(text.strip() == one.strip()) for one in target) for text, target in pairs]),
        "token_f1": np.array([max(token_f1(text, one) for one in target) for text, target in pairs]),
    }


def text_resamplers(generated: list[str], targets: Targets) -> dict[str, Resampler]:
    """The metrics of `text_metrics` for any weights of the rows."""
    found = {name: of_share(values) for name, values in text_scores(generated, targets).items()}
    for name in CORPUS_METRICS:
        found[name] = corpus_resampler(corpus_metric(name, targets), generated, targets)
    return found


def corpus_resampler(metric: sacrebleu.BLEU | sacrebleu.CHRF, generated: list[str], targets: Targets) -> Resampler:
    """A corpus score from each row's own counts, as sacreBLEU's own bootstrap takes them."""
    counts = np.array(metric._extract_corpus_statistics(generated, reference_streams(targets)), dtype=np.float64)

    def finish(sums: np.ndarray) -> np.ndarray:
        return np.array([metric._compute_score_from_stats([round(value) for value in line]).score for line in sums])

    return of_sums(counts, finish, Bounds(0, 100, counted=False))


def signatures(targets: Targets = ("a",)) -> dict[str, str]:
    """How ROUGE, BLEU and chrF are computed, the last two in sacreBLEU's own words: so scores can be compared elsewhere."""
    counted = rouge_tokens(all_references(targets)) or "rouge-score"
    found = {"rouge": f"stem:porter|tok:{counted.replace(' ', '-')}|version:{version('rouge-score')}"}
    for name in CORPUS_METRICS:
        metric = corpus_metric(name, targets)
        metric.corpus_score(["a"] * len(targets), reference_streams(targets))  # a signature counts the references
        found[name] = str(metric.get_signature())
    return found


def token_f1(text: str, target: str) -> float:
    """F1 of the words that both have, as SQuAD counts them: lower case, without punctuation and articles.

    Of other scripts than the Latin one the words are those of ROUGE, characters where there are no spaces, as in SQuAD's
    sequels for other languages (MLQA, https://arxiv.org/abs/1910.07475; CMRC).

    Source: https://rajpurkar.github.io/SQuAD-explorer/, its evaluation script.
    """
    found, wanted = _plain_words(text), _plain_words(target)
    if not found or not wanted:
        return float(found == wanted)
    shared = (Counter(found) & Counter(wanted)).total()
    return 2 * shared / (len(found) + len(wanted))


def _plain_words(text: str) -> list[str]:
    text = text if is_latin(text) else " ".join(tokens(text))
    bare = "".join(character for character in text.lower() if character not in string.punctuation)
    return re.sub(r"\b(a|an|the)\b", " ", bare).split()


def health_scores(generated: list[str], targets: Targets, stopped: list[bool]) -> dict[str, Resampler]:
    """What goes wrong with generated text whatever it should say.

    stop_rate: the share of answers that ended by themselves. empty_rate: the share without a word. repetition: the share of
    runs of four words that stood in the same answer before, mean over answers (Welleck et al., 2020,
    https://arxiv.org/abs/1908.04319, seq-rep-4). length_ratio: words written for each word wanted, of several references
    in the one that is nearest in length, as BLEU has it. In scripts without spaces words are characters.
    """
    words = [written(text) for text in generated]
    wanted = [nearest_length(len(text), target) for text, target in zip(words, targets, strict=True)]
    return {
        "stop_rate": of_share(np.array(stopped, dtype=float)),
        "empty_rate": of_share(np.array([float(not text) for text in words])),
        "repetition": of_share(np.array([repetition(text) for text in words])),
        "length_ratio": of_ratio(np.array([*map(len, words)], float), np.array(wanted, float), POSITIVE_BOUNDS),
    }


def nearest_length(words: int, target: str | Sequence[str]) -> int:
    """Words of the reference that has most nearly so many, the shorter one of two."""
    return min((len(written(one)) for one in references_of(target)), key=lambda length: (abs(length - words), length))


def repetition(words: list[str]) -> float:
    runs = [tuple(words[start : start + REPEATED_WORDS]) for start in range(len(words) - REPEATED_WORDS + 1)]
    return 1 - len(set(runs)) / len(runs) if runs else 0.0


def loss_metrics(sums: np.ndarray) -> dict[str, float]:
    """Mean loss in nats a supervised token, and perplexity, its exponential.

    Args:
        sums: shape (rows, 2), each row's summed loss and number of supervised tokens; with a third column, the bytes of the
            supervised text, also bits per byte.
    """
    total, tokens, *rest = (float(value) for value in sums.astype(np.float64).sum(axis=0))
    loss = total / tokens if tokens else math.nan
    scores = {"loss": loss, "perplexity": math.exp(min(loss, LARGEST_EXPONENT))}
    return scores | ({"bits_per_byte": total / math.log(2) / rest[0]} if rest and rest[0] else {})


def loss_resamplers(sums: np.ndarray) -> dict[str, Resampler]:
    """The metrics of `loss_metrics` for any weights of the rows."""
    columns = sums.astype(np.float64)

    def perplexity(drawn: np.ndarray) -> np.ndarray:
        return np.exp(np.minimum(ratio(drawn[:, 0], drawn[:, 1]), LARGEST_EXPONENT))

    found = {
        "loss": of_ratio(columns[:, 0], columns[:, 1], POSITIVE_BOUNDS),
        "perplexity": of_sums(columns[:, :2], perplexity, PERPLEXITY_BOUNDS),
    }
    if columns.shape[1] > 2:
        found["bits_per_byte"] = of_ratio(columns[:, 0] / math.log(2), columns[:, 2], POSITIVE_BOUNDS)
    return found
