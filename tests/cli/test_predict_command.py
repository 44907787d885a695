"""`ftkit predict` as it is used: files and pipes, what stays after a fault, going on, and Ctrl-C."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ftkit import Recipe, UserError, api, train
from ftkit.prediction.rows import Source
from ftkit.run import Run, write_jsonl

TEXTS = [{"text": f"The film was number {number} of ten.", "id": number} for number in range(40)]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, stand_in: Callable[[str], Path], reviews: Path) -> Path:
    from ftkit.recipe.load import load_values

    values = {
        "task": "text-classification", "model": {"name": str(stand_in("distilbert")), "max_length": 32}, "strategy": "full",
        "data": {"train": str(reviews), "eval_size": 20}, "training": {"max_steps": 2},
    }  # fmt: skip
    made: Recipe = load_values(values)
    return train(made, output_dir=tmp_path_factory.mktemp("trained") / "run").folder


def ftkit(*words: Any, given: str | bytes = "") -> subprocess.CompletedProcess[str]:
    data = given.encode() if isinstance(given, str) else given
    done = subprocess.run([sys.executable, "-m", "ftkit", "predict", *map(str, words)], input=data, capture_output=True)
    return subprocess.CompletedProcess(words, done.returncode, done.stdout.decode(), done.stderr.decode())


def lines(text: str) -> list[dict[str, Any]]:
    assert not text or text.endswith("\n")
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.slow
def test_a_file_in_and_json_lines_out_in_order(run: Path, tmp_path: Path) -> None:
    write_jsonl(tmp_path / "rows.jsonl", TEXTS)
    done = ftkit(run, "rows.jsonl", "--batch-size", "7")
    assert done.returncode == 0, done.stderr
    assert [row["id"] for row in lines(done.stdout)] == list(range(40))
    assert {"row", "text", "id", "predicted", "probability", "probabilities"} == lines(done.stdout)[0].keys()
    assert "40 rows predicted" in done.stderr
    piped = ftkit(run, "-", "--quiet", given=(tmp_path / "rows.jsonl").read_text())
    assert [row["predicted"] for row in lines(piped.stdout)] == [row["predicted"] for row in lines(done.stdout)]
    assert piped.stderr == ""


@pytest.mark.slow
def test_a_bad_row_is_named_and_what_was_written_stays(run: Path, tmp_path: Path) -> None:
    text = [json.dumps(row) for row in TEXTS[:10]]
    (tmp_path / "rows.jsonl").write_text("\n".join([*text[:5], "{broken", *text[5:]]) + "\n")
    done = ftkit(run, "rows.jsonl", "--out", "out.jsonl", "--batch-size", "3")
    assert done.returncode == 2
    assert "error: rows.jsonl:6: this is no JSON" in done.stderr
    assert "Traceback" not in done.stderr
    assert [row["id"] for row in lines((tmp_path / "out.jsonl").read_text())] == [0, 1, 2, 3, 4]
    refused = ftkit(run, "rows.jsonl", "--out", "out.jsonl")
    assert refused.returncode == 2
    assert "out.jsonl exists" in refused.stderr
    gone_on = ftkit(run, "rows.jsonl", "--out", "out.jsonl", "--resume", "--skip-bad")
    assert gone_on.returncode == 0, gone_on.stderr
    found = lines((tmp_path / "out.jsonl").read_text())
    assert [row["row"] for row in found] == list(range(11))
    assert "this is no JSON" in found[5]["problem"]
    assert "predicted" in found[10]


@pytest.mark.slow
def test_nothing_in_is_nothing_out_and_a_warning(run: Path) -> None:
    done = ftkit(run, "-")
    assert (done.returncode, done.stdout) == (0, "")
    assert "warning: standard input: no row was predicted" in done.stderr


@pytest.mark.slow
def test_a_very_long_line_is_cut_and_said_so(run: Path) -> None:
    done = ftkit(run, "-", given="good film " * 1000 + "\nshort\n")
    assert [row.get("cut") for row in lines(done.stdout)] == [True, None]
    assert "1 rows were cut" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "given", "expected"),
    [
        (["nothing.csv"], "", "no such file: nothing.csv"),
        (["-", "--encoding", "latin"], "", "unknown encoding 'nonsense'"),
        (["-"], "caf\xe9".encode("latin-1"), "standard input:1: this is not utf-8"),
        (["-", "--batch-size", "0"], "", "--batch-size: 0 rows are no batch"),
        (["-", "--max-new-tokens", "5"], "", "generates no text"),
        (["-", "--resume"], "", "--resume has no effect without --out"),
        (["-", "--out", "no/folder.jsonl"], "", "there is no folder no"),
        (["-", "--format", "xml"], "", "no format 'xml'"),
    ],
)
def test_mistakes_are_one_line(run: Path, words: list[str], given: str | bytes, expected: str) -> None:
    words = [word.replace("latin", "nonsense") if word == "latin" else word for word in words]
    done = ftkit(run, *words, given=given)
    assert done.returncode == 2, done.stderr
    assert expected in done.stderr
    assert "Traceback" not in done.stderr


def test_no_run_is_said_without_loading_torch(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise SystemExit('torch was imported')")
    done = ftkit("nowhere", "-")
    assert done.returncode == 2
    assert "nowhere does not exist" in done.stderr


@pytest.mark.slow
def test_ctrl_c_leaves_whole_lines_and_says_how_to_go_on(run: Path, tmp_path: Path) -> None:
    words = [sys.executable, "-m", "ftkit", "predict", str(run), "-", "--out", "out.jsonl", "--batch-size", "2"]
    process = subprocess.Popen(words, stdin=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=heed_ctrl_c)
    assert process.stdin is not None
    process.stdin.write("".join(json.dumps(row) + "\n" for row in TEXTS[:5]).encode())
    process.stdin.flush()  # and kept open: two batches of two are answered, the fifth row waits for its batch
    out = tmp_path / "out.jsonl"
    while not out.is_file() or out.read_text().count("\n") < 4:
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    printed = process.communicate(timeout=60)[1].decode()
    assert process.returncode == 130
    assert [row["id"] for row in lines(out.read_text())] == [0, 1, 2, 3]
    assert "--resume" in printed
    assert "Traceback" not in printed


def heed_ctrl_c() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.slow
def test_a_reader_that_has_enough_ends_it_quietly(run: Path, tmp_path: Path) -> None:
    write_jsonl(tmp_path / "rows.jsonl", TEXTS * 200)
    command = f"{sys.executable} -m ftkit predict {run} rows.jsonl --batch-size 2 | head -3"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, env=os.environ | {"COLUMNS": "200"})
    assert len(lines(done.stdout)) == 3
    assert "Traceback" not in done.stderr


BAD_FILES = pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("rows.csv", "body,id\nA film.,1\n", "rows.csv:2: no field 'text'"),
        ("rows.csv", "text;id\nA film.;1\n", "rows.csv:1: one column, 'text;id'"),
        ("rows.jsonl", "{broken\n", "rows.jsonl:1: this is no JSON"),
        ("rows.jsonl", '["A film."]\n', "rows.jsonl:1: this is a JSON list"),
        ("rows.json", '[{"body": "A film."}]', "no field 'text'"),
        ("rows.txt", "caf\u00e9", "this is not utf-16"),
    ],
)


@pytest.fixture
def no_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that imports torch ends with words on it."""
    (tmp_path / "no_torch").mkdir()
    (tmp_path / "no_torch/torch.py").write_text("raise SystemExit('torch was imported')")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path / "no_torch"), os.environ.get("PYTHONPATH", "")]))


