"""The rows before and after on the page, however many outcomes and rows there are, opened in a headless browser.

The kind: a list that shows nothing since the script that fills it takes another element than it means, or has too many rows.
"""

import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from browser import Page

from ftkit.reading import read_object
from ftkit.report.publish import write_report
from ftkit.run import Run, write_json, write_jsonl

VISIBLE = "[...document.querySelectorAll('#examples-list [data-group]')].filter((row) => !row.hidden).map((row) => row.dataset.group)"
SAID = "document.querySelector('.filter[data-for=examples-list] output').textContent"
OUTCOMES = ("changed", "same", "fixed", "broken")


def text_rows(outcomes: list[str], words: int = 12) -> list[dict[str, Any]]:
    """Rows of generated text of which training made what is asked for."""
    rows = []
    for number, outcome in enumerate(outcomes):
        before = " ".join(f"word{(number + place) % 97}" for place in range(words))
        after = before if outcome == "same" else f"other {before}"
        rows.append({
            "row": number, "name": f"rows.jsonl row {number + 1}", "prompt": f"Question {number}: what is it?", "target": before,
            "baseline": {"row": number, "generated": before, "loss": 1.0}, "tuned": {"row": number, "generated": after, "loss": 0.5},
        })  # fmt: skip
    return rows


def label_rows(outcomes: list[str]) -> list[dict[str, Any]]:
    return [
        {
            "row": number, "name": f"rows.csv row {number + 1}", "text": f"text {number} " * 20, "label": "good",
            "baseline": {"row": number, "predicted": "bad" if outcome in ("fixed", "changed") else "good", "probability": 0.6},
            "tuned": {"row": number, "predicted": "bad" if outcome == "broken" else "good", "probability": 0.9},
        }
        for number, outcome in enumerate(outcomes)
    ]  # fmt: skip


def page_of(folder: Path, rows: list[dict[str, Any]], outcomes: list[str]) -> Path:
    """The page of a run whose rows are these."""
    run = Run(folder)
    told = {
        name: [row["name"] for row, one in zip(rows, outcomes, strict=True) if one == name] for name in ("fixed", "broken")
    }
    metrics = read_object(run.metrics_file)
    write_json(run.metrics_file, metrics | {"rows": max(len(rows), 1), "changes": told, "generated_rows": len(rows)})
    write_jsonl(run.predictions_file, rows)
    return write_report(run)


@pytest.mark.parametrize("kinds", [0, 1, 2, 4])
@pytest.mark.parametrize("task", ["instruction", "text-classification"])
@pytest.mark.slow
def test_rows_are_shown_whatever_became_of_them(
    task: str, kinds: int, finished: Callable[[str], Path], chromium: Page
) -> None:
    names = OUTCOMES[:kinds] if task == "instruction" else ("fixed", "broken", "still right", "still right")[:kinds]
    outcomes = [names[number % kinds] for number in range(8 * kinds)] if kinds else []
    rows = text_rows(outcomes) if task == "instruction" else label_rows(outcomes)
    chromium.messages.clear()
    chromium.open(page_of(finished(task), rows, outcomes))
    assert chromium.messages == []
    if not rows:
        assert "There are no rows to show" in chromium.run("document.getElementById('examples').textContent")
        return
    first = min(len(rows), 6 if task == "instruction" else 12)
    assert len(chromium.run(VISIBLE)) == first
    assert chromium.run(SAID) == f"{len(rows)} rows"
    chromium.run("document.querySelector('#examples .more').click()")
    assert len(chromium.run(VISIBLE)) == min(len(rows), 5 * first)
    choices = chromium.run(
        "[...document.querySelectorAll('#examples select.groups option')].slice(1).map((one) => one.text)"
    )
    assert set(choices) == (set(outcomes) if len(set(outcomes)) > 1 else set())
    for choice in choices:
        pick = "{ const list = document.querySelector('#examples select.groups'); list.value = CHOICE; list.dispatchEvent(new Event('change')) }"
        chromium.run(pick.replace("CHOICE", repr(choice)))
        assert set(chromium.run(VISIBLE)) == {choice}


def test_what_is_marked_is_no_filter(finished: Callable[[str], Path], chromium: Page) -> None:
    outcomes = ["changed"] * 5
    chromium.open(page_of(finished("instruction"), text_rows(outcomes), outcomes))
    chromium.run(
        "{ const one = document.getElementById('against'); one.value = 'wanted'; one.dispatchEvent(new Event('change')) }"
    )
    assert chromium.run(VISIBLE) == outcomes
    assert chromium.run("document.getElementById('examples-list').classList.contains('by-wanted')")


@pytest.mark.parametrize("task", ["instruction", "text-classification"])
def test_twenty_thousand_rows(task: str, finished: Callable[[str], Path], chromium: Page) -> None:
    kinds = OUTCOMES if task == "instruction" else ("fixed", "broken", "still right")
    outcomes = [kinds[number % len(kinds)] for number in range(20_000)]
    rows = text_rows(outcomes, words=60) if task == "instruction" else label_rows(outcomes)
    started = time.monotonic()
    file = page_of(finished(task), rows, outcomes)
    assert time.monotonic() - started < 20  # it took minutes while each row was looked for in lists of thousands
    assert file.stat().st_size < 5_000_000
    started = time.monotonic()
    chromium.open(file, width=768)
    assert chromium.run("document.documentElement.scrollWidth") == 768
    assert set(chromium.run(VISIBLE)) <= set(kinds)
    assert "of 20,000 rows" in chromium.run("document.querySelector('#examples .lead').textContent")
    shown = chromium.run("document.querySelectorAll('#examples-list [data-group]').length")
    assert 60 <= shown <= 300
    find = "{ const box = document.querySelector('.filter[data-for=examples-list] input'); box.value = 'row 1'; box.dispatchEvent(new Event('input')) }"
    chromium.run(find)
    assert chromium.run(VISIBLE)
    assert time.monotonic() - started < 20


@pytest.mark.parametrize("task", ["instruction", "text-classification"])
def test_no_two_elements_have_one_name(task: str, finished: Callable[[str], Path], chromium: Page) -> None:
    chromium.open(write_report(Run(finished(task))))
    names = Counter(chromium.run("[...document.querySelectorAll('[id]')].map((one) => one.id)"))
    assert {name for name, count in names.items() if count > 1} == set()
