"""Language modeling: the next token of plain text, laid end to end and cut into blocks; every token is supervised."""

import bisect
from collections.abc import Sequence
from typing import Any

import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, PretrainedConfig, PreTrainedTokenizerBase

from ftkit.compat import pad_by_position
from ftkit.data.clean import require_filled
from ftkit.data.prompts import end_token
from ftkit.errors import UserError
from ftkit.recipe.schema import Data
from ftkit.tasks.base import Encoded
from ftkit.tasks.prompted import describe_loss, score_losses, token_loss_sums

BATCH = 1000


class LanguageModeling:
    new_head = False
    generates = False
    score = staticmethod(score_losses)
    describe = staticmethod(describe_loss)
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

    def auto_class(self, config: PretrainedConfig) -> Any:
        if config.is_encoder_decoder:
            message = f"{config.model_type} is an encoder-decoder; language-modeling needs a decoder"
            raise UserError(message, "choose a decoder such as openai-community/gpt2", key="model.name")
        return AutoModelForCausalLM

    def encode(
        self, rows: Dataset, tokenizer: PreTrainedTokenizerBase, config: PretrainedConfig, max_length: int
    ) -> Encoded:
        rows, numbers, counts = require_filled(rows, ["text"], drop=self.data.drop_empty)
        end = end_token(tokenizer)
        stream: list[int] = []
        starts: list[int] = []
        texts = list(rows["text"])
        for first in range(0, len(texts), BATCH):
            for ids in tokenizer(texts[first : first + BATCH], verbose=False)["input_ids"]:
                starts.append(len(stream))
                stream += ids if ids and ids[-1] == end else [*ids, end]
        offsets = [offset for offset in range(0, len(stream), max_length) if len(stream) - offset > 1]
        blocks = [stream[offset : offset + max_length] for offset in offsets]
        counts["tokens"] = len(stream)
        dataset = Dataset.from_dict({"input_ids": blocks, "labels": blocks})
        return Encoded(dataset, [numbers[_row_at(starts, offset)] for offset in offsets], counts)

    def reduce_logits(self, logits: Any, labels: torch.Tensor) -> torch.Tensor:
        return token_loss_sums(logits[0] if isinstance(logits, tuple) else logits, labels, shift=True)


def _row_at(starts: list[int], offset: int) -> int:
    """Which row the token at `offset` of the stream belongs to."""
    return bisect.bisect_right(starts, offset) - 1