@BAD_FILES
@pytest.mark.usefixtures("no_torch")
@pytest.mark.slow
def test_a_file_is_looked_at_before_torch_is_loaded(run: Path, tmp_path: Path, name: str, text: str, said: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    done = ftkit(run, name, "--encoding", "utf-16" if "utf-16" in said else "utf-8")
    assert done.returncode == 2, done.stderr
    assert said in done.stderr
    assert "torch was imported" not in done.stderr


@pytest.mark.usefixtures("no_torch")
def test_a_sound_file_gets_as_far_as_torch(run: Path, tmp_path: Path) -> None:
    write_jsonl(tmp_path / "sound.jsonl", TEXTS[:1])
    assert "torch was imported" in ftkit(run, "sound.jsonl").stderr


@BAD_FILES
def test_a_file_is_looked_at_before_the_model_is_loaded(run: Path, tmp_path: Path, name: str, text: str, said: str) -> None:
    """The model is taken away: what is said of it would come first if it were loaded first."""
    bare = shutil.copytree(run, tmp_path / "bare")
    (bare / "model/model.safetensors").unlink()
    (tmp_path / name).write_text(text, encoding="utf-8")
    source = Source(str(name), encoding="utf-16" if "utf-16" in said else "utf-8")
    with pytest.raises(UserError, match=re.escape(said)):
        api.predictor(Run(bare), source)
    if ":1: this is" in said or "no field" in said:  # one bad row, which may be left unanswered
        with pytest.raises((OSError, UserError), match="model"):
            api.predictor(Run(bare), source, skip_bad=True)
