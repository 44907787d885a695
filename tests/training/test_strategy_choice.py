"""`strategy: auto`: the strongest that fits, the recipe that is left behind, and what is said where none fits."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from ftkit import api
from ftkit.errors import UserError
from ftkit.recipe.load import load_recipe, load_values
from ftkit.recipe.schema import Recipe
from ftkit.run import resolved_values
from ftkit.training import strategy_choice
from ftkit.training.pace import Pace
from ftkit.training.plan import GIB
from ftkit.training.strategy_choice import STRONGEST_FIRST, settle_strategy, under_strategy
from ftkit.training.variants import LEARNING_RATES

RecipeMaker = Callable[..., Recipe]
LIGHT = {"general_text": False, "baseline": False}
QUIET = {"save_strategy": "no", "eval_strategy": "no", "bf16": False, "use_cpu": True}


def auto(recipe: RecipeMaker, strategy: dict[str, Any] | None = None, **blocks: Any) -> Recipe:
    """A small recipe that leaves strategy and rate to ftkit, unless told otherwise."""
    training, rate = QUIET | blocks.pop("training", {}), blocks.pop("rate", None)
    values = resolved_values(recipe("full", training=training, evaluation=LIGHT, **blocks))
    values["strategy"] = {"name": "auto", **(strategy or {})}
    values["training"].pop("learning_rate")
    return load_values(values, "auto", [f"training.learning_rate={rate}"] if rate else [])


def needs(made: Recipe) -> dict[str, int]:
    """What each strategy is planned to take."""
    choice = api.plan(made, device="cpu", vram=1000, measure=False).choice
    assert choice is not None
    return {one.strategy: one.needed or 0 for one in choice.candidates}


@pytest.fixture
def room(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Says how much memory the machine has free."""
    return lambda size: monkeypatch.setattr(strategy_choice, "room_on", lambda device: size)


def test_the_candidates_are_those_of_the_task(recipe: RecipeMaker) -> None:
    assert tuple(needs(auto(recipe))) == STRONGEST_FIRST
    assert tuple(needs(auto(recipe, task="instruction"))) == ("full", "lora", "qlora")


def test_the_strongest_that_fits_is_chosen(recipe: RecipeMaker) -> None:
    made = auto(recipe)
    sizes = needs(made)
    assert sizes["full"] > sizes["lora"]
    plenty = api.plan(made, device="cpu", vram=(sizes["full"] + 2**20) / GIB, measure=False)
    assert plenty.strategy == "full"
    tight = api.plan(made, device="cpu", vram=(sizes["full"] - 2**14) / GIB, measure=False)
    assert tight.choice is not None
    assert tight.strategy == tight.choice.chosen == "lora"
    assert tight.fits
    assert tight.choice.words().startswith("strategy auto: lora, since full would take ")
    assert tight.as_json()["choice"]["candidates"][0]["hindrance"]


def test_a_plan_where_none_fits_is_that_of_the_least(recipe: RecipeMaker) -> None:
    made = auto(recipe)
    plan = api.plan(made, device="cpu", vram=0.001, measure=False)
    assert plan.choice is not None
    assert plan.choice.chosen == ""
    assert plan.needed == min(one.needed or 0 for one in plan.choice.candidates)
    assert not plan.fits


def test_training_where_none_fits_is_refused_in_one_line(
    recipe: RecipeMaker, tmp_path: Path, room: Callable[[int], None]
) -> None:
    room(2**20)
    with pytest.raises(UserError, match=r"no strategy fits into 1\.0 MiB: the least, \w+, would take .*MiB") as caught:
        api.train(auto(recipe), output_dir=tmp_path / "run")
    assert "model" in caught.value.hint
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()
    with pytest.raises(UserError, match="no strategy fits"):
        api.check(auto(recipe))


def test_the_recipe_may_bound_the_memory(recipe: RecipeMaker, room: Callable[[int], None]) -> None:
    sizes = needs(auto(recipe))
    room(10**12)
    bounded = auto(recipe, {"memory_gib": (sizes["full"] - 2**14) / GIB})
    found, choice = settle_strategy(bounded)
    assert found.strategy.name == "lora"
    assert choice is not None
    assert choice["room"] == sizes["full"] - 2**14
    room(sizes["lora"] - 2**12)  # the machine has less than the recipe allows
    with_less = settle_strategy(bounded)[0].strategy.name
    assert STRONGEST_FIRST.index(with_less) > STRONGEST_FIRST.index("lora")


def test_a_gpu_that_is_not_here_has_to_be_described(recipe: RecipeMaker) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(UserError, match="needs to know the memory"):
        api.plan(auto(recipe), device="cuda", measure=False)
    assert api.plan(auto(recipe), device="cuda", vram=40, measure=False).strategy == "full"


def test_the_rate_is_the_strategys_own_unless_the_recipe_names_one(recipe: RecipeMaker) -> None:
    for name in STRONGEST_FIRST:
        assert under_strategy(auto(recipe), name).training.learning_rate == LEARNING_RATES[name]
        assert under_strategy(auto(recipe, rate=3e-3), name).training.learning_rate == 3e-3


