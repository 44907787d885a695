"""What `ftkit preview` shows, as plain data: rows cut into the tokens that the model gets, and figures on their split."""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerBase

from ftkit.data.encode import IGNORED, SEVERAL
from ftkit.data.gate import Finding
from ftkit.data.ledger import Ledger, Outcome
from ftkit.escapes import CONTROLS
from ftkit.recipe.schema import Gate
from ftkit.training.prepare import Data

MOST_BARS = 16
MOST_JOINED = 8  # tokens that may make up one character; UTF-8 has at most 4 bytes, which a token can straddle
UNFINISHED = "\ufffd"  # what a decoder writes for bytes that are no whole character


@dataclass(frozen=True)
class Piece:
    """A token, or the few tokens that make up one character.

    Attributes:
        supervised: it counts in the loss.
        special: it is a token of the tokenizer's own, as an end token.
        boundary: an example begins here inside a packed block.
        learnt: what is learnt here where that is not the token itself: the true token behind a mask, or a tag.
    """

    text: str
    ids: tuple[int, ...]
    supervised: bool = False
    special: bool = False
    boundary: bool = False
    learnt: str | None = None


@dataclass(frozen=True)
class PreviewRow:
    """One entry of a split.

    Attributes:
        name: the row that it is, or that its block begins with or in.
        target: what a decoder with an encoder learns to write; None where source and target are one sequence.
        length: tokens of the sequence, without those of the target.
        supervised: tokens that count in the loss.
        label: the names of its labels, where the label is no sequence of tokens.
        faults: the rules of the gate that it breaks.
    """

    name: str
    pieces: list[Piece]
    length: int
    supervised: int
    target: list[Piece] | None = None
    label: str | None = None
    faults: tuple[str, ...] = ()


@dataclass(frozen=True)
class Bar:
    """How many entries have from `first` to `last` tokens."""

    first: int
    last: int
    count: int


@dataclass(frozen=True)
class Fault:
    """Rows that break a rule of the gate, and whether there are more of them than the recipe allows."""

    rule: str
    message: str
    rows: str
    refused: bool


@dataclass(frozen=True)
class Preview:
    """Rows as the model will get them, and their split in figures.

    Attributes:
        entries: rows of the split, parts of rows, or blocks of text (`unit`); `examples` is how many are in the blocks.
        supervised: tokens of the split that count in the loss; None where an entry has a label instead.
        lengths: min, median, p95 and max of the entries' tokens.
        padding: share of padding among the tokens of random batches of `batch_size`.
        target: `tokens`, `length` and `padding_share` of the targets, where source and target stand apart; `tokens`,
            `lengths`, `histogram` and `padding` are then of the sources.
        outcomes: every row that was read, by its fate.
    """

    title: str
    split: str
    max_length: int
    rows: list[PreviewRow]
    entries: int
    tokens: int
    supervised: int | None
    lengths: dict[str, float]
    histogram: list[Bar]
    padding: float
    batch_size: int
    outcomes: dict[str, int]
    faults: list[Fault] = field(default_factory=list)
    examples: int | None = None
    unit: str = "row"
    target: dict[str, Any] | None = None

    @property
    def has_target(self) -> bool:
        return self.target is not None


