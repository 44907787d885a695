"""Kind: a run that goes on, or an adapter that is put on a base, with other things behind the same words of the recipe."""

import json
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from ftkit import Interrupted, NotReproduced, Recipe, UserError, api, compare, evaluate, rerun, train, verify
from ftkit.api import Unverified
from ftkit.cli.main import app
from ftkit.data.digests import digests_of, write_inputs
from ftkit.delivery.merge import merge
from ftkit.reading import read_jsonl
from ftkit.recipe.load import load_values
from ftkit.run import FINISHED, Run, dump_recipe, write_json, write_jsonl, write_text
from ftkit.training import callbacks, inputs
from ftkit.training.callbacks import StopOnSignal
from ftkit.training.inputs import Inputs, forced_words, record_forced, settle_inputs, with_rows_compared
from ftkit.training.rerun import compare_logs, compare_metrics, other_surroundings, require_repeatable, steps_to_make

RecipeMaker = Callable[..., Recipe]


@pytest.fixture
def begun() -> tuple[Run, Recipe]:
    """A run that has noted what it follows from: a csv file with a cell of two lines, and a base."""
    Path("rows.csv").write_text('text,label\none,a\n"two\nlines",b\nthree,a\nfour,b\n')
    Path("base").mkdir()
    Path("base/model.safetensors").write_bytes(b"weights")
    recipe = load_values({"task": "text-classification", "model": "base", "strategy": "full", "data": {"train": "rows.csv"}})
    run = Run(Path("runs/my"))
    run.update(state="interrupted", load={})
    write_text(run.recipe_file, dump_recipe(recipe))
    write_inputs(run, digests_of(recipe))
    return run, recipe


def edit(name: str, old: str, new: str) -> None:
    file = Path(name)
    file.write_text(file.read_text().replace(old, new))


CHANGES: dict[str, tuple[Callable[[], object], str]] = {
    "a row": (lambda: edit("rows.csv", "three", "3"), "rows.csv (data.train): row 3, line 5 differs"),
    "a row of two lines": (lambda: edit("rows.csv", "lines", "words"), "rows.csv (data.train): row 2, line 4 differs"),
    "the header": (lambda: edit("rows.csv", "label", "labels"), "line 1, above all rows, differs"),
    "the end": (lambda: edit("rows.csv", "four,b\n", ""), "1 line fewer at its end: 5 lines where it had 6"),
    "the base": (lambda: Path("base/model.safetensors").write_bytes(b"Weights"), "base/model.safetensors (model.name): it holds other"),
    "a new file": (lambda: Path("base/config.json").write_text("{}"), "base/config.json (model.name): it was not there"),
    "the note": (lambda: Path("runs/my/inputs.json").write_text("{"), "runs/my/inputs.json: damaged"),
    "no note": (lambda: Path("runs/my/inputs.json").unlink(), "runs/my/inputs.json: missing"),
    "another note": (lambda: edit("runs/my/inputs.json", "rows.csv", "rows.csw"), "inputs.json: damaged: it was changed"),
}  # fmt: skip


@pytest.mark.parametrize("kind", CHANGES)
def test_what_changed_is_one_line_unless_it_is_forced(begun: tuple[Run, Recipe], kind: str) -> None:
    run, recipe = begun
    assert settle_inputs(recipe, run, resume=True).changes == []
    alter, words = CHANGES[kind]
    alter()
    with pytest.raises(UserError) as caught:
        settle_inputs(recipe, run, resume=True)
    assert words in str(caught.value)
    assert "--force" in str(caught.value)
    assert "\n" not in str(caught.value)
    found = settle_inputs(recipe, run, resume=True, force=True)
    record_forced(run, found, 40, {"data": {}})
    (said,) = forced_words(run.record)
    assert "at step 40" in said
    assert words.partition(": ")[0] in said or words in said
    assert settle_inputs(recipe, run, resume=True).changes == []  # it goes on with what is there now
    record_forced(run, Inputs(found.now, found.changes[:1]), 60, {})
    assert len(forced_words(run.record)) == 2  # and says each for ever


