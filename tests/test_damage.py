"""Each file of a run, damaged in each way, before each command that reads a run: told, repaired or refused in one line.

Kind: a traceback, a refusal at the end of a training that was gone on with, a changed weight that nobody finds.
"""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from damaged_runs import COMMANDS, DAMAGES, MISSING, RAN, REFUSED, RESUME, TRACEBACK, damage, files_of, invoke, make_runs

from ftkit import Recipe
from ftkit.reading import read_object
from ftkit.recipe.load import load_values
from ftkit.run import Run, changed_files

APART = ("checkpoints/", "tensorboard/")  # with seals of their own; read by nobody
AGAIN = ("README.md", "report.html")  # are written again, and read by nobody
READ_BY = {"report": ("not_utf8",)}  # it takes seconds


@pytest.fixture(scope="module")
def made(stand_in: Callable[[str], Path], reviews: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    def recipe(strategy: str, **blocks: Any) -> Recipe:
        values = {
            "task": "text-classification",
            "model": {"name": str(stand_in("distilbert")), "max_length": 128},
            "strategy": {"name": strategy, "r": 2, "target_modules": ["q_lin"]},
            "data": {"train": str(reviews), "eval_size": 8},
        }
        return load_values(values | blocks)

    place = tmp_path_factory.mktemp("damage")
    make_runs(recipe, place / "made")
    return place / "made"


def damaged_copy(made: Path, which: str, name: str, kind: str) -> Run:
    place = made.parent / "work"
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(made / which, place / "run")
    damage(place / "run" / name, kind)
    return Run(place / "run")


@pytest.mark.slow
def test_no_damage_of_a_finished_run_is_a_traceback_and_verify_finds_each(made: Path) -> None:
    wrong = []
    for number, name in enumerate(files_of(made / "finished")):
        if name.startswith(APART) or name.endswith(AGAIN):
            continue
        turn = ("half", "wrong_type")[number % 2]  # `tests/damage_sweep.py` takes all
        for kind in (*DAMAGES, MISSING):
            run = damaged_copy(made, "finished", name, kind)
            same = name != "seal.json" and not changed_files(run)  # nothing of an empty file is gone
            for command, words in COMMANDS.items():
                if command != "verify" and kind not in READ_BY.get(command, (turn,)):
                    continue
                found, said = invoke(words, run.folder, made)
                lines = 1 if found == REFUSED and command != "verify" else said.count("\n") + 1
                if found == TRACEBACK or (found == REFUSED and said.count("\n") + 1 > lines):
                    wrong.append(f"{command}, {kind} {name}: {said}")
                if command == "verify" and found == RAN and not same and (name, kind) != ("seal.json", MISSING):
                    wrong.append(f"verify does not find {kind} {name}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.slow
@pytest.mark.parametrize("which", ["stopped", "ended"])
def test_a_run_with_a_damaged_file_is_gone_on_with(made: Path, which: str) -> None:
    """Whatever is damaged is put back, made again or left out; the run ends as its twin did, and is verified."""
    wrong = []
    kinds = {"stopped": ("half",), "ended": (MISSING,)}[which]
    for name in files_of(made / which):
        if name.startswith(APART) and not name.endswith("checkpoint-4/ftkit_seal.json"):
            continue
        if name.endswith(AGAIN) or name.startswith("model/"):  # made anew
            continue
        for kind in kinds:
            run = damaged_copy(made, which, name, kind)
            found, said = invoke(RESUME, run.folder, made)
            if found != RAN or not run.record["verified"]["good"]:
                wrong.append(f"{kind} {name}: {found} {said}")
            elif run.recipe_file.read_text() != Run(made / "finished").recipe_file.read_text() or changed_files(run):
                wrong.append(f"{kind} {name}: the run is another")
            elif scores(run) != scores(Run(made / "finished")):
                wrong.append(f"{kind} {name}: {scores(run)}")
    assert not wrong, "\n".join(wrong)


def scores(run: Run) -> str:
    """What the run measured before and after."""
    metrics = read_object(run.metrics_file)
    return str([metrics["baseline"], metrics["tuned"], metrics["intervals"]])
