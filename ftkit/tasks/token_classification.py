"""Token classification: one tag a word, as of named entities; rows are lists of words with as many tags."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from datasets import ClassLabel, Dataset, Features
from torch.nn.functional import cross_entropy
from transformers import (
    AutoModelForTokenClassification,
    BatchEncoding,
    DataCollatorForTokenClassification,
    EvalPrediction,
    PretrainedConfig,
    PreTrainedTokenizerBase,
)

from ftkit.data.encode import IGNORED, LOST, OF, OUTCOME, TOKENS, Encoded, Encoder, is_empty
from ftkit.data.ledger import Outcome
from ftkit.data.tables import list_codes, value_codes
from ftkit.data.windows import MOST_OVERLAP, OVERLAP, cut_out, first_window, labels_in, make_windows, read_row
from ftkit.errors import RowError, UserError
from ftkit.metrics.resampling import Resampler
from ftkit.metrics.tokens import (
    OUTSIDE,
    UNSEEN,
    add_unseen,
    entities,
    entity_scores,
    join_entries,
    tags_of,
    token_metrics,
    token_resamplers,
)
from ftkit.models.architecture import require_class
from ftkit.models.label_head import Head
from ftkit.recipe.schema import Data
from ftkit.tasks.base import Members, WithoutPrompts, members_of, with_nearest
from ftkit.tasks.checkpoint_head import choose_head, recalled
from ftkit.tasks.labels import require_one_spelling, require_plain
from ftkit.tasks.texts import is_list, model_inputs

KIND = "single_label_classification"  # of each word
Cutting = Callable[[dict[str, list[int]], list[int | None], list[int]], list[dict[str, Any]]]


class TokenClassification(WithoutPrompts):
    new_head = True
    several = "are longer than model.max_length and read in windows"
    generates = False
    quality_name = "accuracy"

    def __init__(self, data: Data) -> None:
        self.data = data
        self.labels: list[str] = list(data.labels or [])
        self.head: Head | None = None
        self.counts: Counter[str] = Counter()

    def fit(self, rows: Dataset, config: PretrainedConfig) -> None:
        feature = rows.features["tags"]
        self.counts = found = Counter(self.members(rows).counts)
        if not self.labels:
            if not class_names(feature):
                require_one_spelling(found, "data.columns.tags", mapped=False)
            self.labels = class_names(feature) or sorted(found, key=_outside_first)
            if are_numbers(self.labels):
                message = f"the tags are numbers without names: {', '.join(self.labels[:5])}, …"
                raise UserError(message, "name them all, 0 first, in data.labels", key="data.columns.tags")
        if len(found) < 2:
            only = next(iter(found), "none")
            message = f"the training rows have one tag only, '{only}'"
            raise UserError(message, "a model needs at least two to tell apart", key="data.columns.tags")
        if len(self.labels) > max(2, found.total() // 2):
            message = f"{len(self.labels)} tags for {found.total()} words: these are no classes"
            raise UserError(message, "is the right column mapped?", key="data.columns.tags")
        self.head = choose_head(config, self.auto_class(config), KIND, self.labels, named=bool(self.data.labels))
        self.labels = self.head.labels

    def recall(self, config: PretrainedConfig) -> None:
        self.labels = recalled(config, self.data.labels or [])

    def strata(self, rows: Dataset) -> np.ndarray | None:
        return None

    def members(self, rows: Dataset) -> Members:
        feature = rows.features["tags"]
        require_plain(feature, "data.columns.tags")
        if is_list(feature):
            places, codes, values = list_codes(rows, "tags")
        else:  # which the encoder refuses
            places, (codes, values) = np.arange(len(rows)), value_codes(rows, "tags")
        return members_of(places, codes, self._names([[value] for value in values], feature))

    def unknown_labels(self, rows: Dataset) -> list[dict[str, str]]:
        sentences = self._names(rows["tags"][:], rows.features["tags"])
        return [with_nearest([tag for tag in tags if tag is not None], self.labels) for tags in sentences]

    def config_values(self) -> dict[str, Any]:
        names = dict(enumerate(self.labels))
        ids = {name: number for number, name in names.items()}
        return {"num_labels": len(names), "id2label": names, "label2id": ids}

    def auto_class(self, config: PretrainedConfig) -> Any:
        return require_class(AutoModelForTokenClassification, config, "token-classification")

    def columns(self, tokenizer: PreTrainedTokenizerBase) -> Features:
        return Features({**dict.fromkeys(model_inputs(tokenizer), TOKENS), "labels": TOKENS, LOST: TOKENS})

    def settings(self) -> dict[str, Any]:
        return {"labels": self.labels, "over_long": self.data.over_long, "overlap": self.data.window_overlap}

    def encoder(
        self, rows: Features, tokenizer: PreTrainedTokenizerBase, config: PretrainedConfig, max_length: int
    ) -> Encoder:
        if not tokenizer.is_fast:
            message = "the tokenizer does not tell which word a token comes from"
            raise UserError(message, "choose a model that comes with a tokenizer.json", key="model.name")
        ids = {name: number for number, name in enumerate(self.labels)}
        inputs, feature, space = model_inputs(tokenizer), rows["tags"], " " * needs_space(tokenizer)
        cut = row_cutter(max_length, self.data.over_long or "windows", self.data.window_overlap)

        def encode(batch: dict[str, list[Any]], positions: list[int]) -> dict[str, list[Any]]:
            require_lists(batch, positions)
            tags = self._names(batch["tags"], feature)
            sentences = [[space + word for word in words or []] for words in batch["tokens"]]
            encoded = tokenize_words(tokenizer, [words or ["none"] for words in sentences])
            made: list[dict[str, Any]] = []
            for index, words in enumerate(sentences):
                outcome = (
                    Outcome.EMPTY
                    if not words or None in tags[index]
                    else Outcome.KEPT
                    if ids.keys() >= set(tags[index])
                    else Outcome.UNKNOWN_LABEL
                )
                columns = {name: encoded[name][index] for name in inputs}
                labels = [ids[str(tag)] for tag in tags[index]] if outcome.is_kept else []
                entries = cut(columns, encoded.word_ids(index), labels) if labels else [dropped(columns, outcome)]
                made += [entry | {OF: index} for entry in entries]
            return {name: [entry[name] for entry in made] for name in (*inputs, "labels", LOST, OUTCOME, OF)}

        return encode

    def collator(self, tokenizer: PreTrainedTokenizerBase, model: Any) -> Any:
        return DataCollatorForTokenClassification(tokenizer, label_pad_token_id=IGNORED)

    def reduce_logits(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Each token's best label and its loss in nats, shape (rows, tokens, 2), float32."""
        scores = logits.float()
        loss = cross_entropy(scores.flatten(0, 1), labels.flatten(), ignore_index=IGNORED, reduction="none")
        return torch.stack([scores.argmax(-1).float(), loss.view(labels.shape)], dim=-1)

    def complete(self, prediction: EvalPrediction, encoded: Encoded, tokenizer: PreTrainedTokenizerBase) -> EvalPrediction:
        """With the words that stand behind the cut: they have a tag, and the model gave them none."""
        return EvalPrediction(*add_unseen(prediction.predictions, prediction.label_ids, encoded.known(LOST) or []))

    def merge(self, prediction: EvalPrediction, rows: list[int]) -> tuple[EvalPrediction, list[int]]:
        """The words of a row's windows one behind the other: each word is labelled in one of them alone."""
        if len(set(rows)) == len(rows):
            return prediction, rows
        predictions, labels = join_entries(prediction.predictions, prediction.label_ids, rows)
        return EvalPrediction(predictions, labels), list(dict.fromkeys(rows))

    def score(self, prediction: EvalPrediction) -> dict[str, float]:
        return token_metrics(prediction.predictions, prediction.label_ids, self.labels)

    def resamplers(self, prediction: EvalPrediction) -> dict[str, Resampler]:
        return token_resamplers(prediction.predictions, prediction.label_ids, self.labels)

    def right(self, prediction: EvalPrediction) -> np.ndarray | None:
        labels = prediction.label_ids
        return ((prediction.predictions[..., 0] == labels) | (labels == IGNORED)).all(1)

    def quality(self, prediction: EvalPrediction) -> np.ndarray:
        """The share of a row's words that have the right tag."""
        labels = prediction.label_ids
        counted = labels != IGNORED
        right = ((prediction.predictions[..., 0] == labels) & counted).sum(1)
        return np.asarray(right / np.maximum(counted.sum(1), 1), dtype=np.float64)

    def metric_details(self) -> dict[str, str]:
        return dict.fromkeys(("f1", "precision", "recall"), "entities, micro") | {
            "f1_macro": "entities",
            "accuracy": "words",
        }

    def labelled(self, prediction: EvalPrediction) -> tuple[list[str], np.ndarray, np.ndarray]:
        """Words behind the cut count as outside of entities; where the tags know no outside, they are left out."""
        predicted = prediction.predictions[..., 0]
        if OUTSIDE in self.labels:
            predicted = np.where(predicted == UNSEEN, self.labels.index(OUTSIDE), predicted)
        counted = (prediction.label_ids != IGNORED) & (predicted != UNSEEN)
        return self.labels, prediction.label_ids[counted], predicted[counted].astype(int)

    def by_label(self, prediction: EvalPrediction) -> list[dict[str, Any]] | None:
        return entity_scores(prediction.predictions, prediction.label_ids, self.labels)

    def trivial_baseline(self, prediction: EvalPrediction, metric: str) -> tuple[str, EvalPrediction] | None:
        """The most frequent training tag on every word, foretold with the tags' shares."""
        if not self.counts:
            return None
        shares = np.array([self.counts[label] + 1 for label in self.labels], dtype=np.float32)
        labels = prediction.label_ids
        losses = -np.log(shares / shares.sum())[np.where(labels == IGNORED, 0, labels)]
        best = np.where(prediction.predictions[..., 0] == UNSEEN, UNSEEN, np.float32(shares.argmax()))
        name = f"majority tag ({self.labels[int(shares.argmax())]})"
        return name, EvalPrediction(predictions=np.stack([best, losses], -1), label_ids=labels)

    def constant(self, prediction: EvalPrediction) -> str:
        _, labels, said = self.labelled(prediction)
        if len(np.unique(said)) != 1 or len(np.unique(labels)) < 2:
            return ""
        return f"one tag only, '{self.labels[int(said[0])]}'"

    def describe(self, prediction: EvalPrediction, index: int) -> dict[str, Any]:
        """Entities as type, first word and last word, counted from 0."""
        target, predicted = tags_of(prediction.predictions[index], prediction.label_ids[index], self.labels)
        return {"target": entities(target), "predicted": entities(predicted)}

    def ask(self, row: dict[str, Any]) -> dict[str, Any]:
        words = row["tokens"].split() if isinstance(row["tokens"], str) else row["tokens"]
        tags = [self.labels[0]] * len(words) if isinstance(words, list) else []  # the encoder refuses what is no list
        return row | {"tokens": words, "tags": tags}

    def answer(self, row: dict[str, Any], prediction: EvalPrediction, index: int) -> dict[str, Any]:
        """A tag a word, null for words that were cut off, and the entities that the tags make."""
        _, found = tags_of(prediction.predictions[index], prediction.label_ids[index], self.labels)
        named = [
            {"kind": kind, "first": first, "last": last, "text": " ".join(row["tokens"][first : last + 1])}
            for kind, first, last in entities(found)
        ]
        return {"predicted": [*found, *[None] * (len(row["tokens"]) - len(found))], "entities": named}

    def _names(self, values: list[Any], feature: Any) -> list[list[str | None]]:
        """The tags of each row by name; None where one is missing."""
        known = self.data.labels or self.labels  # numbers are places in the recipe's order, whatever that of the head is
        names = class_names(feature) or ([] if are_numbers(known) else known)

        def name(tag: Any) -> str | None:
            if is_empty(tag):
                return None
            return names[tag] if isinstance(tag, int) and 0 <= tag < len(names) else str(tag)

        return [[name(tag) for tag in (tags if isinstance(tags, list) else [tags])] for tags in values]


