"""Frozen blocks computed once for each row: for all epochs, for every evaluation, and for later runs on the same rows.

What the blocks give is kept under what it follows from: the frozen weights and the model's code, the precision, and the
encoded rows. It is used only where the model, asked on a few of the very rows, says the same with it as without.
"""

import inspect
import json
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
import xxhash
from datasets import Dataset
from torch.utils.data import Dataset as TorchDataset
from transformers import TrainingArguments

from ftkit import console
from ftkit.data.encode import digest
from ftkit.data.splits import fingerprint
from ftkit.models.frozen import (
    FROZEN,
    ROUNDING,
    Batch,
    FrozenBlocks,
    Reading,
    Unkeepable,
    difference,
    find_reading,
    refusing,
    replayed,
)
from ftkit.models.heads import last_blocks
from ftkit.recipe.schema import Transfer
from ftkit.training.arguments import autocast_dtype
from ftkit.training.kept_outputs import OUTPUTS, KeptOutputs, Writer, open_kept
from ftkit.units import size_words, time_words

TOKENS = 2048  # of a batch that is recorded, padding counted
PROBED = 16  # rows on which it is tried
# Of a config, what the frozen blocks do not depend on: names, and what the head is made of.
LEFT_OUT = ("_name_or_path", "id2label", "label2id", "num_labels", "problem_type", "architectures", "use_cache")


class KeptRows(TorchDataset[Any]):
    """Encoded rows with what the frozen blocks gave for them; the data loader asks for a batch at a time."""

    def __init__(self, rows: Dataset, kept: KeptOutputs) -> None:
        self.rows, self.kept = rows, kept

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """The row as it was encoded, which samplers look at for its length."""
        return dict(self.rows[index])

    def __getitems__(self, indices: list[int]) -> Any:
        """A batch that is ready, or the rows with their places, for the task's collator."""
        if self.kept.reading is not Reading.ALL:
            return Ready(self.kept, indices)
        rows = self.rows.__getitems__(indices)
        return Ready(self.kept, indices, rows)


class Ready:
    """Rows of one batch on their way to the collator; `rows` only where it must make them a batch."""

    def __init__(self, kept: KeptOutputs, indices: list[int], rows: list[dict[str, Any]] | None = None) -> None:
        self.kept, self.indices, self.rows = kept, indices, rows


class KeptCollator:
    """The task's collator, which also takes rows whose frozen blocks are computed."""

    def __init__(self, collate: Callable[[list[Any]], Any]) -> None:
        self.collate = collate

    def __call__(self, rows: list[Any] | Ready) -> Batch:
        if not isinstance(rows, Ready):
            return dict(self.collate(rows))
        if rows.rows is None:
            return rows.kept.batch(rows.indices)
        batch = dict(self.collate(rows.rows))
        return batch | {FROZEN: rows.kept.tokens(rows.indices, batch["input_ids"].shape[1])}


class FrozenBody:
    """The frozen blocks of a model in training, and the rows for which they are computed.

    Args:
        collate: the task's collator.
        splits: the encoded rows by split, and the tokens of each row.
        reason: why nothing is kept, in words; empty where it is.
    """

    def __init__(
        self, model: Any, block: Transfer, arguments: TrainingArguments, collate: Callable[[list[Any]], Any],
        splits: dict[str, tuple[Dataset, np.ndarray]], reason: str,
    ) -> None:  # fmt: skip
        self.collate, self.splits, self.reason = collate, splits, reason
        self.precision = autocast_dtype(arguments)
        self.frozen = None if reason else FrozenBlocks(model, block.unfreeze_last, self.precision)
        self.found: dict[str, KeptRows | None] = {}
        self.facts: dict[str, Any] = {}
        self.model_key = ""
        if reason:
            console.say(f"the frozen body is computed in every epoch: {reason}")

    def rows(self, split: str) -> KeptRows | None:
        """The split's rows with what the frozen blocks give for them, computed now or read; None where nothing is kept."""
        if self.frozen is None or split not in self.splits:
            return None
        if split not in self.found:
            kept = self._keep(split, *self.splits[split], self.frozen)
            self.found[split] = KeptRows(self.splits[split][0], kept) if kept else None
        return self.found[split]

    def describe(self) -> dict[str, Any]:
        """What run.json says."""
        if self.reason:
            return {"computed": "in every epoch", "reason": self.reason}
        kept = any("folder" in facts for facts in self.facts.values())
        return {"computed": "once" if kept else "in every epoch", **self.facts}

    def _keep(self, split: str, rows: Dataset, lengths: np.ndarray, frozen: FrozenBlocks) -> KeptOutputs | None:
        started, probe = time.monotonic(), spread(lengths)
        batch = dict(self.collate([rows[index] for index in probe]))
        try:
            reading, hidden = find_reading(frozen, batch)
        except Unkeepable as error:
            return self._refuse(split, str(error))
        folder = OUTPUTS.folder / self._key(rows, reading, frozen)
        kept = open_kept(folder)
        reused = kept is not None and self._is_right(kept, probe, batch, hidden)
        if not reused:
            entries = len(rows) if reading is not Reading.ALL else int(lengths.sum())
            needed = entries * hidden.shape[-1] * hidden.element_size()
            try:
                shutil.rmtree(folder, ignore_errors=True)  # what lies there cannot be read, or is not right
                if not OUTPUTS.make_room(needed):
                    return self._refuse(
                        split, f"its {size_words(needed)} do not fit into {folder.parent} with room to spare"
                    )
                kept = record(frozen, split, rows, self.collate, Writer(folder, reading, lengths))
            except Unkeepable as error:
                return self._refuse(split, str(error))
            except OSError as error:
                return self._refuse(split, f"it cannot be kept in {folder.parent}: {error.strerror}")
        self._tell(split, kept, reused, time.monotonic() - started)
        return kept

    def _is_right(self, kept: KeptOutputs, probe: list[int], batch: Batch, hidden: torch.Tensor) -> bool:
        """Whether a few rows are kept as they are computed now, but for rounding."""
        expected = replayed(dict(batch), hidden, kept.reading)[FROZEN]
        found = kept.hidden(probe, batch["input_ids"].shape[1])
        return difference(found, expected) <= ROUNDING[self.precision]

    def _key(self, rows: Dataset, reading: Reading, frozen: FrozenBlocks) -> str:
        self.model_key = self.model_key or model_key(frozen, self.precision)
        return digest(self.model_key, fingerprint(rows), reading.value)

    def _refuse(self, split: str, why: str) -> KeptOutputs | None:
        """Say why nothing is kept, and give that nothing."""
        console.say(f"the frozen body is computed in every epoch for the {split} rows: {why}")
        self.facts[split] = {"computed": "in every epoch", "reason": why}
        return None

    def _tell(self, split: str, kept: KeptOutputs | None, reused: bool, seconds: float) -> None:
        if kept is None:
            return
        again = "; reused" if reused else f"; {time_words(seconds)}"
        console.say(
            f"the frozen body is computed once: {kept.rows:,} {split} rows, {kept.reading.value}, "
            f"{size_words(kept.bytes)} in {kept.folder}{again}"
        )
        self.facts[split] = {
            "rows": kept.rows, "bytes": kept.bytes, "kept": kept.reading.value, "folder": str(kept.folder), "reused": reused,
            "seconds": round(seconds, 3),
        }  # fmt: skip


