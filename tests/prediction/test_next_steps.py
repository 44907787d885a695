"""What a finished run tells its owner to do next does what it says: the card's Python, and the commands for a shell.

Kind: advice that nobody ran. For every task the card's lines are run from the card's folder in a process with plain
libraries, and say what `ftkit predict` says; every command is run as it is printed, in a folder with spaces in its name.
"""

import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from ftkit import predict
from ftkit.cli.main import app
from ftkit.console import PIPE, Commands
from ftkit.recipe.load import load_recipe
from ftkit.report.next_steps import next_steps
from ftkit.report.publish import write_report
from ftkit.run import Run

Trained = Callable[[str], Path]
WORDS = ["Ada", "Lovelace", "was", "born", "in", "London", "."]
# What the lines ask, as rows for `ftkit predict`.
ASKED: dict[str, dict[str, Any] | None] = {
    "labels": {"text": "Put the text here."},
    "mapped": {"a": "Put the text here.", "b": "Put the text pair here."},
    "several": {"text": "Put the text here."},
    "numbers": {"text": "Put the text here."},
    "tags": {"tokens": WORDS},
    "spaced tags": {"tokens": WORDS},
    "alpaca": {"instruction": "Put the instruction here.", "input": "Put the input here."},
    "adapter": {"instruction": "Put the instruction here.", "input": "Put the input here."},
    "completion": {"prompt": "Put the prompt here."},
    "chat": {
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Put the question here."}]
    },
    "summary": {"dialogue": "Put the document here."},
    "pairs": {"dialogue": "Put the document here."},
    "plain": None,
    "hidden": None,
}
EACH_CARD = """
import contextlib, io, json, os, sys
said = {}
for kind, (folder, lines) in json.load(open(sys.argv[1])).items():
    os.chdir(folder)
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(lines, {})
    said[kind] = printed.getvalue()
print(json.dumps(said))
"""


def lines_of_card(folder: Path) -> str:
    found = re.search(r"## Use it.*?```python\n(.*?)```", (folder / "README.md").read_text(), re.S)
    assert found
    return found[1]


@pytest.mark.slow
def test_the_lines_of_the_card_say_what_predict_says(trained: Trained, tmp_path: Path) -> None:
    cards = {kind: (str(trained(kind)), lines_of_card(trained(kind))) for kind in ASKED}
    assert "AutoPeftModelForCausalLM" in cards["adapter"][1]
    (tmp_path / "cards.json").write_text(json.dumps(cards))
    words = [sys.executable, "-c", EACH_CARD, str(tmp_path / "cards.json")]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    for kind, row in ASKED.items():
        told = said[kind].strip()
        if row is None:
            assert told, kind
            continue
        (wanted,) = predict(trained(kind), [row])
        if "generated" in wanted:
            assert told == wanted["generated"], kind
        elif "probability" in wanted:
            label, chance = told.rsplit(" ", 1)
            assert label == wanted["predicted"], kind
            assert float(chance) == pytest.approx(wanted["probability"], abs=0.02), kind  # predict computes in bfloat16
        elif isinstance(wanted["predicted"], float):
            assert json.loads(told) == pytest.approx([wanted["predicted"]], abs=0.02), kind
        else:
            assert told == str(wanted["predicted"]), kind


@pytest.fixture(scope="module")
def spaced(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Run]:
    """A copy of a run whose path a shell must have in quotes, with an earlier run on the same rows beside it."""

    def copy(kind: str) -> Run:
        parent = tmp_path_factory.mktemp("my runs") / "it's mine"
        for name in ("first", "a run"):
            shutil.copytree(trained(kind), parent / name)
        return Run(parent / "a run")

    return copy


def commands_of(run: Run) -> list[list[str]]:
    """The commands as a shell takes them apart, from what a screen of 60 columns shows."""
    from rich.console import Console

    screen = Console(width=60, force_terminal=True, color_system=None, soft_wrap=True, highlight=False)
    with screen.capture() as shown:
        screen.print(Commands(next_steps(run, load_recipe(run.recipe_file))))
    lines = shown.get().replace("\\\n", "").splitlines()  # as a shell joins them
    return [shlex.split(line) for line in lines if line.startswith("  ")]


@pytest.mark.parametrize("kind", ASKED)
@pytest.mark.slow
def test_every_command_works_for_the_run(kind: str, spaced: Callable[[str], Run], monkeypatch: pytest.MonkeyPatch) -> None:
    run, opened = spaced(kind), []
    monkeypatch.setattr("typer.launch", opened.append)  # no browser is opened by a test
    commands = commands_of(run)
    named = {words[words.index("ftkit") + 1] for words in commands}
    assert {"report", "compare"} <= named
    assert ("predict" in named) is (ASKED[kind] is not None)
    assert ("chat" in named) is (kind in ("alpaca", "adapter", "completion", "chat", "summary", "pairs"))
    assert ("merge" in named) is (kind == "adapter")
    for words in commands:
        asked, words = (words[1], words[words.index(PIPE) + 1 :]) if PIPE in words else ("", words)
        done = CliRunner().invoke(app, words[1:], input=f"{asked}\n" if asked else "Hello.\n/exit\n")
        assert done.exit_code == 0, (words, done.output, done.exception)
    assert [Path(str(opened[0]).removeprefix("file://").replace("%20", " ").replace("%27", "'"))] == [run.report]


def test_a_run_is_found_from_within_its_folder(spaced: Callable[[str], Run], monkeypatch: pytest.MonkeyPatch) -> None:
    run = spaced("labels")
    for place, name in ((run.folder, "."), (run.model, "..")):
        monkeypatch.chdir(place)
        assert Run(Path(name)).replaced == Run(run.folder.resolve()).replaced
        assert CliRunner().invoke(app, ["report", name]).exit_code == 0


def test_a_run_of_an_earlier_version_still_gets_its_card(spaced: Callable[[str], Run]) -> None:
    run = spaced("labels")
    record = run.record
    del record["serving"]
    run.record_file.write_text(json.dumps(record))
    write_report(run)
    assert lines_of_card(run.folder).rstrip().splitlines()[-1].startswith("model = ")
