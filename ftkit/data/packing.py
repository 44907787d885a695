"""Packing: whole examples put together into blocks of tokens, none of which sees another example.

What keeps examples apart is position_ids that restart at each example, no attention mask and no cache: transformers builds
the mask that its attention needs out of the positions (https://github.com/huggingface/transformers/blob/v5.23.0/src/
transformers/masking_utils.py, `find_packed_sequence_indices`), sliding windows too. It does so only where there is neither a
mask nor a cache, and a model that does not look at positions says nothing: hence `require_isolation`. A block-diagonal mask
of 4 dimensions would be no better: a boolean one leaks with eager attention, which adds it as 0 and 1; it replaces a model's
sliding window; and flash attention takes none.
"""

import os
from bisect import bisect_left, insort
from collections.abc import Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.compute as pc  # type: ignore[import-untyped]
import torch
from accelerate.utils.memory import should_reduce_batch_size
from datasets import Dataset
from numpy.typing import NDArray

from ftkit.compat import keep_4bit_weights
from ftkit.data.encode import IGNORED, digest
from ftkit.errors import UserError

PROBE_LENGTHS = (13, 9, 5)  # tokens of the examples that `require_isolation` tries: two share a block, one is padded
KEPT = 16  # of an example as long as those of the data, the tokens at its end whose logits are looked at
LOOKED_AT = 10_000  # blocks, among which the one with the longest example is tried


def pack(
    dataset: Dataset, max_length: int, *, file: Path | None = None, batch_size: int = 1000
) -> tuple[Dataset, list[list[int]]]:
    """Whole examples in blocks, as full as best-fit decreasing gets them, in the order of each block's first example.

    The first label of each example is -100, so that the end of one never foretells the start of the next. Where that token
    was supervised (raw text), the loss loses nothing: training without packing cannot count it either, since a row's first
    label has no token before it.

    Args:
        dataset: columns input_ids and labels; others are left out.
        max_length: the most tokens of a block.
        file: where the blocks are written, to be read from there; in memory without.
        batch_size: blocks built at a time.

    Returns:
        The blocks (input_ids, labels, position_ids), and for each the numbers of its examples, ascending, in which order
        their tokens stand.

    Raises:
        ValueError: an example is longer than max_length, or has more or fewer labels than tokens.
    """
    rows = dataset.select_columns(["input_ids", "labels"]).with_format("arrow")
    lengths = example_lengths(rows, batch_size)
    if len(lengths) == 0:
        raise ValueError("there is no example to pack")
    if (longest := int(lengths.max())) > max_length:
        raise ValueError(f"example {int(lengths.argmax())} has {longest:,} tokens, more than a block's {max_length:,}")
    blocks = fill_blocks(lengths, max_length)
    tables = (build_blocks(rows, blocks[start : start + batch_size], lengths) for start in range(0, len(blocks), batch_size))
    return collect_tables(tables, file), blocks