def test_keys_of_lora_hold_where_an_adapter_is_chosen(recipe: RecipeMaker) -> None:
    made = auto(recipe, {"r": 4, "target_modules": ["q_lin"]})
    found = under_strategy(made, "lora").strategy
    assert (found.name, found.r, found.target_modules) == ("lora", 4, ["q_lin"])
    assert under_strategy(auto(recipe), "qlora").strategy.target_modules == "all-linear"
    assert under_strategy(made, "full").strategy.name == "full"


def test_no_time_at_all_is_too_little_for_real_steps(recipe: RecipeMaker, room: Callable[[int], None]) -> None:
    room(10**12)
    with pytest.raises(UserError, match=r"no strategy fits: full would take .*, transfer would take .* of 0\.0 s"):
        settle_strategy(auto(recipe, {"time_hours": 1e-9}))


def test_time_decides_too(recipe: RecipeMaker, monkeypatch: pytest.MonkeyPatch, room: Callable[[int], None]) -> None:
    room(10**12)
    asked: list[str] = []

    def paced(made: Recipe) -> Pace:
        asked.append(made.strategy.name)
        seconds = {"full": 0.1, "lora": 0.01}.get(made.strategy.name, 0.001)
        return Pace(
            longest=1, token=seconds, optimizer=0, evaluation=0, peak={"process": 1}, steps=7, warm_up=0, padded=True
        )

    monkeypatch.setattr(strategy_choice, "measure_pace", paced)
    found, choice = settle_strategy(auto(recipe, {"time_hours": 0.01}))
    assert choice is not None
    assert (found.strategy.name, asked) == ("lora", ["full", "lora"])
    assert choice["candidates"][0]["hindrance"].startswith("would take ")


def test_a_strategy_that_runs_out_of_memory_when_it_is_measured_is_passed_over(
    recipe: RecipeMaker, monkeypatch: pytest.MonkeyPatch, room: Callable[[int], None]
) -> None:
    def paced(made: Recipe) -> Pace:
        if made.strategy.name == "full":
            raise torch.OutOfMemoryError
        return Pace(longest=1, token=1e-6, optimizer=0, evaluation=0, peak={"process": 1}, steps=7, warm_up=0, padded=True)

    room(10**12)
    monkeypatch.setattr(strategy_choice, "measure_pace", paced)
    found, choice = settle_strategy(auto(recipe, {"time_hours": 1}))
    assert found.strategy.name == "lora"
    assert choice is not None
    assert "ran out of memory" in choice["words"]


def test_steps_are_made_of_every_strategy_that_fits(recipe: RecipeMaker) -> None:
    made = auto(recipe)
    sizes = needs(made)
    if torch.cuda.is_available():
        pytest.skip("the memory of a GPU is another")
    plan = api.plan(made, vram=(sizes["full"] - 2**14) / GIB)
    assert plan.choice is not None
    timed = {one.strategy: one.seconds is not None for one in plan.choice.candidates}
    assert timed == {one.strategy: not one.hindrance for one in plan.choice.candidates}
    assert plan.seconds is not None
    assert plan.seconds["training"] == next(one.seconds for one in plan.choice.candidates if one.strategy == plan.strategy)


@pytest.mark.parametrize("batch", [4, "auto"])
def test_a_run_leaves_a_recipe_that_names_the_choice(
    recipe: RecipeMaker, tmp_path: Path, room: Callable[[int], None], batch: Any
) -> None:
    made = auto(recipe, training={"max_steps": 3, "per_device_train_batch_size": batch})
    sizes = needs(made)
    room(sizes["full"] - 2**14 if batch == 4 else 10**12)
    result = api.train(made, output_dir=tmp_path / "run")
    chosen = "lora" if batch == 4 else "full"
    saved = yaml.safe_load((tmp_path / "run" / "recipe.yaml").read_text())
    assert saved["strategy"]["name"] == chosen == result.record["strategy_choice"]["chosen"]
    assert isinstance(saved["training"]["per_device_train_batch_size"], int)
    assert saved["training"]["learning_rate"] == LEARNING_RATES[chosen]
    assert f"strategy auto: {chosen}" in (tmp_path / "run" / "report.html").read_text()
    again = api.train(load_recipe(tmp_path / "run" / "recipe.yaml"), output_dir=tmp_path / "again")
    assert losses(again.folder) == losses(result.folder)
    assert "strategy_choice" not in again.record


def test_a_resumed_run_keeps_its_strategy(recipe: RecipeMaker, tmp_path: Path, room: Callable[[int], None]) -> None:
    made = auto(recipe, training={"max_steps": 4, "save_strategy": "steps", "save_steps": 2})
    room(needs(made)["full"] - 2**14)
    whole = api.train(made, output_dir=tmp_path / "run")
    run = tmp_path / "run" / "run.json"
    run.write_text(json.dumps(json.loads(run.read_text()) | {"state": "interrupted"}))
    room(10**12)
    resumed = api.train(made, output_dir=tmp_path / "run", resume=True)
    assert resumed.record["strategy_choice"] == whole.record["strategy_choice"]
    assert yaml.safe_load((tmp_path / "run" / "recipe.yaml").read_text())["strategy"]["name"] == "lora"


def test_several_processes_do_not_choose(recipe: RecipeMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="for one process"):
        settle_strategy(auto(recipe))


def losses(folder: Path) -> list[float]:
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if "loss" in line]
