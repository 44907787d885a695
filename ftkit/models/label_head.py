"""What becomes of a checkpoint's head of labels: it is kept where its labels are those of the data, else drawn anew."""

import copy
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PretrainedConfig, PreTrainedModel

from ftkit.models.architecture import meta_model

NAMED = 12  # labels that a line names


@dataclass
class Head:
    """The head of a model that gives labels or a number.

    Attributes:
        labels: their names, in the order of the head's outputs; none where it gives a number.
        reason: why a new one is drawn; empty where the checkpoint's is kept.
    """

    labels: list[str]
    reason: str = ""

    @property
    def kept(self) -> bool:
        return not self.reason

    def describe(self) -> dict[str, Any]:
        """For run.json."""
        return {"kept": self.kept, "labels": self.labels, **({"reason": self.reason} if self.reason else {})}


def head_words(head: dict[str, Any], name: str) -> str:
    """What became of the head, in one line.

    Args:
        head: as `Head.describe` gives it.
        name: of the checkpoint.
    """
    given = f"labels {listed(head['labels'])}" if head["labels"] else "one number"
    return f"keeps the head of {name}: {given}" if head["kept"] else f"draws a new head: {head['reason']}"


def listed(labels: list[str]) -> str:
    """The labels in words, the first few of many."""
    return ", ".join(labels[:NAMED]) + (f", … ({len(labels)} in all)" if len(labels) > NAMED else "")


def settle_head(
    auto_class: Any, config: PretrainedConfig, model: PreTrainedModel, head: Head, drawn: set[str], *, anew: bool
) -> None:
    """Draw the layer that gives the labels where the checkpoint's is not to be kept, though it would fit.

    A head that was to be kept is new as well where the checkpoint lacks that layer, whatever its config says.

    Args:
        drawn: names of weights that the checkpoint lacks, or has in another shape.
        anew: draw those among them again, so that a base that was quantized now and one that is read get the same.
    """
    sized = {name for name, tensor in model.named_parameters() if config.num_labels in tensor.shape}
    if head.kept and sized & drawn & label_tensors(auto_class, config):
        head.reason = "the checkpoint has no weights for the labels that its config names"
    if not head.kept and (anew or sized - drawn):
        stale = label_tensors(auto_class, config) - (set() if anew else drawn)
        if stale:
            draw(model, stale)


def label_tensors(auto_class: Any, config: PretrainedConfig) -> set[str]:
    """Names of the tensors whose shape follows from the number of labels."""
    more = copy.deepcopy(config)
    more.num_labels += 1
    with torch.random.fork_rng():  # without weights numbers are drawn all the same
        models = [meta_model(auto_class, made) for made in (config, more)]
    shapes = [{name: tensor.shape for name, tensor in model.named_parameters()} for model in models]
    return {name for name, shape in shapes[0].items() if shapes[1][name] != shape}


def draw(model: PreTrainedModel, names: set[str]) -> None:
    """Draw these weights as the model draws those that a checkpoint lacks; all others stay."""
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        tensor._is_hf_initialized = name not in names  # type: ignore[attr-defined]
    owners = {name.rpartition(".")[0] for name in names}
    around = {"", *owners} | {owner[:end] for owner in owners for end in range(len(owner)) if owner[end] == "."}
    for name, module in model.named_modules():
        module._is_hf_initialized = name not in around  # type: ignore[assignment]
    model.initialize_weights()
