"""A smoke run says in every headline that model and data are stand-ins; other runs never do."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from huggingface_hub import ModelCard
from rich.console import Console

from ftkit.api import train
from ftkit.recipe.schema import Recipe
from ftkit.report.publish import write_report
from ftkit.run import Run


def headlines(folder: Path) -> list[str]:
    """What stands at the top of the page and of the card."""
    run = Run(folder)
    text = write_report(run).read_text(encoding="utf-8")
    top = text[text.index("<h1>") : text.index('<div class="verdict')]
    card = ModelCard.load(run.card).text.strip().splitlines()
    return [re.sub(r"<[^>]+>", " ", top), "\n".join(card[:4])]


@pytest.mark.slow
def test_a_smoke_run_says_so_in_its_headlines(recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    made = recipe("lora", evaluation={"general_text": False}).model_copy(update={"source": "mine.yaml"})
    result = train(made, output_dir=tmp_path / "run", smoke=True)
    for top in headlines(result.folder):
        assert re.search("smoke run, stand-ins", top, re.IGNORECASE)
        assert "its figures say nothing of the model or the data" in " ".join(top.split())
    assert result.record["smoke"] == {"stands_for": made.model.name}
    assert not ModelCard.load(Run(result.folder).card).data.eval_results
    console = Console(width=120, record=True, quiet=False, file=(tmp_path / "printed").open("w"))
    console.print(result.table())
    assert "smoke run, stand-ins" in console.export_text()


def test_another_run_does_not(finished: Callable[[str], Path]) -> None:
    folder = finished("text-classification")
    assert not any(re.search("stand-in", top, re.IGNORECASE) for top in headlines(folder))
    assert "smoke" not in Run(folder).record
