"""The gate: what may not go unnoticed in the encoded rows, looked for before step 0, and refused beyond what is allowed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from datasets import Dataset

from ftkit.data.encode import IGNORED, LOST, Encoded
from ftkit.data.ledger import Ledger, Outcome
from ftkit.data.unknown import Unknown, mostly_unknown
from ftkit.errors import Mistake, RecipeError
from ftkit.recipe.schema import Gate

CHUNK = 10_000
OF_LABELS = ("unknown_label", "no_number")  # rules whose findings name the labels
OF_FIELDS = ("lost_text",)  # rules whose findings name the fields
HISTOGRAM_BINS = 16


@dataclass(frozen=True)
class Facts:
    """What the token ids of a split's entries say by themselves, each of shape (entries,).

    Attributes:
        lengths: tokens of each entry.
        supervised: supervised tokens.
        unended: supervised stretches that do not end with an end token.
        double_start: whether an entry starts with two start tokens.
        unknown: whether most of an entry, or of its answer, is the unknown token.
        pairs: a decoder with an encoder learns; `lengths` is of the source, `supervised` of the target, which stands apart.
    """

    lengths: np.ndarray
    supervised: np.ndarray
    unended: np.ndarray
    double_start: np.ndarray
    unknown: np.ndarray
    pairs: bool = False

    def words(self) -> str:
        """Entries, tokens, how many are supervised, and lengths, on one line."""
        tokens, supervised = int(self.lengths.sum()), int(self.supervised.sum())
        if self.pairs:
            longest = f"{int(self.lengths.max())} and {int(self.supervised.max())} in the longest"
            return f"{len(self.lengths):,} entries, {tokens:,} source and {supervised:,} target tokens, {longest}"
        share = f"{100 * supervised / tokens:.0f} % supervised"
        return f"{len(self.lengths):,} entries, {tokens:,} tokens, {share}, {int(self.lengths.max())} in the longest"

    def describe(self, batch_size: int) -> dict[str, Any]:
        """Lengths, supervised tokens and padding share for the report; of pairs, source and target by name.

        Args:
            batch_size: rows of a batch; the padding is that of random batches padded to their longest row.
        """
        entries = {"entries": len(self.lengths)}
        if self.pairs:
            sides = {"source": self.lengths, "target": self.supervised}
            return entries | {name: figures(lengths, batch_size) for name, lengths in sides.items()}
        return {**entries, "supervised_tokens": int(self.supervised.sum()), **figures(self.lengths, batch_size)}


def figures(lengths: np.ndarray, batch_size: int) -> dict[str, Any]:
    """Tokens, lengths and padding of sequences for the report.

    Args:
        lengths: tokens of each sequence, shape (entries,).
    """
    counts, edges = np.histogram(lengths, bins=min(HISTOGRAM_BINS, int(np.ptp(lengths)) + 1))
    return {
        "tokens": int(lengths.sum()),
        "length": {
            "min": int(lengths.min()), "median": float(np.median(lengths)),
            "p95": float(np.percentile(lengths, 95)), "max": int(lengths.max()),
        },
        "histogram": {"edges": [round(float(edge), 1) for edge in edges], "counts": counts.tolist()},
        "padding_share": round(padding_share(lengths, batch_size), 4),
    }  # fmt: skip


def inspect(
    dataset: Dataset, ends: set[int], start: int | None, *, pairs: bool = False, unknown: Unknown | None = None
) -> Facts:
    """Read the encoded rows once, in batches.

    Args:
        ends: token ids that end an answer; empty where answers are not looked for.
        start: the tokenizer's start token, or None.
        pairs: whether labels stand apart from the input, as for a decoder with an encoder.
        unknown: the tokenizer's unknown token; None where it is not looked for.
    """
    parts: list[tuple[np.ndarray, ...]] = [(np.zeros(0, np.int64),) * 5]
    for table in dataset.with_format("arrow").iter(CHUNK):
        ids, offsets = _lists(table["input_ids"])
        lengths, strange = np.diff(offsets), mostly_unknown(ids, offsets, unknown, IGNORED)
        twice = np.zeros(len(lengths), np.int64)
        if start is not None:
            long = lengths > 1
            firsts = offsets[:-1][long]
            twice[long] = (ids[firsts] == start) & (ids[firsts + 1] == start)
        if (
            "list" not in str(table["labels"].type)
            or "double" in str(table["labels"].type)
            or "float" in str(table["labels"].type)
        ):
            parts.append((lengths, lengths, np.zeros_like(lengths), twice, strange))
            continue
        labels, borders = _lists(table["labels"])
        supervised = labels != IGNORED
        sums = np.concatenate([[0], np.cumsum(supervised)])
        if ends or pairs:  # labels are tokens
            strange = strange | mostly_unknown(labels, borders, unknown, IGNORED)
        parts.append((lengths, np.diff(sums[borders]), _unended(labels, supervised, borders, ends), twice, strange))
    lengths, supervised, unended, double_start, strange = (np.concatenate(column) for column in zip(*parts, strict=True))
    return Facts(lengths, supervised, unended, double_start, strange, pairs)


def _lists(column: Any) -> tuple[np.ndarray, np.ndarray]:
    """Values and borders of a column of lists."""
    array = column.combine_chunks() if hasattr(column, "combine_chunks") else column
    array = array.chunk(0) if hasattr(array, "chunk") else array
    offsets = array.offsets.to_numpy()
    return array.values.to_numpy(zero_copy_only=False)[offsets[0] : offsets[-1]], offsets - offsets[0]


def _unended(labels: np.ndarray, supervised: np.ndarray, borders: np.ndarray, ends: set[int]) -> np.ndarray:
    """How many supervised stretches of each row end with something else than an end token."""
    if not ends:
        return np.zeros(len(borders) - 1, np.int64)
    last = np.append(~supervised[1:], True)
    last[borders[1:][borders[1:] > 0] - 1] = True  # a stretch never goes on into the next row
    bad = supervised & last & ~np.isin(labels, list(ends))
    sums = np.concatenate([[0], np.cumsum(bad)])
    return np.diff(sums[borders])


def padding_share(lengths: np.ndarray, batch_size: int, seed: int = 0) -> float:
    """Share of padding among the tokens of random batches, each padded to its longest row."""
    order = np.random.default_rng(seed).permutation(len(lengths))
    padded = sum(
        int(lengths[order[at : at + batch_size]].max()) * len(order[at : at + batch_size])
        for at in range(0, len(order), batch_size)
    )
    return 1 - float(lengths.sum()) / padded if padded else 0.0


@dataclass
class Finding:
    """One rule applied to one split: how many rows break it, of how many, and what share the recipe allows.

    Attributes:
        rows: the ledger's numbers of the rows that break it.
        hint: what else than allowing it can be done.
        count: how many rows there are where `rows` are only the first of them.
    """

    split: str
    rule: str
    message: str
    rows: np.ndarray
    of: int
    allowed: float
    hint: str
    key: str = ""
    details: dict[str, Any] = field(default_factory=dict)
    count: int | None = None

    @property
    def found(self) -> int:
        return len(self.rows) if self.count is None else self.count

    @property
    def refused(self) -> bool:
        return self.found > self.allowed * self.of

    def describe(self, ledger: Ledger) -> dict[str, Any]:
        return {
            "split": self.split, "rule": self.rule, "found": self.found, "of": self.of, "allowed_share": self.allowed,
            "refused": self.refused, "rows": ledger.by_source(self.rows), **self.details,
        }  # fmt: skip


def judge(
    split: str, numbers: np.ndarray, encoded: Encoded, facts: Facts, gate: Gate, max_length: int, *, longer: bool = True
) -> list[Finding]:
    """Apply the rules that concern one split by itself.

    Args:
        longer: whether the model takes more than `max_length` tokens.
        numbers: the ledger's number of each row of the split, shape (rows,).
    """
    of, outcomes = len(numbers), encoded.outcomes
    entries = numbers[np.asarray(encoded.rows, dtype=np.int64)] if len(facts.lengths) == len(encoded.rows) else None

    whole = outcomes[np.asarray(encoded.rows, dtype=np.int64)] != Outcome.CUT_ANSWER  # a cut one is counted as that
    unended = (facts.unended > 0) & whole if entries is not None else facts.unended

    def with_outcome(outcome: Outcome) -> np.ndarray:
        return numbers[outcomes == outcome]

    def where(mask: np.ndarray) -> np.ndarray:
        return entries[mask.astype(bool)] if entries is not None else np.zeros(0, np.int64)

    length = f"model.max_length {max_length}"

    def rule(name: str, message: str, rows: np.ndarray, hint: str, key: str) -> Finding:
        return Finding(split, name, message, np.unique(rows), of, getattr(gate, name), hint, key)

    found = [
        rule("dropped", f"rows lose their answer: it does not fit into {length}", with_outcome(Outcome.TOO_LONG),
             room_hint(longer=longer), "model.max_length"),
        rule("cut_answer", f"rows lose the end of their answer, cut at {length}", with_outcome(Outcome.CUT_ANSWER),
             f"{room_hint(longer=longer)}, or drop them with data.over_long: drop", "data.over_long"),
        rule("cut_text", f"rows lose the end of their text, cut at {length}{lost_share(split, encoded, facts)}",
             np.concatenate([with_outcome(Outcome.CUT_TEXT), with_outcome(Outcome.CUT_PROMPT)]),
             room_hint(longer=longer), "model.max_length"),
        rule("empty", "rows have an empty field", with_outcome(Outcome.EMPTY),
             "mend the data, or drop and count such rows with data.drop_empty: true", "data.columns"),
        rule("unknown_label", "rows have a label that the model does not know", with_outcome(Outcome.UNKNOWN_LABEL),
             "mend the labels, or name them all in data.labels", "data.labels"),
        rule("no_number", "rows have a label that is no number", with_outcome(Outcome.NO_NUMBER),
             "mend the labels; a number is written as 3 or -2.5", "data.columns.label"),
        rule("lost_text", "rows have a field that leaves no token", with_outcome(Outcome.LOST_TEXT),
             "give a chat template that renders it, or take it out of the rows (reasoning: data.reasoning: drop)",
             "data.chat_template"),
        rule("unsupervised", "rows have no supervised token",
             np.concatenate([where(facts.supervised == 0), with_outcome(Outcome.UNSUPERVISED)]),
             "nothing is learnt from them: check the columns and the template", "data"),
        rule("without_end", "rows have an answer that does not end with an end token", where(unended),
             "the model would not learn to stop: mend the template", "data.chat_template"),
        rule("double_start", "rows start with two start tokens", where(facts.double_start),
             "the template and the tokenizer both add one: take it out of the template or prompt", "data.chat_template"),
        rule("unknown_tokens", "rows are mostly the unknown token, or their answer is", where(facts.unknown),
             "the tokenizer does not know this text: take a model made for its language and script", "model.name"),
    ]  # fmt: skip
    return [finding for finding in found if finding.found]


def lost_share(split: str, encoded: Encoded, facts: Facts) -> str:
    """What stands behind the cut, where words are counted, and what becomes of it."""
    lost = int(encoded.count(LOST).sum())
    share = 100 * lost / max(lost + int(facts.supervised.sum()), 1)
    fate = "are not learnt" if split == "train" else "count as missed"
    return f": {share:.{1 if share < 10 else 0}f} % of the words stand behind the cut and {fate}" if lost else ""


def room_hint(*, longer: bool) -> str:
    """What to do about rows that do not fit; `longer`: the model takes more than the recipe lets it."""
    return "raise model.max_length" if longer else "the model takes no more: shorten the rows, or take one that does"


def require(findings: Sequence[Finding], ledger: Ledger, place: Callable[[str], str]) -> None:
    """Refuse what goes beyond the recipe's allowance.

    Args:
        place: gives the place of a recipe key.

    Raises:
        RecipeError: all that is refused, a line each with the rows.
    """
    mistakes = []
    for finding in findings:
        if finding.refused:
            share = finding.found / finding.of
            message = (
                f"{finding.split}: {finding.found}/{finding.of} {finding.message} ({ledger.name(finding.rows, lines=True)})"
            )
            hint = f"{finding.hint}; or allow it with data.gate.{finding.rule}: {_round_up(share)}"
            mistakes.append(Mistake(place(finding.key) or finding.key, message, hint))
    if mistakes:
        last = mistakes[-1]
        mistakes[-1] = replace(last, hint=f"{last.hint}; see such rows with `ftkit preview RECIPE --anyway`")
        raise RecipeError(mistakes)


def _round_up(share: float) -> float:
    return float(min(1.0, np.ceil(share * 1000) / 1000))


def caveats(findings: Sequence[Finding]) -> list[str]:
    """What scores have to be read with: faults that the recipe allows, or that do not keep a model from being measured."""
    return [
        f"{finding.found} of {finding.of} {finding.split} {finding.message} "
        f"({'beyond' if finding.refused else 'allowed by'} data.gate.{finding.rule})"
        for finding in findings
    ]
