"""What a command says before it does what takes long.

Kind: a command that loads libraries, a model or data, and shows nothing meanwhile. No clock is asked: torch is taken away, and
what was printed when a command first wanted it is what its user sees while it loads.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import typer

from ftkit import Recipe, train
from ftkit.cli.libraries import HUSHED, hush_from_the_start
from ftkit.cli.main import app
from ftkit.recipe.load import load_values
from ftkit.run import dump_recipe

ENDED = "torch was imported"
# What each command is given; of those in WITHOUT none wants torch, and each ends well.
GIVEN = {
    "train": "my.yaml", "eval": "{run}", "check": "my.yaml", "plan": "my.yaml", "preview": "my.yaml", "verify": "{run}",
    "predict": "{run} rows.csv", "chat": "{run}", "compare": "{run} {run}_again", "merge": "{run} merged", "export": "{run} out",
    "push": "{run} --yes", "report": "{run}", "runs": "{run}", "recipes": "", "init": "lora_distilbert", "schema": "",
    "synth": "seeds.jsonl --output made.jsonl --rows 1 --model {model}", "doctor": "", "rerun": "{run} --check",
}  # fmt: skip
WITHOUT = {"compare", "report", "runs", "recipes", "init", "schema"}


@pytest.fixture(scope="module")
def made(stand_in: Callable[[str], Path], reviews: Path) -> Recipe:
    return load_values({
        "task": "text-classification", "model": {"name": str(stand_in("distilbert")), "max_length": 32}, "strategy": "full",
        "data": {"train": str(reviews), "eval_size": 20}, "training": {"max_steps": 1},
        "evaluation": {"general_text": False, "verify": False},
    })  # fmt: skip


@pytest.fixture(scope="module")
def run(made: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = train(made, output_dir=tmp_path_factory.mktemp("trained") / "run").folder
    shutil.copytree(folder, f"{folder}_again")
    return folder


def test_the_sweep_knows_every_command() -> None:
    assert GIVEN.keys() == typer.main.get_command(app).commands.keys()  # type: ignore[attr-defined]


@pytest.mark.slow
@pytest.mark.parametrize("command", sorted(GIVEN))
def test_something_is_said_before_torch_is_loaded(
    run: Path, made: Recipe, stand_in: Callable[[str], Path], tmp_path: Path, command: str
) -> None:
    (tmp_path / "no_torch").mkdir()
    (tmp_path / "no_torch/torch.py").write_text(f"raise SystemExit('{ENDED}')")
    (tmp_path / "my.yaml").write_text(dump_recipe(made))
    (tmp_path / "rows.csv").write_text("text\nA good film.\n")
    (tmp_path / "seeds.jsonl").write_text('{"instruction": "Name a colour.", "output": "Red."}\n')
    words = GIVEN[command].format(run=run, model=stand_in("llama")).split()
    path = os.pathsep.join([str(tmp_path / "no_torch"), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-m", "ftkit", command, *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, env=os.environ | {"PYTHONPATH": path}, check=False,
    )  # fmt: skip
    if command in WITHOUT:
        assert done.returncode == 0, done.stdout
        assert ENDED not in done.stdout
        return
    assert ENDED in done.stdout
    if command == "doctor":  # which looks at torch in a process of its own, and says what it is
        assert "importing the libraries" in done.stdout.partition(ENDED)[0].splitlines()
        return
    assert "loading torch and transformers" in done.stdout.partition(ENDED)[0].splitlines()


@pytest.mark.slow
def test_an_error_stands_alone(run: Path, tmp_path: Path) -> None:
    """Kind: a library's own progress or advice above the line that counts. This file is read by the library's reader."""
    pd.DataFrame({"body": ["A film."]}).to_parquet(tmp_path / "rows.parquet")
    done = subprocess.run(
        [sys.executable, "-m", "ftkit", "predict", str(run), "rows.parquet"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.splitlines()[1:] == ["error: rows.parquet row 1: no field 'text'; it has body"]
    assert done.stderr.startswith("looking at rows.parquet\n")


def test_what_the_user_has_set_for_the_libraries_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    first, *others = HUSHED
    monkeypatch.setenv(first, "0")
    for name in others:
        monkeypatch.setenv(name, "")  # so that it is put back
        monkeypatch.delenv(name)
    hush_from_the_start()
    assert {name: os.environ[name] for name in HUSHED} == HUSHED | {first: "0"}
