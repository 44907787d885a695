"""Models with code of their own: where `model.trust_remote_code` lets it, it is taken in every place that builds a model.

Guards the kind "an option that reaches some places and not others": check, plan, training under each strategy, verification,
evaluation, prediction and merging go through here, for a type that the library does not know and for one that it knows too.
"""

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from transformers import AutoModelForMaskedLM, AutoModelForSequenceClassification, AutoTokenizer, dynamic_module_utils

from ftkit import Recipe, UserError, check, evaluate, plan, predict, train
from ftkit.delivery.merge import merge
from ftkit.models.architecture import meta_model
from ftkit.models.heads import find_head
from ftkit.models.load import load_config
from ftkit.recipe.schema import Model

RecipeMaker = Callable[..., Recipe]
CONFIGURATION = """
from transformers import BertConfig

class OwnConfig(BertConfig):
    model_type = "ownbert"
"""
# The head has another name than BERT's, so that it shows whose class was built.
MODELING = """
from torch import nn
from transformers import BertForMaskedLM, BertForSequenceClassification
{imported}

class OwnForSequenceClassification(BertForSequenceClassification):
    config_class = {config}

    def __init__(self, config):
        super().__init__(config)
        self.classifier = nn.Sequential(nn.Linear(config.hidden_size, 8), nn.Tanh(), nn.Linear(8, config.num_labels))
        self.post_init()
"""
STRATEGIES = {
    "full": {"name": "full"},
    "transfer": {"name": "transfer"},
    "lora": {"name": "lora", "target_modules": ["query"]},
}


@pytest.fixture(scope="module")
def own_modules(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder into which the library copies such code: the tests' own, once, since what is imported stays."""
    folder = tmp_path_factory.mktemp("modules")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dynamic_module_utils, "HF_MODULES_CACHE", str(folder))
        patch.setattr(sys, "path", list(sys.path))
        patch.setenv("HF_MODULES_CACHE", str(folder))  # of child processes
        yield folder


def own_model(stand_in: Callable[[str], Path], folder: Path, *, known: bool) -> Path:
    """The BERT stand-in with classes in files beside it.

    Args:
        known: its type is one that the library has a class for too.
    """
    AutoModelForMaskedLM.from_pretrained(stand_in("bert")).save_pretrained(folder)
    AutoTokenizer.from_pretrained(stand_in("bert")).save_pretrained(folder)
    names = {"AutoModelForSequenceClassification": "modeling_own.OwnForSequenceClassification"}
    imported, config = ("from transformers import BertConfig", "BertConfig")
    if not known:
        names["AutoConfig"] = "configuration_own.OwnConfig"
        imported, config = ("from .configuration_own import OwnConfig", "OwnConfig")
        (folder / "configuration_own.py").write_text(CONFIGURATION)
    (folder / "modeling_own.py").write_text(MODELING.format(imported=imported, config=config))
    values = json.loads((folder / "config.json").read_text())
    values |= {"auto_map": names, "model_type": "bert" if known else "ownbert"}
    (folder / "config.json").write_text(json.dumps(values))
    return folder


@pytest.mark.slow
@pytest.mark.usefixtures("own_modules")
@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("known", [True, False], ids=["a known type", "a type of its own"])
def test_own_code_is_taken_everywhere(
    verified_recipe: RecipeMaker, stand_in: Callable[[str], Path], tmp_path: Path, strategy: str, known: bool
) -> None:
    folder = own_model(stand_in, tmp_path / "own", known=known)
    model = {"name": str(folder), "trust_remote_code": True}
    made = verified_recipe(STRATEGIES[strategy], model=model, training={"bf16": False, "max_steps": 2})
    counts = plan(made, measure=False).parameters
    assert f"{counts.trainable:,} trainable of {counts.total:,}" in check(made).facts["parameters"]
    result = train(made, output_dir=tmp_path / "run")  # verified, by plain transformers or peft
    assert evaluate(result.folder).metrics == pytest.approx(result.metrics["tuned"], abs=1e-5)
    assert [row["predicted"] for row in predict(result.folder, [{"text": "a fine day"}])]
    if strategy == "lora":
        assert merge(result.folder, tmp_path / "merged").largest < 1e-4


@pytest.mark.usefixtures("own_modules")
@pytest.mark.parametrize("known", [True, False], ids=["a known type", "a type of its own"])
def test_shapes_and_head_are_those_of_the_own_code(stand_in: Callable[[str], Path], tmp_path: Path, known: bool) -> None:
    folder = own_model(stand_in, tmp_path / "own", known=known)
    config = load_config(Model(name=str(folder), trust_remote_code=True), {})
    assert type(meta_model(AutoModelForSequenceClassification, config)).__name__ == "OwnForSequenceClassification"
    assert find_head(AutoModelForSequenceClassification, config) == ("bert.pooler", "classifier")


def test_without_trust_the_librarys_class_is_taken_or_none(
    recipe: RecipeMaker, stand_in: Callable[[str], Path], tmp_path: Path, own_modules: Path
) -> None:
    before = list(own_modules.rglob("*.py"))
    known = own_model(stand_in, tmp_path / "known", known=True)
    config = load_config(recipe("full", model={"name": str(known)}).model, {})
    assert type(meta_model(AutoModelForSequenceClassification, config)).__name__ == "BertForSequenceClassification"
    unknown = own_model(stand_in, tmp_path / "unknown", known=False)
    with pytest.raises(UserError, match=r"set model\.trust_remote_code: true"):
        check(recipe("full", model={"name": str(unknown)}))
    assert list(own_modules.rglob("*.py")) == before
