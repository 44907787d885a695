"""ftkit as a package: what is built installs by itself, its public names are seen and documented, its files can be read.

Kind: what is right in the repository alone: a licence that the wheel lacks, names that completion does not show, a run that
only its owner can read.
"""

import inspect
import os
import re
import subprocess
import sys
import tarfile
import venv
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import ftkit
from ftkit import Recipe, UserError, check, load_recipe, plan, preview, train
from ftkit.recipe.packaged import packaged_recipes
from ftkit.run import dump_recipe
from tests.wheels import ROOT, build, build_repository

FUNCTIONS = [name for name in ftkit.__all__ if inspect.isfunction(getattr(ftkit, name))]
WITHOUT_ERRORS = {"metric_names"}


def test_completion_shows_the_public_names_and_no_others() -> None:
    assert set(dir(ftkit)) == {*ftkit.__all__, "__version__"}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_public_function_says_what_it_takes_and_raises(name: str) -> None:
    function = getattr(ftkit, name)
    said = inspect.getdoc(function)
    assert said
    assert len(said.splitlines()[0]) > 20
    assert ("Raises:\n    " in said) is (name not in WITHOUT_ERRORS)


@pytest.mark.parametrize(
    "function", [check, lambda values: preview(values, rows=1), lambda values: plan(values, measure=False)]
)
def test_a_recipe_may_be_a_dictionary(recipe: Callable[..., Recipe], tmp_path: Path, function: Callable[[Any], Any]) -> None:
    made = values_of(recipe)
    before = repr(made)
    assert function(made)
    assert repr(made) == before  # the caller's own stays as it is


def values_of(recipe: Callable[..., Recipe]) -> dict[str, Any]:
    import yaml

    found: dict[str, Any] = yaml.safe_load(
        dump_recipe(recipe("full", training={"max_steps": 1}, evaluation={"general_text": False}))
    )
    return found


def test_a_dictionary_is_trained_into_a_folder_that_others_can_read(recipe: Callable[..., Recipe]) -> None:
    values = values_of(recipe)
    values["training"]["save_strategy"], values["evaluation"]["verify"] = "steps", False
    values["training"]["save_steps"] = 1
    result = train(values)
    assert result.folder == Path("runs/recipe")
    assert load_recipe(result.folder / "recipe.yaml").task == values["task"]
    mask = os.umask(0o022)
    os.umask(mask)
    files = [file for file in result.folder.rglob("*") if file.is_file()]
    assert {"model.safetensors", "run.json", "optimizer.pt"} <= {file.name for file in files}
    assert {file.name: oct(file.stat().st_mode & 0o777) for file in files} == {
        file.name: oct(0o666 & ~mask) for file in files
    }


def test_a_wrong_dictionary_is_refused_as_a_file_is() -> None:
    with pytest.raises(UserError, match="unknown key 'modle'; did you mean model"):
        train({"task": "text-classification", "modle": "m", "strategy": "full", "data": {"train": "a.csv"}})


@pytest.mark.parametrize(
    ("typed", "shown"), [("ftkit tr", "train"), ("ftkit train my.yaml --sm", "--smoke"), ("ftkit comp", "compare")]
)
def test_a_shell_completes_commands_and_options(typed: str, shown: str) -> None:
    words = {"COMP_WORDS": typed, "COMP_CWORD": str(len(typed.split()) - 1), "_FTKIT_COMPLETE": "complete_bash"}
    code = "import sys; sys.argv = ['ftkit']; from ftkit.cli.main import main; main()"
    done = subprocess.run([sys.executable, "-c", code], env=os.environ | words, capture_output=True, text=True)
    assert shown in done.stdout.split(), done.stderr


def test_completion_is_offered() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ftkit", "--help"], capture_output=True, text=True, env=os.environ | {"COLUMNS": "120"}
    )
    assert "--install-completion" in done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The wheel and the sdist, built from a copy of the repository, and the wheel that is built of the sdist."""
    pytest.importorskip("hatchling", reason="what builds the package is not here (the extra dev)")
    folder = tmp_path_factory.mktemp("build")
    dist = build_repository(folder)
    (sdist,) = dist.glob("*.tar.gz")
    with tarfile.open(sdist) as packed:
        packed.extractall(folder / "unpacked", filter="data")
    build(next((folder / "unpacked").iterdir()), folder / "again")
    (wheel,), (again,) = dist.glob("*.whl"), (folder / "again").glob("*.whl")
    return {"wheel": wheel, "sdist": sdist, "again": again}


@pytest.mark.slow
def test_wheel_and_sdist_hold_all_that_is_needed(built: dict[str, Path]) -> None:
    names = zipfile.ZipFile(built["wheel"]).namelist()
    assert sorted(names) == sorted(zipfile.ZipFile(built["again"]).namelist())
    (licence,) = [name for name in names if name.endswith("licenses/LICENSE")]
    text = zipfile.ZipFile(built["wheel"]).read(licence).decode()
    assert text == (ROOT / "LICENSE").read_text()
    assert len(re.findall(r"^   \d\. ", text, re.M)) == 9  # the sections of Apache-2.0
    modules = {
        str(path.relative_to(ROOT)) for path in (ROOT / "ftkit").rglob("*") if path.is_file() and path.suffix != ".pyc"
    }
    assert modules <= set(names)
    assert {f"ftkit/_recipes/{name}.yaml" for name in packaged_recipes()} <= set(names)


@pytest.mark.slow
def test_the_wheel_alone_works_in_a_fresh_environment(
    built: dict[str, Path], recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    """The libraries that it stands on are taken from this environment, which is not asked for ftkit itself."""
    venv.create(tmp_path / "fresh", with_pip=False)
    python = tmp_path / "fresh" / ("Scripts" if os.name == "nt" else "bin") / "python"
    install = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        str(python),
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
        str(built["wheel"]),
    ]
    assert subprocess.run(install).returncode == 0
    (packages,) = (tmp_path / "fresh").rglob("site-packages")
    (packages / "libraries.pth").write_text(str(Path(sys.modules["torch"].__file__ or "").parent.parent))
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

    def ftkit(*words: str) -> str:
        command = [str(python.with_name("ftkit")), *words]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment)
        assert done.returncode == 0, done.stderr
        return done.stdout

    where = subprocess.run(
        [str(python), "-c", "import ftkit; print(ftkit.__file__)"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment,
    )
    assert Path(where.stdout.strip()).is_relative_to(packages)
    assert all(name in ftkit("recipes") for name in packaged_recipes())
    ftkit("init", "lora_distilbert", "copied.yaml")
    (tmp_path / "my.yaml").write_text(
        dump_recipe(recipe("lora", training={"max_steps": 2}))
    )  # on a model that needs no warm-up
    assert "ftkit report runs/my --open" in ftkit("train", "my.yaml")
    assert "runs/my/report.html" in ftkit("report", "runs/my")
