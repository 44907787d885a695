"""What a task is: the parts that every task file has, and what they hand to each other."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from datasets import Dataset
from transformers import EvalPrediction, PretrainedConfig, PreTrainedTokenizerBase

IGNORED = -100  # the label of tokens that do not count in the loss


@dataclass
class Encoded:
    """Rows as the model takes them.

    Attributes:
        dataset: input_ids, labels and what else the model takes; one entry a kept row, or a block of text.
        rows: for each entry the number of the row in the split that it comes from.
        counts: kept, cut and dropped rows, the reason in the name.
    """

    dataset: Dataset
    rows: list[int]
    counts: Counter[str] = field(default_factory=Counter)


class Task(Protocol):
    """One kind of fine-tuning: what a row is, what the model outputs, how it is measured."""

    new_head: bool
    """Whether the model gets a new head, trained with every strategy."""

    generates: bool
    """Whether the model is also measured by the text it generates."""

    def fit(self, rows: Dataset) -> None:
        """Learn from the training rows what the model must know, as the labels."""

    def recall(self, config: PretrainedConfig) -> None:
        """Take from a trained model's config what `fit` learnt."""

    def strata(self, rows: Dataset) -> Sequence[str] | None:
        """One label a row for a stratified split, or None."""

    def config_values(self) -> dict[str, Any]:
        """Values that the model's config takes from the task."""

    def auto_class(self, config: PretrainedConfig) -> Any:
        """The AutoModel class whose model does this task."""

    def encode(
        self, rows: Dataset, tokenizer: PreTrainedTokenizerBase, config: PretrainedConfig, max_length: int
    ) -> Encoded:
        """Token ids and labels of every row.

        Raises:
            UserError: no row is left, or a row's label is not known.
        """

    def collator(self, tokenizer: PreTrainedTokenizerBase, model: Any) -> Any:
        """Batches of encoded rows, padded to their longest."""

    def reduce_logits(self, logits: Any, labels: torch.Tensor) -> torch.Tensor:
        """What is kept of a batch's logits, so that memory does not grow with the vocabulary."""

    def score(self, prediction: EvalPrediction) -> dict[str, float]:
        """The task's metrics, without those of generated text."""

    def describe(self, prediction: EvalPrediction, index: int) -> dict[str, Any]:
        """What was predicted for one entry, for predictions.jsonl."""
