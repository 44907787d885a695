"""Summarization: by prompt for decoder-only models, or by encoder and decoder; the summary is never cut."""

from collections.abc import Callable
from typing import Any

import torch
from datasets import Dataset
from transformers import AutoModelForSeq2SeqLM, PretrainedConfig, PreTrainedTokenizerBase

from ftkit.data.clean import require_filled
from ftkit.data.prompts import Example, answer_ids, fill, join, own_answer_ids, prompt_ids, whole_ids
from ftkit.recipe.schema import Data
from ftkit.tasks.base import Encoded
from ftkit.tasks.language import LanguageTask, collect, decoder_class, token_loss_sums

DECODER_PROMPT = "Summarize the following text.\n\n{document}\n\nSummary:\n"
ENCODER_PROMPT = "{document}"
SourceIds = Callable[[PreTrainedTokenizerBase, list[str]], list[list[int]]]


class Summarization(LanguageTask):
    generates = True

    def __init__(self, data: Data) -> None:
        super().__init__(data)
        self.shift = True  # decoder-only until the model's config says otherwise

    def auto_class(self, config: PretrainedConfig) -> Any:
        self.shift = not config.is_encoder_decoder
        return decoder_class(config, "summarization") if self.shift else AutoModelForSeq2SeqLM

    def encode(
        self, rows: Dataset, tokenizer: PreTrainedTokenizerBase, config: PretrainedConfig, max_length: int
    ) -> Encoded:
        rows, numbers, counts = require_filled(rows, ["document", "summary"], drop=self.data.drop_empty)
        pairs = config.is_encoder_decoder
        template = self.data.prompt or (ENCODER_PROMPT if pairs else DECODER_PROMPT)
        source_ids, target_ids = (whole_ids, own_answer_ids) if pairs else (prompt_ids, answer_ids)
        documents, answers = list(rows["document"]), target_ids(tokenizer, list(rows["summary"]))
        prompts = source_ids(tokenizer, [fill(template, {"document": document}) for document in documents])
        examples, cut = [], 0
        for document, prompt, answer in zip(documents, prompts, answers, strict=True):
            room = max_length if pairs else max_length - len(answer)
            fitted = prompt if len(prompt) <= room else cut_document(tokenizer, template, document, room, source_ids)
            fits = bool(fitted) and len(answer) <= max_length
            examples.append((Example(fitted, answer) if pairs else join(fitted, answer)) if fitted and fits else None)
            cut += fits and fitted is not prompt
        return collect(examples, numbers, counts, max_length, cut)

    def reduce_logits(self, logits: Any, labels: torch.Tensor) -> torch.Tensor:
        return token_loss_sums(logits[0] if isinstance(logits, tuple) else logits, labels, shift=self.shift)


def cut_document(
    tokenizer: PreTrainedTokenizerBase, template: str, document: str, room: int, source_ids: SourceIds
) -> list[int] | None:
    """The prompt's ids with the document's end cut so that they fit into `room`; None where not one token of it fits."""
    ends = [last for _, last in tokenizer(document, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]]
    keep = len(ends)
    while keep > 0:
        ids = source_ids(tokenizer, [fill(template, {"document": document[: ends[keep - 1]]})])[0]
        if len(ids) <= room:
            return ids
        keep -= len(ids) - room
    return None
