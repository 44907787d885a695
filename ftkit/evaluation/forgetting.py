"""What the model forgot: general text before training and after.

A model that foretells tokens is measured by its loss on that text. One with a new head foretells none any more: there the
question is how far the representations of its body moved, as the mean cosine distance of each text's mean vector.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from peft import PeftModel
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedTokenizerBase

from ftkit.data.encode import IGNORED
from ftkit.errors import UserError
from ftkit.evaluation.generation import autocast, drawn_places
from ftkit.metrics.estimates import RESAMPLES
from ftkit.metrics.resampling import draws, of_means, of_ratio
from ftkit.metrics.scales import mean_interval, student_interval
from ftkit.tasks.language import token_loss_sums
from ftkit.tasks.masked_language_modeling import hide

KEY = "evaluation.general_text"
TEXTS = 64
LONGEST = 128  # tokens of a text
BATCH = 16
LOSS, DRIFT = "loss", "drift"


@dataclass(frozen=True)
class GeneralText:
    """The texts as token ids, and how the model is measured on them.

    Attributes:
        labels: of each token the id to be foretold, or -100; none where drift is measured.
        shift: a position foretells the next token, as in decoders.
    """

    name: str
    kind: str
    ids: list[list[int]]
    labels: list[list[int]]
    shift: bool


def general_text(
    rows: Dataset, name: str, tokenizer: PreTrainedTokenizerBase, *, kind: str, masked: bool, room: int, seed: int
) -> GeneralText:
    """Texts drawn from a data set, made ready.

    Args:
        rows: with a column `text`.
        masked: tokens are hidden and foretold in their place, as by encoders.
        room: the most tokens that the model takes.

    Raises:
        UserError: there is no such column, or no text in it.
    """
    if "text" not in rows.column_names:
        raise UserError(f"{name} has no column 'text'", f"it has {', '.join(rows.column_names)}", key=KEY)
    texts = [text for text in rows.select(drawn_places(len(rows), TEXTS, seed))["text"] if text and text.strip()]
    cutting = {"truncation": True, "max_length": min(LONGEST, room), "return_special_tokens_mask": True}
    encoded = tokenizer(texts or ["a"], **cutting)
    pairs = zip(encoded["input_ids"], encoded["special_tokens_mask"], strict=True)
    rows_of_ids = [(ids, special) for ids, special in pairs if len(ids) > 1] if texts else []
    if not rows_of_ids:
        raise UserError(f"{name} has no text to measure on", "name another, or false for none", key=KEY)
    ids = [ids for ids, _ in rows_of_ids]
    if kind != LOSS or not masked:
        return GeneralText(name, kind, ids, ids, shift=True)
    random, size, mask = np.random.default_rng(seed), len(tokenizer), tokenizer.mask_token_id
    hidden = [hide(np.array(row), np.array(special, bool), mask, size, random) for row, special in rows_of_ids]
    ids, labels = ([part.tolist() for part in parts] for parts in zip(*hidden, strict=True))
    return GeneralText(name, kind, ids, labels, shift=False)


def measure_general(model: Any, text: GeneralText, pad: int, *, bf16: bool) -> np.ndarray:
    """Each text's summed loss and number of tokens, shape (texts, 2); for drift its mean vector, shape (texts, width)."""
    base = model.get_base_model() if isinstance(model, PeftModel) else model
    if text.kind == DRIFT:
        model = base.get_encoder() if base.config.is_encoder_decoder else base.base_model
    model.eval()
    found = []
    device = base.device
    with torch.inference_mode(), autocast(device.type, bf16):
        for first in range(0, len(text.ids), BATCH):
            ids, mask = padded(text.ids[first : first + BATCH], pad)
            output = model(input_ids=ids.to(device), attention_mask=mask.to(device))
            if text.kind == LOSS:
                labels, _ = padded(text.labels[first : first + BATCH], IGNORED)
                found.append(token_loss_sums(output.logits, labels.to(device), shift=text.shift).cpu())
            else:
                weight = mask.to(device)[..., None]
                found.append(((output[0].float() * weight).sum(1) / weight.sum(1)).cpu())
    return torch.cat(found).numpy()


def padded(rows: list[list[int]], filler: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows filled up on the right, and the mask of what is theirs, shape (rows, longest) each."""
    tensors = [torch.tensor(row) for row in rows]
    mask = pad_sequence([torch.ones_like(row) for row in tensors], batch_first=True)
    return pad_sequence(tensors, batch_first=True, padding_value=filler), mask


def forgetting(text: GeneralText, before: np.ndarray | None, after: np.ndarray, seed: int) -> dict[str, Any] | None:
    """What metrics.json says: the loss before and after, or the drift, and its interval over the texts."""
    if before is None:
        return None
    found: dict[str, Any] = {"kind": text.kind, "text": text.name, "rows": len(after)}
    if text.kind == DRIFT:
        drift = of_means(cosine_distances(before, after))
        samples = np.concatenate([drift.compute(weights) for weights in draws(len(after), RESAMPLES, seed)])
        moved = drift.value()
        low, high = mean_interval(moved, samples, len(after)) if moved else (0.0, 0.0)
        return found | {"baseline": None, "tuned": moved, "difference": moved, "interval": [max(low, 0.0), high]}
    was, now = (of_ratio(sums[:, 0].astype(np.float64), sums[:, 1].astype(np.float64)) for sums in (before, after))
    samples = np.concatenate([now.compute(weights) - was.compute(weights) for weights in draws(len(after), RESAMPLES, seed)])
    figures = {"baseline": was.value(), "tuned": now.value(), "difference": now.value() - was.value()}
    return found | figures | {"interval": student_interval(figures["difference"], samples, len(after))}


def cosine_distances(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """1 less the cosine of the angle between two vectors, for rows of shape (rows, width); 0 where nothing moved."""
    one, other = one.astype(np.float64), other.astype(np.float64)
    cosine = (one * other).sum(1) / np.maximum(np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1), 1e-12)
    return np.where((one == other).all(1), 0.0, 1 - cosine)
