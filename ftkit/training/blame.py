"""Which of the user's rows a batch holds, and which of them alone make its loss no number: looked for once it has happened.

A batch brings no numbers of rows along, so its token ids are looked for among the encoded rows.
"""

import math
from typing import Any

import numpy as np
import torch

from ftkit.data.encode import Encoded
from ftkit.models.frozen import FROZEN, Reading
from ftkit.training.dispatcher import Parts
from ftkit.training.divergence import EVAL, LOSS, Batch, Divergence, loss_of
from ftkit.training.frozen_body import KeptRows
from ftkit.training.micro_batches import Part, count_rows, cut_rows


def rows_of(parts: Parts, split: str, batches: list[Batch]) -> np.ndarray:
    """The ledger's numbers of the rows in batches, ascending; none where they are not held, as of a stream."""
    encoded = parts.data.encoded.get(split)
    if encoded is None or (split == "train" and parts.data.stream is not None):
        return np.zeros(0, np.int64)
    rows = parts.trainer.train_dataset if split == "train" else parts.trainer.eval_dataset
    entries = sorted({
        entry for batch in batches
        for entry in (kept_entries(batch, rows) if isinstance(rows, KeptRows) else entries_of(batch, encoded))
    })  # fmt: skip
    members = [row for entry in entries for row in (encoded.members[entry] if encoded.members else [encoded.rows[entry]])]
    return np.unique(parts.data.splits.numbers(split)[members])


def kept_entries(batch: Batch, rows: KeptRows) -> list[int]:
    """Entries whose kept outputs stand in a batch, which may have no token ids any more."""
    if rows.kept.reading is Reading.ALL:
        return entries_of(batch, Encoded(rows.rows, [], np.zeros(0)))
    wanted = {row.contiguous().view(torch.uint8).numpy().tobytes() for row in batch[FROZEN].cpu()}
    return [entry for entry, kept in enumerate(rows.kept.arrays[FROZEN]) if kept.tobytes() in wanted]


def entries_of(batch: Batch, encoded: Encoded) -> list[int]:
    """Entries whose token ids stand in a batch, padded on either side or behind one another."""
    rows = [ids.tobytes() for ids in token_ids(batch)]
    found = []
    for entry, ids in enumerate(encoded.dataset.select_columns("input_ids").with_format("numpy")["input_ids"]):
        wanted = np.asarray(ids, np.int64).tobytes()
        if any(wanted == row or (encoded.members is not None and wanted in row) for row in rows):
            found.append(entry)
    return found


def token_ids(batch: Batch) -> list[np.ndarray]:
    """The tokens of each row without its padding."""
    ids, mask = batch["input_ids"].cpu().numpy(), batch.get("attention_mask")
    if mask is None or tuple(mask.shape) != ids.shape:
        return list(ids)
    return [row[kept] for row, kept in zip(ids, mask.cpu().numpy() != 0, strict=True)]


def guilty_parts(trainer: Any, batch: Batch) -> list[Batch]:
    """The rows of a batch, each a batch of its own, whose loss alone is no finite number."""
    single = [part.inputs for part in cut_rows(Part(batch, 1.0), 1, shifted=trainer.decoder)]
    return [one for one in single if not math.isfinite(loss_of(trainer, one))]


def blamed(parts: Parts, found: Divergence) -> tuple[str, np.ndarray, bool]:
    """The split and the rows to name, and whether they alone are to blame: with all others the model's loss is a number."""
    trainer, split = parts.trainer, "eval" if found.what == EVAL else "train"
    count = sum(count_rows(batch) for batch in found.batches)
    guilty = []
    if found.what in (LOSS, EVAL) and not math.isfinite(found.value):
        guilty = [one for batch in found.batches for one in guilty_parts(trainer, batch)]
    alone = 0 < len(guilty) < count
    return split, rows_of(parts, split, guilty if alone else found.batches), alone
