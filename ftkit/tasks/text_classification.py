"""Text classification: one label of two or more for a text or a pair of texts, or several labels at once."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
from datasets import ClassLabel, Dataset
from transformers import (
    AutoModelForSequenceClassification,
    DataCollatorWithPadding,
    EvalPrediction,
    PretrainedConfig,
    PreTrainedTokenizerBase,
)

from ftkit.data.clean import is_empty, require_filled
from ftkit.errors import UserError
from ftkit.metrics.classification import classification_metrics, multi_label_metrics
from ftkit.recipe.schema import Data
from ftkit.tasks.base import Encoded

BATCH = 1000


class TextClassification:
    new_head = True
    generates = False

    def __init__(self, data: Data) -> None:
        self.data = data
        self.labels: list[str] = list(data.labels or [])
        self.multi_label = False

    def fit(self, rows: Dataset) -> None:
        self.multi_label = bool(self.data.label_separator) or isinstance(rows[0]["label"], list)
        filled = rows.select([row for row, label in enumerate(rows["label"]) if not is_empty(label)])
        found = Counter(name for names in self._names(filled) for name in names)
        if not self.labels:
            feature = rows.features["label"]
            self.labels = list(feature.names) if isinstance(feature, ClassLabel) else sorted(found, key=_natural)
        if len(found) < 2:
            only = next(iter(found), "none")
            message = f"the training rows have one label only, '{only}'"
            raise UserError(
                message, "a classifier needs at least two; is the right column mapped?", key="data.columns.label"
            )
        if len(self.labels) > max(2, len(rows) // 2):
            message = f"{len(self.labels)} labels in {len(rows)} rows: these are no classes"
            raise UserError(message, "is the right column mapped?", key="data.columns.label")

    def recall(self, config: PretrainedConfig) -> None:
        self.multi_label = config.problem_type == "multi_label_classification"
        generic = all(name.startswith("LABEL_") for name in config.id2label.values())
        if not generic or len(self.labels) != config.num_labels:
            self.labels = [config.id2label[number] for number in range(config.num_labels)]

    def strata(self, rows: Dataset) -> Sequence[str] | None:
        if self.data.label_separator or isinstance(rows[0]["label"], list):
            return None
        return [str(label) for label in rows["label"]]

    def config_values(self) -> dict[str, Any]:
        kind = "multi_label_classification" if self.multi_label else "single_label_classification"
        names = dict(enumerate(self.labels))
        return {
            "num_labels": len(self.labels),
            "id2label": names,
            "label2id": {name: number for number, name in names.items()},
            "problem_type": kind,
        }

    def auto_class(self, config: PretrainedConfig) -> Any:
        return AutoModelForSequenceClassification

    def encode(
        self, rows: Dataset, tokenizer: PreTrainedTokenizerBase, config: PretrainedConfig, max_length: int
    ) -> Encoded:
        texts = ["text"] + (["text_pair"] if "text_pair" in rows.column_names else [])
        rows, numbers, counts = require_filled(
            rows, texts if self.multi_label else [*texts, "label"], drop=self.data.drop_empty
        )
        ids = {name: number for number, name in enumerate(self.labels)}
        labels = [self._label(names, ids, numbers[index]) for index, names in enumerate(self._names(rows))]

        def tokenize(batch: dict[str, list[Any]]) -> dict[str, Any]:
            encoded = tokenizer(*(batch[name] for name in texts), truncation="longest_first", max_length=max_length)
            return {
                name: encoded[name] for name in tokenizer.model_input_names if name in encoded and name != "attention_mask"
            }

        dataset = rows.select_columns(texts).map(tokenize, batched=True, batch_size=BATCH, remove_columns=texts)
        counts["at max_length"] = sum(len(ids) == max_length for ids in dataset["input_ids"])
        return Encoded(dataset.add_column("labels", labels), numbers, counts)

    def collator(self, tokenizer: PreTrainedTokenizerBase, model: Any) -> Any:
        return DataCollatorWithPadding(tokenizer)

    def reduce_logits(self, logits: Any, labels: torch.Tensor) -> torch.Tensor:
        reduced: torch.Tensor = (logits[0] if isinstance(logits, tuple) else logits).float()
        return reduced

    def score(self, prediction: EvalPrediction) -> dict[str, float]:
        metrics = multi_label_metrics if self.multi_label else classification_metrics
        return metrics(prediction.predictions, prediction.label_ids)

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

    def _names(self, rows: Dataset) -> list[list[str]]:
        """The label names of each row."""
        values, feature = rows["label"], rows.features["label"]
        if self.data.label_separator:
            return [
                [part.strip() for part in str(value).split(self.data.label_separator) if part.strip()] for value in values
            ]
        if isinstance(feature, ClassLabel):
            return [[feature.int2str(value)] for value in values]
        if self.multi_label:
            inner = getattr(feature, "feature", None)
            as_name = inner.int2str if isinstance(inner, ClassLabel) else str
            return [[as_name(item) for item in value or [] if item is not None] for value in values]
        return [[str(value)] for value in values]

    def _label(self, names: list[str], ids: dict[str, int], row: int) -> int | list[float]:
        unknown = [name for name in names if name not in ids]
        if unknown:
            known = ", ".join(self.labels[:12])
            whose = "data.labels does" if self.data.labels else "the training rows do"
            message = f"row {row + 1} has the label '{unknown[0]}', which {whose} not have"
            raise UserError(message, f"known are {known}", key="data.labels" if self.data.labels else "data.columns.label")
        if self.multi_label:
            return [float(name in names) for name in self.labels]
        return ids[names[0]]


def _natural(name: str) -> tuple[int, float, str]:
    """Numbers by their value, then words."""
    try:
        return 0, float(name), name
    except ValueError:
        return 1, 0.0, name
