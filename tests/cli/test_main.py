"""The command line as a user meets it: exit statuses, one line a mistake, quick answers, interruption and resumption."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from command import ftkit, heed_ctrl_c, one_line

from ftkit.recipe.packaged import packaged_recipes
from ftkit.recipe.schema import Recipe
from ftkit.run import Run, dump_recipe

COMMANDS = [
    "train",
    "eval",
    "check",
    "plan",
    "preview",
    "verify",
    "merge",
    "export",
    "report",
    "predict",
    "chat",
    "compare",
    "synth",
    "recipes",
    "init",
    "schema",
]


@pytest.mark.slow
def test_help_shows_every_command_and_each_has_an_example() -> None:
    done = ftkit("--help")
    assert done.returncode == 0
    assert all(command in done.stdout for command in COMMANDS)
    for command in COMMANDS:
        assert f"ftkit {command}" in ftkit(command, "--help").stdout.split("Example")[1]


def test_a_mistyped_key_is_reported_without_loading_torch(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(
        "task: text-classification\nmodel: x/y\nstrategy: full\ndata: {train: x/y}\ntraining: {learning_rte: 1}\n"
    )
    (tmp_path / "torch.py").write_text("raise SystemExit('torch was imported')")
    done = ftkit("train", "r.yaml", PYTHONPATH=str(tmp_path))
    assert one_line(done) == "error: r.yaml:5:12: unknown key 'training.learning_rte'; did you mean learning_rate?"
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "__pycache__") == ["r.yaml", "torch.py"]


@pytest.mark.parametrize(
    ("rows", "model", "expected"),
    [
        ("rowz.csv", "model", "error: r.yaml:4:8: no such file: rowz.csv; did you mean rows.csv?"),
        ("rows.csv", "./modle", "error: r.yaml:2:1: no model folder ./modle; did you mean model?"),
    ],
)
@pytest.mark.parametrize("command", ["train", "check"])
def test_a_path_that_leads_nowhere_is_reported_without_loading_torch(
    tmp_path: Path, rows: str, model: str, expected: str, command: str
) -> None:
    text = f"task: text-classification\nmodel: {model}\nstrategy: full\ndata: {{train: {rows}}}\n"
    (tmp_path / "r.yaml").write_text(text)
    (tmp_path / "rows.csv").write_text("text,label\ngood,1\n")
    (tmp_path / "model").mkdir()
    (tmp_path / "torch.py").write_text("raise SystemExit('torch was imported')")
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    assert one_line(ftkit(command, "r.yaml", PYTHONPATH=path)) == expected


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["train", "nothing.yaml"], "nothing.yaml: no such recipe file"),
        (["check", "nothing.yaml"], "nothing.yaml: no such recipe file"),
        (["init", "lora_distilbrt"], "did you mean lora_distilbert?"),
        (["eval", "nowhere"], "nowhere is no run"),
        (["eval", "nowhere", "--split", "tset"], "no split 'tset'"),
        (["eval", "nowhere", "--task", "nope", "--data", "x.csv"], "no task 'nope'"),
    ],
)
def test_refusals(words: list[str], expected: str) -> None:
    assert expected in one_line(ftkit(*words))


def test_a_hub_id_without_the_hub_is_refused_within_ten_seconds(tmp_path: Path) -> None:
    started = time.monotonic()
    recipe = packaged_recipes()["lora_distilbert"]
    line = one_line(
        ftkit("train", recipe, HF_HUB_OFFLINE="0", HF_ENDPOINT="http://127.0.0.1:9", HF_HOME=str(tmp_path / "hf"))
    )
    assert time.monotonic() - started < 10
    assert (
        "lora_distilbert.yaml:10:3: the model distilbert/distilbert-base-uncased: http://127.0.0.1:9 is not reached" in line
    )
    assert "--smoke" in line
    assert not (tmp_path / "runs").exists()


def test_recipes_are_listed_and_copied_out(tmp_path: Path) -> None:
    listed = ftkit("recipes").stdout
    assert all(name in listed for name in packaged_recipes())
    assert ftkit("init", "gpt2_domain", "my.yaml").returncode == 0
    assert (tmp_path / "my.yaml").read_text() == packaged_recipes()["gpt2_domain"].read_text()
    assert "my.yaml is there already" in one_line(ftkit("init", "gpt2_domain", "my.yaml"))


def test_the_schema_is_json() -> None:
    assert json.loads(ftkit("schema").stdout)["title"] == "ftkit recipe"


@pytest.mark.slow
def test_an_override_of_what_smoke_replaces_is_refused_and_one_of_training_counts() -> None:
    recipe = packaged_recipes()["gpt2_instruction"]
    line = one_line(ftkit("train", recipe, "data.train=mine.csv", "--smoke"))
    assert "data.train=mine.csv: this has no effect under --smoke" in line


@pytest.mark.slow
def test_ctrl_c_while_loading_says_so(recipe_file: Path, tmp_path: Path) -> None:
    words = [sys.executable, "-m", "ftkit", "train", str(recipe_file), "--output-dir", str(tmp_path / "run")]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, preexec_fn=heed_ctrl_c)
    assert process.stderr is not None
    while "reading the data" not in process.stderr.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    printed = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert "interrupted" in printed
    assert not (tmp_path / "run").exists()
    assert "Traceback" not in printed


@pytest.fixture
def recipe_file(recipe: Callable[..., Recipe], tmp_path: Path) -> Path:
    path = tmp_path / "r.yaml"
    path.write_text(
        dump_recipe(
            recipe("lora", training={"max_steps": 4000, "save_strategy": "steps", "save_steps": 20, "eval_strategy": "no"})
        )
    )
    return path


def start_and_wait_for_steps(recipe_file: Path, folder: Path) -> subprocess.Popen[str]:
    words = [sys.executable, "-m", "ftkit", "train", str(recipe_file), "--output-dir", str(folder)]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, preexec_fn=heed_ctrl_c)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        if (folder / "log.jsonl").is_file() and len((folder / "log.jsonl").read_text().splitlines()) > 45:
            return process
        time.sleep(0.05)
    pytest.fail(f"no steps were taken: {process.communicate()[1]}")


@pytest.mark.slow
def test_ctrl_c_saves_a_checkpoint_says_how_to_go_on_and_that_goes_on(recipe_file: Path, tmp_path: Path) -> None:
    process = start_and_wait_for_steps(recipe_file, tmp_path / "run")
    process.send_signal(signal.SIGINT)
    printed = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert "Traceback" not in printed
    assert f"go on with: ftkit train {recipe_file} --output-dir {tmp_path / 'run'} --resume" in printed
    run = Run(tmp_path / "run")
    assert run.state == "interrupted"
    assert "the recipe changed" in one_line(
        ftkit("train", recipe_file, "training.max_steps=3", "-o", run.folder, "--resume")
    )
    process = start_and_wait_for_steps_after_resume(recipe_file, run)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 143
    assert len(run.record["resumed"]) == 1


def start_and_wait_for_steps_after_resume(recipe_file: Path, run: Run) -> subprocess.Popen[str]:
    before = len(run.log_file.read_text().splitlines())
    words = [sys.executable, "-m", "ftkit", "train", str(recipe_file), "--output-dir", str(run.folder), "--resume"]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, preexec_fn=heed_ctrl_c)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and len(run.log_file.read_text().splitlines()) < before + 5:
        time.sleep(0.05)
    return process


@pytest.mark.slow
def test_after_kill_9_the_run_goes_on_from_its_last_whole_checkpoint(recipe_file: Path, tmp_path: Path) -> None:
    process = start_and_wait_for_steps(recipe_file, tmp_path / "run")
    process.kill()
    process.communicate()
    run = Run(tmp_path / "run")
    assert run.state == "training"
    assert "with checkpoints; go on with --resume" in one_line(ftkit("train", recipe_file, "-o", run.folder))
    process = start_and_wait_for_steps_after_resume(recipe_file, run)
    process.kill()
    process.communicate()
    assert run.record["resumed"][0] >= 20


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252"])
def test_what_a_stream_cannot_encode_is_shown_and_no_traceback(tmp_path: Path, encoding: str) -> None:
    """Kind: a stream whose encoding lacks a sign of a message."""
    name = str(tmp_path / "字.yaml")
    done = ftkit("train", name, PYTHONIOENCODING=encoding)
    assert "\\u5b57.yaml" in one_line(done)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no full device")
@pytest.mark.parametrize("command", ["recipes", "schema", "--help"])
def test_a_full_disk_behind_a_command_is_one_line(command: str) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([sys.executable, "-m", "ftkit", command], stdout=full, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (1, "error: no more can be written: No space left on device\n")
