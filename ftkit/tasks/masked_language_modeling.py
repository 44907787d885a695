"""Masked language modeling: the hidden tokens of a text, for adapting an encoder to a domain.

As in BERT (Devlin et al. 2019, https://arxiv.org/abs/1810.04805): of 15 % of the tokens, four in five are replaced by the
mask token, one in ten by a random token, one in ten stays. The masks are drawn once with data.seed, so that the model is
measured before and after training on the same ones.
"""

from typing import Any

import numpy as np
import torch
from datasets import Features
from transformers import AutoModelForMaskedLM, PretrainedConfig, PreTrainedTokenizerBase

from ftkit.data.encode import IGNORED, Encoder
from ftkit.data.ledger import Outcome
from ftkit.data.prompts import Example
from ftkit.errors import UserError
from ftkit.models.architecture import require_class
from ftkit.tasks.language import LanguageTask, as_columns, text_of, token_loss_sums

MASKED_SHARE = 0.15


class MaskedLanguageModeling(LanguageTask):
    def auto_class(self, config: PretrainedConfig) -> Any:
        return require_class(AutoModelForMaskedLM, config, "masked-language-modeling")

    def encoder(
        self, rows: Features, tokenizer: PreTrainedTokenizerBase, config: PretrainedConfig, max_length: int
    ) -> Encoder:
        if tokenizer.mask_token_id is None:
            raise UserError("the tokenizer has no mask token", "use task language-modeling for a decoder", key="model.name")
        cutting = {"truncation": True, "max_length": max_length, "return_special_tokens_mask": True}

        def encode(batch: dict[str, list[Any]], positions: list[int]) -> dict[str, list[Any]]:
            texts = [text_of(batch, "text", index, row) for index, row in enumerate(positions)]
            full = [index for index, text in enumerate(texts) if text is not None]
            encoded = tokenizer([texts[index] for index in full] or ["none"], **cutting)
            made: dict[int, tuple[Example, Outcome]] = {}
            for place, index in enumerate(full):
                ids, special = encoded["input_ids"][place], encoded["special_tokens_mask"][place]
                random = np.random.default_rng((self.data.seed, positions[index]))
                pair = hide(np.array(ids), np.array(special, bool), tokenizer.mask_token_id, len(tokenizer), random)
                if encoded.is_fast:
                    cut = bool(encoded.encodings[place].overflowing)
                else:  # a slow tokenizer does not tell
                    cut = len(ids) == max_length and len(tokenizer(texts[index])["input_ids"]) > max_length
                made[index] = (Example(*(part.tolist() for part in pair)), Outcome.CUT_TEXT if cut else Outcome.KEPT)
            return as_columns([made.get(index, (None, Outcome.EMPTY)) for index in range(len(texts))])

        return encode

    def reduce_logits(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return token_loss_sums(logits, labels, shift=False)


def hide(
    ids: np.ndarray, special: np.ndarray, mask: int, vocabulary: int, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Token ids of one text with some hidden, and their labels: the true id where a token was chosen, else -100."""
    open_places = np.flatnonzero(~special)
    count = min(len(open_places), max(1, round(MASKED_SHARE * len(open_places))))
    chosen = random.permutation(open_places)[:count]
    labels, masked = np.full(len(ids), IGNORED), ids.copy()
    labels[chosen] = ids[chosen]
    kind = random.random(count)
    masked[chosen[kind < 0.8]] = mask
    replaced = chosen[(kind >= 0.8) & (kind < 0.9)]
    masked[replaced] = random.integers(0, vocabulary, len(replaced))
    return masked, labels
