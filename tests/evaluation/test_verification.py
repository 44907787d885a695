"""Is what was saved what was trained? A new process says so of every strategy, and finds what was done to the files."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from ftkit import Recipe, Unverified, train, verify
from ftkit.cli.verify import verify as verify_command
from ftkit.evaluation.scoring import digest, largest_difference
from ftkit.evaluation.verification import Reloader, reloading
from ftkit.models.precision import has_bf16
from ftkit.run import Run

RecipeMaker = Callable[..., Recipe]
CASES = {
    "full encoder": ("full", {}),
    "transfer encoder": ("transfer", {}),
    "lora encoder": ("lora", {}),
    "qlora encoder": ("qlora", {}),
    "full decoder": ("full", {"task": "instruction"}),
    "lora decoder": ("lora", {"task": "instruction", "kind": "llama"}),
    "qlora decoder": ("qlora", {"task": "instruction", "kind": "llama"}),
    "a base in bfloat16": ("lora", {"task": "instruction", "kind": "llama", "model": {"dtype": "bfloat16"}}),
    "a classifier on a base in bfloat16": ("lora", {"model": {"dtype": "bfloat16"}}),
}

QUICK = ("lora encoder", "full decoder")  # the others are slow together


@pytest.mark.parametrize("name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in CASES])
@pytest.mark.slow
def test_a_run_ends_with_its_saved_model_verified(verified_recipe: RecipeMaker, tmp_path: Path, name: str) -> None:
    strategy, blocks = CASES[name]
    if name == "a classifier on a base in bfloat16" and not has_bf16():
        pytest.skip("this machine has no bfloat16 for the head to be computed in")
    folder = train(
        verified_recipe(strategy, evaluation={"generation": {"rows": 0}} if "task" in blocks else {}, **blocks),
        output_dir=tmp_path / "run",
    ).folder
    found = Run(folder).record["verified"]
    assert found["failures"] == []
    assert found["good"] is True
    assert found["rows"] == 20
    assert found["change"] > 1e-3 > 1e-5 >= found["deviation"]
    facts = json.loads((folder / "verification/facts.json").read_text(encoding="utf-8"))
    assert found["tensors"] == len(facts["before"]) == len(facts["after"])
    if strategy in ("lora", "qlora"):
        assert all("lora" in tensor or "modules_to_save" in tensor for tensor in facts["after"])


def files_of(folder: Path) -> Path:
    return next((folder / "model").glob("*.safetensors"))


def change(file: Path, edit: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    tensors = load_file(file)
    edit(tensors)
    save_file(tensors, file, metadata={"format": "pt"})


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {}


@pytest.fixture
def finished(
    verified_recipe: RecipeMaker, made: dict[str, Path], tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Path]:
    """A copy of a finished run of a strategy, to be spoiled."""

    def copy(strategy: str) -> Path:
        if strategy not in made:
            made[strategy] = train(verified_recipe(strategy), output_dir=tmp_path_factory.mktemp("runs") / strategy).folder
        return Path(shutil.copytree(made[strategy], tmp_path / "copy"))

    return copy


@pytest.mark.parametrize("strategy", ["lora", "full"])
@pytest.mark.slow
def test_a_sound_run_is_verified_again(finished: Callable[[str], Path], strategy: str) -> None:
    facts = verify(finished(strategy)).facts
    assert "trained tensors are in the saved files as they were in memory, and moved" in facts["tensors"]
    assert "20 rows scored by a new process differ from memory by at most" in facts["scores"]
    assert facts["data"] == "train and eval rows are those of the run"
    assert facts["recipe"] == "as it was when the run began"
    assert facts["code"] == "that of the run"


@pytest.mark.parametrize("strategy", ["lora", "full"])
@pytest.mark.slow
def test_a_head_that_is_not_in_the_file_is_named(finished: Callable[[str], Path], strategy: str) -> None:
    folder = finished(strategy)
    prefix = "base_model.model." if strategy == "lora" else ""
    change(files_of(folder), lambda tensors: tensors.pop(f"{prefix}classifier.weight"))
    with pytest.raises(Unverified, match=rf"1 tensor \({prefix}classifier.weight\) not in the saved files"):
        verify(folder)


@pytest.mark.slow
def test_what_is_wrong_is_json_too(finished: Callable[[str], Path], capsys: pytest.CaptureFixture[str]) -> None:
    folder = finished("lora")
    change(files_of(folder), lambda tensors: tensors.pop("base_model.model.classifier.weight"))
    with pytest.raises(Unverified):
        verify_command(folder, as_json=True)
    found = json.loads(capsys.readouterr().out)
    assert found["sound"] is False
    assert "classifier.weight) not in the saved files" in found["failures"][0]


@pytest.mark.slow
def test_a_tensor_that_was_changed_is_named(finished: Callable[[str], Path]) -> None:
    folder = finished("lora")
    change(files_of(folder), lambda tensors: tensors["base_model.model.classifier.bias"].add_(0.5))
    with pytest.raises(
        Unverified, match=r"1 tensor \(base_model.model.classifier.bias\) saved otherwise than trained"
    ) as caught:
        verify(folder)
    assert "a new process scores the rows otherwise than memory did: by up to 0.5" in str(caught.value)


@pytest.mark.slow
def test_a_truncated_file_is_one_clear_line(finished: Callable[[str], Path]) -> None:
    folder = finished("lora")
    file = files_of(folder)
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(Unverified, match=r"adapter_model.safetensors is damaged: ") as caught:
        verify(folder)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.slow
def test_a_model_that_does_not_load_is_one_clear_line(finished: Callable[[str], Path]) -> None:
    folder = finished("lora")
    (folder / "model/adapter_config.json").write_text("{}", encoding="utf-8")
    (folder / "seal.json").unlink()  # which finds that, too
    with pytest.raises(Unverified, match="the saved model does not load in a new process: ") as caught:
        verify(folder)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.slow
def test_a_changed_recipe_and_changed_rows_are_told(finished: Callable[[str], Path], reviews: Path, tmp_path: Path) -> None:
    folder = finished("lora")
    file = folder / "recipe.yaml"
    other = tmp_path / "other.jsonl"
    rows = reviews.read_text(encoding="utf-8").splitlines()
    other.write_text("\n".join(rows[:-1]) + "\n", encoding="utf-8")
    file.write_text(file.read_text(encoding="utf-8").replace(str(reviews), str(other)), encoding="utf-8")
    with pytest.raises(Unverified) as caught:
        verify(folder)
    said = str(caught.value)
    assert "recipe.yaml was changed since the run began" in said
    assert f"the data changed since the run: the train rows, from {other}" in said


@pytest.mark.slow
def test_rows_that_are_gone_are_said_to_be_unchecked(verified_recipe: RecipeMaker, tmp_path: Path, reviews: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    shutil.copy(reviews, rows)
    folder = train(verified_recipe("lora", data={"train": str(rows)}), output_dir=tmp_path / "run").folder
    rows.unlink()
    assert verify(folder).facts["data"].startswith("not checked: ")


@pytest.mark.slow
def test_a_learning_rate_of_nothing_is_found_and_the_run_is_finished(
    verified_recipe: RecipeMaker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = train(verified_recipe("lora", training={"learning_rate": 0.0}), output_dir=tmp_path / "run").folder
    record = Run(folder).record
    assert record["state"] == "finished"
    assert record["verified"]["good"] is False
    assert record["verified"]["change"] == 0
    said = capsys.readouterr().err
    assert "NOT VERIFIED" in said
    assert "did not move in training" in said
    with pytest.raises(Unverified, match="did not move in training") as caught:
        verify(folder)
    assert "as it did before training: they differ by 0" in str(caught.value)


def test_it_can_be_turned_off(verified_recipe: RecipeMaker, tmp_path: Path) -> None:
    folder = train(verified_recipe("lora", evaluation={"verify": False}), output_dir=tmp_path / "run").folder
    assert "verified" not in Run(folder).record
    assert not (folder / "verification").exists()
    assert verify(folder).facts["weights"].startswith("not checked")


def test_a_process_that_does_not_start_loses_no_run(
    verified_recipe: RecipeMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ftkit.evaluation.verification.sys.executable", str(tmp_path / "no-python"))
    record = train(verified_recipe("lora"), output_dir=tmp_path / "run").record
    assert record["state"] == "finished"
    assert record["verified"]["failures"] == ["the saved model does not load in a new process: no process could be started"]


def test_an_interruption_leaves_no_process_behind(finished: Callable[[str], Path]) -> None:
    folder = finished("lora")
    kept: list[Reloader] = []
    with suppress(KeyboardInterrupt), reloading(folder / "model", folder / "verification", own_code=False) as reloader:
        assert reloader is not None
        kept.append(reloader)
        reloader.tell()
        raise KeyboardInterrupt
    process = kept[0].process
    assert process is not None
    assert process.returncode == -signal.SIGKILL
    assert not Path(f"/proc/{process.pid}").exists()


ABANDON = """
import os, sys
from pathlib import Path
from ftkit.evaluation.verification import Reloader
print(Reloader(Path(sys.argv[1]), Path(sys.argv[2]), own_code=False).process.pid, flush=True)
os._exit(9)
"""


@pytest.mark.slow
def test_it_ends_by_itself_when_its_parent_is_gone(finished: Callable[[str], Path]) -> None:
    folder = finished("lora")
    words = [sys.executable, "-c", ABANDON, str(folder / "model"), str(folder / "verification")]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.stdout, done.stderr
    pid = int(done.stdout)
    until = time.monotonic() + 60
    while alive(pid) and time.monotonic() < until:
        time.sleep(0.2)
    assert not alive(pid)


def alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False


@pytest.mark.slow
def test_the_words_of_the_readme_load_the_model(verified_recipe: RecipeMaker, tmp_path: Path) -> None:
    folder = train(verified_recipe("qlora"), output_dir=tmp_path / "run").folder
    readme = (folder / "README.md").read_text(encoding="utf-8")
    code = readme.split("```python\n")[1].split("```")[0]
    code += 'print(model(**tokenizer(["good", "a longer one"], padding=True, return_tensors="pt")).logits.shape)\n'
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, env=os.environ)
    assert done.returncode == 0, done.stderr
    assert "torch.Size([2, 2])" in done.stdout


@pytest.mark.slow
def test_an_adapter_on_a_base_with_another_head_loads_by_the_words_of_its_readme(
    verified_recipe: RecipeMaker, tmp_path: Path
) -> None:
    base = train(verified_recipe("full"), output_dir=tmp_path / "base").folder
    config = base / "model/config.json"
    names = json.loads(config.read_text(encoding="utf-8"))
    names["id2label"], names["label2id"] = {str(n): str(n) for n in range(3)}, {str(n): n for n in range(3)}
    config.write_text(json.dumps(names), encoding="utf-8")
    grow = {"classifier.weight": torch.rand(3, 256), "classifier.bias": torch.rand(3)}
    change(base / "model/model.safetensors", lambda tensors: tensors.update(grow))
    result = train(verified_recipe("lora", model={"name": str(base / "model")}), output_dir=tmp_path / "run")
    assert result.record["verified"]["failures"] == []


def test_digests_and_differences() -> None:
    first = torch.tensor([1.0, 2.0])
    assert digest(first) == digest(torch.tensor([1.0, 2.0]))
    assert len({digest(first), digest(first.reshape(2, 1)), digest(first.bfloat16()), digest(first + 1e-7)}) == 4
    assert largest_difference([first], [first + torch.tensor([0.0, 0.5])]) == 0.5
    assert largest_difference([first], [torch.tensor([1.0, float("nan")])]) == float("inf")
    assert largest_difference([first], [first[:1]]) == float("inf")


REAL: dict[str, tuple[str, str, dict[str, Any]]] = {
    "minilm lora": ("minilm-l6", "text-classification", {"name": "lora", "r": 4, "target_modules": ["query", "value"]}),
    "minilm qlora": ("minilm-l6", "text-classification", {"name": "qlora", "r": 4, "target_modules": ["query", "value"]}),
    "stories lora": ("stories260K", "instruction", {"name": "lora", "r": 4, "target_modules": ["q_proj", "v_proj"]}),
    "stories qlora": ("stories260K", "instruction", {"name": "qlora", "r": 4, "target_modules": ["q_proj", "v_proj"]}),
}


@pytest.mark.parametrize("name", REAL)
@pytest.mark.slow
def test_real_models_are_verified(
    verified_recipe: RecipeMaker, shared: Path, reviews: Path, instructions: Path, tmp_path: Path, name: str
) -> None:
    model, task, strategy = REAL[name]
    block = {"name": str(shared / "models" / model), "max_length": 512}
    quick = {"evaluation": {"generation": {"rows": 0}}} if task == "instruction" else {}
    folder = train(verified_recipe(strategy, task=task, model=block, **quick), output_dir=tmp_path / "run").folder
    found = Run(folder).record["verified"]
    assert found["failures"] == []
    assert found["change"] > 100 * found["deviation"]
