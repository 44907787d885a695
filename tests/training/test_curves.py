"""The loss curve of 200 steps with each way of saving time or memory, and without it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from ftkit import Recipe, console, train
from ftkit.models.precision import has_bf16

RecipeMaker = Callable[..., Recipe]
STEPS, WINDOW = 200, 20
SETTINGS: dict[str, Any] = {"eval_strategy": "no", "save_strategy": "no", "report_to": "none", "learning_rate": 2e-4}


class Lever(NamedTuple):
    """What is switched on or off beside a recipe, and how far the losses may then be apart, in nats."""

    on: dict[str, Any]
    off: dict[str, Any]
    tolerance: float
    strategy: str | dict[str, Any] = "full"
    task: str = "instruction"
    kind: str = "llama"


def transfer(**fields: Any) -> dict[str, Any]:
    return {"strategy": {"name": "transfer", **fields}}


PADDED = {"speed": {"unpadded": False, "micro_batches": False}}
SENTENCES = {"task": "text-classification", "kind": "distilbert"}
LEVERS = {
    "supervised logits": Lever({}, {"speed": {"supervised_logits": False}}, 1e-4),
    "packing": Lever({"data": {"packing": True}}, {}, 1e-4),
    "cached body": Lever(transfer(), transfer(cache_frozen=False), 1e-5, **SENTENCES),
    "cached blocks": Lever(
        transfer(unfreeze_last=1), transfer(unfreeze_last=1, cache_frozen=False), 1e-4, **SENTENCES
    ),
    "micro-batches": Lever({"speed": {"micro_batches": True}}, PADDED, 2e-3, "lora", **SENTENCES),
    "no padding": Lever({}, PADDED, 1e-4, **SENTENCES),
    "no padding in a decoder": Lever({}, PADDED, 1e-4, "lora"),
    "GELU in one operation": Lever({}, {"speed": {"fused_gelu": False}}, 1e-4, kind="gpt2"),
    "embedding rows": Lever({}, {"speed": {"embedding_rows": False}}, 1e-4, **SENTENCES),
    "fused adapters": Lever({}, {"speed": {"fused_adapters": False}}, 1e-4, "lora"),
    "fused adapters on 4 bits": Lever({}, {"speed": {"fused_adapters": False}}, 5e-3, "qlora"),
    "accumulation": Lever(
        {"training": {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2}}, {}, 1e-4
    ),
    "fused optimizer": Lever({}, {"training": {"optim": "adamw_torch"}}, 1e-4),
    "sdpa attention": Lever({}, {"model": {"attn_implementation": "eager"}}, 1e-4),
    "bf16": Lever({"training": {"bf16": True}}, {}, 5e-2),
}  # fmt: skip


@pytest.fixture(scope="module")
def trained() -> dict[str, list[float]]:
    """The losses of each recipe that was trained already: what a lever is switched off in serves several."""
    return {}


@pytest.mark.slow
@pytest.mark.parametrize("name", LEVERS)
def test_the_losses_of_200_steps_are_those_without_the_lever(
    recipe: RecipeMaker, trained: dict[str, list[float]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """In float32 step by step, in bfloat16 by the means of 20 steps; dropout would be drawn otherwise, and is left out."""
    monkeypatch.setenv("FTKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("ftkit.training.trainer.part_cost", lambda *_, **__: 8.0)  # parts pay, though the model is tiny
    monkeypatch.setattr("torch.nn.functional.dropout", lambda tensor, *rest, **named: tensor)
    console.set_quiet(True)
    lever, width = LEVERS[name], WINDOW if name == "bf16" else 1
    for changes in (lever.on, lever.off):
        made = recipe_of(recipe, lever, changes)
        if made.model_dump_json() not in trained:
            trained[made.model_dump_json()] = losses_of(train(made, output_dir=tmp_path / str(len(trained))).folder)
    ours, own = (trained[recipe_of(recipe, lever, changes).model_dump_json()] for changes in (lever.on, lever.off))
    assert len(ours) == STEPS
    np.testing.assert_allclose(means(ours, width)[:20], means(own, width)[:20], rtol=0, atol=lever.tolerance)
    # where products round by where a tensor lies, as without AVX-512, Adam makes steps of rounding alone in time
    whole = lever.tolerance if has_bf16() else max(lever.tolerance, 2e-2)
    np.testing.assert_allclose(means(ours, width), means(own, width), rtol=0, atol=whole)
    assert means(ours, WINDOW)[-1] < means(ours, WINDOW)[0] - 2 * lever.tolerance  # it learnt meanwhile


def recipe_of(recipe: RecipeMaker, lever: Lever, changes: dict[str, Any]) -> Recipe:
    """Decoders take all of their four rows in every step, so that packed blocks and rows hold the same."""
    answers = lever.task == "instruction"
    values: dict[str, Any] = {
        "data": {"eval_size": 76} if answers else {},
        "speed": {"fast_dropout": False},
        "training": {
            "max_steps": STEPS,
            "bf16": False,
            **({"per_device_train_batch_size": 4} if answers else {}),
            **SETTINGS,
        },
        "evaluation": {"baseline": False, "general_text": False, **({"generation": {"rows": 0}} if answers else {})},
    }
    blocks = {name: values.get(name, {}) | changes.get(name, {}) for name in (values | changes) if name != "strategy"}
    return recipe(changes.get("strategy", lever.strategy), task=lever.task, kind=lever.kind, **blocks)


def losses_of(run: Path) -> list[float]:
    entries = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [entry["loss"] for entry in entries if "loss" in entry]


def means(losses: list[float], width: int) -> np.ndarray:
    return np.array(losses).reshape(-1, width).mean(1)
