"""The page and the card of runs that really ran: read as text, and opened in a headless browser."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from browser import Page
from huggingface_hub import ModelCard

from ftkit.api import train
from ftkit.errors import UserError
from ftkit.reading import read_jsonl
from ftkit.recipe.schema import Recipe
from ftkit.report.confusion import MAX_LABELS, confusion
from ftkit.report.curves import curves, kept_step
from ftkit.report.evidence import read_evidence
from ftkit.report.examples import MAX_LINES, Examples, choose_examples, marked, split_words
from ftkit.report.publish import write_report
from ftkit.run import Run, write_json, write_jsonl

SECTIONS = ["metrics", "curves", "examples", "errors", "data-report", "forgetting", "cost", "use", "recipe"]
# What Bokeh draws stands in shadow trees.
DRAWN = """(place, wanted) => {
  const trees = [place], found = [];
  for (const tree of trees) for (const one of tree.querySelectorAll("*")) {
    if (one.shadowRoot) trees.push(one.shadowRoot);
    if (one.matches(wanted)) found.push(one);
  }
  return found;
}"""
SCRIPT = "<script>window.broken = true; console.error('broken')</script>"


def without_scripts(text: str) -> str:
    return re.sub(r"<script.*?</script>", "", text, flags=re.DOTALL)


def examples_of(folder: Path) -> Examples:
    return choose_examples(read_evidence(Run(folder)))


@pytest.mark.parametrize("task", ["text-classification", "instruction"])
def test_a_run_ends_with_a_page_that_needs_nothing_else(task: str, finished: Callable[[str], Path]) -> None:
    folder = finished(task)
    text = (folder / "report.html").read_text()
    assert [f'id="{name}"' in text for name in SECTIONS] == [True] * len(SECTIONS)
    assert (
        re.findall(r"(?:src|href)=\"(?!#|data:)[^\"]*", without_scripts(text)) == []
    )  # what scripts ask for, the browser tells
    assert "url(" not in text.split("<script")[0]
    assert len(text) < 1_900_000
    read = without_scripts(text)
    assert "This run has no analysis.json" not in read
    assert "measured no interval" not in read
    analysis = json.loads((folder / "analysis.json").read_text())
    for part, heading in {"confusion": "Confusion matrix", "slices": "Slices, worst first", "worst": "Worst rows"}.items():
        assert (heading in read) == bool(analysis[part])
    assert ("mean cosine distance" in read) == (task != "instruction")  # an encoder with a new head foretells no text


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("task", ["text-classification", "instruction"])
def test_the_page_in_a_browser(task: str, width: int, finished: Callable[[str], Path], chromium: Page) -> None:
    folder = finished(task)
    file = write_report(Run(folder))
    chromium.messages.clear()
    chromium.open(file, width=width, dark=width < 600)
    assert chromium.run("[...document.querySelectorAll('section')].map((section) => section.id)") == SECTIONS
    assert chromium.run("document.documentElement.scrollWidth") == width
    empty = f"[...document.querySelectorAll('.plot')].filter((plot) => plot.clientWidth && !({DRAWN})(plot, 'svg path').length).map((plot) => plot.id)"
    assert chromium.wait_for(f"!{empty}.length"), chromium.run(empty)
    assert chromium.run("getComputedStyle(document.body).backgroundColor") == (
        "rgb(16, 19, 23)" if width < 600 else "rgb(246, 247, 249)"
    )
    before = chromium.run("getComputedStyle(document.body).backgroundColor")
    chromium.run("document.getElementById('theme').click()")
    assert chromium.run("getComputedStyle(document.body).backgroundColor") != before
    assert chromium.messages == []


def test_plots_follow_day_and_night_and_tell_their_values(finished: Callable[[str], Path], chromium: Page) -> None:
    folder = finished("text-classification")
    chromium.open(folder / "report.html")
    strokes = f"[...new Set(({DRAWN})(document.getElementById('curve-0'), 'svg path').map((path) => path.getAttribute('stroke')))].join(' ')"
    assert chromium.wait_for(f"{strokes}.includes('rgb(77,127,208)')"), chromium.run(strokes)  # --bar by day
    chromium.run("document.getElementById('theme').click()")
    assert chromium.wait_for(f"{strokes}.includes('rgb(109,155,234)')"), chromium.run(strokes)  # --bar by night
    assert "rgb(77,127,208)" not in chromium.run(strokes)
    chromium.point_at("#curve-0")
    said = f"({DRAWN})(document.body, 'b').map((one) => one.textContent).filter((text) => /^(train|eval) /.test(text))"
    assert chromium.wait_for(f"{said}.length"), "nothing is told where the mouse is"
    values = [event[key] for event in read_jsonl(folder / "log.jsonl") for key in ("loss", "eval_loss") if key in event]
    assert float(chromium.run(said)[0].split()[1]) in [float(f"{value:.4g}") for value in values]


@pytest.mark.parametrize(
    ("task", "kind", "sample"),
    [
        ("language-modeling", "gpt2", "text"),
        ("token-classification", "distilbert", "entities"),
        ("summarization", "llama", "dialogues"),
    ],
)
def test_every_kind_of_task_has_a_page(
    task: str, kind: str, sample: str, recipe: Callable[..., Recipe], tmp_path: Path, chromium: Page
) -> None:
    block = {
        "train": [{"path": f"sample:{sample}", "rows": 60}],
        "columns": {"document": "dialogue"} if sample == "dialogues" else {},
    }
    found = recipe(
        "full",
        task=task,
        kind=kind,
        data={**block, "gate": {"cut_answer": 1.0, "dropped": 1.0, "without_end": 1.0}},
        training={"max_steps": 2},
    )
    train(found, output_dir=tmp_path / "run")
    assert len(examples_of(tmp_path / "run").rows) > 0
    chromium.messages.clear()
    chromium.open(tmp_path / "run" / "report.html", width=390)
    assert chromium.run("document.documentElement.scrollWidth") == 390
    assert chromium.run("document.querySelectorAll('#examples-list [data-group]').length") > 0
    assert chromium.messages == []


def test_tables_sort_and_lists_filter(finished: Callable[[str], Path], chromium: Page) -> None:
    folder = finished("text-classification")
    chromium.open(write_report(Run(folder)))
    scores = "[...document.querySelectorAll('#slices-table tbody tr')].map((row) => Number(row.cells[2].dataset.value))"
    head = "document.querySelectorAll('#slices-table th button')[2].click()"
    chromium.run(head)
    assert chromium.run(scores) == sorted(chromium.run(scores))
    chromium.run(head)
    assert chromium.run(scores) == sorted(chromium.run(scores), reverse=True)
    assert len(set(chromium.run(scores))) > 1

    rows = read_jsonl(folder / "predictions.jsonl")
    word = rows[3]["text"].split()[-1]
    find = "const typed = document.querySelector('.filter[data-for=examples-list] input'); typed.value = WORD; typed.dispatchEvent(new Event('input'))"
    shown = "[...document.querySelectorAll('#examples-list [data-group]')].filter((row) => !row.hidden).map((row) => row.cells[1].textContent)"
    chromium.run(f"{{ {find.replace('WORD', json.dumps(word))} }}")
    assert 0 < len(chromium.run(shown)) < len(rows)
    assert all(word.lower() in text.lower() for text in chromium.run(shown))
    chromium.run(f"{{ {find.replace('WORD', json.dumps('no such word'))} }}")
    assert chromium.run(shown) == []


def test_what_comes_from_data_is_text(finished: Callable[[str], Path], chromium: Page) -> None:
    for task in ("text-classification", "instruction"):
        folder = finished(task)
        run = Run(folder)
        rows = read_jsonl(run.predictions_file)
        for key in {"text", "label", "prompt", "target"} & rows[0].keys():
            rows[0][key] = SCRIPT
        for answer in (rows[0]["baseline"], rows[0]["tuned"]):
            answer["generated" if task == "instruction" else "predicted"] = SCRIPT + str(len(answer))
        write_jsonl(run.predictions_file, rows)
        analysis = json.loads(run.analysis_file.read_text())
        analysis["worst"] = [
            {key: SCRIPT if isinstance(value, str) else value for key, value in row.items()} for row in analysis["worst"]
        ]
        analysis["slices"] = [one | {"by": SCRIPT, "value": SCRIPT} for one in analysis["slices"]]
        if analysis["confusion"]:
            analysis["confusion"]["labels"][0] = SCRIPT
        write_json(run.analysis_file, analysis)
        metrics = json.loads(run.metrics_file.read_text())
        write_json(
            run.metrics_file,
            metrics | {"caveats": [SCRIPT], "flags": [SCRIPT], "other_baselines": {SCRIPT: metrics["tuned"]}},
        )
        file = write_report(run)
        assert SCRIPT not in file.read_text()
        assert SCRIPT.replace("<", "&lt;").replace(">", "&gt;").replace("'", "&#39;") in file.read_text()
        chromium.messages.clear()
        chromium.open(file)
        assert chromium.run("window.broken === undefined")
        assert chromium.messages == []


def test_many_rows_are_not_all_on_the_page(finished: Callable[[str], Path]) -> None:
    folder = finished("text-classification")
    rows = read_jsonl(folder / "predictions.jsonl")
    many = [{**row, "row": copy * len(rows) + row["row"]} for copy in range(100) for row in rows]
    write_jsonl(folder / "predictions.jsonl", many)
    found = examples_of(folder)
    assert (len(found.rows), found.of, sum(found.counts.values())) == (MAX_LINES, len(many), len(many))
    text = write_report(Run(folder)).read_text()
    assert f"{MAX_LINES} of {len(many):,} rows" in text
    assert len(text) < 1_900_000


def test_what_became_of_rows_is_counted(finished: Callable[[str], Path]) -> None:
    folder = finished("text-classification")
    rows = read_jsonl(folder / "predictions.jsonl")
    right = [(row["baseline"]["predicted"] == row["label"], row["tuned"]["predicted"] == row["label"]) for row in rows]
    wanted = {
        "fixed": right.count((False, True)),
        "broken": right.count((True, False)),
        "still wrong": right.count((False, False)),
        "still right": right.count((True, True)),
    }
    assert examples_of(folder).counts == {name: count for name, count in wanted.items() if count}


def test_curves_hold_the_log_and_the_kept_step(finished: Callable[[str], Path]) -> None:
    folder = finished("text-classification")
    evidence = read_evidence(Run(folder))
    drawn = {curve["title"]: {series["name"]: series["points"] for series in curve["series"]} for curve in curves(evidence)}
    assert [step for step, _ in drawn["loss"]["train"]] == [1, 2, 3, 4, 5, 6]
    assert drawn["accuracy"]["eval"][0] == [0, evidence.metrics["baseline"]["accuracy"]]
    assert [step for step, _ in drawn["accuracy"]["eval"]] == [0, 2, 4, 6]
    assert kept_step(evidence) == 6


def test_the_best_step_is_the_kept_one(recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    training = {
        "eval_strategy": "steps",
        "eval_steps": 1,
        "save_strategy": "steps",
        "save_steps": 1,
        "load_best_model_at_end": True,
        "metric_for_best_model": "loss",
        "learning_rate": 0.05,
        "max_steps": 3,
    }
    train(recipe("full", training=training), output_dir=tmp_path / "run")
    evidence = read_evidence(Run(tmp_path / "run"))
    losses = {event["step"]: event["eval_loss"] for event in evidence.log if "eval_loss" in event}
    assert kept_step(evidence) == min(losses, key=lambda step: losses[step])


def test_differing_words_are_marked() -> None:
    assert marked("the red bus stopped", "the blue bus stopped") == [(False, "the "), (True, "red"), (False, " bus stopped")]
    assert marked("same", "same") == [(False, "same")]
    text = " Odd\n spacing, and 42 signs! "
    assert "".join(split_words(text)) == text
    assert "".join(piece for _, piece in marked(text, "other words")) == text


def test_the_card_is_one_for_the_hub(finished: Callable[[str], Path]) -> None:
    folder = finished("text-classification")
    write_report(Run(folder))
    card, metrics = ModelCard.load(folder / "README.md"), json.loads((folder / "metrics.json").read_text())
    assert card.data.library_name == "peft"
    assert card.data.pipeline_tag == "text-classification"
    assert card.data.base_model is None  # a local folder is nothing that the hub knows
    assert {result.metric_type: result.metric_value for result in card.data.eval_results or []} == metrics["tuned"]
    assert (folder / "model" / "README.md").read_text() == (folder / "README.md").read_text()
    for found in json.loads((folder / "run.json").read_text())["data"].values():
        assert found["sha256"] in card.text
    assert metrics["verdict"]["sentence"] in card.text


def test_the_page_shows_what_the_verdict_is_against(finished: Callable[[str], Path]) -> None:
    """Its sentence, its picture and its first tile are of one comparison: with the majority, where a head is new."""
    folder = finished("text-classification")
    metrics = json.loads((folder / "metrics.json").read_text())
    name = metrics["verdict"]["against"]
    assert name.startswith("majority class (")
    write_json(folder / "metrics.json", metrics | {"flags": [f"no better than the {name}"]})
    page = without_scripts(write_report(Run(folder)).read_text())
    hero = page[page.index('id="verdict"') : page.index('id="metrics"')]
    value = metrics["other_baselines"][name][metrics["verdict"]["metric"]]
    assert f"as the {name}" in hero
    assert f"{name} {value:.4f}" in hero
    assert f"no better than the {name}" in hero
    assert f"no better than the {name}" in (folder / "README.md").read_text()


def test_hub_names_and_licence_stand_in_the_card(finished: Callable[[str], Path], tmp_path: Path) -> None:
    run = Run(finished("text-classification"))
    base = tmp_path / "base"
    base.mkdir()
    (base / "README.md").write_text("---\nlicense: apache-2.0\n---\n# A base\n")
    text = run.recipe_file.read_text()
    model = re.search(r"name: (\S+/distilbert)\n", text)
    assert model is not None
    run.recipe_file.write_text(text.replace(model[1], str(base)))
    run.update(hub_ids=[str(base)])
    write_report(run)
    card = ModelCard.load(run.card)
    assert (card.data.base_model, card.data.license) == (str(base), "apache-2.0")


@pytest.mark.parametrize("missing", ["log.jsonl", "predictions.jsonl", "data_report.json", "analysis.json"])
def test_sections_say_why_they_are_empty(missing: str, finished: Callable[[str], Path]) -> None:
    folder = finished("text-classification")
    (folder / missing).unlink()
    text = write_report(Run(folder)).read_text()
    reasons = {
        "log.jsonl": "Nothing was logged",
        "predictions.jsonl": "There are no rows to show",
        "data_report.json": "no data_report.json",
        "analysis.json": "no analysis.json",
    }
    assert reasons[missing] in without_scripts(text)


@pytest.mark.parametrize(
    "change",
    [
        {"baseline": None, "intervals": None},
        {"tuned": {"accuracy": None}, "baseline": {"accuracy": None}},
        {"changes": None, "forgetting": None, "verdict": None, "flags": None},
    ],
)
def test_figures_that_are_absent_break_nothing(change: dict[str, Any], finished: Callable[[str], Path]) -> None:
    folder = finished("text-classification")
    file = folder / "metrics.json"
    write_json(file, json.loads(file.read_text()) | change)
    assert "Metrics" in write_report(Run(folder)).read_text()


def test_the_command_writes_the_page_again(finished: Callable[[str], Path]) -> None:
    folder = finished("text-classification")
    for name in ("report.html", "README.md"):
        (folder / name).unlink()
    code = f"import sys\nfrom ftkit.cli.main import app\nsys.argv = ['ftkit', 'report', {str(folder)!r}]\ntry:\n    app()\nfinally:\n    print([name for name in ('torch', 'transformers') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.split("\n")[:2] == [str(folder / "report.html"), "[]"]
    assert (folder / "report.html").is_file()
    assert (folder / "README.md").is_file()


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no finished run"):
        write_report(Run(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_of_many_labels_the_most_confused_are_drawn() -> None:
    labels = [f"label {number}" for number in range(40)]
    counts = [[5 if row == column else 0 for column in range(40)] for row in range(40)]
    counts[37][2], counts[39][38] = 3, 1
    found = confusion({"labels": labels, "counts": counts, "baseline_counts": None})
    assert found is not None
    assert (len(found.labels), found.of, found.tilted) == (MAX_LABELS, 40, True)
    assert {"label 2", "label 37", "label 38", "label 39"} <= set(found.labels)
    assert list(found.tables) == ["tuned"]
    cell = next(
        cell for line in found.tables["tuned"] for cell in line if (cell.true, cell.predicted) == ("label 37", "label 2")
    )
    assert (cell.count, cell.share, cell.right) == (3, 3 / 8, False)
