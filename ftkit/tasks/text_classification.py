"""Text classification: one label of two or more for a text or a pair of texts, or several labels at once."""

from typing import Any

import numpy as np
import torch
from datasets import ClassLabel, Dataset, Features, List, Value
from scipy.special import logit
from transformers import EvalPrediction, PretrainedConfig, PreTrainedTokenizerBase

from ftkit.data.cells import are_vectors, named_by
from ftkit.data.encode import TOKENS, Encoder, is_empty
from ftkit.data.ledger import Outcome
from ftkit.data.tables import list_codes, value_codes
from ftkit.errors import UserError
from ftkit.metrics.classification import (
    F_NAMES,
    classification_metrics,
    classification_resamplers,
    label_scores,
    multi_label_metrics,
    multi_label_resamplers,
)
from ftkit.metrics.names import MACRO, class_detail
from ftkit.metrics.resampling import Resampler
from ftkit.models.label_head import listed
from ftkit.recipe.schema import Data
from ftkit.tasks.base import Members, members_of, with_nearest
from ftkit.tasks.checkpoint_head import choose_head, recalled
from ftkit.tasks.labels import require_no_missing, require_one_spelling, require_plain
from ftkit.tasks.texts import TextTask, is_list, model_inputs, text_encoder

BARELY = 1e-3  # a logit that foretells a label, or does not, and is no nearer to sure than it must be