def cut_long(dataset: Dataset, max_length: int, batch_size: int = 1000) -> tuple[Dataset, list[int], dict[str, int]]:
    """Texts as examples of at most `max_length` tokens: a longer one becomes several, each a whole block but for the last.

    No token is lost. The first of each example is not foretold, as in blocks without packing.

    Args:
        dataset: columns input_ids and labels of at least two tokens each.

    Returns:
        The examples; for each the number of its text; and how many tokens there are, and texts that were cut.
    """
    lengths = example_lengths(dataset.select_columns(["input_ids", "labels"]).with_format("arrow"), batch_size)
    notes = {"tokens": int(lengths.sum()), "texts cut into several": int((lengths > max_length).sum())}
    if not notes["texts cut into several"]:
        return dataset, list(range(len(lengths))), {"tokens": notes["tokens"]}

    def cut(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        return {name: [part for ids in lists for part in cut_list(ids, max_length)] for name, lists in batch.items()}

    made = dataset.map(
        cut, batched=True, batch_size=batch_size, load_from_cache_file=False, features=dataset.features,
        new_fingerprint=digest(dataset._fingerprint, "examples", str(max_length)),
    )  # fmt: skip
    return made, np.repeat(np.arange(len(lengths)), -(-lengths // max_length)).tolist(), notes


def cut_list(values: list[int], most: int) -> list[list[int]]:
    """Stretches of so many values and the rest, which takes one of the stretch before it where it would be a single one."""
    starts = list(range(0, len(values), most))
    if len(values) > 1 and len(values) - starts[-1] == 1:  # a token alone has no loss
        starts[-1] -= 1
    return [values[start:end] for start, end in zip(starts, [*starts[1:], len(values)], strict=True)]


def example_lengths(rows: Dataset, batch_size: int) -> NDArray[np.int64]:
    """Tokens of each example.

    Raises:
        ValueError: an example's labels are not as many as its tokens.
    """
    lengths = [np.empty(0, np.int64)]
    for table in rows.iter(batch_size=batch_size):
        tokens, labels = (np.diff(list_offsets(table, name)) for name in ("input_ids", "labels"))
        if (tokens != labels).any():
            number = sum(map(len, lengths)) + int((tokens != labels).argmax())
            raise ValueError(f"example {number} has not as many labels as tokens")
        lengths.append(tokens)
    return np.concatenate(lengths)


def list_offsets(table: pa.Table, name: str) -> NDArray[np.int64]:
    """Where each list of the column begins in its flattened values, and at the end where the last one ends."""
    lengths = pc.list_value_length(table[name]).to_numpy()
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])


def fill_blocks(lengths: NDArray[np.int64], max_length: int) -> list[list[int]]:
    """The numbers of the examples in each block: the longest first, each into the fullest block that it fits.

    Best-fit decreasing needs at most 11/9 of the fewest blocks there could be (D. S. Johnson, Near-optimal bin packing
    algorithms, 1973).
    """
    blocks: list[list[int]] = []
    spaces: list[int] = []  # the different numbers of free tokens, ascending; there are at most max_length
    holders: dict[int, list[list[int]]] = {}  # the blocks that have each
    for number in np.argsort(-lengths, kind="stable").tolist():
        length = int(lengths[number])
        place = bisect_left(spaces, length)
        if place == len(spaces):
            blocks.append(block := [])
            free = max_length
        else:
            free = spaces[place]
            block = holders[free].pop()
            if not holders[free]:
                del holders[free], spaces[place]
        block.append(number)
        if free - length not in holders:
            holders[free - length] = []
            insort(spaces, free - length)
        holders[free - length].append(block)
    return sorted(sorted(block) for block in blocks)


def build_blocks(rows: Dataset, blocks: list[list[int]], lengths: NDArray[np.int64]) -> pa.Table:
    """The blocks' columns; the examples' values are concatenated, and only where blocks begin and end is new."""
    members = [number for block in blocks for number in block]
    table = rows[members]
    sizes = lengths[members]
    ends = np.cumsum(sizes)
    starts = ends - sizes
    labels = flat_values(table, "labels").to_numpy().copy()
    labels[starts[sizes > 0]] = IGNORED
    positions = np.arange(ends[-1], dtype=np.int32) - np.repeat(starts, sizes).astype(np.int32)
    borders = np.concatenate([[0], ends])[[0, *accumulate(map(len, blocks))]]
    columns = {"input_ids": flat_values(table, "input_ids"), "labels": pa.array(labels), "position_ids": pa.array(positions)}
    offsets = pa.array(borders, pa.int32())
    return pa.table({name: pa.ListArray.from_arrays(offsets, values) for name, values in columns.items()})


def flat_values(table: pa.Table, name: str) -> pa.Array:
    """The column's lists, one behind the other."""
    return table[name].combine_chunks().flatten()


def collect_tables(tables: Iterator[pa.Table], file: Path | None) -> Dataset:
    """One dataset of all tables: in memory, or mapped from the file, which is there whole or not at all."""
    if file is None:
        return Dataset(pa.concat_tables(tables))
    unfinished = file.with_name(f"{file.name}.{os.getpid()}.tmp")
    first = next(tables)
    try:
        with pa.OSFile(str(unfinished), "wb") as sink, pa.ipc.new_stream(sink, first.schema) as writer:
            writer.write_table(first)
            for table in tables:
                writer.write_table(table)
        unfinished.replace(file)
    finally:
        unfinished.unlink(missing_ok=True)
    return Dataset.from_file(str(file))


class PackedCollator:
    """Batches of blocks in which no token attends to another example or to padding.

    A batch says use_cache=False itself, since with a cache (the default of models outside the Trainer) examples leak. Each
    padding token has position 0 and so counts as an example of its own; right where padding has an end token's id too.

    Args:
        pad_token_id: what short blocks are filled with.
        flatten: join the batch's blocks into one row without padding, and say where its examples begin, which flash
            attention would look for in each layer. With other kinds the mask's memory would grow with the square of the
            batch size.
        borders: say where examples begin, which several GPUs of one process could not be dealt.
    """

    def __init__(self, pad_token_id: int, *, flatten: bool = False, borders: bool = True) -> None:
        self.fillers = {"input_ids": pad_token_id, "labels": IGNORED, "position_ids": 0}
        self.flatten, self.borders = flatten, flatten and borders

    def __call__(self, blocks: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Columns of shape (blocks, longest) or, flattened, (1, tokens); then also where examples begin and the
        longest one's tokens, in the words of transformers' `FlashAttentionKwargs`.
        """
        batch: dict[str, Any] = {}
        for name, filler in self.fillers.items():
            values = [torch.as_tensor(block[name], dtype=torch.long) for block in blocks]
            if self.flatten:
                batch[name] = torch.cat(values).unsqueeze(0)
            else:
                batch[name] = torch.nn.utils.rnn.pad_sequence(values, batch_first=True, padding_value=filler)
        return batch | (example_borders(batch["position_ids"]) if self.borders else {}) | {"use_cache": False}


def example_borders(positions: torch.Tensor) -> dict[str, Any]:
    """Where the examples of one row begin, and the end of the last, shape (examples + 1,); and the longest's tokens.

    Args:
        positions: shape (1, tokens), which begin again at 0.
    """
    begins = (positions[0] == 0).nonzero()[:, 0]
    borders = torch.nn.functional.pad(begins, (0, 1), value=positions.numel()).to(torch.int32)
    longest = int(borders.diff().max())
    return {"cu_seq_lens_q": borders, "cu_seq_lens_k": borders, "max_length_q": longest, "max_length_k": longest}


def packed_collator(tokenizer: Any, model: Any, *, borders: bool = True) -> PackedCollator:
    """The collator that fits the model's kind of attention."""
    return PackedCollator(tokenizer.pad_token_id, flatten=is_flash(model.config._attn_implementation), borders=borders)


def is_flash(attention: str | None) -> bool:
    """Whether an attention takes the tokens of all rows behind one another, in half precision."""
    return any(word in (attention or "") for word in ("flash", "varlen"))


def require_isolation(model: Any, lengths: Sequence[int] = ()) -> None:
    """Try whether the model keeps packed examples apart, and gives each the logits that it has alone.

    An architecture that works from other positions or carries a state along fails, as does an attention that ignores where
    positions restart. The model is as before, but in one thing: its 4-bit weights are kept from being repacked (see
    `keep_4bit_weights`), which evaluating would do.

    Args:
        lengths: of the examples of a block of the data (`lengths_to_try`), which is tried as well: what begins only at some
            length, as other frequencies or a choice of keys, does not show in short examples.

    Raises:
        UserError: an example's logits depend on those before it in its block, or are not those that it has alone.
    """
    keep_4bit_weights(model)
    training, flash = model.training, is_flash(model.config._attn_implementation)
    device, collator = model.get_input_embeddings().weight.device, PackedCollator(0, flatten=flash)
    exact = device.type == "cpu" and all(weight.dtype in (torch.float32, torch.float64) for weight in model.parameters())
    model.eval()
    try:
        # flash attention takes half precision only; the Trainer's autocast gives it that
        with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=flash):
            isolation = measure_isolation(model, collator)
            long = measure_block(model, collator, lengths, exact=exact) if len(lengths) > 1 else 0.0
    except (TypeError, ValueError, RuntimeError, AttributeError, LookupError, AssertionError) as error:
        if isinstance(error, RuntimeError) and should_reduce_batch_size(error):  # memory ran out
            raise
        raise refusal(model, " ".join(str(error).split())[:200]) from error
    finally:
        model.train(training)
    if not isolation.leak <= 1e-5 + 4 * isolation.rounding:  # so written, NaN is refused too
        raise refusal(model, f"an example's logits change by {isolation.leak:.2%} with the example before it")
    allowed = 1e-3 if exact else 5e-2  # TF32 is not exact
    if not max(isolation.apart, isolation.rounding) <= allowed:
        raise refusal(model, f"an example's logits differ by {isolation.apart:.1%} from those that it has alone")
    if not long <= allowed:
        raise refusal(model, f"in blocks as long as these an example's logits differ by {long:.1%} from those it has alone")


def lengths_to_try(blocks: Dataset) -> list[int]:
    """The examples' lengths in the block that has the longest of those that share one; none where each is alone."""
    best: list[int] = []
    for table in blocks.select(range(min(len(blocks), LOOKED_AT))).with_format("arrow").iter(1000):
        for positions in table["position_ids"]:
            starts = np.flatnonzero(positions.values.to_numpy() == 0)
            lengths = np.diff([*starts, len(positions.values)]).tolist()
            if len(lengths) > 1 and max(lengths) > max(best, default=0):
                best = lengths
    return best


def measure_block(model: Any, collator: PackedCollator, lengths: Sequence[int], *, exact: bool) -> float:
    """How far the longest and the shortest example of a block of random tokens are from those alone, at their ends.

    Of the worse one, relative to the largest logit: the worst token, or without `exact` the median, since rounding sends
    single tokens to other experts.
    """
    vocabulary, draw = model.config.get_text_config().vocab_size, np.random.default_rng(0)
    block = [draw.integers(vocabulary // 4, vocabulary // 2, length).tolist() for length in lengths]
    if np.argmax(lengths) == 0:  # what comes first stands where it would alone
        block = [*block[1:], block[0]]
    sizes = np.array([len(example) for example in block])
    ends, found = np.cumsum(sizes), 0.0
    for number in {int(sizes.argmax()), int(sizes.argmin())}:
        kept = min(KEPT, int(sizes[number]))
        packed = end_logits(model, collator, block, int(ends[number]), kept)
        alone = end_logits(model, collator, [block[number]], int(sizes[number]), kept)
        apart = change(packed, alone)
        found = max(found, float(apart.max() if exact else apart.median()))
    return found


def end_logits(model: Any, collator: PackedCollator, block: list[list[int]], end: int, count: int) -> torch.Tensor:
    """The logits of the tokens before `end`, shape (count, vocabulary); of a head that is a layer no more are made."""
    head = model.get_output_embeddings()
    cut = slice(end - count, end)
    hook = head and head.register_forward_pre_hook(lambda _, inputs: (inputs[0][:, cut], *inputs[1:]))
    try:
        batch = collator([as_block(block)])
        del batch["labels"]
        batch |= {name: on_device(model, value) for name, value in batch.items() if isinstance(value, torch.Tensor)}
        logits: torch.Tensor = model(**batch).logits[0].float()
    finally:
        if hook:
            hook.remove()
    return logits if len(logits) == count else logits[cut]


class Isolation(NamedTuple):
    """How well examples a and b in one block are kept apart; each figure is relative to the largest logit.

    A leak may be smaller than the rounding between different shapes (1 % in a small trained Llama, and as much by rounding
    in bfloat16). But in batches of one shape it is exact: with other tokens in a, b stays the same to the last bit. Only
    mixtures of experts round by what else is in a batch; how much shows where nothing can leak, from b to a.
    """

    leak: float
    """The most that b's logits change with the tokens of a."""
    rounding: float
    """The most that a's logits change with the tokens of b, which come later."""
    apart: float
    """The difference from the logits of the example alone: the median over tokens, of the worst example."""


def measure_isolation(model: Any, collator: PackedCollator) -> Isolation:
    """Forward passes of three batches of random tokens, and of each example alone."""
    vocabulary = model.config.get_text_config().vocab_size
    draw = np.random.default_rng(0)
    # ordinary words: special tokens stand at the ends of a vocabulary
    texts = [[draw.integers(vocabulary // 4, vocabulary // 2, n).tolist() for n in PROBE_LENGTHS] for _ in range(2)]
    (a, b, c), (other_a, other_b, _) = texts
    packed = packed_logits(model, collator, [[a, b], [c]])
    leak = change(packed[1], packed_logits(model, collator, [[other_a, b], [c]])[1]).max()
    rounding = change(packed[0], packed_logits(model, collator, [[a, other_b], [c]])[0]).max()
    alone = [model(input_ids=on_device(model, [text]), use_cache=False).logits[0].float() for text in (a, b, c)]
    apart = max(float(change(ours, own).median()) for ours, own in zip(packed, alone, strict=True))
    return Isolation(float(leak), float(rounding), apart)


def packed_logits(model: Any, collator: PackedCollator, blocks: list[list[list[int]]]) -> tuple[torch.Tensor, ...]:
    """The logits of each example, shape (tokens, vocabulary)."""
    batch = collator([as_block(block) for block in blocks])
    real = on_device(model, batch.pop("labels")) != IGNORED
    batch |= {name: on_device(model, value) for name, value in batch.items() if isinstance(value, torch.Tensor)}
    logits: torch.Tensor = model(**batch).logits[real].float()
    return logits.split([len(example) for block in blocks for example in block])


def as_block(block: list[list[int]]) -> dict[str, list[int]]:
    """Examples as `pack` would put them together, all of it supervised."""
    return {
        "input_ids": [token for example in block for token in example],
        "labels": [0 for example in block for _ in example],
        "position_ids": [position for example in block for position in range(len(example))],
    }


def on_device(model: Any, values: Any) -> torch.Tensor:
    return torch.as_tensor(values, device=model.get_input_embeddings().weight.device)


def change(ours: torch.Tensor, theirs: torch.Tensor) -> torch.Tensor:
    """For each token the largest difference of its logits, relative to the largest logit of all."""
    return (ours - theirs).abs().amax(-1) / theirs.abs().max()


def refusal(model: Any, reason: str) -> UserError:
    kind, attention = model.config.model_type, model.config._attn_implementation
    hint = "remove it" if attention in ("sdpa", "eager", None) else "remove it, or set model.attn_implementation to sdpa"
    return UserError(
        f"{kind} with {attention} attention does not keep packed examples apart: {reason}", hint, key="data.packing"
    )
