"""Summarization: by prompt for decoder-only models, or by encoder and decoder; the summary is never cut unless asked."""

from typing import Any

import torch
from datasets import Features
from transformers import AutoModelForSeq2SeqLM, PretrainedConfig, PreTrainedTokenizerBase

from ftkit.data.encode import REFERENCES, Encoder
from ftkit.data.ledger import Outcome
from ftkit.data.prompts import Example, TextIds, answer_ids, end_token, fill, own_answer_ids, prompt_ids, whole_ids
from ftkit.models.architecture import require_class
from ftkit.recipe.schema import Data
from ftkit.tasks.base import BLANK
from ftkit.tasks.language import LanguageTask, as_columns, decoder_class, first_answers, fitted, text_of, token_loss_sums

DECODER_PROMPT = "Summarize the following text.\n\n{document}\n\nSummary:\n"
ENCODER_PROMPT = "{document}"


class Summarization(LanguageTask):
    generates = True

    def __init__(self, data: Data) -> None:
        super().__init__(data)
        self.shift = True  # decoder-only until the model's config says otherwise

    def auto_class(self, config: PretrainedConfig) -> Any:
        self.shift = not config.is_encoder_decoder
        if self.shift:
            return decoder_class(config, "summarization")
        return require_class(AutoModelForSeq2SeqLM, config, "summarization")

    def encoder(
        self, rows: Features, tokenizer: PreTrainedTokenizerBase, config: PretrainedConfig, max_length: int
    ) -> Encoder:
        pairs, over_long = config.is_encoder_decoder, self.data.over_long or "cut_prompt"
        template = self.prompt_forms()["prompt"]
        source_ids, target_ids = (whole_ids, own_answer_ids) if pairs else (prompt_ids, answer_ids)

        def one(document: str, prompt: list[int], answer: list[int]) -> tuple[Example | None, Outcome]:
            room = max_length if pairs else max_length - len(answer)
            cut = len(prompt) > room and over_long == "cut_prompt"
            source = cut_document(tokenizer, template, document, room, source_ids) if cut else prompt
            if pairs:
                example, outcome = fitted_pair(source, answer, max_length, over_long)
            else:
                example, outcome = fitted(source, answer, max_length, over_long)
            return example, Outcome.CUT_PROMPT if cut and outcome is Outcome.KEPT else outcome

        def encode(batch: dict[str, list[Any]], positions: list[int]) -> dict[str, list[Any]]:
            batch, references = first_answers(batch, "summary", positions)
            texts = [
                (text_of(batch, "document", index, row), text_of(batch, "summary", index, row))
                for index, row in enumerate(positions)
            ]
            full = [(document, summary) for document, summary in texts if document is not None and summary is not None]
            prompts = source_ids(tokenizer, [fill(template, {"document": document}) for document, _ in full])
            answers = target_ids(tokenizer, [summary for _, summary in full])
            made = iter([one(document, *ids) for (document, _), *ids in zip(full, prompts, answers, strict=True)])
            columns = as_columns([(None, Outcome.EMPTY) if None in pair else next(made) for pair in texts])
            return columns | {REFERENCES: references}

        return encode

    def prompt_forms(self) -> dict[str, str]:
        return {"prompt": self.data.prompt or (DECODER_PROMPT if self.shift else ENCODER_PROMPT)}

    def prompt_parts(self, row: dict[str, Any]) -> dict[str, Any]:
        return {"form": "prompt", "values": {"document": row["document"]}}

    def ask(self, row: dict[str, Any]) -> dict[str, Any]:
        return row | {"summary": BLANK}

    def end_tokens(self, tokenizer: PreTrainedTokenizerBase) -> set[int]:
        return {end_token(tokenizer)}

    def reduce_logits(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return token_loss_sums(logits, labels, shift=self.shift)


def fitted_pair(
    source: list[int] | None, answer: list[int], max_length: int, over_long: str
) -> tuple[Example | None, Outcome]:
    """As `fitted`, for an encoder and a decoder, each with `max_length` of its own."""
    if source is None or len(source) > max_length or (len(answer) > max_length and over_long != "cut_answer"):
        return None, Outcome.TOO_LONG
    return Example(source, answer[:max_length]), Outcome.KEPT if len(answer) <= max_length else Outcome.CUT_ANSWER


def cut_document(
    tokenizer: PreTrainedTokenizerBase, template: str, document: str, room: int, source_ids: TextIds
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
