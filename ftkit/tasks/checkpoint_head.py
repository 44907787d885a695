"""Does a checkpoint have a head for the task, and for the labels of the data? By its config, before its weights are read."""

import re
import unicodedata
from collections.abc import Collection
from typing import Any

from transformers import PretrainedConfig
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES,
    MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES,
)

from ftkit.models.label_head import Head, listed

GENERIC = re.compile(r"LABEL_\d+")
KINDS = {
    "single_label_classification": "one label of several",
    "multi_label_classification": "several labels at once",
    "regression": "a number",
}
# The names of a model type's class with such a head, or of its classes, by the class that builds them.
CLASSES: dict[str, Any] = {
    "AutoModelForSequenceClassification": MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES,
    "AutoModelForTokenClassification": MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES,
}


def choose_head(config: PretrainedConfig, auto_class: Any, kind: str, labels: list[str], *, named: bool) -> Head:
    """The checkpoint's head where it gives these very labels, which then have its order; else a new one.

    Args:
        auto_class: builds the models for the task.
        kind: of the problem, in the words of `PretrainedConfig.problem_type`.
        labels: as the data spell them.
        named: the recipe names them; else they are what was found in the training rows.
    """
    other = config.problem_type or kind
    if not has_head(config, auto_class):
        return Head(labels, "the checkpoint has none for this task")
    if other != kind:
        return Head(labels, f"the checkpoint's gives {KINDS.get(other, other)}, the data have {KINDS[kind]}")
    own = labels_of_config(config)
    if all(GENERIC.fullmatch(name) for name in own):
        return Head(labels, f"the checkpoint does not name its labels ({listed(own)})")
    if (found := in_order_of(own, labels)) is not None:
        return Head(found)
    reason = f"the labels of the checkpoint are {listed(own)}; those of the data {listed(labels)}"
    less = not named and {plain(name) for name in labels} < {plain(name) for name in own}
    return Head(labels, reason + ("; to keep its head, name all of them in data.labels" if less else ""))


def choose_number(config: PretrainedConfig, auto_class: Any) -> Head:
    """The head that gives one number, where the checkpoint has one; else a new one."""
    if not has_head(config, auto_class):
        return Head([], "the checkpoint has none for this task")
    if config.num_labels == 1 and config.problem_type in (None, "regression"):
        return Head([])
    return Head([], f"the checkpoint's gives {listed(labels_of_config(config))}, the data have a number")


def has_head(config: PretrainedConfig, auto_class: Any) -> bool:
    """Whether the checkpoint was saved as a model for the task; one that does not say so is asked for its weights later."""
    found = CLASSES[auto_class.__name__].get(config.model_type, ())
    own = (config.to_dict().get("auto_map") or {}).get(auto_class.__name__, "")  # of a model that brings its code
    names = {own.rpartition(".")[2], *([found] if isinstance(found, str) else found)}
    return not config.architectures or not names.isdisjoint(config.architectures)


def labels_of_config(config: PretrainedConfig) -> list[str]:
    """A model's labels in the order of its outputs; an output without a name has a generic one."""
    return [str(config.id2label.get(number, f"LABEL_{number}")) for number in range(config.num_labels or 0)]


def in_order_of(own: list[str], labels: list[str]) -> list[str] | None:
    """The labels in the order of a model's own, where they are the same names; else None."""
    for form in (str, plain):
        spelt = {form(label): label for label in labels}
        places = [form(name) for name in own]
        if len(spelt) == len(labels) and sorted(places) == sorted(spelt):
            return [spelt[place] for place in places]
    return None


def plain(name: str) -> str:
    """A label without case, one space for whatever parts its words: `B-PER` is `b per`, while `-1` stays what it is."""
    normal = unicodedata.normalize("NFKC", name).strip()
    return re.sub(r"(?<=[^\W_])[\s_-]+(?=[^\W_])", " ", normal).casefold()


def recalled(config: PretrainedConfig, named: Collection[str]) -> list[str]:
    """The labels of a trained model, spelt as the recipe names them; where its config has only numbers, the recipe's."""
    own, wanted = labels_of_config(config), list(named)
    if len(wanted) == len(own) and all(name.startswith("LABEL_") for name in own):
        return wanted
    return in_order_of(own, wanted) or own
