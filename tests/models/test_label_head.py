"""The layer that gives the labels, in whatever architecture: kept as it is stored, or drawn anew, and nothing else with it."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoModelForTokenClassification
from transformers.models.auto import modeling_auto

from ftkit.models.label_head import Head, label_tensors
from ftkit.models.load import load_base, load_config
from ftkit.recipe.schema import Model
from tests.small_models import KINDS, save_small

FAST = ("bart", "bert", "distilbert", "funnel", "llama", "roberta", "t5")
CLASSES: dict[Any, dict[str, Any]] = {
    AutoModelForSequenceClassification: modeling_auto.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES,
    AutoModelForTokenClassification: modeling_auto.MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES,
}
CASES = [
    pytest.param(auto_class, kind, marks=() if kind in FAST else pytest.mark.slow)
    for auto_class, kinds in CLASSES.items()
    for kind in KINDS
    if kind in kinds
]


@pytest.mark.swept
@pytest.mark.parametrize(("auto_class", "kind"), CASES)
def test_a_head_is_kept_or_drawn_and_all_else_is_as_stored(tmp_path: Path, auto_class: Any, kind: str) -> None:
    block = Model(name=str(save_small(kind, auto_class, tmp_path / "base", num_labels=3)))
    stored = dict(auto_class.from_pretrained(block.name, dtype=torch.float32).named_parameters())

    def loaded(head: Head, labels: int, seed: int = 0) -> tuple[dict[str, torch.Tensor], set[str]]:
        torch.manual_seed(seed)
        config = load_config(block, {"num_labels": labels})
        model = load_base(auto_class, block, config, new_head=True, head=head, dtype=torch.float32)
        return dict(model.named_parameters()), label_tensors(auto_class, config)

    kept, names = loaded(Head(["a", "b", "c"]), 3)
    assert names
    assert all(torch.equal(tensor, kept[name]) for name, tensor in stored.items())
    drawn, again, other = (loaded(Head([], "other labels"), 3, seed)[0] for seed in (1, 1, 2))
    assert {name for name, tensor in stored.items() if not torch.equal(tensor, drawn[name])} <= names
    weights = [name for name in names if stored[name].ndim > 1]
    assert weights
    for name in weights:
        assert not torch.equal(stored[name], drawn[name])
        assert torch.equal(drawn[name], again[name])
        assert not torch.equal(drawn[name], other[name])
        assert 0.3 < float(drawn[name].std() / stored[name].std()) < 3  # as wide as transformers draws it
    head = Head(["a", "b"])
    more, _ = loaded(head, 2)
    assert not head.kept  # the checkpoint's does not fit, whatever was thought of it
    assert {name for name, tensor in stored.items() if not torch.equal(tensor, more[name])} == names