def make_preview(
    data: Data, split: str, tokenizer: PreTrainedTokenizerBase, names: dict[int, str], gate: Gate,
    *, title: str, count: int, batch_size: int, pairs: bool, faulty_first: bool,
) -> Preview:  # fmt: skip
    """Look at the first entries of a split.

    Args:
        names: of the labels, by their number; empty where the model foretells tokens.
        gate: what the recipe allows.
        batch_size: rows of a batch, for the share of padding.
        pairs: whether a decoder with an encoder learns, so that labels stand apart from the input.
        faulty_first: show entries that the gate refuses before others.
    """
    encoded, facts = data.encoded[split], data.facts[split].describe(batch_size)
    shown = facts["source"] if pairs else facts
    numbers = data.splits.numbers(split)[np.asarray(encoded.rows, dtype=np.int64)]
    findings = [finding for finding in data.findings if finding.split == split]
    order = np.arange(len(numbers))
    if faulty_first:
        refused = [finding.rows for finding in findings if is_refused(finding, gate)]
        faulty = np.isin(numbers, np.concatenate(refused)) if refused else np.zeros(len(numbers), bool)
        order = np.argsort(~faulty, kind="stable")
    packed = "position_ids" in encoded.dataset.column_names
    counts = Counter(numbers.tolist())
    in_parts = not packed and SEVERAL in encoded.notes
    blocks = packed or (not in_parts and len(numbers) != int((encoded.outcomes < Outcome.TOO_LONG).sum()))
    unit = "part" if in_parts else "block" if blocks else "row"
    parts = parts_of_rows(numbers)
    rows = []
    for index in order[:count].tolist():
        number = int(numbers[index])
        name = ("block from " if blocks else "") + data.ledger.name([number])
        name += f", part {parts[index]} of {counts[number]}" if in_parts and counts[number] > 1 else ""
        faults = tuple(finding.rule for finding in findings if number in finding.rows)
        rows.append(make_row(encoded.dataset[index], name, tokenizer, names, pairs, faults))
    labelled = any(row.label is not None for row in rows)
    return Preview(
        title, split, data.max_length, rows, facts["entries"], shown["tokens"],
        None if labelled else int(data.facts[split].supervised.sum()), shown["length"],
        histogram(data.facts[split].lengths), shown["padding_share"], batch_size, data.ledger.counts(),
        [make_fault(finding, data.ledger, gate) for finding in data.findings],
        encoded.notes["packed examples"] if packed else None, unit, facts.get("target"),
    )  # fmt: skip


def parts_of_rows(numbers: np.ndarray) -> list[int]:
    """Of each entry the how-manieth of its row it is, shape (entries,)."""
    seen: Counter[int] = Counter()
    parts = []
    for number in numbers.tolist():
        seen[number] += 1
        parts.append(seen[number])
    return parts


def is_refused(finding: Finding, gate: Gate) -> bool:
    """Whether the recipe's gate refuses it, which may be opened while looking."""
    allowed: float = getattr(gate, finding.rule)
    return finding.found > allowed * finding.of


def make_fault(finding: Finding, ledger: Ledger, gate: Gate) -> Fault:
    message = f"{finding.split}: {finding.found:,} of {finding.of:,} {finding.message}"
    return Fault(finding.rule, message, ledger.name(finding.rows), is_refused(finding, gate))


def make_row(
    entry: dict[str, Any], name: str, tokenizer: PreTrainedTokenizerBase, names: dict[int, str],
    pairs: bool = False, faults: tuple[str, ...] = (),
) -> PreviewRow:  # fmt: skip
    """One encoded entry in pieces."""
    ids, labels = entry["input_ids"], entry["labels"]
    if not isinstance(labels, list) or (labels and isinstance(labels[0], float)):
        return PreviewRow(name, make_pieces(tokenizer, ids), len(ids), 0, label=label_names(labels, names), faults=faults)
    supervised = sum(label != IGNORED for label in labels)
    if pairs:
        target = make_pieces(tokenizer, labels, labels)
        return PreviewRow(name, make_pieces(tokenizer, ids), len(ids), supervised, target, faults=faults)
    starts = {place for place, position in enumerate(entry.get("position_ids") or []) if place and position == 0}
    return PreviewRow(name, make_pieces(tokenizer, ids, labels, starts, names), len(ids), supervised, faults=faults)


def label_names(labels: float | list[float], names: dict[int, str]) -> str:
    """The label of a row, or all of its labels; in regression, its number."""
    if isinstance(labels, float):
        return f"{labels:g}"
    chosen = [number for number, value in enumerate(labels) if value > 0.5] if isinstance(labels, list) else [labels]
    return ", ".join(names[number] for number in chosen) or "no label"


def make_pieces(
    tokenizer: PreTrainedTokenizerBase, ids: Sequence[int], labels: Sequence[int] | None = None,
    starts: Collection[int] = (), tags: dict[int, str] | None = None,
) -> list[Piece]:  # fmt: skip
    """Token ids as text, each token by itself but where several make up one character.

    A token's text is what it adds to that of the piece before it, since decoders strip or add white space by what stands
    before. Tokens are not joined across a change of supervision, nor across the start of an example.

    Args:
        labels: shape (tokens,), -100 where a token is not supervised; without, none is.
        starts: places where examples begin inside a block.
        tags: names of the labels where these are no token ids.
    """
    labels = labels if labels is not None else [IGNORED] * len(ids)
    special = special_ids(tokenizer)
    learnt = [
        None if label == IGNORED else tags[label] if tags else decode(tokenizer, [label]).strip() if label != token else None
        for token, label in zip(ids, labels, strict=True)
    ]
    alone = [token in special or other is not None for token, other in zip(ids, learnt, strict=True)]
    pieces: list[Piece] = []
    before = begin = 0
    for end in range(1, len(ids) + 1):
        supervised = labels[begin] != IGNORED
        text = added_text(tokenizer, ids, before, begin, end)
        joins = end < len(ids) and not (alone[begin] or alone[end]) and end not in starts
        if text.endswith(UNFINISHED) and joins and end - begin < MOST_JOINED and (labels[end] != IGNORED) == supervised:
            continue
        own = tuple(ids[begin:end])
        if own[0] in special or not text:
            text = "".join(map(str, tokenizer.convert_ids_to_tokens(list(own))))
        pieces.append(Piece(text, own, supervised, own[0] in special, begin in starts, learnt[begin]))
        before, begin = begin, end
    return pieces


