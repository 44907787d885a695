"""Kind: what data holds is obeyed by what it is shown on: a terminal's escapes, a page's markup, a card's links."""

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from markdown_it import MarkdownIt

from ftkit import console, train
from ftkit.cli.main import app
from ftkit.errors import UserError
from ftkit.escapes import CONTROLS, markdown, visible
from ftkit.recipe.load import load_values
from ftkit.report.summary import markdown_table
from ftkit.run import write_jsonl

TITLE, WIPED, C1, TURNED = "\x1b]0;owned\x07", "\x1b[2J", "\x9b31m", "\u202egnp.exe"
MARKUP = [
    "<img src=x onerror=alert(1)>",
    "[here](https://elsewhere.example)",
    "`code` | cell",
    "[red]rich[/red] **bold** &lt;",
]
EMPHASES = ["_all_", "__init__ of it", "a _b_ (_c_) d", "__a_b__", "~~gone~~", "f1_macro _", "_нет_", "***_x_***", "\\_y_"]
HOSTILE = [TITLE, WIPED, C1, TURNED, "\x08\x08\x7f", *MARKUP]
SHOWN: dict[str, Callable[[str], Any]] = {
    "say": console.say,
    "warn": console.warn,
    "error": lambda text: console.show_error(UserError(text, text, text)),
    "table": lambda text: console.show(console.table(text, [text], [[text]])),
    "facts": lambda text: console.show(console.facts(text, {text: text})),
    "commands": lambda text: console.err.print(console.Commands({text: ["ftkit", text]})),
    "plain": lambda text: console.err.print(text, markup=False),
}


def obeyed(text: str, allowed: str = "") -> list[str]:
    """The control characters of a text that a terminal would act on."""
    return [sign for sign in text if ord(sign) in CONTROLS and sign not in allowed]


@pytest.mark.parametrize("terminal", [False, True])
@pytest.mark.parametrize("way", list(SHOWN))
def test_no_way_of_printing_obeys_a_text(way: str, terminal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.StringIO()
    screen = console.Screen(
        file=written, force_terminal=terminal, color_system=None, highlight=False, soft_wrap=True, width=200
    )
    monkeypatch.setattr(console, "err", screen)
    SHOWN[way]("".join(HOSTILE))
    assert obeyed(written.getvalue()) == []
    assert "u001b" in written.getvalue()


@pytest.mark.parametrize("text", HOSTILE)
def test_what_is_visible_is_the_same_in_json(text: str) -> None:
    assert obeyed(visible(text)) == []
    assert json.loads(visible(json.dumps(text, ensure_ascii=False))) == text


@pytest.mark.parametrize("text", [*HOSTILE, "a_b_c", "1 < 2 & 3", "back\\slash", "<b>", "| a |", *EMPHASES])
def test_markdown_shows_a_text_as_it_is(text: str) -> None:
    parser = MarkdownIt("commonmark").enable(["table", "strikethrough"])
    cell = "\n".join(markdown_table([text], [[text]]))
    for written in (f"said: {markdown(text)}", cell):
        kinds = {token.type for block in parser.parse(written) for token in block.children or ()}
        assert kinds <= {"text", "text_special"}, written
        words = ["".join(token.content for token in block.children) for block in parser.parse(written) if block.children]
        assert all(visible(text).split() == line.removeprefix("said: ").split() for line in words)


@pytest.mark.slow
def test_a_run_of_hostile_data_is_shown_as_text(
    stand_in: Callable[[str], Path], tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = [f"{sign}{name}" for sign, name in zip(HOSTILE, "abcdefghi", strict=True)]
    rows = [
        {
            "text": f"it was a good film, and I liked the end of it {i} {HOSTILE[i % len(HOSTILE)]}",
            "label": labels[i % len(labels)],
        }
        for i in range(120)
    ]
    write_jsonl(tmp_path / "rows.jsonl", rows)
    values = {
        "task": "text-classification", "strategy": "full",
        "model": {"name": str(stand_in("distilbert")), "max_length": 32},
        "data": {"train": str(tmp_path / "rows.jsonl"), "eval_size": 40},
        "training": {"max_steps": 2, "per_device_train_batch_size": 8},
        "evaluation": {"verify": False, "general_text": False},
    }  # fmt: skip
    folder = train(load_values(values), output_dir=tmp_path / "run \x1b[31m<b>[x](y)").folder
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    for words in (["report", folder], ["eval", folder], ["compare", folder], ["compare", folder, "--json"],
                  ["predict", folder, tmp_path / "rows.jsonl"], ["preview", folder / "recipe.yaml"]):  # fmt: skip
        app([str(word) for word in words], standalone_mode=False)
    said = capfd.readouterr()
    assert obeyed(said.out) == obeyed(said.err) == []
    for name in ("report.html", "README.md", "model/README.md"):
        text = (folder / name).read_text(encoding="utf-8")
        assert obeyed(text) == [], name
        assert "<img src=x" not in text, name
        assert name.endswith(".html") or "[here](https" not in text, name