# Kind: killed between the note of the new files and the figures of the former ones, which would be taken for theirs.
@pytest.mark.parametrize("last", ["update", "write_inputs"])
def test_nothing_measured_with_the_former_files_outlives_a_kill(
    begun: tuple[Run, Recipe], last: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, recipe = begun
    CHANGES["a row"][0]()
    found = settle_inputs(recipe, run, resume=True, force=True)
    write_text(run.outputs / "baseline.npz", "of the former rows")

    def killed(*_: Any, **named: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(*((Run, last) if last == "update" else (inputs, last)), killed)
        with pytest.raises(KeyboardInterrupt):
            record_forced(run, found, 40, {})
    assert not any(run.outputs.iterdir())
    with pytest.raises(UserError, match="row 3"):
        settle_inputs(recipe, run, resume=True)


def test_rows_that_changed_though_no_file_did_are_found(begun: tuple[Run, Recipe]) -> None:
    run, _ = begun
    known = {"train": {"rows": 4, "sha256": "a", "tokens_sha256": "b"}, "eval": {"rows": 2, "sha256": "c"}}
    run.update(data=known)
    none = Inputs({}, [])
    assert with_rows_compared(none, run, known, force=False).changes == []
    for split, key in (("train", "sha256"), ("train", "tokens_sha256"), ("eval", "sha256")):
        other = {**known, split: {**known[split], key: "x"}}
        with pytest.raises(UserError, match=f"the {split} rows"):
            with_rows_compared(none, run, other, force=False)
        assert len(with_rows_compared(none, run, other, force=True).changes) == 1


def test_a_run_of_before_goes_on_with_a_word(begun: tuple[Run, Recipe], capsys: pytest.CaptureFixture[str]) -> None:
    run, recipe = begun
    run.inputs.unlink()
    run.update(fingerprints={})
    assert settle_inputs(recipe, run, resume=True).changes == []
    assert "noted no sums" in capsys.readouterr().err


def test_there_is_nothing_to_force_without_resume() -> None:
    done = CliRunner().invoke(app, ["train", "my.yaml", "--force"])
    assert isinstance(done.exception, UserError)
    assert "--resume" in str(done.exception)


# Kind: a comparison of logs that passes over a figure, or finds one where there is none.
def logged(name: str, events: list[dict[str, Any]], **record: Any) -> Run:
    run = Run(Path(name))
    write_jsonl(run.log_file, events)
    run.recipe_file.write_text("task: x\n")
    run.update(state=FINISHED, load={}, **record)
    return run


EVENTS = [{"step": step, "seconds": step / 7, "loss": 1 / step, "grad_norm": 1.0} for step in (2, 4, 6, 8)]
END = [*EVENTS, {"step": 8, "eval_model_preparation_time": 1.0}, {"step": 8, "train_loss": 0.5, "train_runtime": 3.0}]


def test_logs_are_compared_figure_by_figure() -> None:
    then = logged("then", END)
    same = compare_logs(
        then,
        logged("same", [{name: value + 1 if "_time" in name else value for name, value in event.items()} for event in END]),
        8,
        whole=True,
    )
    assert (same.same, same.losses, same.figures) == (True, 4, 9)
    for number, (key, whole) in enumerate((("loss", True), ("grad_norm", True), ("loss", False))):
        events = [dict(event) for event in END]
        events[2][key] += 0.25
        found = compare_logs(then, logged(f"other{number}", events), 8, whole=whole)
        assert f"step 6: {key}" in found.failures[0]
        assert compare_logs(then, Run(Path(f"other{number}")), 4, whole=whole).same  # what differs is behind that
        with pytest.raises(NotReproduced, match="step 6"):
            found.require_same()
    short = compare_logs(then, logged("short", END[:2]), 8, whole=True)
    assert "step 6 has no loss now" in short.failures
    ended = [*END[:-1], END[-1] | {"train_loss": 0.6}]
    assert not compare_logs(then, logged("ended", ended), 8, whole=True).same
    resumed = logged("resumed", END, resumed=[4])  # the Trainer counts a mean of what it went on with
    assert compare_logs(resumed, Run(Path("ended")), 8, whole=True).same


def test_metrics_and_surroundings_are_told_apart() -> None:
    then, now = (
        {"baseline": {"loss": 1.0}, "tuned": {"loss": 0.5, "f1": 0.1}},
        {"baseline": {"loss": 1.0}, "tuned": {"loss": 0.4}},
    )
    assert compare_metrics(then, then) == []
    assert [words.split(":")[0] for words in compare_metrics(then, now)] == ["tuned loss", "tuned f1"]
    record = {"versions": {"torch": "2.1", "peft": "1"}, "process": {"threads": 1}, "device": "cpu"}
    other = {"versions": {"torch": "2.2", "peft": "1"}, "process": {"threads": 4}, "device": "cpu"}
    assert other_surroundings(record, record) == []
    assert other_surroundings(record, other) == ["versions.torch 2.1 → 2.2", "process.threads 1 → 4"]


def test_the_steps_of_a_check_end_where_a_loss_was_logged() -> None:
    run = logged("then", END)
    assert [steps_to_make(run, asked) for asked in (1, 2, 3, 7, 100, None)] == [2, 2, 4, 8, 8, 8]
    with pytest.raises(UserError, match="0 steps"):
        steps_to_make(run, 0)


def test_what_cannot_be_run_again_is_refused() -> None:
    with pytest.raises(UserError, match="holds no run"):
        require_repeatable(Run(Path("none")), first_steps=True)
    unfinished = logged("unfinished", END)
    unfinished.update(state="interrupted")
    require_repeatable(unfinished, first_steps=True)
    with pytest.raises(UserError, match="is interrupted"):
        require_repeatable(unfinished, first_steps=False)
    silent = logged("silent", END[-1:])
    require_repeatable(silent, first_steps=False)
    with pytest.raises(UserError, match="logged no loss"):
        require_repeatable(silent, first_steps=True)
    with pytest.raises(UserError, match="--force"):
        require_repeatable(logged("forced", END, forced=[{"step": 4}]), first_steps=True)


# The whole story, on a small adapter.
@pytest.fixture
def stopped(verified_recipe: RecipeMaker, reviews: Path, stand_in: Callable[[str], Path]) -> Recipe:
    """A recipe whose run in runs/my was stopped at its fourth step, with base and rows beside it."""
    shutil.copytree(stand_in("distilbert"), "base")
    shutil.copyfile(reviews, "rows.jsonl")
    training = {"max_steps": 8, "save_strategy": "steps", "save_steps": 4}
    made = verified_recipe(
        "lora", model={"name": "base"}, data={"train": "rows.jsonl"}, training=training, evaluation={"general_text": False}
    )
    with pytest.MonkeyPatch.context() as patch:
        plain = StopOnSignal.on_step_end

        def on_step_end(self: Any, args: Any, state: Any, control: Any, **named: Any) -> None:
            if state.global_step == 4:
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(0.01)
            plain(self, args, state, control, **named)

        patch.setattr(callbacks.StopOnSignal, "on_step_end", on_step_end)
        with pytest.raises(Interrupted):
            train(made, output_dir="runs/my")
    return made


def replace_base() -> None:
    weights = load_file("base/model.safetensors")
    torch.manual_seed(1)
    save_file({name: value + 0.1 * torch.randn_like(value) for name, value in weights.items()}, "base/model.safetensors")


@pytest.mark.slow
def test_a_run_that_was_forced_says_so_everywhere(stopped: Recipe) -> None:
    before = json.loads(Path("runs/my/metrics.json").read_text())["baseline"]
    shutil.copytree("base", "first")
    replace_base()
    edit("rows.jsonl", read_jsonl(Path("rows.jsonl"))[4]["text"], "Quite another row.")
    with pytest.raises(UserError, match=r"row 5 differs.*base/model.safetensors"):
        train(stopped, output_dir="runs/my", resume=True)
    assert Run(Path("runs/my")).state == "interrupted"
    result = train(stopped, output_dir="runs/my", resume=True, force=True)
    said = "the run went on at step 4 with other files"
    assert result.metrics["baseline"] != before  # it is that of the base and the rows as they are now
    assert said in result.metrics["caveats"][0]
    assert said in compare(["runs/my"]).entries[0].caveats[0]
    assert said in verify("runs/my").facts["history"]
    assert said in evaluate("runs/my").caveats[0]
    for name in ("report.html", "README.md", "model/README.md"):
        assert said in (result.folder / name).read_text()
    shutil.rmtree("base")
    Path("first").rename("base")
    with pytest.raises(Unverified, match=r"base/model.safetensors: not as when the adapter was trained on it"):
        verify("runs/my")
    with pytest.raises(UserError, match="put that one back"):
        merge("runs/my", "merged")
    assert "not as when the adapter was trained on it" in evaluate("runs/my").caveats[0]


@pytest.mark.slow
def test_a_run_comes_out_again_and_what_changed_is_named(stopped: Recipe) -> None:
    assert rerun("runs/my", check=True).losses == 4
    train(stopped, output_dir="runs/my", resume=True)
    found = rerun("runs/my", check=True, steps=3)
    assert (found.same, found.losses, found.folder) == (True, 3, None)
    again = rerun("runs/my")
    assert (again.same, again.losses, again.folder) == (True, 8, Path("runs/my-rerun"))
    assert Run(Path("runs/my-rerun")).record["rerun"]["same"]
    assert sorted(path.name for path in Path("runs").iterdir()) == ["my", "my-rerun"]
    log = read_jsonl(Path("runs/my/log.jsonl"))
    log[1]["loss"] += 1e-6
    write_jsonl(Path("runs/my/log.jsonl"), log)
    with pytest.raises(NotReproduced, match="step 2: loss"):
        rerun("runs/my", check=True, steps=3)
    run = Run(Path("runs/my"))
    known = run.record["data"]
    write_json(run.record_file, run.record | {"data": {**known, "train": {**known["train"], "tokens_sha256": "0"}}})
    with pytest.raises(NotReproduced, match="the train rows as token ids"):
        rerun("runs/my", check=True)
    edit("rows.jsonl", read_jsonl(Path("rows.jsonl"))[4]["text"], "Quite another row.")
    with pytest.raises(NotReproduced, match=r"rows.jsonl \(data.train\): row 5 differs") as caught:
        rerun("runs/my", check=True)
    assert caught.value.exit_status == 4
    assert api.rerun is rerun