class TextClassification(TextTask):
    task = "text-classification"
    quality_name = "accuracy"

    def __init__(self, data: Data) -> None:
        self.data = data
        self.labels: list[str] = list(data.labels or data.columns.get("labels") or [])
        self.multi_label = False
        self.shares: np.ndarray | None = None

    def fit(self, rows: Dataset, config: PretrainedConfig) -> None:
        self.multi_label = bool(self.data.label_separator) or is_list(rows.features["label"])
        feature = rows.features["label"]
        self._require_names(rows, feature)
        found = self.members(rows).counts
        if not self.labels:
            if not isinstance(feature, ClassLabel):
                require_one_spelling(found, "data.columns.label", mapped=not self.data.label_separator)
                require_no_missing(found, "data.columns.label")
            self.labels = list(feature.names) if isinstance(feature, ClassLabel) else sorted(found, key=_natural)
        if not found:
            hint = "is the right column mapped? Of a column a label each cell says 0 or 1; an empty one leaves the row out"
            raise UserError("no training row has a label", hint, key="data.columns.label")
        if len(found) < 2:
            only = next(iter(found))
            message = f"the training rows have one label only, '{only}'"
            raise UserError(
                message, "a classifier needs at least two; is the right column mapped?", key="data.columns.label"
            )
        if len(self.labels) > max(2, len(rows) // 2):
            message = f"{len(self.labels)} labels in {len(rows)} rows: these are no classes"
            raise UserError(message, "is the right column mapped?", key="data.columns.label")
        self.head = choose_head(config, self.auto_class(config), self._kind, self.labels, named=bool(self.data.labels))
        self.labels = self.head.labels
        self._require_positive()
        self.shares = self._shares(rows)

    def recall(self, config: PretrainedConfig) -> None:
        self.multi_label = config.problem_type == "multi_label_classification"
        self.labels = recalled(config, self.data.labels or [])
        self._require_positive()

    def _require_positive(self) -> None:
        """Raises UserError where data.positive_label is none of two labels."""
        name, key = self.data.positive_label, "data.positive_label"
        if name is None:
            return
        if self.multi_label or len(self.labels) != 2:
            several = "rows have several labels" if self.multi_label else f"there are {len(self.labels)} labels"
            hint = "leave it out: f1 is the mean over labels, and the report has that of each"
            raise UserError(f"{several}, of which none is the positive one", hint, key=key)
        if name not in self.labels:
            nearest = with_nearest([name], self.labels)[name]
            message = f"there is no label '{name}'" + (f"; did you mean '{nearest}'?" if nearest else "")
            raise UserError(message, f"the labels are {' and '.join(self.labels)}", key=key)

    @property
    def positive(self) -> int:
        """Of two labels the one whose precision, recall and F1 are reported."""
        return 1 if self.data.positive_label is None else self.labels.index(self.data.positive_label)

    def strata(self, rows: Dataset) -> np.ndarray | None:
        if self.data.label_separator or is_list(rows.features["label"]):
            return None
        return value_codes(rows, "label")[0]

    def members(self, rows: Dataset) -> Members:
        feature = rows.features["label"]
        require_plain(feature, "data.columns.label")
        if is_list(feature) and not self.data.labels:  # which may stand for places in vectors
            places, codes, values = list_codes(rows, "label")
            return members_of(places, codes, self._names([[] if is_empty(value) else [value] for value in values], feature))
        if is_list(feature):
            names = self._names(rows["label"][:], feature)
            return members_of(np.arange(len(rows)), np.arange(len(rows)), names)
        codes, values = value_codes(rows, "label")
        filled = [[] if is_empty(value) else self._names([value], feature)[0] for value in values]
        return members_of(np.arange(len(rows)), codes, filled)

    def _require_names(self, rows: Dataset, feature: Any) -> None:
        """Raises UserError where labels are vectors of 0 and 1 and nothing says what their places stand for."""
        named = isinstance(getattr(feature, "feature", None), ClassLabel)
        if not is_list(feature) or named or not are_vectors(rows["label"][:]):
            return
        size = len(next(cells for cells in rows["label"] if cells))
        if len(self.data.labels or []) != size:
            message = f"the labels are vectors of 0 and 1, of {size} places"
            hint = f"name what the {size} places stand for, in their order, with data.labels: [a, b, …]"
            raise UserError(message, hint, key="data.labels" if self.data.labels else "data.columns.label")

    def unknown_labels(self, rows: Dataset) -> list[dict[str, str]]:
        return [with_nearest(names, self.labels) for names in self._names(rows["label"][:], rows.features["label"])]

    def config_values(self) -> dict[str, Any]:
        names = dict(enumerate(self.labels))
        return {
            "num_labels": len(self.labels),
            "id2label": names,
            "label2id": {name: number for number, name in names.items()},
            "problem_type": self._kind,
        }

    @property
    def _kind(self) -> str:
        return "multi_label_classification" if self.multi_label else "single_label_classification"

    def columns(self, tokenizer: PreTrainedTokenizerBase) -> Features:
        label = List(Value("float32")) if self.multi_label else Value("int64")
        return Features({**dict.fromkeys(model_inputs(tokenizer), TOKENS), "labels": label})

    def settings(self) -> dict[str, Any]:
        return {"labels": self.labels, "multi_label": self.multi_label, "separator": self.data.label_separator}

    def encoder(
        self, rows: Features, tokenizer: PreTrainedTokenizerBase, config: PretrainedConfig, max_length: int
    ) -> Encoder:
        ids = {name: number for number, name in enumerate(self.labels)}
        encode_texts, feature = text_encoder(tokenizer, config, max_length), rows["label"]
        blank = [0.0] * len(self.labels) if self.multi_label else 0

        def encode(batch: dict[str, list[Any]], positions: list[int]) -> dict[str, list[Any]]:
            texts = encode_texts(batch, positions)
            names = self._names(batch["label"], feature)
            outcomes = []
            for index, row in enumerate(names):
                label = batch["label"][index]
                unlabelled = label is None if self.multi_label else is_empty(label)  # an empty list says: none of them
                unknown = any(name not in ids for name in row)
                outcomes.append(
                    Outcome.EMPTY
                    if unlabelled or texts.empty[index]
                    else Outcome.UNKNOWN_LABEL
                    if unknown
                    else Outcome.CUT_TEXT
                    if texts.cut[index]
                    else Outcome.KEPT
                )
            labels = [
                self._label(row, ids) if outcome.is_kept else blank for row, outcome in zip(names, outcomes, strict=True)
            ]
            return texts.columns | {"labels": labels, "outcome": [int(item) for item in outcomes]}

        return encode

    def score(self, prediction: EvalPrediction) -> dict[str, float]:
        if self.multi_label:
            return multi_label_metrics(prediction.predictions, prediction.label_ids)
        return classification_metrics(prediction.predictions, prediction.label_ids, self.positive)

    def resamplers(self, prediction: EvalPrediction) -> dict[str, Resampler]:
        if self.multi_label:
            return multi_label_resamplers(prediction.predictions, prediction.label_ids)
        return classification_resamplers(prediction.predictions, prediction.label_ids, self.positive)

    def metric_details(self) -> dict[str, str]:
        binary = not self.multi_label and len(self.labels) == 2
        return dict.fromkeys(F_NAMES, class_detail(self.labels[self.positive]) if binary else MACRO)

    def right(self, prediction: EvalPrediction) -> np.ndarray | None:
        logits, labels = prediction.predictions, prediction.label_ids
        return ((logits > 0) == labels).all(1) if self.multi_label else logits.argmax(-1) == labels

    def quality(self, prediction: EvalPrediction) -> np.ndarray:
        """1 where the label is right; of several labels, the share that is."""
        logits, labels = prediction.predictions, prediction.label_ids
        right = ((logits > 0) == labels).mean(1) if self.multi_label else logits.argmax(-1) == labels
        return np.asarray(right, dtype=np.float64)

    def labelled(self, prediction: EvalPrediction) -> tuple[list[str], np.ndarray, np.ndarray] | None:
        return None if self.multi_label else (self.labels, prediction.label_ids, prediction.predictions.argmax(-1))

    def by_label(self, prediction: EvalPrediction) -> list[dict[str, Any]] | None:
        logits = prediction.predictions
        predicted = (logits > 0).astype(int) if self.multi_label else logits.argmax(-1)
        return label_scores(self.labels, predicted, prediction.label_ids.astype(int))

    def trivial_baseline(self, prediction: EvalPrediction, metric: str) -> tuple[str, EvalPrediction] | None:
        """The most frequent training label, foretold with the labels' shares; of several a row, so many as serve F1."""
        if self.shares is None:
            return None
        if self.multi_label:
            row, chosen = frequent_labels(self.shares)
            name = f"most frequent labels ({listed([self.labels[place] for place in chosen])})"
        else:
            row, name = np.log(self.shares), f"majority class ({self.labels[int(self.shares.argmax())]})"
        logits = np.tile(row, (len(prediction.label_ids), 1))
        return name, EvalPrediction(predictions=logits, label_ids=prediction.label_ids)

    def constant(self, prediction: EvalPrediction) -> str:
        logits, labels = prediction.predictions, prediction.label_ids
        said = logits > 0 if self.multi_label else logits.argmax(-1)[:, None]
        if (said != said[:1]).any() or not (labels != labels[:1]).any():
            return ""
        if not self.multi_label:
            return f"one label only, '{self.labels[int(said[0, 0])]}'"
        named = [self.labels[place] for place in np.flatnonzero(said[0])]
        return f"the same labels for every row: {listed(named) or 'none'}"

    def describe(self, prediction: EvalPrediction, index: int) -> dict[str, Any]:
        logits = torch.from_numpy(prediction.predictions[index])
        if self.multi_label:
            chances = logits.sigmoid().tolist()
            return {
                "predicted": [name for name, p in zip(self.labels, chances, strict=True) if p > 0.5],
                "probabilities": chances,
            }
        chance, best = logits.softmax(-1).max(-1)
        return {"predicted": self.labels[int(best)], "probability": round(float(chance), 6)}

    def _shares(self, rows: Dataset) -> np.ndarray:
        """Each label's share of the rows, none quite 0 or 1."""
        found = self.members(rows).counts
        counts = np.array([found.get(label, 0) + 1 for label in self.labels], dtype=np.float64)
        return counts / (len(rows) + 2 if self.multi_label else counts.sum())

    def ask(self, row: dict[str, Any]) -> dict[str, Any]:
        several = self.multi_label and not self.data.label_separator
        return row | {"label": [self.labels[0]] if several else self.labels[0]}

    def answer(self, row: dict[str, Any], prediction: EvalPrediction, index: int) -> dict[str, Any]:
        logits = torch.from_numpy(prediction.predictions[index])
        chances = (logits.sigmoid() if self.multi_label else logits.softmax(-1)).tolist()
        named = {name: round(chance, 6) for name, chance in zip(self.labels, chances, strict=True)}
        if self.multi_label:
            return {
                "predicted": [name for name, p in zip(self.labels, chances, strict=True) if p > 0.5],
                "probabilities": named,
            }
        best = self.labels[int(logits.argmax())]
        return {"predicted": best, "probability": named[best], "probabilities": named}

    def _names(self, values: list[Any], feature: Any) -> list[list[str]]:
        """The label names of each row."""
        if self.data.label_separator and not is_list(feature):
            return [
                [part.strip() for part in str(value).split(self.data.label_separator) if part.strip()] for value in values
            ]
        if isinstance(feature, ClassLabel):
            return [[class_name(feature, value)] for value in values]
        if self.multi_label:
            inner = getattr(feature, "feature", None)
            as_name = inner.int2str if isinstance(inner, ClassLabel) else str
            known = [] if isinstance(inner, ClassLabel) else self.data.labels or []
            vectors = [named_by(value or [], known) for value in values]
            return [
                [as_name(item) for item in value or [] if not is_empty(item)] if found is None else found
                for value, found in zip(values, vectors, strict=True)
            ]
        return [[str(value)] for value in values]

    def _label(self, names: list[str], ids: dict[str, int]) -> int | list[float]:
        return [float(name in names) for name in self.labels] if self.multi_label else ids[names[0]]


def frequent_labels(shares: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Logits that foretell the same labels for every row, and which: the most frequent, so many as F1 is best with.

    Args:
        shares: of the rows that have each label, shape (labels,).
    """
    order = np.argsort(-shares, kind="stable")
    hits, count = np.cumsum(shares[order]), np.arange(1, len(shares) + 1)
    chosen = order[: int(np.argmax(2 * hits / (count + shares.sum()))) + 1]
    logits, wanted = logit(shares), np.isin(np.arange(len(shares)), chosen)
    return np.where((logits > 0) == wanted, logits, np.where(wanted, BARELY, -BARELY)), chosen


def class_name(feature: ClassLabel, value: Any) -> str:
    """The name of a class; of a number that is none, as the -1 of rows without a label, the number."""
    known = isinstance(value, int) and 0 <= value < feature.num_classes
    return str(feature.int2str(value)) if known else str(value)


def _natural(name: str) -> tuple[int, float, str]:
    """Numbers by their value, then words."""
    try:
        return 0, float(name), name
    except ValueError:
        return 1, 0.0, name
