"""What a task is: the parts that every task file has, and what they hand to each other."""

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from datasets import Dataset, Features
from transformers import EvalPrediction, PretrainedConfig, PreTrainedTokenizerBase

from ftkit.data.encode import IGNORED, Encoded, Encoder

BLANK = "a"  # in place of an answer that a row does not have: as few tokens as can be

__all__ = ["BLANK", "IGNORED", "Encoded", "Encoder", "Task", "WithoutPrompts"]


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

    def columns(self, tokenizer: PreTrainedTokenizerBase) -> Features:
        """What the encoder makes of a row, without its outcome."""

    def encoder(
        self, rows: Features, tokenizer: PreTrainedTokenizerBase, config: PretrainedConfig, max_length: int
    ) -> Encoder:
        """A function from a batch of rows to token ids, labels and an `Outcome` each.

        Args:
            rows: the types of the rows' columns.
        """

    def settings(self) -> dict[str, Any]:
        """What the encoder depends on beside tokenizer, config and length."""

    def prompt_forms(self) -> dict[str, str]:
        """The forms that become prompts when filled with a row's columns, by name; none where a chat template is used."""

    def prompt_parts(self, row: dict[str, Any]) -> dict[str, Any]:
        """What a row's prompt is made of: `messages`, or a `form` by name and its `values`."""

    def arrange(self, encoded: Encoded, max_length: int) -> Encoded:
        """The entries that are trained and measured on, where those are not the rows themselves."""

    def end_tokens(self, tokenizer: PreTrainedTokenizerBase) -> set[int]:
        """Token ids that may end an answer; none where there are no answers."""

    def collator(self, tokenizer: PreTrainedTokenizerBase, model: Any) -> Any:
        """Batches of encoded rows, padded to their longest."""

    def reduce_logits(self, logits: Any, labels: torch.Tensor) -> torch.Tensor:
        """What is kept of a batch's logits, so that memory does not grow with the vocabulary."""

    def score(self, prediction: EvalPrediction) -> dict[str, float]:
        """The task's metrics, without those of generated text."""

    def describe(self, prediction: EvalPrediction, index: int) -> dict[str, Any]:
        """What was predicted for one entry, for predictions.jsonl."""

    def ask(self, row: dict[str, Any]) -> dict[str, Any]:
        """A row that is to be predicted, with something in place of its answer, so that the encoder takes it.

        Raises:
            UserError: there is nothing in it to be answered.
        """

    def answer(self, row: dict[str, Any], prediction: EvalPrediction, index: int) -> dict[str, Any]:
        """What a model that does not generate predicts for one such row."""


class WithoutPrompts:
    """What a task says that asks nothing in words and trains on its rows as they are."""

    def prompt_forms(self) -> dict[str, str]:
        return {}

    def prompt_parts(self, row: dict[str, Any]) -> dict[str, Any]:
        return {}

    def arrange(self, encoded: Encoded, max_length: int) -> Encoded:
        return encoded

    def end_tokens(self, tokenizer: PreTrainedTokenizerBase) -> set[int]:
        return set()
