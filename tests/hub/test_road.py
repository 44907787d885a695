"""A recipe of hub ids from its first run to its predictions: what is asked, of whom, and that the answers are the same.

Kinds: a warm run asks once for each repository and for nothing else; no host but the hub is looked up; a hub that is gone
when the weights are here changes nothing.
"""

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from ftkit.api import evaluate, plan, predict, train
from ftkit.recipe.load import load_values
from ftkit.recipe.schema import Recipe
from tests.hub.repositories import files_of
from tests.hub.server import Fault, Hub

_looked_up: list[str] = []


def _note(event: str, values: tuple[Any, ...]) -> None:
    if event == "socket.getaddrinfo":
        _looked_up.append(str(values[0]))


sys.addaudithook(_note)


@dataclass
class Road:
    """What each run asked, and its scores; what the commands that follow asked, and which hosts all of them looked up."""

    asked: dict[str, list[str]] = field(default_factory=dict)
    scores: dict[str, Any] = field(default_factory=dict)
    hosts: set[str] = field(default_factory=set)


def recipe_of(name: str) -> Recipe:
    values = {
        "task": "text-classification", "model": {"name": "some/model", "max_length": 64},
        "strategy": {"name": "lora", "r": 4, "target_modules": ["q_lin"]},
        "data": {"train": "some/reviews", "eval_size": 20},
        "training": {"max_steps": 4, "save_strategy": "steps", "save_steps": 2, "learning_rate": 1e-3},
        "evaluation": {"verify": False},
    }  # fmt: skip
    return load_values(values, name)


@pytest.fixture(scope="module")
def road(module_hub: Hub, stand_in: Any, reviews: Path, tmp_path_factory: pytest.TempPathFactory) -> Road:
    module_hub.publish("models", "some/model", files_of(stand_in("distilbert")))
    module_hub.publish("datasets", "some/reviews", {"train.jsonl": reviews.read_bytes()})
    folder, found = tmp_path_factory.mktemp("runs"), Road()
    steps = {
        "cold": lambda: train(recipe_of("cold"), output_dir=folder / "cold"),
        "warm": lambda: train(recipe_of("warm"), output_dir=folder / "warm"),
        "plan": lambda: plan(recipe_of("plan"), measure=False),
        "eval": lambda: evaluate(folder / "cold"),
        "predict": lambda: list(predict(folder / "cold", [{"text": "a good film"}])),
        "offline": lambda: train(recipe_of("offline"), output_dir=folder / "offline"),
    }
    _looked_up.clear()
    for name, step in steps.items():
        module_hub.requests.clear()
        module_hub.fault = Fault(gone=True) if name == "offline" else None
        step()
        found.asked[name] = [request.line for request in module_hub.requests]
        if (folder / name / "metrics.json").is_file():
            metrics = json.loads((folder / name / "metrics.json").read_text())
            found.scores[name] = {part: metrics[part] for part in ("baseline", "tuned")}
    found.hosts = set(_looked_up)
    return found


@pytest.mark.slow
def test_a_warm_run_asks_once_for_each_repository(road: Road) -> None:
    assert sorted(road.asked["warm"]) == ["GET /api/datasets/some/reviews", "GET /api/models/some/model"]
    assert any(".safetensors" in line for line in road.asked["cold"])


@pytest.mark.slow
@pytest.mark.parametrize("command", ["plan", "eval", "predict"])
def test_other_commands_ask_no_more(road: Road, command: str) -> None:
    assert len(road.asked[command]) <= 4
    assert not [line for line in road.asked[command] if not line.startswith("GET /api/")]


@pytest.mark.slow
def test_no_host_but_the_hub_is_looked_up(road: Road) -> None:
    assert road.hosts <= {"127.0.0.1", "localhost"}
    assert road.hosts


@pytest.mark.slow
def test_the_scores_are_the_same_whatever_was_fetched(road: Road) -> None:
    assert road.scores["cold"] == road.scores["warm"] == road.scores["offline"]
