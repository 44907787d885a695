"""A 4-bit base is quantized once: what is kept is the same, to the last bit, as quantizing anew."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub.errors import LocalEntryNotFoundError
from safetensors import SafetensorError

from ftkit import Recipe, train
from ftkit.delivery.merge import merge
from ftkit.models.load import has_weights, weights_folder
from ftkit.recipe.schema import Model
from ftkit.shelf import Shelf, size_of
from ftkit.training.dispatcher import build

pytest.importorskip("bitsandbytes")

from ftkit.models.quantized import stored_bytes

RecipeMaker = Callable[..., Recipe]
CASES = [("distilbert", "text-classification"), ("llama", "instruction")]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FTKIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "quantized"


def weights(made: Recipe, folder: Path) -> dict[str, torch.Tensor]:
    model = build(made, folder, []).model
    found = {name: tensor.detach().clone() for name, tensor in model.named_parameters()}
    scales = {
        name: vars(tensor)["quant_state"].absmax
        for name, tensor in model.named_parameters()
        if "quant_state" in vars(tensor)
    }
    assert scales
    return found | {f"{name} scales": tensor for name, tensor in scales.items()}


@pytest.mark.parametrize(("kind", "task"), CASES)
def test_the_second_run_reads_what_the_first_one_kept(
    recipe: RecipeMaker, tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch, kind: str, task: str
) -> None:
    made = recipe("qlora", task=task, kind=kind)
    first = weights(made, tmp_path / "a")
    assert len(list(own_cache.iterdir())) == 1
    monkeypatch.setattr("bitsandbytes.functional.quantize_4bit", lambda *_, **__: pytest.fail("quantized again"))
    second = weights(made, tmp_path / "b")
    assert first.keys() == second.keys()
    for name, tensor in first.items():  # the new head too: it is drawn, not kept
        assert torch.equal(tensor, second[name]), name


def test_another_seed_draws_another_head_over_the_same_kept_base(recipe: RecipeMaker, tmp_path: Path) -> None:
    heads = []
    for seed in (1, 2, 1):
        model = build(recipe("qlora", training={"seed": seed}), tmp_path / f"{len(heads)}", []).model
        heads.append(model.get_submodule("base_model.model.classifier.modules_to_save.default").weight.detach().clone())
    assert not torch.equal(heads[0], heads[1])
    assert torch.equal(heads[0], heads[2])


@pytest.mark.slow
def test_training_on_kept_weights_is_the_same(verified_recipe: RecipeMaker, tmp_path: Path, own_cache: Path) -> None:
    settings: dict[str, Any] = {"training": {"max_steps": 3}, "kind": "llama", "task": "instruction"}
    runs = [train(verified_recipe("qlora", **settings), output_dir=tmp_path / name) for name in ("made", "kept")]
    own = verified_recipe("qlora", **settings)
    off = own.model_copy(update={"strategy": own.strategy.model_copy(update={"keep_quantized": False})})
    before = {path: path.stat().st_mtime_ns for path in own_cache.rglob("*")}
    runs.append(train(off, output_dir=tmp_path / "off"))
    assert before == {path: path.stat().st_mtime_ns for path in own_cache.rglob("*")}
    assert runs[0].metrics["tuned"] == runs[1].metrics["tuned"] == runs[2].metrics["tuned"]
    merged = [merge(run.folder, tmp_path / f"merged {number}") for number, run in enumerate(runs)]
    assert merged[0].largest == merged[1].largest == merged[2].largest


def test_kept_weights_that_are_cut_are_made_again(
    recipe: RecipeMaker, tmp_path: Path, own_cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = recipe("qlora")
    first = weights(made, tmp_path / "a")
    file = next(own_cache.rglob("*.safetensors"))
    file.write_bytes(file.read_bytes()[:1000])
    second = weights(made, tmp_path / "b")
    assert "made again" in capsys.readouterr().err
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())
    assert len(next(own_cache.rglob("*.safetensors")).read_bytes()) > 1000


def test_a_checkpoint_that_changes_is_quantized_anew(recipe: RecipeMaker, tmp_path: Path, own_cache: Path) -> None:
    made = recipe("qlora")
    weights(made, tmp_path / "a")
    file = next(Path(made.model.name).glob("*.safetensors"))
    held = file.read_bytes()
    try:
        file.write_bytes(held)  # another time of change
        weights(made, tmp_path / "b")
    finally:
        file.write_bytes(held)
    assert len(list(own_cache.iterdir())) == 2


def test_a_checkpoint_that_is_yet_to_be_fetched_is_kept_once_it_is_there(
    recipe: RecipeMaker, tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Model] = []

    def fetched_later(block: Model) -> Path:
        asked.append(block)
        if len(asked) == 1:
            raise LocalEntryNotFoundError("not in the cache")
        return weights_folder(block)

    monkeypatch.setattr("ftkit.models.quantized.weights_folder", fetched_later)
    weights(recipe("qlora"), tmp_path / "a")
    assert len(asked) == 2
    assert len(list(own_cache.iterdir())) == 1


def test_a_full_disk_ends_no_run(
    recipe: RecipeMaker, tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space left on device")

    monkeypatch.setattr("transformers.PreTrainedModel.save_pretrained", full)
    weights(recipe("qlora"), tmp_path / "a")
    assert "the quantized base is not kept: Error while serializing" in capsys.readouterr().err
    assert not list(own_cache.glob("*"))


def test_bases_not_used_for_longest_make_room(
    recipe: RecipeMaker, tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, other = recipe("qlora"), recipe("qlora", task="instruction", kind="llama")
    weights(made, tmp_path / "a")
    first = next(own_cache.iterdir())
    os.utime(first, (0, 0))
    weights(made, tmp_path / "b")
    assert first.stat().st_mtime > 0  # it was used
    (own_cache / ".abc.4").mkdir()  # left by a killed process
    os.utime(own_cache / ".abc.4", (0, 0))
    monkeypatch.setattr("ftkit.models.quantized.BASES", Shelf("quantized", size_of(first) + 2**16))
    weights(other, tmp_path / "c")
    (kept,) = own_cache.iterdir()
    assert kept != first


def test_a_base_larger_than_what_may_be_kept(
    recipe: RecipeMaker, tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("ftkit.models.quantized.BASES", Shelf("quantized", 1000))
    weights(recipe("qlora"), tmp_path / "a")
    said = " ".join(capsys.readouterr().err.split())
    assert "the quantized base is not kept: its " in said
    assert "with room to spare" in said
    assert not list(own_cache.glob("*"))


@pytest.mark.parametrize(("kind", "task"), CASES)
def test_the_room_asked_for_is_what_is_written(
    recipe: RecipeMaker, tmp_path: Path, own_cache: Path, kind: str, task: str
) -> None:
    model = build(recipe("qlora", task=task, kind=kind), tmp_path / "a", []).model
    base = model.get_base_model()
    asked = stored_bytes(base.state_dict())
    (file,) = own_cache.rglob("*.safetensors")
    assert file.stat().st_size == pytest.approx(asked, rel=0.2)


def test_a_snapshot_with_files_missing_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub's cache holds the weights, and not the README that the repository has too."""
    cache, commit = tmp_path / "hub", "a" * 40
    snapshot = cache / "models--some--model/snapshots" / commit
    snapshot.mkdir(parents=True)
    (cache / "models--some--model/refs").mkdir()
    (cache / "models--some--model/refs/main").write_text(commit)
    for name in ("config.json", "model.safetensors"):
        (snapshot / name).write_text("{}")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    assert weights_folder(Model(name="some/model")) == snapshot
    assert has_weights(Model(name="some/model"))
    assert not has_weights(Model(name="some/other"))


def test_an_adapter_on_kept_weights_names_the_checkpoint_as_its_base(recipe: RecipeMaker, tmp_path: Path) -> None:
    made = recipe("qlora")
    for name in ("made", "kept"):
        model = build(made, tmp_path / name, []).model
        assert model.peft_config["default"].base_model_name_or_path == made.model.name
        assert model.get_base_model().config._name_or_path == made.model.name
