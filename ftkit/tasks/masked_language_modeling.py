"""Masked language modeling: the hidden tokens of a text, for adapting an encoder to a domain.

As in BERT (Devlin et al. 2019, https://arxiv.org/abs/1810.04805): of 15 % of the tokens, four in five are replaced by the
mask token, one in ten by a random token, one in ten stays. The masks are drawn once with data.seed, so that the model is
measured before and after training on the same ones.
"""

from typing import Any

import numpy as np
import torch
from datasets import Dataset
from transformers import AutoModelForMaskedLM, PretrainedConfig, PreTrainedTokenizerBase

from ftkit.data.clean import require_filled
from ftkit.errors import UserError
from ftkit.tasks.base import IGNORED, Encoded
from ftkit.tasks.language import LanguageTask, token_loss_sums

MASKED_SHARE = 0.15


class MaskedLanguageModeling(LanguageTask):
    def auto_class(self, config: PretrainedConfig) -> Any:
        return AutoModelForMaskedLM

    def encode(
        self, rows: Dataset, tokenizer: PreTrainedTokenizerBase, config: PretrainedConfig, max_length: int
    ) -> Encoded:
        rows, numbers, counts = require_filled(rows, ["text"], drop=self.data.drop_empty)
        if tokenizer.mask_token_id is None:
            raise UserError("the tokenizer has no mask token", "use task language-modeling for a decoder", key="model.name")
        encoded = tokenizer(list(rows["text"]), truncation=True, max_length=max_length, return_special_tokens_mask=True)
        random = np.random.default_rng(self.data.seed)
        columns: dict[str, list[list[int]]] = {"input_ids": [], "labels": []}
        for ids, special in zip(encoded["input_ids"], encoded["special_tokens_mask"], strict=True):
            masked, labels = hide(
                np.array(ids), np.array(special, dtype=bool), tokenizer.mask_token_id, len(tokenizer), random
            )
            columns["input_ids"].append(masked.tolist())
            columns["labels"].append(labels.tolist())
        counts["at max_length"] = sum(len(ids) == max_length for ids in columns["input_ids"])
        return Encoded(Dataset.from_dict(columns), numbers, counts)

    def reduce_logits(self, logits: Any, labels: torch.Tensor) -> torch.Tensor:
        return token_loss_sums(logits[0] if isinstance(logits, tuple) else logits, labels, shift=False)


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