def added_text(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int], before: int, begin: int, end: int) -> str:
    """What the tokens from `begin` to `end` add to the text of those from `before`."""
    context, whole = decode(tokenizer, ids[before:begin]), decode(tokenizer, ids[before:end])
    goes_on = whole.startswith(context) and not context.endswith(UNFINISHED)
    return whole[len(context) :] if goes_on else decode(tokenizer, ids[begin:end])


def decode(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> str:
    return str(tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False))


def special_ids(tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """The tokens of the tokenizer's own, a template's turn marks too."""
    added = {number for number, token in tokenizer.added_tokens_decoder.items() if token.special}
    return added | set(tokenizer.all_special_ids)


def histogram(lengths: np.ndarray) -> list[Bar]:
    """Entries by length, in bars of a whole number of tokens.

    Args:
        lengths: tokens of each entry, shape (entries,).
    """
    low, high = int(lengths.min()), int(lengths.max())
    width = -(-(high - low + 1) // MOST_BARS)
    edges = np.arange(low, high + width + 1, width)
    counts = np.histogram(lengths, bins=edges)[0]
    spans = zip(edges[:-1].tolist(), counts.tolist(), strict=True)
    return [Bar(first, min(first + width - 1, high), count) for first, count in spans]


def visible(text: str) -> list[tuple[str, bool]]:
    """Text in stretches that are shown as they are, or (True) as marks in place of what cannot be seen.

    A line's end is marked and kept; spaces are marked where there is nothing else; control characters and
    unusual spaces are written by number, as `\\u00a0`.
    """
    blank = not text.strip()
    shown: list[tuple[str, bool]] = []
    for character in text:
        mark = mark_of(character, blank)
        if shown and shown[-1][1] == bool(mark):
            shown[-1] = (shown[-1][0] + (mark or character), bool(mark))
        else:
            shown.append((mark or character, bool(mark)))
    return shown


def mark_of(character: str, blank: bool) -> str:
    """What stands for a character that cannot be seen; nothing for others."""
    if character == "\n":
        return "⏎\n"
    if character == "\t":
        return "→"
    if character == " ":
        return "·" if blank else ""
    if character.isspace() or ord(character) in CONTROLS:
        return f"\\u{ord(character):04x}"
    return ""


def figures(preview: Preview) -> dict[str, str]:
    """The split in words: names and values."""
    found = {f"{preview.split} {preview.unit}s": f"{preview.entries:,}"}
    if preview.examples is not None:
        found = {f"{preview.split} examples": f"{preview.examples:,}", "in blocks": f"{preview.entries:,}"}
    if preview.target is not None:
        return found | {
            "source tokens": f"{preview.tokens:,}", "target tokens": f"{preview.target['tokens']:,}",
            "tokens a target": length_line(preview.target["length"]),
            "source padding": f"{100 * preview.padding:.1f} %",
            "target padding": f"{100 * preview.target['padding_share']:.1f} %",
        }  # fmt: skip
    found["tokens"] = f"{preview.tokens:,}"
    if preview.supervised is not None:
        found["supervised"] = f"{preview.supervised:,} ({100 * preview.supervised / preview.tokens:.1f} %)"
    return {**found, "padding": f"{100 * preview.padding:.1f} %"}


def length_line(lengths: dict[str, float]) -> str:
    """Lengths of entries in one line."""
    named = {"min": "shortest", "median": "median", "p95": "95 % within", "max": "longest"}
    return " · ".join(f"{words} {lengths[name]:,.0f}" for name, words in named.items())