def record(
    frozen: FrozenBlocks, split: str, rows: Dataset, collate: Callable[[list[Any]], Any], writer: Writer
) -> KeptOutputs | None:
    """Compute what the frozen blocks give for all rows, those of about the same length together.

    Raises:
        OSError: it cannot be written.
        Unkeepable: the model cannot be asked for some of them.
    """
    frozen.model.eval()
    try:
        with console.progress_bar() as bar:
            task = bar.add_task(f"computing the frozen body for {split}", total=len(rows))
            for chosen in batches(writer.lengths):
                batch = dict(collate(rows.__getitems__(chosen.tolist())))
                with refusing():
                    writer.put(chosen, batch, frozen.compute(batch)[1])
                bar.advance(task, len(chosen))
        return writer.close()
    finally:
        writer.discard()


def why_not(model: Any, block: Transfer, arguments: TrainingArguments, *, streamed: bool, rows: int) -> str:
    """Why the frozen blocks are not computed once, in words; empty where they are."""
    steps, step = arguments.max_steps, arguments.train_batch_size * arguments.gradient_accumulation_steps
    trained = steps * step if steps > 0 else arguments.num_train_epochs * rows
    _, blocks = last_blocks(model)
    reasons = {
        "strategy.cache_frozen is false": not block.cache_frozen,
        "every block learns": block.unfreeze_last == len(blocks),
        "the rows are streamed": streamed,
        "an encoder-decoder reads more than its last block": model.config.is_encoder_decoder,
        "training has several devices": arguments.world_size > 1 or arguments.n_gpu > 1,
        "training.torch_compile": arguments.torch_compile,
        "training.neftune_noise_alpha puts noise into it": bool(arguments.neftune_noise_alpha),
        "training.include_num_input_tokens_seen counts whole rows": arguments.include_num_input_tokens_seen != "no",
        "training ends before every row was seen once": trained < rows,
    }
    return next((reason for reason, holds in reasons.items() if holds), "")


def spread(lengths: np.ndarray) -> list[int]:
    """A few rows of all lengths."""
    order = np.argsort(lengths, kind="stable")
    return order[np.unique(np.linspace(0, len(order) - 1, PROBED).astype(int))].tolist()


def batches(lengths: np.ndarray) -> Sequence[np.ndarray]:
    """Rows of about the same length together, the longest first, so many tokens at a time."""
    order, found, first = np.argsort(-lengths, kind="stable"), [], 0
    while first < len(order):
        count = max(1, TOKENS // max(1, int(lengths[order[first]])))
        found.append(order[first : first + count])
        first += count
    return found


def model_key(frozen: FrozenBlocks, precision: torch.dtype | None) -> str:
    """A digest of all that the frozen blocks' output follows from, but for the rows."""
    model, found = frozen.model, xxhash.xxh3_128()
    config = {name: value for name, value in model.config.to_dict().items() if name not in LEFT_OUT}
    place = f"{len(frozen.blocks)} {model.device.type} {precision} {model.config._attn_implementation}"
    found.update(json.dumps(config, sort_keys=True, default=str).encode())
    found.update(f"{place} {transformers.__version__} {torch.__version__}".encode())
    found.update(Path(inspect.getfile(type(model))).read_bytes())
    learning = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    tensors = [*model.named_parameters(), *model.named_buffers()]
    for name, tensor in sorted(tensors, key=lambda pair: pair[0]):
        if name not in learning:
            found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            found.update(memoryview(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()))
    return found.hexdigest()
