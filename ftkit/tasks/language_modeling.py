"""Language modeling: the next token of plain text, laid end to end and cut into blocks; every token is supervised."""

import bisect
from typing import Any

from datasets import Dataset
from transformers import PretrainedConfig, PreTrainedTokenizerBase

from ftkit.data.clean import require_filled
from ftkit.data.prompts import end_token
from ftkit.tasks.base import Encoded
from ftkit.tasks.language import LanguageTask, decoder_class

BATCH = 1000


class LanguageModeling(LanguageTask):
    def auto_class(self, config: PretrainedConfig) -> Any:
        return decoder_class(config, "language-modeling")

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


def _row_at(starts: list[int], offset: int) -> int:
    """Which row the token at `offset` of the stream belongs to."""
    return bisect.bisect_right(starts, offset) - 1
