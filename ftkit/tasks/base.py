"""What a task is: the parts that every task file has, and what they hand to each other."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Protocol

import numpy as np
import torch
from datasets import Dataset, Features
from transformers import EvalPrediction, PretrainedConfig, PreTrainedTokenizerBase

from ftkit.data.encode import Cutter, Encoded, Encoder
from ftkit.metrics.resampling import Resampler
from ftkit.models.label_head import Head
from ftkit.models.label_scale import LabelScale

BLANK = "a"  # in place of an answer that a row does not have: as few tokens as can be

__all__ = ["BLANK", "Encoded", "Encoder", "Task", "WithoutPrompts", "has_targets", "with_nearest"]


@dataclass(frozen=True)
class Members:
    """Labels of rows: each pair of a row's position and a label's number, both of shape (pairs,), and the labels."""

    rows: np.ndarray
    codes: np.ndarray
    names: list[str]

    @property
    def counts(self) -> dict[str, int]:
        """How often each label occurs, the most frequent first."""
        found = np.bincount(self.codes, minlength=len(self.names)).tolist()
        order = sorted(range(len(self.names)), key=lambda code: (-found[code], self.names[code]))
        return {self.names[code]: found[code] for code in order if found[code]}


def members_of(rows: np.ndarray, codes: np.ndarray, names: Sequence[Sequence[str | None]]) -> Members:
    """Labels of rows by the names that each value stands for: none, one or several.

    Args:
        rows: the position of each value's row, shape (values,).
        codes: the number of each value, shape (values,).
    """
    known: dict[str, int] = {}
    pairs = [[known.setdefault(name, len(known)) for name in found if name is not None] for found in names]
    sizes = np.array([len(found) for found in pairs], np.int64)
    if (sizes == 1).all():
        return Members(rows, np.array([found[0] for found in pairs], np.int64)[codes], list(known))
    taken = [np.array(found, np.int64) for found in pairs]
    spread = np.concatenate([np.zeros(0, np.int64), *(taken[code] for code in codes.tolist())])
    return Members(np.repeat(rows, sizes[codes]), spread, list(known))


class Task(Protocol):
    """One kind of fine-tuning: what a row is, what the model outputs, how it is measured."""

    new_head: bool
    """Whether the model has a head beside its body, trained with every strategy: the checkpoint's own, or a new one."""

    head: Head | None
    """What becomes of the checkpoint's head, once the task is fitted; None where the model's own foretells tokens."""

    generates: bool
    """Whether the model is also measured by the text it generates."""

    several: str
    """What rows with several entries are, said after their number."""

    quality_name: str
    """Of which metric a row's quality is the row's own value, or its negative where less is better."""

    own_loss: str
    """The metric that is the loss as the saved model itself gives it, of a prediction in its units."""

    def fit(self, rows: Dataset, config: PretrainedConfig) -> None:
        """Learn from the training rows what the model must know, as the labels.

        Args:
            config: the checkpoint's own; where it has a head for the very labels, they get its order.
        """

    def recall(self, config: PretrainedConfig) -> None:
        """Take from a trained model's config what `fit` learnt."""

    def strata(self, rows: Dataset) -> np.ndarray | None:
        """One label a row as a number for a stratified split, shape (rows,), or None."""

    def members(self, rows: Dataset) -> "Members | None":
        """Which labels each row has; None where rows have no labels."""

    def config_values(self) -> dict[str, Any]:
        """Values that the model's config takes from the task."""

    def settle(self, model: Any, *, may_fold: bool) -> LabelScale | None:
        """What the task does to a model that is to learn, whose labels it may learn in other units; None where not.

        Args:
            may_fold: what its head holds is saved and loaded in float32.
        """

    def ready(self, model: Any) -> None:
        """What the task does to every model that is measured or asked."""

    def auto_class(self, config: PretrainedConfig) -> Any:
        """The AutoModel class whose model does this task."""

    def columns(self, tokenizer: PreTrainedTokenizerBase) -> Features:
        """What the encoder makes of a row, without its outcome."""

    def encoder(
        self, rows: Features, tokenizer: PreTrainedTokenizerBase, config: PretrainedConfig, max_length: int
    ) -> Encoder:
        """A function from a batch of rows to token ids, labels and an `Outcome` each; a row may have several entries.

        Args:
            rows: the types of the rows' columns.
        """

    def settings(self) -> dict[str, Any]:
        """What the encoder depends on beside tokenizer, config and length."""

    def prompt_forms(self) -> dict[str, str]:
        """The forms that become prompts when filled with a row's columns, by name; none where a chat template is used."""

    def prompt_parts(self, row: dict[str, Any]) -> dict[str, Any]:
        """What a row's prompt is made of: `messages`, or a `form` by name and its `values`."""

    def unknown_labels(self, rows: Dataset) -> list[dict[str, str]]:
        """Of each row the labels that the model does not know, each with the nearest that it knows, or nothing."""

    def lost_fields(self, row: dict[str, Any]) -> list[str]:
        """What of a row, by its field, leaves no token where it should; once there was an encoder."""

    def arrange(self, encoded: Encoded, max_length: int) -> Encoded:
        """The entries that are trained and measured on, where those are not the rows themselves."""

    def cutter(self, max_length: int) -> Cutter | None:
        """What `arrange` does, for rows of a stream; None where the entries are the rows themselves."""

    def end_tokens(self, tokenizer: PreTrainedTokenizerBase) -> set[int]:
        """Token ids that may end an answer; none where there are no answers."""

    def collator(self, tokenizer: PreTrainedTokenizerBase, model: Any) -> Any:
        """Batches of encoded rows, padded to their longest."""

    def reduce_logits(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """What is kept of a batch's logits, so that memory does not grow with the vocabulary."""

    def complete(self, prediction: EvalPrediction, encoded: Encoded, tokenizer: PreTrainedTokenizerBase) -> EvalPrediction:
        """The prediction with what its metrics need of the encoded rows beside the logits, as the bytes of their text."""

    def as_saved(self, prediction: EvalPrediction) -> EvalPrediction:
        """A prediction in the units in which the saved model gives it."""

    def merge(self, prediction: EvalPrediction, rows: list[int]) -> tuple[EvalPrediction, list[int]]:
        """One prediction a row where a row's entries are parts of one answer, and which rows these are.

        Args:
            rows: which row each entry is of.
        """

    def score(self, prediction: EvalPrediction) -> dict[str, float]:
        """The task's metrics, without those of generated text."""

    def resamplers(self, prediction: EvalPrediction) -> dict[str, Resampler]:
        """The same metrics for any weights of the rows."""

    def metric_details(self) -> dict[str, str]:
        """What the names of metrics leave open, by metric: the class of an F1, or its average."""

    def right(self, prediction: EvalPrediction) -> np.ndarray | None:
        """Whether each row is right, shape (rows,); None where the task knows no right and wrong."""

    def quality(self, prediction: EvalPrediction) -> np.ndarray:
        """How good each row is, more being better, shape (rows,)."""

    def labelled(self, prediction: EvalPrediction) -> tuple[list[str], np.ndarray, np.ndarray] | None:
        """The labels' names, and the true and the predicted label of each row or word; None without one label each."""

    def by_label(self, prediction: EvalPrediction) -> list[dict[str, Any]] | None:
        """Precision, recall, F1 and number of each label, or of each type of entity."""

    def trivial_baseline(self, prediction: EvalPrediction, metric: str) -> tuple[str, EvalPrediction] | None:
        """What may be foretold without reading, as the most frequent label of the training rows, and its name.

        Args:
            prediction: the tuned model's, whose labels it is held against.
            metric: that it should do well by.
        """

    def constant(self, prediction: EvalPrediction) -> str:
        """What a model gives that says the same of every row though their labels differ; nothing where it does not."""

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

    several = "have several entries"
    own_loss = "loss"

    def settle(self, model: Any, *, may_fold: bool) -> LabelScale | None:
        return None

    def ready(self, model: Any) -> None:
        """It is measured as it is."""

    def as_saved(self, prediction: EvalPrediction) -> EvalPrediction:
        return prediction

    def prompt_forms(self) -> dict[str, str]:
        return {}

    def prompt_parts(self, row: dict[str, Any]) -> dict[str, Any]:
        return {}

    def lost_fields(self, row: dict[str, Any]) -> list[str]:
        return []

    def arrange(self, encoded: Encoded, max_length: int) -> Encoded:
        return encoded

    def cutter(self, max_length: int) -> Cutter | None:
        return None

    def end_tokens(self, tokenizer: PreTrainedTokenizerBase) -> set[int]:
        return set()

    def complete(self, prediction: EvalPrediction, encoded: Encoded, tokenizer: PreTrainedTokenizerBase) -> EvalPrediction:
        return prediction

    def members(self, rows: Dataset) -> Members | None:
        return None

    def merge(self, prediction: EvalPrediction, rows: list[int]) -> tuple[EvalPrediction, list[int]]:
        return prediction, rows

    def metric_details(self) -> dict[str, str]:
        return {}

    def right(self, prediction: EvalPrediction) -> np.ndarray | None:
        return None

    def labelled(self, prediction: EvalPrediction) -> tuple[list[str], np.ndarray, np.ndarray] | None:
        return None

    def by_label(self, prediction: EvalPrediction) -> list[dict[str, Any]] | None:
        return None

    def trivial_baseline(self, prediction: EvalPrediction, metric: str) -> tuple[str, EvalPrediction] | None:
        return None

    def constant(self, prediction: EvalPrediction) -> str:
        return ""


def has_targets(task: Task, config: PretrainedConfig) -> bool:
    """Whether a row has a target beside its source: where an encoder-decoder writes, and does not label."""
    return bool(config.is_encoder_decoder) and not task.new_head


def with_nearest(names: Sequence[str], known: Collection[str]) -> dict[str, str]:
    """The names that are not known, each with the known one that is most like it, or nothing where none is."""
    return {name: "".join(get_close_matches(name, known, n=1, cutoff=0.5)) for name in names if name not in known}