def class_names(feature: Any) -> list[str]:
    """The names that a column of lists of labels brings along."""
    inner = getattr(feature, "feature", None)  # a plain column has none
    return list(inner.names) if isinstance(inner, ClassLabel) else []


def are_numbers(names: list[str]) -> bool:
    return bool(names) and all(name.lstrip("-").isdigit() for name in names)


def require_lists(batch: dict[str, list[Any]], positions: list[int]) -> None:
    """Raises RowError where a row is no list of words with as many tags."""
    for row, tokens, tags in zip(positions, batch["tokens"], batch["tags"], strict=True):
        for column, value in (("tokens", tokens), ("tags", tags)):
            if not isinstance(value, list | None):
                message = f"'{column}' is no list: {str(value)[:60]}"
                raise RowError(row, message, "is the right column mapped?", key=f"data.columns.{column}")
        if wrong := [word for word in tokens or [] if not isinstance(word, str)]:
            message = f"'tokens' holds something else than text: {str(wrong[0])[:60]}"
            raise RowError(row, message, "is the right column mapped?", key="data.columns.tokens")
        if len(tokens or []) != len(tags or []):
            message = f"{len(tokens or [])} tokens and {len(tags or [])} tags"
            raise RowError(row, message, "each token needs one tag; mend the row", key="data.columns.tags")


