"""A run stands on commits: what was trained on a branch, tag or commit is loaded on that by everything that comes later.

Kinds: the revision is lost under a strategy or by a later command; a branch that moves after training changes what a run says.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSequenceClassification

from ftkit import api
from ftkit.data.samples.table import generate
from ftkit.errors import UserError
from ftkit.hub.offline import offline_mode_kept
from ftkit.recipe.load import load_recipe
from ftkit.recipe.schema import Recipe
from ftkit.report.usage import loading_words
from ftkit.run import INTERRUPTED, Run
from tests.hub.repositories import files_of
from tests.hub.server import Hub
from tests.small_models import save_small

NAME, ROWS = "some/base", "some/rows"
MODEL, DATA = ("models", NAME), ("datasets", ROWS)
STRATEGIES = {"lora": {"name": "lora", "r": 2, "target_modules": ["query"]}, "full": {"name": "full"}}


def rows(seed: int) -> bytes:
    found = generate("sentiment", rows=60, split="train", seed=seed)
    return b"".join(json.dumps(row).encode() + b"\n" for row in found)


def weights(folder: Path, shift: float) -> dict[str, bytes]:
    """A model's files, with other weights for another shift."""
    save_small("bert", AutoModelForSequenceClassification, folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(shift * torch.randn_like(parameter))
    model.save_pretrained(folder)
    return files_of(folder)


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, bytes]]:
    """Three models that differ by their weights alone."""
    home = tmp_path_factory.mktemp("bases")
    return [weights(home / str(shift), shift) for shift in (0.0, 0.3, 0.6)]


def recipe(strategy: str, revision: str | None, **training: Any) -> Recipe:
    values = {
        "task": "text-classification", "model": {"name": NAME, "revision": revision, "max_length": 32},
        "strategy": STRATEGIES[strategy], "data": {"train": ROWS, "eval_size": 20},
        "training": {"max_steps": 3, "per_device_train_batch_size": 4, "learning_rate": 1e-3, "save_strategy": "steps",
                     "save_steps": 1, **training},
        "evaluation": {"baseline": False, "general_text": False},
    }  # fmt: skip
    Path("mine.yaml").write_text(json.dumps(values))
    return load_recipe(Path("mine.yaml"))


def answers(run: Path) -> list[Any]:
    return [row["probabilities"] for row in api.predict(run, [{"text": text} for text in ("a fine film", "a dull one")])]


@pytest.fixture(scope="module")
def trained(
    module_hub: Hub, bases: list[dict[str, bytes]], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, tuple[Path, list[Any]]]:
    """A run of each strategy on the tag v1, whose main branch is another model; then both, and the rows, move."""
    home = tmp_path_factory.mktemp("runs")
    module_hub.publish(*MODEL, bases[0], "v1")
    module_hub.publish(*MODEL, bases[1])
    module_hub.publish(*DATA, {"train.jsonl": rows(1)})
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        for strategy in STRATEGIES:
            api.train(recipe(strategy, "v1"), output_dir=home / strategy)
            found[strategy] = home / strategy, answers(home / strategy)
    module_hub.publish(*MODEL, bases[2], "v1")
    module_hub.publish(*MODEL, bases[2])
    module_hub.publish(*DATA, {"train.jsonl": rows(2)})
    return found


@pytest.mark.slow
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_commits_stand_in_the_run(trained: dict[str, tuple[Path, list[Any]]], module_hub: Hub, strategy: str) -> None:
    run = Run(trained[strategy][0])
    first = {name: next(iter(module_hub.repositories[name].commits)) for name in (MODEL, DATA)}
    pins = [(pin["name"], pin["asked"], pin["commit"]) for pin in run.record["hub"]]
    assert pins == [(NAME, "v1", first[MODEL]), (ROWS, None, first[DATA])]
    written = load_recipe(run.recipe_file)
    assert (written.model.revision, written.data.train[0].revision) == (first[MODEL], first[DATA])
    assert run.record["verified"]["good"]
    assert first[MODEL] in run.card.read_text()
    if strategy == "lora":
        saved = json.loads((run.model / "adapter_config.json").read_text())
        assert (saved["base_model_name_or_path"], saved["revision"]) == (NAME, first[MODEL])


@pytest.mark.slow
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_branch_that_moved_changes_nothing_and_verify_says_so(
    trained: dict[str, tuple[Path, list[Any]]], strategy: str
) -> None:
    run, before = trained[strategy]
    assert answers(run) == before
    said = api.verify(run).facts
    assert said["data"] == "train and eval rows are those of the run"
    assert f"the model {NAME}: v1 is now" in said["hub"]
    assert f"the data set {ROWS}: main is now" in said["hub"]


@pytest.mark.slow
def test_evaluating_and_merging_take_the_runs_own_base(trained: dict[str, tuple[Path, list[Any]]], tmp_path: Path) -> None:
    run = trained["lora"][0]
    tuned = json.loads((run / "metrics.json").read_text())["tuned"]
    assert api.evaluate(run).metrics == pytest.approx(tuned)
    from ftkit.delivery.merge import merge

    assert merge(run, tmp_path / "merged").rows


@pytest.mark.slow
def test_the_lines_of_the_card_load_the_runs_own_base(trained: dict[str, tuple[Path, list[Any]]]) -> None:
    run, before = trained["lora"]
    names: dict[str, Any] = {}
    exec("\n".join(loading_words(Run(run).record["load"], str(run / "model"))), names)
    batch = names["tokenizer"](["a fine film", "a dull one"], padding=True, return_tensors="pt")
    with torch.no_grad():
        scores = names["model"].eval()(**batch).logits.softmax(-1)
    labels = Run(run).record["load"]["labels"]
    found = [dict(zip(labels, row.tolist(), strict=True)) for row in scores]
    assert found == [pytest.approx(row, abs=1e-4) for row in before]


@pytest.mark.slow
def test_a_run_goes_on_with_its_own_and_over_no_other(
    trained: dict[str, tuple[Path, list[Any]]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(trained["lora"][0], tmp_path / "run")
    run = Run(tmp_path / "run")
    run.update(state=INTERRUPTED)
    shutil.rmtree(sorted(run.checkpoints.glob("checkpoint-*"))[-1])
    with pytest.raises(UserError, match=r"the recipe changed since the run began: model.revision"), offline_mode_kept():
        api.train(recipe("lora", None), output_dir=run.folder, resume=True)
    capsys.readouterr()
    api.train(recipe("lora", "v1"), output_dir=run.folder, resume=True)
    assert f"the model {NAME}: v1 is now" in capsys.readouterr().err
    assert answers(run.folder) == trained["lora"][1]


@pytest.mark.slow
def test_a_base_that_is_gone_is_named(trained: dict[str, tuple[Path, list[Any]]], module_hub: Hub) -> None:
    run = trained["lora"][0]
    commit = load_recipe(Run(run).recipe_file).model.revision
    from huggingface_hub import constants

    from ftkit.errors import Unverified

    shutil.rmtree(Path(constants.HF_HUB_CACHE) / f"models--{NAME.replace('/', '--')}")
    del module_hub.repositories[MODEL].commits[str(commit)]
    with pytest.raises(Unverified, match=f"its base cannot be had: .*it has no revision '{commit}'"):
        api.verify(run)
