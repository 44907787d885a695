"""The digest of all that a recipe stands on: the same while nothing changes, another as soon as something does."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants

from ftkit.data import inputs
from ftkit.data.inputs import inputs_key
from ftkit.recipe.load import load_values
from ftkit.recipe.schema import Recipe

RecipeMaker = Callable[..., Recipe]


@pytest.fixture
def make(tmp_path: Path) -> RecipeMaker:
    """A recipe on a model folder and on a file of rows that nobody reads here."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model/config.json").write_text("{}")
    (tmp_path / "rows.jsonl").write_text('{"text": "good", "label": 1}\n')

    def made(**blocks: Any) -> Recipe:
        values = {"task": "text-classification", "model": "model", "strategy": "full", "data": {"train": "*.jsonl"}}
        return load_values(values | blocks)

    return made


def test_the_same_recipe_has_the_same_key(make: RecipeMaker) -> None:
    assert inputs_key(make()) == inputs_key(make())


def touch_rows() -> None:
    os.utime("rows.jsonl", ns=(1, 1))


def change_model() -> None:
    Path("model/config.json").write_text("{ }")


def add_weights() -> None:
    Path("model/model.safetensors").write_text("weights")


def add_rows() -> None:
    Path("more.jsonl").write_text("")


@pytest.mark.parametrize("change", [touch_rows, change_model, add_weights, add_rows], ids=lambda change: change.__name__)
def test_a_changed_file_is_another_key(make: RecipeMaker, change: Callable[[], None]) -> None:
    key = inputs_key(make())
    change()
    assert inputs_key(make()) != key


def test_a_changed_value_setting_or_folder_is_another_key(
    make: RecipeMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = inputs_key(make())
    assert inputs_key(make(training={"learning_rate": 1e-3})) != key
    with monkeypatch.context() as patched:
        patched.setenv("CUDA_VISIBLE_DEVICES", "")
        assert inputs_key(make()) != key
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert inputs_key(make()) != key


def test_what_the_hub_s_cache_has_counts(make: RecipeMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    key = inputs_key(make(model="owner/name"))
    refs = tmp_path / "cache" / "models--owner--name/refs"
    refs.mkdir(parents=True)
    (refs / "main").write_text("a commit")
    assert inputs_key(make(model="owner/name")) not in (None, key)


def test_what_is_no_commit_yet_may_be_something_newer(make: RecipeMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    assert inputs_key(make()) is not None
    assert inputs_key(make(model="owner/name")) is None
    first, second = (make(model={"name": "owner/name", "revision": letter * 40}) for letter in "ab")
    assert inputs_key(first) == inputs_key(first) is not None
    assert inputs_key(first) != inputs_key(second)


def test_another_package_version_or_machine_is_another_key(
    make: RecipeMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    (tmp_path / "site/wandb-1.0.dist-info").mkdir(parents=True)
    key = inputs_key(make())
    (tmp_path / "site/wandb-1.0.dist-info").rename(tmp_path / "site/wandb-1.1.dist-info")
    changed = inputs_key(make())
    assert changed != key
    monkeypatch.setattr(inputs, "machine", lambda: ["another"])
    assert inputs_key(make()) != changed


@pytest.mark.parametrize(
    "blocks",
    [
        {"evaluation": {"metric_file": "metric.py"}},
        {"model": {"name": "model", "trust_remote_code": True}},
        {"training": {"per_device_train_batch_size": "auto"}},
        {"strategy": "auto"},
    ],
    ids=["metric", "model code", "batch", "strategy"],
)
def test_what_follows_from_more_than_files_has_no_key(make: RecipeMaker, blocks: dict[str, Any]) -> None:
    Path("metric.py").write_text("def compute(predictions, references): return {'one': 1.0}\n")
    assert inputs_key(make(**blocks)) is None


def test_too_many_files_have_no_key(make: RecipeMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs, "MOST_FILES", 2)
    assert inputs_key(make())
    Path("model/vocab.txt").write_text("")
    assert inputs_key(make()) is None


def test_a_folder_that_cannot_be_listed_has_no_key(make: RecipeMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*_: Any) -> None:
        raise FileNotFoundError("removed meanwhile")

    monkeypatch.setattr(Path, "rglob", gone)
    assert inputs_key(make()) is None


def test_words_that_can_be_no_path_are_passed_over(make: RecipeMaker) -> None:
    key = inputs_key(make(data={"train": "*.jsonl", "columns": {"text": "/", "label": "."}}))
    Path("beside.txt").write_text("no part of it")
    assert inputs_key(make(data={"train": "*.jsonl", "columns": {"text": "/", "label": "."}})) == key is not None
    assert inputs_key(make(data={"train": "*.jsonl", "columns": {"text": "nul\0", "label": "x" * 10_000}}))
