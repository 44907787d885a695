"""Data flows one way: a file imports only from layers above its own, and nothing heavy comes in with a recipe."""

import ast
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import ftkit
from ftkit.recipe.schema import Recipe
from ftkit.run import dump_recipe

PACKAGE = Path(ftkit.__file__).parent
# From the top down; a file may import from its own layer and from those above it.
LAYERS = [
    [
        "errors",
        "deferral",
        "process",
        "cache",
        "shelf",
        "units",
        "escapes",
        "secrets",
        "classes",
        "scratch",
        "signals",
        "disk",
    ],
    ["console", "reading", "seals"],
    ["claim"],
    ["recipe"],
    ["trust"],
    ["hub"],
    ["run"],
    ["answers"],
    ["compat"],
    ["data"],
    ["metrics"],
    ["models"],
    ["tasks"],
    ["evaluation", "synthesis"],
    ["training"],
    ["prediction"],
    ["delivery"],
    ["report"],
    ["sharing"],
    ["api"],
    ["doctor"],
    ["cli", "__main__", "__init__"],
]
LIGHT = [
    "ftkit",
    "ftkit.recipe.load",
    "ftkit.recipe.reference",
    "ftkit.cli.main",
    "ftkit.evaluation.target",
    "ftkit.run",
    "ftkit.data.inputs",
    "ftkit.data.paths",
]
HEAVY = ["torch", "transformers", "datasets", "peft", "bitsandbytes", "sklearn", "numpy"]


def layer_of(name: str) -> int:
    part = name.split(".")[1] if "." in name else "__init__"
    return next(number for number, layer in enumerate(LAYERS) if part in layer)


def imports_of(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("ftkit"):
            names |= {f"ftkit.{alias.name}" for alias in node.names} if node.module == "ftkit" else {node.module}
    return {name for name in names if name not in ("ftkit.__version__",)}


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_file_imports_only_from_its_layer_and_those_above(path: Path) -> None:
    own = ".".join(["ftkit", *path.relative_to(PACKAGE).with_suffix("").parts])
    below = {name for name in imports_of(path) if layer_of(name) > layer_of(own)}
    assert below == set()


def test_sub_packages_are_empty_at_the_door() -> None:
    assert [path for path in PACKAGE.glob("*/**/__init__.py") if path.read_text()] == []


def test_the_public_door() -> None:
    assert all(getattr(ftkit, name) is not None for name in ftkit.__all__)
    assert sorted(ftkit.__all__) == ftkit.__all__
    with pytest.raises(AttributeError):
        _ = ftkit.nothing


@pytest.mark.parametrize("module", LIGHT)
def test_checking_a_recipe_imports_nothing_heavy(module: str) -> None:
    code = f"import sys, {module}; print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# bitsandbytes without its parts is the empty module that waits for its first use. peft comes in with the Trainer itself, and
# SciPy with transformers; TensorBoard is what a run writes its curves to.
UNUSED = ["bitsandbytes.nn", "nltk", "rouge_score", "evaluate", "lm_eval", "trl", "onnx", "matplotlib"]
NOT_BEFORE_TRAINING = [*UNUSED, "sklearn", "bokeh"]
TRAINED = """
import sys
from ftkit import api, load_recipe
early = [name for name in {early} if name in sys.modules]
api.train(load_recipe("recipe.yaml"), output_dir="run")
print("found", early + [name for name in {unused} if name in sys.modules])
"""


@pytest.mark.parametrize(
    ("task", "unused"),
    [("text-classification", UNUSED), ("language-modeling", [*UNUSED, "sklearn"])],
    ids=["labels", "text"],
)
@pytest.mark.slow
def test_a_full_run_imports_nothing_that_it_does_not_use(
    recipe: Callable[..., Recipe], task: str, unused: list[str]
) -> None:
    data = {"data": {"train": "sample:text", "eval_size": 5}} if task == "language-modeling" else {}
    made = recipe(task=task, training={"max_steps": 1}, **data)
    Path("recipe.yaml").write_text(dump_recipe(made))
    code = TRAINED.format(early=NOT_BEFORE_TRAINING, unused=unused)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1:] == ["found []"], done.stderr[-2000:]
