"""Write the frozen files anew: predictions and references, and what the standard implementations say of them.

    pip install --no-deps --target /tmp/seqeval seqeval     # no dependency of ours; it makes the figures of entities
    PYTHONPATH=/tmp/seqeval python tests/metrics/freeze.py

Nothing here is computed by ftkit but the sentences, which come from its samples. A score of tests/metrics/frozen changes only
with a reason that the commit says.
"""

import json
import string
import unicodedata
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import sacrebleu
from rouge_score.rouge_scorer import RougeScorer
from scipy import stats
from sklearn import metrics as sk
from sklearn.calibration import calibration_curve

from ftkit.data.samples.table import generate

FROZEN = Path(__file__).parent / "frozen"
ROUGE = ["rouge1", "rouge2", "rougeL", "rougeLsum"]
ARTICLES = ("a", "an", "the")
BINS = 15

Rows = list[dict[str, Any]]
Figures = dict[str, Any]


def frozen_rows(name: str) -> Rows:
    return [json.loads(line) for line in (FROZEN / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]


def column(rows: Rows, name: str) -> Any:
    return [row[name] for row in rows]


# ── rows ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def make_texts(random: Random) -> Rows:
    """Summaries, and what a careless writer makes of them; some are empty, right, or in other letters."""
    references = column(generate("dialogues", rows=80, split="train", seed=7), "summary")
    changes = [drop_words, swap_words, repeat_words, str.upper, lambda *_: "", lambda text, *_: text, strip_stop]
    rows = [{"prediction": change(text, random) if change is not str.upper else text.upper(), "reference": text}
            for text, change in zip(references, [changes[i % len(changes)] for i in range(80)], strict=True)]  # fmt: skip
    return [
        *rows,
        {"prediction": "The", "reference": "a"},
        {"prediction": "naïve café – no", "reference": "a naïve café, no"},
    ]


def drop_words(text: str, random: Random) -> str:
    return " ".join(word for word in text.split() if random.random() > 0.3)


def swap_words(text: str, random: Random) -> str:
    words = text.split()
    random.shuffle(words)
    return " ".join(words)


def repeat_words(text: str, random: Random) -> str:
    return " ".join(word for word in text.split() for _ in range(random.choice((1, 1, 1, 3))))


def strip_stop(text: str, random: Random) -> str:
    return text.rstrip(".") + " "


def make_labels(labels: int) -> Callable[[Random], Rows]:
    def make(random: Random) -> Rows:
        rows = []
        for _ in range(150):
            reference = random.randrange(labels)
            logits = [round(random.gauss(1.2 * (label == reference), 1), 6) for label in range(labels)]
            rows.append({"prediction": logits, "reference": reference})
        return rows

    return make


def make_absent_labels(random: Random) -> Rows:
    """Seven labels were learnt; the rows have three of them, and two more are foretold."""
    rows = []
    for _ in range(90):
        reference = random.choice((0, 2, 5))
        logits = [round(random.gauss(1.5 * (label == reference), 1), 6) - 9 * (label in (1, 4)) for label in range(7)]
        rows.append({"prediction": logits, "reference": reference})
    return rows


def make_one_class(random: Random) -> Rows:
    """Two labels were learnt, and the rows have the first alone."""
    return [
        {"prediction": [round(random.gauss(0.8, 1), 6), round(random.gauss(0, 1), 6)], "reference": 0} for _ in range(60)
    ]


def make_absent_sets(random: Random) -> Rows:
    """Of five labels at once the rows have two, and a third is foretold."""
    return [
        {
            "prediction": [round(random.gauss(2.0 * wanted - shift, 1.2), 6) for wanted, shift in zip(reference, (1, 1, 2, 9, 9), strict=True)],
            "reference": reference,
        }
        for reference in ([int(random.random() < share) for share in (0.5, 0.3, 0, 0, 0)] for _ in range(80))
    ]  # fmt: skip


def make_label_sets(random: Random) -> Rows:
    rows = []
    for _ in range(120):
        reference = [int(random.random() < share) for share in (0.5, 0.3, 0.1, 0.6)]
        logits = [round(random.gauss(2.0 * wanted - 1, 1.2), 6) for wanted in reference]
        rows.append({"prediction": logits, "reference": reference})
    return rows


def make_numbers(random: Random) -> Rows:
    """Scores in halves, so that ranks are tied."""
    references = [random.randrange(2, 11) / 2 for _ in range(150)]
    return [{"prediction": round(0.6 * value + random.gauss(1, 0.8), 6), "reference": value} for value in references]


def make_tags(random: Random) -> Rows:
    """Sentences of the sample, of which some words lose their tag, begin anew, or get that of another type."""
    rows = []
    for row in generate("entities", rows=120, split="train", seed=7):
        kinds = ("person", "place", "organisation")
        given = [
            tag if random.random() < 0.85 else random.choice(["O", f"B-{random.choice(kinds)}", f"I-{random.choice(kinds)}"])
            for tag in row["tags"]
        ]
        rows.append({"prediction": given, "reference": list(row["tags"])})
    return rows


def make_one_type(random: Random) -> Rows:
    """The references name persons alone, the predictions other types too."""
    return [
        row | {"reference": [tag if tag.endswith("person") else "O" for tag in row["reference"]]}
        for row in make_tags(random)
    ]


SENTENCES = {
    "chinese": "研究人员昨天公布了新的调查结果。|这座城市的地铁在2024年开通。|他们认为天气会在周末变好。|学生们在图书馆里读书，直到天黑。",
    "thai": "นักวิจัยเผยแพร่ผลการสำรวจเมื่อวานนี้|รถไฟใต้ดินเปิดในปี 2024|นักเรียนอ่านหนังสือในห้องสมุดจนมืด",
    "hindi": "शोधकर्ताओं ने कल नए परिणाम प्रकाशित किए।|शहर की मेट्रो 2024 में खुली।|छात्र अंधेरा होने तक पुस्तकालय में पढ़ते रहे।",
    "russian": "Исследователи вчера опубликовали новые результаты.|Метро города открылось в 2024 году.|Студенты читали в библиотеке до темноты.",
}


def make_script(name: str) -> Callable[[Random], Rows]:
    def make(random: Random) -> Rows:
        """Sentences, and what is left of them when parts are lost, swapped, or taken from the next one."""
        texts = SENTENCES[name].split("|")
        parts = [list(text) if name in ("chinese", "thai") else text.split(" ") for text in texts]
        joint = "" if name in ("chinese", "thai") else " "
        rows = []
        for index, (text, own) in enumerate(zip(texts * 4, parts * 4, strict=True)):
            kept = [part for part in own if random.random() > 0.25]
            other = parts[(index + 1) % len(parts)]
            given = [own, kept, kept + other[: len(other) // 2]][index % 3]
            rows.append({"prediction": joint.join(given), "reference": text})
        return rows

    return make


# ── figures ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def of_texts(rows: Rows) -> Figures:
    given, wanted = column(rows, "prediction"), column(rows, "reference")
    scorer = RougeScorer(ROUGE, use_stemmer=True)
    scores = [scorer.score(reference, prediction) for prediction, reference in zip(given, wanted, strict=True)]
    found: Figures = {name: sum(score[name].fmeasure for score in scores) / len(rows) for name in ROUGE}
    for name, metric in (("bleu", sacrebleu.BLEU()), ("chrf", sacrebleu.CHRF())):
        found[name] = metric.corpus_score(given, [wanted]).score
        found[f"{name} signature"] = str(metric.get_signature())
    found["exact_match"] = sk.accuracy_score(*([text.strip() for text in texts] for texts in (wanted, given)))
    found["token_f1"] = sum(map(squad_f1, given, wanted)) / len(rows)
    return found


def of_script(name: str, tokenizer: str) -> Callable[[Rows], Figures]:
    def figures(rows: Rows) -> Figures:
        """ROUGE is rouge-score's own of texts in which each word, or character with its marks, has a Latin name."""
        given, wanted = column(rows, "prediction"), column(rows, "reference")
        names: dict[str, str] = {}

        def latin(text: str) -> str:
            words = characters(text) if name in ("chinese", "thai") else stripped(text)
            return " ".join(names.setdefault(word, f"w{len(names)}") for word in words)

        scorer = RougeScorer(ROUGE, use_stemmer=False)
        scores = [
            scorer.score(latin(reference), latin(prediction)) for prediction, reference in zip(given, wanted, strict=True)
        ]
        found: Figures = {metric: sum(score[metric].fmeasure for score in scores) / len(rows) for metric in ROUGE}
        for metric_name, metric in (("bleu", sacrebleu.BLEU(tokenize=tokenizer)), ("chrf", sacrebleu.CHRF())):
            found[metric_name] = metric.corpus_score(given, [wanted]).score
            found[f"{metric_name} signature"] = str(metric.get_signature())
        found["token_f1"] = sum(squad_f1(latin(one), latin(other)) for one, other in zip(given, wanted, strict=True)) / len(
            rows
        )
        found["exact_match"] = sk.accuracy_score(wanted, given)
        return found

    return figures


def characters(text: str) -> list[str]:
    """Each letter with its marks, and numbers whole."""
    found: list[str] = []
    for before, one in zip(" " + text, text, strict=False):
        kind = unicodedata.category(one)[0]
        if found and (kind == "M" or (one.isdigit() and before.isdigit())):
            found[-1] += one
        elif kind in "LN":
            found.append(one)
    return found


def stripped(text: str) -> list[str]:
    return [word.strip(string.punctuation + "।").lower() for word in text.split()]


def squad_f1(prediction: str, reference: str) -> float:
    """Token F1 in the words of the SQuAD paper (https://arxiv.org/abs/1606.05250, section 6.1): from precision and recall."""
    given, wanted = (plain_words(text) for text in (prediction, reference))
    if not given or not wanted:
        return float(given == wanted)
    left = list(wanted)
    hits = sum(1 for word in given if word in left and left.remove(word) is None)  # type: ignore[func-returns-value]
    precision, recall = hits / len(given), hits / len(wanted)
    return 2 * precision * recall / (precision + recall) if hits else 0.0


def plain_words(text: str) -> list[str]:
    bare = text.lower().translate(str.maketrans("", "", string.punctuation))
    return [word for word in bare.split() if word not in ARTICLES]


def of_labels(rows: Rows) -> Figures:
    logits, labels = np.array(column(rows, "prediction")), np.array(column(rows, "reference"))
    predicted, chances = logits.argmax(1), np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    two = logits.shape[1] == 2
    found = f_scores(labels, predicted, "binary" if two else "macro")
    found["matthews_correlation"] = float(sk.matthews_corrcoef(labels, predicted))
    if len(set(labels.tolist())) == logits.shape[1]:
        found["roc_auc"] = float(sk.roc_auc_score(labels, chances[:, 1] if two else chances, multi_class="ovr"))
    found["loss"] = float(sk.log_loss(labels, chances, labels=range(logits.shape[1])))
    found["calibration_error"] = calibration_error(chances.max(1), predicted == labels)
    return found | {"by_label": by_label(labels, predicted)}


def of_label_sets(rows: Rows) -> Figures:
    logits, labels = np.array(column(rows, "prediction")), np.array(column(rows, "reference"))
    predicted, chances = (logits > 0).astype(int), 1 / (1 + np.exp(-logits))
    seen = [label for label in range(labels.shape[1]) if labels[:, label].any() or predicted[:, label].any()]
    found = f_scores(labels, predicted, "macro", seen)
    found["matthews_correlation"] = float(sk.matthews_corrcoef(labels.ravel(), predicted.ravel()))
    if len(seen) == labels.shape[1]:
        found["roc_auc"] = float(sk.roc_auc_score(labels, chances))
    found["loss"] = float(sk.log_loss(labels.ravel(), chances.ravel()))
    sure = np.where(predicted == 1, chances, 1 - chances)
    found["calibration_error"] = calibration_error(sure.ravel(), (predicted == labels).ravel())
    return found | {"by_label": by_label(labels, predicted)}


def f_scores(labels: np.ndarray, predicted: np.ndarray, average: str, seen: list[int] | None = None) -> Figures:
    among = {} if seen is None else {"labels": seen}
    found = {"accuracy": float(sk.accuracy_score(labels, predicted))}
    for name, score in (("f1", sk.f1_score), ("precision", sk.precision_score), ("recall", sk.recall_score)):
        found[name] = float(score(labels, predicted, average=average, zero_division=0, **among))
        for other, its in (("micro", {}), ("macro", among)):
            found[f"{name}_{other}"] = float(score(labels, predicted, average=other, zero_division=0, **its))
    found["f1_weighted"] = float(sk.f1_score(labels, predicted, average="weighted", zero_division=0))
    return found


def by_label(labels: np.ndarray, predicted: np.ndarray) -> list[Figures]:
    """As scikit-learn's classification report has it, of the labels that a row has or was given."""
    report = sk.classification_report(labels, predicted, output_dict=True, zero_division=0)
    seen = {
        str(label) for label in (np.flatnonzero((labels + predicted).any(0)) if labels.ndim == 2 else [*labels, *predicted])
    }
    return [
        {"label": name, "precision": one["precision"], "recall": one["recall"], "f1": one["f1-score"], "support": int(one["support"])}
        for name, one in report.items() if name in seen
    ]  # fmt: skip


def calibration_error(confidence: np.ndarray, right: np.ndarray) -> float:
    """From scikit-learn's calibration curve, each bin with its share of the rows."""
    accuracy, mean = calibration_curve(right, confidence, n_bins=BINS)
    bins = np.searchsorted(np.linspace(0, 1, BINS + 1)[1:-1], confidence)
    return float((np.abs(accuracy - mean) * np.unique(bins, return_counts=True)[1]).sum() / len(right))


def of_numbers(rows: Rows) -> Figures:
    given, wanted = np.array(column(rows, "prediction")), np.array(column(rows, "reference"))
    return {
        "mse": float(sk.mean_squared_error(wanted, given)),
        "mae": float(sk.mean_absolute_error(wanted, given)),
        "r2": float(sk.r2_score(wanted, given)),
        "pearson": float(stats.pearsonr(given, wanted).statistic),
        "spearman": float(stats.spearmanr(given, wanted).statistic),
    }


def of_tags(rows: Rows) -> Figures:
    from seqeval import metrics as seqeval

    tags = column(rows, "reference"), column(rows, "prediction")
    found = {name: float(getattr(seqeval, f"{name}_score")(*tags)) for name in ("f1", "precision", "recall", "accuracy")}
    found["f1_macro"] = float(seqeval.f1_score(*tags, average="macro"))
    report = seqeval.classification_report(*tags, output_dict=True)
    kinds = {name: one for name, one in report.items() if not name.endswith("avg")}
    return found | {"by_label": [
        {"label": name, "precision": float(one["precision"]), "recall": float(one["recall"]), "f1": float(one["f1-score"]),
         "support": int(one["support"])}
        for name, one in sorted(kinds.items())
    ]}  # fmt: skip


FILES: dict[str, tuple[Callable[[Random], Rows], Callable[[Rows], Figures]]] = {
    "texts": (make_texts, of_texts),
    "two_labels": (make_labels(2), of_labels),
    "four_labels": (make_labels(4), of_labels),
    "label_sets": (make_label_sets, of_label_sets),
    "numbers": (make_numbers, of_numbers),
    "tags": (make_tags, of_tags),
    "absent_labels": (make_absent_labels, of_labels),
    "one_class": (make_one_class, of_labels),
    "absent_sets": (make_absent_sets, of_label_sets),
    "one_type": (make_one_type, of_tags),
    "chinese": (make_script("chinese"), of_script("chinese", "zh")),
    "thai": (make_script("thai"), of_script("thai", "char")),
    "hindi": (make_script("hindi"), of_script("hindi", "13a")),
    "russian": (make_script("russian"), of_script("russian", "13a")),
}


def main() -> None:
    FROZEN.mkdir(exist_ok=True)
    expected: dict[str, Any] = {}
    for name, (make, figures) in FILES.items():
        lines = [json.dumps(row, ensure_ascii=False) for row in make(Random(f"frozen {name}"))]
        (FROZEN / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
        expected[name] = figures(frozen_rows(name))
    libraries = ("sacrebleu", "rouge-score", "scikit-learn", "scipy", "seqeval")
    expected["versions"] = {library: version(library) for library in libraries}
    (FROZEN / "expected.json").write_text(json.dumps(expected, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
