"""What the tasks of language models share: nothing to learn from the rows before training, a loss by token, its metrics."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
from datasets import Dataset
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM, EvalPrediction, PretrainedConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

from ftkit.compat import pad_by_position
from ftkit.data.prompts import Example
from ftkit.errors import UserError
from ftkit.metrics.text import loss_metrics
from ftkit.recipe.schema import Data
from ftkit.tasks.base import IGNORED, Encoded


def decoder_class(config: PretrainedConfig, task: str) -> Any:
    """The Auto class of a decoder-only model.

    Raises:
        UserError: the model is no decoder; an encoder sees the tokens that it should foretell.
    """
    kind = config.model_type
    encoder = kind in MODEL_FOR_MASKED_LM_MAPPING_NAMES and not getattr(config, "is_decoder", False)
    if config.is_encoder_decoder or encoder:
        what = "an encoder-decoder" if config.is_encoder_decoder else "an encoder"
        raise UserError(
            f"{kind} is {what}; {task} needs a decoder", "choose one such as openai-community/gpt2", key="model.name"
        )
    return AutoModelForCausalLM


class LanguageTask:
    """The parts that are the same for every task whose model foretells tokens."""

    new_head = False
    generates = False
    collator = staticmethod(pad_by_position)

    def __init__(self, data: Data) -> None:
        self.data = data

    def fit(self, rows: Dataset) -> None:
        """Nothing is learnt from the rows."""

    def recall(self, config: PretrainedConfig) -> None:
        """Nothing was learnt from the rows."""

    def strata(self, rows: Dataset) -> Sequence[str] | None:
        return None

    def config_values(self) -> dict[str, Any]:
        return {}

    def reduce_logits(self, logits: Any, labels: torch.Tensor) -> torch.Tensor:
        return token_loss_sums(logits[0] if isinstance(logits, tuple) else logits, labels, shift=True)

    def score(self, prediction: EvalPrediction) -> dict[str, float]:
        return loss_metrics(prediction.predictions)

    def describe(self, prediction: EvalPrediction, index: int) -> dict[str, Any]:
        total, tokens = (float(value) for value in prediction.predictions[index])
        return {"loss": round(total / tokens, 6) if tokens else None}


def token_loss_sums(logits: torch.Tensor, labels: torch.Tensor, *, shift: bool) -> torch.Tensor:
    """Each row's summed loss in nats and its number of supervised tokens, shape (rows, 2), float32.

    Args:
        logits: shape (rows, tokens, vocabulary).
        labels: shape (rows, tokens), -100 where a token does not count.
        shift: the logits at a position foretell the next token, as in decoder-only models.
    """
    if shift:
        logits, labels = logits[:, :-1], labels[:, 1:]
    sums = []
    for row_logits, row_labels in zip(logits, labels, strict=True):  # a row at a time: float32 logits are large
        counted = row_labels != IGNORED
        loss = cross_entropy(row_logits[counted].float(), row_labels[counted], reduction="sum")
        sums.append(torch.stack([loss, counted.sum().float()]))
    return torch.stack(sums)


def collect(
    examples: list[Example | None], numbers: list[int], counts: Counter[str], max_length: int, cut: int = 0
) -> Encoded:
    """The examples that fit, as a dataset; those that are None were too long and are counted as dropped.

    Raises:
        UserError: none is left.
    """
    kept = [(number, example) for number, example in zip(numbers, examples, strict=True) if example is not None]
    if not kept:
        message = f"no row is left: with model.max_length {max_length} no answer fits whole behind its prompt"
        raise UserError(message, "raise model.max_length", key="model.max_length")
    dropped = len(examples) - len(kept)
    counts = counts.copy()
    counts["kept"] = len(kept)
    counts += Counter({"cut: prompt": cut, "dropped: longer than max_length": dropped})
    columns = {"input_ids": [e.input_ids for _, e in kept], "labels": [e.labels for _, e in kept]}
    return Encoded(Dataset.from_dict(columns), [number for number, _ in kept], counts)
