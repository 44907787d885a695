"""What is saved is what was loaded, but for what was trained: weights of many architectures, tokenizer, config, template.

The kind that this guards: something that a run sets for itself and leaves in the folder, or that loading would undo.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
)
from transformers.models.auto import modeling_auto

from ftkit import train
from ftkit.models.load import load_base, load_config, load_tokenizer
from ftkit.models.save import save_model
from ftkit.models.strategies.table import STRATEGIES
from ftkit.recipe.schema import Full, Model, Recipe
from ftkit.run import write_json
from tests.small_models import KINDS, save_small

CLASSES: dict[Any, dict[str, Any]] = {
    AutoModelForSequenceClassification: modeling_auto.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES,
    AutoModelForTokenClassification: modeling_auto.MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES,
    AutoModelForCausalLM: modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    AutoModelForMaskedLM: modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    AutoModelForSeq2SeqLM: modeling_auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
}
CASES = [
    pytest.param(auto_class, kind, marks=() if kind in ("funnel", "gpt2", "t5") else pytest.mark.slow)
    for auto_class, kinds in CLASSES.items()
    for kind in KINDS
    if kind in kinds
]
RecipeMaker = Callable[..., Recipe]


@pytest.mark.swept
@pytest.mark.parametrize(("auto_class", "kind"), CASES)
def test_weights_that_moved_are_loaded_as_they_were(tmp_path: Path, auto_class: Any, kind: str) -> None:
    block = Model(name=str(save_small(kind, auto_class, tmp_path / "base")))
    base = load_base(auto_class, block, load_config(block, {}), new_head=True, dtype=torch.float32)
    model = STRATEGIES["full"].apply(base, Full(name="full"), ())
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.01)
    save_model(model, load_tokenizer(block), tmp_path / "saved")
    loaded, info = auto_class.from_pretrained(tmp_path / "saved", output_loading_info=True)
    assert not info["missing_keys"]
    found = dict(loaded.named_parameters())
    assert [name for name, tensor in model.named_parameters() if not torch.equal(tensor, found[name])] == []


STRATEGY_CASES = [
    ("distilbert", "text-classification", "full"), ("distilbert", "text-classification", "lora"),
    ("distilbert", "text-classification", "transfer"), ("distilbert", "text-classification", "qlora"),
    ("gpt2", "instruction", "full"), ("gpt2", "instruction", "lora"), ("gpt2", "instruction", "qlora"),
    ("t5", "summarization", "full"), ("t5", "summarization", "lora"),
]  # fmt: skip
OWN = {"padding_side": "left", "truncation_side": "left", "model_max_length": 200}
TEMPLATE = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
SET_BY_THE_TASK = {"architectures", "id2label", "label2id", "problem_type", "pad_token_id"}


@pytest.fixture
def odd_base(stand_in: Callable[[str], Path], tmp_path: Path) -> Callable[[str], Path]:
    """A base whose tokenizer, config and generation are none of the defaults."""

    def make(kind: str) -> Path:
        folder, source = tmp_path / "base", stand_in(kind)
        tokenizer = AutoTokenizer.from_pretrained(source)
        tokenizer.backend_tokenizer.enable_truncation(150, direction="left")
        tokenizer.save_pretrained(folder)
        for file in source.iterdir():
            if not file.name.startswith("tokenizer"):
                (folder / file.name).write_bytes(file.read_bytes())
        (folder / "chat_template.jinja").write_text(TEMPLATE)
        changed = {"tokenizer_config.json": OWN, "config.json": {"own_field": {"a": [1]}}}
        if (folder / "generation_config.json").exists():
            changed["generation_config.json"] = {"do_sample": True, "temperature": 0.3, "max_new_tokens": 17}
        for name, values in changed.items():
            write_json(folder / name, json.loads((folder / name).read_text()) | values)
        return folder

    return make


@pytest.mark.parametrize(("kind", "task", "strategy"), STRATEGY_CASES)
@pytest.mark.slow
def test_a_run_leaves_nothing_of_its_own_in_the_folder(
    odd_base: Callable[[str], Path],
    recipe: RecipeMaker,
    dialogues: Path,
    tmp_path: Path,
    kind: str,
    task: str,
    strategy: str,
) -> None:
    base = odd_base(kind)
    data = {"train": str(dialogues), "columns": {"document": "dialogue"}} if task == "summarization" else {}
    data["gate"] = {"cut_answer": 1.0, "dropped": 1.0}
    made = recipe(
        strategy, task=task, kind=kind, model={"name": str(base), "max_length": 128}, data=data,
        training={"max_steps": 1, "per_device_train_batch_size": 2}, evaluation={"baseline": False, "general_text": False},
    )  # fmt: skip
    saved = train(made, output_dir=tmp_path / "run").folder / "model"
    plain = tmp_path / "plain"  # what transformers makes of the same folder by loading and saving it
    AutoTokenizer.from_pretrained(base).save_pretrained(plain)
    AutoConfig.from_pretrained(base).save_pretrained(plain)
    assert (saved / "chat_template.jinja").read_text() == TEMPLATE
    assert (saved / "tokenizer.json").read_text() == (plain / "tokenizer.json").read_text()
    own, wanted = (json.loads((folder / "tokenizer_config.json").read_text()) for folder in (saved, plain))
    assert {**own, "pad_token": ""} == {
        **wanted,
        "pad_token": "",
    }  # one that lacks it gets its end token, and a line says so
    assert own["padding_side"] == own["truncation_side"] == "left"
    own, wanted = (json.loads((folder / "config.json").read_text()) for folder in (saved, plain))
    assert {key for key in own | wanted if own.get(key) != wanted.get(key)} <= SET_BY_THE_TASK
    if (saved / "generation_config.json").exists():
        own, wanted = (json.loads((folder / "generation_config.json").read_text()) for folder in (saved, base))
        assert {key for key in own | wanted if own.get(key) != wanted.get(key)} <= {"eos_token_id", "pad_token_id"}


def test_a_lent_pad_token_is_told(recipe: RecipeMaker, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train(recipe(task="instruction", training={"max_steps": 1}), output_dir=tmp_path / "run")
    assert "the tokenizer has no pad token: <|endoftext|> pads" in " ".join(capsys.readouterr().err.split())
