"""Text regression: one number, as a rating or a similarity, for a text or a pair of texts."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from datasets import ClassLabel, Dataset, Features, Value
from transformers import EvalPrediction, PretrainedConfig, PreTrainedTokenizerBase

from ftkit.data.encode import TOKENS, Encoder, is_empty
from ftkit.data.ledger import Outcome
from ftkit.data.tables import value_codes
from ftkit.errors import UserError
from ftkit.metrics.regression import regression_metrics, regression_resamplers
from ftkit.metrics.resampling import Resampler
from ftkit.models.label_scale import OWN, LabelScale, Scale, answer_in_float32, read_scale, settle_scale
from ftkit.recipe.schema import Data
from ftkit.tasks.checkpoint_head import choose_number
from ftkit.tasks.texts import TextTask, is_list, model_inputs, text_encoder

DIGITS = 6
STILL = 0.01  # of the labels' standard deviation: predictions that differ by less say the same of every row


class TextRegression(TextTask):
    """A model's predictions have shape (rows, 1) and stay so: that is what its head gives."""

    task = "text-regression"
    quality_name = "mae"
    own_loss = "mse"

    def __init__(self, data: Data) -> None:
        self.data = data
        self.mean: float | None = None
        self.median: float | None = None
        self.scale = OWN
        self.kept_scale: Scale | None = None
        self.label_scale = LabelScale(OWN, None, in_head=True)

    def fit(self, rows: Dataset, config: PretrainedConfig) -> None:
        feature = rows.features["label"]
        require_one_number(feature)
        codes, values = value_codes(rows, "label")
        counts = np.bincount(codes, minlength=len(values))
        found = [(as_number(value), count) for value, count in zip(values, counts, strict=True)]
        numbers = {number: float(count) for number, count in found if number is not None}
        if len(numbers) < 2:
            only = f"one number only, {next(iter(numbers)):g}" if numbers else f"no number: '{str(values[0])[:60]}'"
            message = f"the labels of the training rows are {only}"
            raise UserError(message, "is the right column mapped?", key="data.columns.label")
        self.mean, self.median, deviation = moments(numbers)
        self.scale = Scale(self.mean, deviation)
        self.head = choose_number(config, self.auto_class(config))
        saved = read_scale(config) if self.head.kept else None
        self.kept_scale = saved[0] if saved and not saved[1] else None

    def recall(self, config: PretrainedConfig) -> None:
        if config.num_labels != 1:
            message = f"the model has a head for {config.num_labels} labels, where regression has one number"
            raise UserError(message, "name the task that it was trained for", key="model.name")
        scale, in_head = read_scale(config) or (OWN, True)
        self.label_scale = LabelScale(scale, None, in_head=in_head)

    def settle(self, model: Any, *, may_fold: bool) -> LabelScale:
        new = self.head is None or not self.head.kept
        self.label_scale = settle_scale(model, self.scale, new=new, kept=self.kept_scale, may_fold=may_fold)
        return self.label_scale

    def ready(self, model: Any) -> None:
        answer_in_float32(model)

    def strata(self, rows: Dataset) -> np.ndarray | None:
        return None

    def unknown_labels(self, rows: Dataset) -> list[dict[str, str]]:
        return [{} if as_number(label) is not None else {str(label)[:60]: ""} for label in rows["label"][:]]

    def config_values(self) -> dict[str, Any]:
        return {"num_labels": 1, "problem_type": "regression"}

    def serving(self, tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
        return {"problem_type": "regression"}

    def columns(self, tokenizer: PreTrainedTokenizerBase) -> Features:
        return Features({**dict.fromkeys(model_inputs(tokenizer), TOKENS), "labels": Value("float32")})

    def settings(self) -> dict[str, Any]:
        return {}

    def encoder(
        self, rows: Features, tokenizer: PreTrainedTokenizerBase, config: PretrainedConfig, max_length: int
    ) -> Encoder:
        require_one_number(rows["label"])
        encode_texts = text_encoder(tokenizer, config, max_length)

        def encode(batch: dict[str, list[Any]], positions: list[int]) -> dict[str, list[Any]]:
            texts = encode_texts(batch, positions)
            made: dict[str, list[Any]] = {"labels": [], "outcome": []}
            for index, label in enumerate(batch["label"]):
                number = as_number(label)
                outcome = (
                    Outcome.EMPTY
                    if is_empty(label) or texts.empty[index]
                    else Outcome.NO_NUMBER
                    if number is None
                    else Outcome.CUT_TEXT
                    if texts.cut[index]
                    else Outcome.KEPT
                )
                made["labels"].append(number or 0.0)
                made["outcome"].append(int(outcome))
            return texts.columns | made

        return encode

    def reduce_logits(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """The owner's numbers, in float32."""
        scale = self.label_scale.of_outputs
        return logits.float() if scale == OWN else scale.own(logits)

    def as_saved(self, prediction: EvalPrediction) -> EvalPrediction:
        scale = OWN if self.label_scale.in_head else self.label_scale.scale
        said, labels = (torch.as_tensor(numbers) for numbers in (prediction.predictions, prediction.label_ids))
        return prediction if scale == OWN else EvalPrediction(scale.standard(said).numpy(), scale.standard(labels).numpy())

    def score(self, prediction: EvalPrediction) -> dict[str, float]:
        """In the owner's units; the loss is that of the steps, in standard units."""
        found = regression_metrics(prediction.predictions[:, 0], prediction.label_ids)
        return found | ({"loss": found["mse"] / self.label_scale.scale.deviation**2} if "mse" in found else {})

    def resamplers(self, prediction: EvalPrediction) -> dict[str, Resampler]:
        found = regression_resamplers(prediction.predictions[:, 0], prediction.label_ids)
        mse, square = found["mse"], self.label_scale.scale.deviation**2
        return found | {"loss": replace(mse, compute=lambda weights: mse.compute(weights) / square)}

    def quality(self, prediction: EvalPrediction) -> np.ndarray:
        """The negative of a row's absolute error."""
        return -np.abs(prediction.predictions[:, 0].astype(np.float64) - prediction.label_ids)

    def trivial_baseline(self, prediction: EvalPrediction, metric: str) -> tuple[str, EvalPrediction] | None:
        """The training labels' mean for every row, of the least squared error; or their median, of the absolute."""
        middle, name = (self.median, "median") if metric == "mae" else (self.mean, "mean")
        if middle is None:
            return None
        same = np.full((len(prediction.label_ids), 1), middle)
        return f"{name} of the training labels ({middle:.6g})", EvalPrediction(same, prediction.label_ids)

    def constant(self, prediction: EvalPrediction) -> str:
        said, labels = prediction.predictions[:, 0].astype(np.float64), prediction.label_ids.astype(np.float64)
        if not np.isfinite(said).all() or len(said) < 2 or said.std() > STILL * labels.std() or not labels.std():
            return ""
        return f"one number only, {said.mean():.6g}"

    def describe(self, prediction: EvalPrediction, index: int) -> dict[str, Any]:
        return {"predicted": round(float(prediction.predictions[index][0]), DIGITS)}

    def ask(self, row: dict[str, Any]) -> dict[str, Any]:
        return row | {"label": 0}

    def answer(self, row: dict[str, Any], prediction: EvalPrediction, index: int) -> dict[str, Any]:
        return self.describe(prediction, index)


def as_number(label: Any) -> float | None:
    """A label as the number that float32 holds, from a number or its words; None where it is none or none that is finite."""
    if isinstance(label, str) and "_" in label:  # which Python takes for a separator of thousands
        return None
    try:
        with np.errstate(over="ignore"):
            number = float(np.float32(label))
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def moments(counted: dict[float, float]) -> tuple[float, float, float]:
    """Mean, median and standard deviation of numbers that occur so often each."""
    values = np.array(sorted(counted))
    counts = np.array([counted[value] for value in values.tolist()])
    reached = np.cumsum(counts) / counts.sum()
    low, high = (values[np.searchsorted(reached, 0.5, side)] for side in ("left", "right"))
    mean = float(np.average(values, weights=counts))
    return mean, float(low + high) / 2, float(np.sqrt(np.average((values - mean) ** 2, weights=counts)))


def require_one_number(feature: Any) -> None:
    """Raises UserError where the column's type says that a row has no number."""
    if is_list(feature) or isinstance(feature, ClassLabel):
        what = "a list" if is_list(feature) else f"a class, as '{feature.names[0]}'"
        message = f"the label of a row is {what}, where regression learns a number"
        raise UserError(message, "map another column, or set task: text-classification", key="data.columns.label")
