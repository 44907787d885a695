"""Fixtures: tiny models built offline, small data files, and the real data and models where they are at hand."""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, settings
from transformers import AutoModelForMaskedLM, AutoTokenizer

from ftkit import console
from ftkit.compat import hush_libraries
from ftkit.data.samples.table import generate
from ftkit.models.standins import make_stand_in
from ftkit.recipe.load import load_values
from ftkit.recipe.schema import Recipe
from ftkit.run import write_jsonl
from ftkit.training.smoke import tokenizer_texts

# A machine that does other things as well is slow; no test fails for that.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")

SHARED = Path(__file__).parent.parent.parent / "shared"
EVERY = 4  # case of a sweep is a slow test, in its turn over all kinds
TARGETS = {"distilbert": ["q_lin"], "bert": ["query"], "gpt2": ["c_attn"], "llama": ["q_proj"], "t5": ["q"]}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Of the slow cases of a test that is marked `swept` some stay slow tests; the others are for `make test-sweeps`."""
    seen: Counter[str] = Counter()
    for item in items:
        if item.get_closest_marker("swept") and item.get_closest_marker("slow"):
            name = item.nodeid.partition("[")[0]
            if seen[name] % EVERY:
                item.add_marker("sweep")
            seen[name] += 1


@pytest.fixture(autouse=True)
def quiet_libraries() -> None:
    hush_libraries()


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test runs in a folder of its own, so that `runs/` lands there."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session")
def stand_in(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A tiny model with random weights of a model type, made once."""
    made: dict[str, Path] = {}
    texts = tokenizer_texts()

    def make(kind: str) -> Path:
        if kind not in made:
            made[kind] = tmp_path_factory.mktemp("standins") / kind
            make_stand_in(kind, texts, made[kind])
        return made[kind]

    return make


@pytest.fixture(scope="session")
def reviews(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """120 short reviews with a label each."""
    path = tmp_path_factory.mktemp("data") / "reviews.jsonl"
    write_jsonl(path, generate("sentiment", rows=120, split="train", seed=1))
    return path


@pytest.fixture(scope="session")
def instructions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """80 rows in Alpaca form."""
    path = tmp_path_factory.mktemp("data") / "instructions.jsonl"
    write_jsonl(path, generate("instructions", rows=80, split="train", seed=1))
    return path


@pytest.fixture(scope="session")
def dialogues(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 dialogues with a summary each."""
    path = tmp_path_factory.mktemp("data") / "dialogues.jsonl"
    write_jsonl(path, generate("dialogues", rows=60, split="train", seed=1))
    return path


@pytest.fixture(scope="session")
def half_precision(stand_in: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The DistilBERT stand-in stored in float16, as many checkpoints on the hub are."""
    folder = tmp_path_factory.mktemp("half")
    AutoModelForMaskedLM.from_pretrained(stand_in("distilbert"), dtype=torch.float16).save_pretrained(folder)
    AutoTokenizer.from_pretrained(stand_in("distilbert")).save_pretrained(folder)
    return folder


@pytest.fixture(autouse=True)
def spoken() -> None:
    """What one test made quiet is not quiet in the next."""
    console.set_quiet(False)


@pytest.fixture
def shared() -> Path:
    """The real data and models; a test that needs them is skipped where they are not."""
    if not SHARED.is_dir():
        pytest.skip("the real data and models (../shared) are not here")
    return SHARED


@pytest.fixture
def recipe(stand_in: Callable[[str], Path], reviews: Path, instructions: Path) -> Callable[..., Recipe]:
    """A small recipe: `recipe("lora")`, `recipe("full", task="instruction", kind="gpt2", training={...})`.

    The saved model is not verified, which takes a process of seconds; the tests of that ask for it.
    """

    def make(
        strategy: str | dict[str, Any] = "full", *, task: str = "text-classification", kind: str = "", **blocks: Any
    ) -> Recipe:
        kind = kind or {"text-classification": "distilbert", "summarization": "llama"}.get(task, "gpt2")
        block = {"name": strategy} if isinstance(strategy, str) else strategy
        if block["name"] in ("lora", "qlora"):
            block = {"r": 4, "target_modules": TARGETS[kind], **block}
        data = {"text-classification": str(reviews), "instruction": str(instructions)}.get(task, "")
        training = {"max_steps": 4, "per_device_train_batch_size": 8, "learning_rate": 1e-3, "logging_steps": 1}
        values = {
            "task": task,
            "model": {"name": str(stand_in(kind)), "max_length": 128, **blocks.pop("model", {})},
            "strategy": block,
            "data": {"train": data, "eval_size": 20, **blocks.pop("data", {})},
            "training": {**training, **blocks.pop("training", {})},
            "evaluation": {"verify": False, **blocks.pop("evaluation", {})},
            **blocks,
        }
        return load_values(values)

    return make


@pytest.fixture
def verified_recipe(recipe: Callable[..., Recipe]) -> Callable[..., Recipe]:
    """A small recipe whose run verifies what it saves, as runs do where nothing else is said."""

    def make(*words: Any, **blocks: Any) -> Recipe:
        return recipe(*words, **blocks | {"evaluation": {"verify": True, **blocks.get("evaluation", {})}})

    return make
