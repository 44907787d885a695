"""Two forms of one model on the same rows: a merged or converted one beside the adapter over its base."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from transformers import EvalPrediction

from ftkit.data.encode import IGNORED
from ftkit.evaluation.records import read_rows
from ftkit.evaluation.scoring import Row, precision_of
from ftkit.metrics.names import by_shown_name
from ftkit.run import Run
from ftkit.tasks.base import Task

SLICE = 8  # rows of a forward pass
Batch = dict[str, torch.Tensor]
Forward = Callable[[Batch], torch.Tensor]  # from a padded batch to logits in float32, on the CPU


@dataclass
class Comparison:
    """How far a form of a model is from the model as it was trained.

    Attributes:
        largest: largest difference of two logits.
        scale: largest logit, in absolute value.
        agreement: share of predictions that are the same.
        change: largest difference of the trained model's logits from those of its base; None where there is no base.
        metrics: of the trained model and of the form, on these rows.
    """

    rows: int = 0
    largest: float = 0.0
    scale: float = 0.0
    agreement: float = 1.0
    change: float | None = None
    metrics: dict[str, tuple[float, float]] = field(default_factory=dict)

    def facts(self) -> dict[str, str]:
        """For the screen and the README.md."""
        words = {
            "rows compared": str(self.rows),
            "largest logit difference": f"{self.largest:.3g}, of logits up to {self.scale:.3g}",
            "same prediction": f"{100 * self.agreement:.2f} %",
        }
        if self.change is not None:
            words["largest difference from the base"] = f"{self.change:.3g}"
        return words | {name: f"{first:.4f} → {second:.4f}" for name, (first, second) in self.metrics.items()}

    def failures(self, allowed: float) -> list[str]:
        """What speaks against it.

        Args:
            allowed: the largest difference that rounding explains, as a share of the largest logit.
        """
        found, limit = [], allowed * max(1.0, self.scale)
        if not self.largest <= limit:
            found.append(f"its logits differ from the trained model's by up to {self.largest:.3g}, more than {limit:.3g}")
        if self.change is not None and not self.change > self.largest:
            found.append(
                "it is no nearer to the trained model than the base is: the adapter changes nothing that is left in it"
            )
        return found


def padded_batches(run: Run, task: Task, tokenizer: Any, model: Any) -> Iterator[Batch]:
    """The rows that the run was verified on, padded to one length so that predictions can be put together."""
    whole = task.collator(tokenizer, model)([as_entry(row) for row in read_rows(run.verification / "rows.safetensors")])
    count = len(whole["input_ids"])
    for first in range(0, count, SLICE):
        yield {name: value[first : first + SLICE] for name, value in whole.items()}


def as_entry(row: Row) -> dict[str, Any]:
    """A row as the collators take it."""
    return {name: value.tolist() for name, value in row.items()}


def forward_of(model: Any) -> Forward:
    """Logits of a torch model."""

    def forward(batch: Batch) -> torch.Tensor:
        inputs = {name: value.to(model.device) for name, value in batch.items() if name in taken_names(model)}
        with torch.no_grad(), precision_of(model):
            logits: torch.Tensor = model(**inputs).logits.float().cpu()
        return logits

    model.eval()
    return forward


def taken_names(model: Any) -> set[str]:
    """What a batch may bring to the model; an encoder-decoder makes its decoder's input of the labels."""
    names = {"input_ids", "attention_mask", "token_type_ids", "decoder_input_ids"}
    return names | ({"labels"} if model.config.is_encoder_decoder else set())


def compare(
    batches: Iterator[Batch], task: Task, trained: Forward, form: Forward, base: Forward | None = None
) -> Comparison:
    """Run the forms side by side, a slice of the rows at a time."""
    found, same, counted = Comparison(), 0, 0
    kept: dict[str, list[Any]] = {"trained": [], "form": [], "labels": []}
    for batch in batches:
        first, second = trained(batch), form(batch)
        places = real_places(batch, first)
        found.rows += len(first)
        found.largest = max(found.largest, gap(first, second, places))
        found.scale = max(found.scale, float(first[places].abs().max()))
        same += int((first.argmax(-1) == second.argmax(-1))[places].sum())
        counted += int(places.sum())
        if base is not None:
            found.change = max(found.change or 0.0, gap(first, base(batch), places))
        for name, logits in (("trained", first), ("form", second)):
            kept[name].append(task.reduce_logits(logits, batch["labels"]).numpy())
        kept["labels"].append(batch["labels"].numpy())
    found.agreement = same / counted
    labels = np.concatenate(kept["labels"])
    first_metrics, second_metrics = (
        task.score(EvalPrediction(np.concatenate(kept[name]), labels)) for name in ("trained", "form")
    )
    pairs = {name: (value, second_metrics[name]) for name, value in first_metrics.items()}
    found.metrics = by_shown_name(pairs, task.metric_details())
    return found


def real_places(batch: Batch, logits: torch.Tensor) -> torch.Tensor:
    """Where logits mean something: every row, or each token that is no padding; of an encoder-decoder, each label."""
    if logits.dim() == 2:
        return torch.ones(len(logits), dtype=torch.bool)
    mask = batch["attention_mask"].bool()
    return mask if mask.shape == logits.shape[:2] else batch["labels"] != IGNORED


def gap(first: torch.Tensor, second: torch.Tensor, places: torch.Tensor) -> float:
    return float((first[places] - second[places]).abs().nan_to_num(float("inf")).max())