def needs_space(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether words given one by one are taken for one long word, as by GPT-2's and RoBERTa's tokenizer.

    There a space belongs to the word after it. Put before each word, it does what add_prefix_space=True does where that
    can be set; Llama 3 and Qwen split on spaces by themselves, and cannot.
    """
    text = tokenizer("a a", add_special_tokens=False)["input_ids"]
    words = tokenizer(["a", "a"], is_split_into_words=True, add_special_tokens=False)["input_ids"]
    return bool(text != words)


def row_cutter(max_length: int, over_long: str, overlap: int | None) -> Cutting:
    """A function from a row's columns, the words of its tokens and their labels to its entries, none over `max_length`.

    Args:
        over_long: "windows" makes several entries of a longer row, "cut" one of its beginning, "drop" none.
        overlap: tokens that neighbouring windows share.

    That function raises UserError where so many are more than a window has room for.
    """

    def cut(columns: dict[str, list[int]], word_ids: list[int | None], labels: list[int]) -> list[dict[str, Any]]:
        row = read_row(word_ids)
        room = max_length - (len(word_ids) - row.tokens)
        if row.tokens > room and over_long == "drop":
            return [dropped(columns, Outcome.TOO_LONG)]
        shared = int(room * OVERLAP) if overlap is None else overlap
        if shared > room * MOST_OVERLAP:
            message = f"windows of {room} tokens cannot share {shared} with the next"
            raise UserError(message, f"at most {int(room * MOST_OVERLAP)}", key="data.window_overlap")
        windows = [first_window(row, room)] if over_long == "cut" else make_windows(row, room, shared)
        lost = labels[windows[-1].last :]
        outcome = int(Outcome.CUT_TEXT if lost else Outcome.KEPT)
        made = []
        for window in windows:
            shown = {name: cut_out(values, row, window) for name, values in columns.items()}
            own = labels_in(window, labels, row, len(word_ids) - row.tokens + window.end - window.start)
            made.append({**shown, "labels": own, LOST: lost, OUTCOME: outcome})
        return made

    return cut


def dropped(columns: dict[str, list[int]], outcome: Outcome) -> dict[str, Any]:
    """The entry of a row that is not learnt, which is taken out again."""
    return {**{name: [] for name in columns}, "labels": [], LOST: [], OUTCOME: int(outcome)}


def tokenize_words(tokenizer: PreTrainedTokenizerBase, sentences: list[list[str]]) -> BatchEncoding:
    """Token ids of rows of words, whole, each word at least one token.

    A word of which the tokenizer makes nothing, as a lone variation selector, is read as its unknown token: else the word
    would have no prediction, and words could not be counted.
    """
    options = {"is_split_into_words": True, "verbose": False}  # it would warn of every row that is over its length
    encoded = tokenizer(sentences, **options)
    lost = [lost_words(encoded, index, len(words)) for index, words in enumerate(sentences)]
    if not any(lost):
        return encoded
    unknown = tokenizer.unk_token or "?"
    mended = [
        [unknown if place in gone else word for place, word in enumerate(words)]
        for words, gone in zip(sentences, lost, strict=True)
    ]
    return tokenizer(mended, **options)


def lost_words(encoded: BatchEncoding, index: int, words: int) -> set[int]:
    """The words of a row that have no token."""
    return set(range(words)) - {word for word in encoded.word_ids(index) if word is not None}


def _outside_first(tag: str) -> tuple[bool, str, str]:
    """O, then the types in their order, each with B before I."""
    prefix, _, kind = tag.partition("-")
    return tag != OUTSIDE, kind, prefix
