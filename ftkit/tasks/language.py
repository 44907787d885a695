"""What the tasks of language models share: nothing to learn from the rows before training, a loss by token, its metrics."""

from typing import Any

import numpy as np
import torch
from datasets import Dataset, Features, List, Value
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM, EvalPrediction, PretrainedConfig, PreTrainedTokenizerBase
from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

from ftkit.compat import pad_by_position
from ftkit.data.encode import BATCH, IGNORED, REFERENCES, TOKENS, Encoded, is_empty
from ftkit.data.ledger import Outcome
from ftkit.data.prompts import Example, join
from ftkit.errors import RowError, UserError
from ftkit.metrics.resampling import Resampler
from ftkit.metrics.text import loss_metrics, loss_resamplers
from ftkit.models.architecture import require_class
from ftkit.models.label_head import Head
from ftkit.recipe.schema import Data
from ftkit.tasks.base import WithoutPrompts


def decoder_class(config: PretrainedConfig, task: str) -> Any:
    """The Auto class of a decoder-only model.

    Raises:
        UserError: the model is no decoder; an encoder sees the tokens that it should foretell; or its type has none.
    """
    kind = config.model_type
    encoder = kind in MODEL_FOR_MASKED_LM_MAPPING_NAMES and not getattr(config, "is_decoder", False)
    if config.is_encoder_decoder or encoder:
        what = "an encoder-decoder" if config.is_encoder_decoder else "an encoder"
        raise UserError(
            f"{kind} is {what}; {task} needs a decoder", "choose one such as openai-community/gpt2", key="model.name"
        )
    return require_class(AutoModelForCausalLM, config, task)


class LanguageTask(WithoutPrompts):
    """The parts that are the same for every task whose model foretells tokens."""

    new_head = False
    head: Head | None = None
    generates = False
    quality_name = "loss"
    collator = staticmethod(pad_by_position)

    def __init__(self, data: Data) -> None:
        self.data = data

    def fit(self, rows: Dataset, config: PretrainedConfig) -> None:
        """Nothing is learnt from the rows."""

    def recall(self, config: PretrainedConfig) -> None:
        """Nothing was learnt from the rows."""

    def strata(self, rows: Dataset) -> np.ndarray | None:
        return None

    def unknown_labels(self, rows: Dataset) -> list[dict[str, str]]:
        return [{} for _ in rows]

    def columns(self, tokenizer: PreTrainedTokenizerBase) -> Features:
        columns = {"input_ids": TOKENS, "labels": TOKENS}
        return Features(columns | ({REFERENCES: List(Value("string"))} if self.generates else {}))

    def settings(self) -> dict[str, Any]:
        data = self.data
        return {
            "prompt": data.prompt,
            "chat_template": data.chat_template,
            "over_long": data.over_long,
            "seed": data.seed,
            "supervise": data.supervise,
            "reasoning": data.reasoning,
            "tools": data.tools,
            "template_arguments": data.template_arguments,
        }

    def config_values(self) -> dict[str, Any]:
        return {}

    def reduce_logits(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return token_loss_sums(logits, labels, shift=True)

    def complete(self, prediction: EvalPrediction, encoded: Encoded, tokenizer: PreTrainedTokenizerBase) -> EvalPrediction:
        """A third column: the bytes of each row's supervised text, for bits per byte."""
        labels = encoded.dataset.select_columns("labels")
        bytes_of_rows = [text_bytes(tokenizer, batch["labels"]) for batch in labels.iter(BATCH)]
        sums = np.concatenate([prediction.predictions, np.concatenate(bytes_of_rows)[:, None]], axis=1)
        return EvalPrediction(predictions=sums, label_ids=prediction.label_ids)

    def quality(self, prediction: EvalPrediction) -> np.ndarray:
        """The loss a token, less being better."""
        sums = prediction.predictions.astype(np.float64)
        return -sums[:, 0] / np.maximum(sums[:, 1], 1)

    def resamplers(self, prediction: EvalPrediction) -> dict[str, Resampler]:
        return loss_resamplers(prediction.predictions)

    def score(self, prediction: EvalPrediction) -> dict[str, float]:
        return loss_metrics(prediction.predictions)

    def ask(self, row: dict[str, Any]) -> dict[str, Any]:
        return row

    def answer(self, row: dict[str, Any], prediction: EvalPrediction, index: int) -> dict[str, Any]:
        return self.describe(prediction, index)

    def describe(self, prediction: EvalPrediction, index: int) -> dict[str, Any]:
        total, tokens = (float(value) for value in prediction.predictions[index][:2])
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


def text_bytes(tokenizer: PreTrainedTokenizerBase, labels: list[list[int]]) -> np.ndarray:
    """Bytes of the supervised text of each row in UTF-8, shape (rows,); special tokens are no text."""
    texts = tokenizer.batch_decode([[i for i in row if i != IGNORED] for row in labels], skip_special_tokens=True)
    return np.array([len(text.encode()) for text in texts], dtype=np.float64)


def as_columns(examples: list[tuple[Example | None, Outcome]]) -> dict[str, list[Any]]:
    """Examples and what became of them, as columns; a dropped row has no tokens."""
    return {
        "input_ids": [example.input_ids if example else [] for example, _ in examples],
        "labels": [example.labels if example else [] for example, _ in examples],
        "outcome": [int(outcome) for _, outcome in examples],
    }


def first_answers(
    batch: dict[str, list[Any]], column: str, positions: list[int]
) -> tuple[dict[str, list[Any]], list[list[str]]]:
    """The batch with one answer a row, the first of several; and all answers of the rows that have several.

    Raises:
        UserError: an answer is no text.
    """
    lists = [
        [text for place in range(len(value)) if (text := text_of({column: value}, column, place, row)) is not None]
        if isinstance(value, list)
        else []
        for value, row in zip(batch[column], positions, strict=True)
    ]
    firsts = [
        (texts[0] if texts else None) if isinstance(value, list) else value
        for value, texts in zip(batch[column], lists, strict=True)
    ]
    return batch | {column: firsts}, [texts if len(texts) > 1 else [] for texts in lists]


def fitted(prompt: list[int] | None, answer: list[int], max_length: int, over_long: str) -> tuple[Example | None, Outcome]:
    """A prompt and its answer as one example that is no longer than `max_length`.

    Args:
        prompt: already cut where it was too long and may be; None where nothing of it fits.
        over_long: "cut_answer" cuts the answer's end off where there is room for some of it; else such a row is dropped.
    """
    if prompt is not None and len(prompt) + len(answer) <= max_length:
        return join(prompt, answer), Outcome.KEPT
    if prompt is not None and over_long == "cut_answer" and len(prompt) < max_length:
        return join(prompt, answer[: max_length - len(prompt)]), Outcome.CUT_ANSWER
    return None, Outcome.TOO_LONG


def text_of(batch: dict[str, list[Any]], column: str, position: int, row: int) -> str | None:
    """A field's text, or None where it is empty.

    Raises:
        RowError: it is no text.
    """
    value = batch[column][position]
    if is_empty(value):
        return None
    if not isinstance(value, str):
        message = f"'{column}' is no text: {str(value)[:60]}"
        raise RowError(row, message, "is the right column mapped?", key=f"data.columns.{column}")
    return value
