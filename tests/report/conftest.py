"""Runs that really ran, and a headless browser, for all tests of the report."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from browser import NotUp, Page, browser, find_chromium

from ftkit.api import train
from ftkit.recipe.schema import Recipe

made: dict[str, Path] = {}


@pytest.fixture
def finished(
    recipe: Callable[..., Recipe], tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Path]:
    """A copy of a finished run of a task; each is trained once."""

    def make(task: str) -> Path:
        if task not in made:
            made[task] = tmp_path_factory.mktemp("runs") / task
            block = {"evaluation": {"generation": {"rows": 10, "max_new_tokens": 12}}} if task == "instruction" else {}
            training = {"max_steps": 6, "eval_strategy": "steps", "eval_steps": 2, "save_steps": 2, "save_strategy": "steps"}
            train(recipe("lora", task=task, training=training, **block), output_dir=made[task])
        copy = tmp_path / task
        shutil.copytree(made[task], copy)
        return copy

    return make


@pytest.fixture(scope="session")
def chromium() -> Iterator[Page]:
    program = find_chromium()
    if program is None:
        pytest.skip("no Chromium here, to open the page in")
    with ExitStack() as stack:
        try:
            page = stack.enter_context(browser(program))
        except NotUp as error:
            pytest.skip(str(error))
        yield page
