"""`ftkit synth` as a user meets it: refusals in one line, a service over HTTP, kill -9, Ctrl-C and going on."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "synthesis"))
from chat_service import Service, write_seeds
from command import ftkit, heed_ctrl_c, one_line


def words_of(*words: str | Path) -> list[str]:
    return [sys.executable, "-m", "ftkit", "synth", *map(str, words)]


def synth(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return ftkit("synth", *words)


@pytest.fixture
def seeds(tmp_path: Path) -> Path:
    return write_seeds(tmp_path / "seeds.jsonl")


def at(service: Service, seeds: Path, output: str, rows: int = 30) -> list[str | Path]:
    return [seeds, "--output", output, "--rows", str(rows), "--endpoint", service.url, "--endpoint-model", "double"]


def wait_for_rows(process: subprocess.Popen[str], path: Path, count: int) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        if path.is_file() and len(path.read_text().splitlines()) >= count:
            return
        time.sleep(0.01)
    process.kill()
    pytest.fail(f"no rows were made: {process.communicate()[1]}")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--rows", "0", "--model", "m"], "--rows: 0 is out of range; give 1 or more"),
        (["--rows", "5"], "neither --model nor --endpoint is given"),
        (["--rows", "5", "--model", "m", "--endpoint", "http://h"], "--model and --endpoint are both given"),
        (["--rows", "5", "--endpoint", "http://h"], "--endpoint-model: the service's model is not named"),
        (["--rows", "5", "--endpoint", "h:1", "--endpoint-model", "m"], "'h:1' is no address"),
        (["--rows", "5", "--model", "./nowhere"], "--model: no model folder ./nowhere"),
        (["--rows", "5", "--model", "m", "--resume"], "nothing to resume: no rows.jsonl"),
    ],
)
@pytest.mark.slow
def test_refusals(words: list[str], expected: str, seeds: Path, tmp_path: Path) -> None:
    assert expected in one_line(synth(seeds, "--output", "rows.jsonl", *words))
    assert [path.name for path in tmp_path.iterdir()] == ["seeds.jsonl"]


@pytest.mark.slow
def test_seeds_that_are_empty_or_missing_and_an_output_that_is_there(seeds: Path, tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").write_text("")
    with Service() as service:
        assert "SEEDS: empty.jsonl is empty" in one_line(synth(*at(service, Path("empty.jsonl"), "rows.jsonl")))
        assert "SEEDS: no such file: sseds.jsonl" in one_line(synth(*at(service, Path("sseds.jsonl"), "rows.jsonl")))
        (tmp_path / "rows.jsonl").write_text("mine\n")
        assert "--output: rows.jsonl is there already" in one_line(synth(*at(service, seeds, "rows.jsonl")))
    assert (tmp_path / "rows.jsonl").read_text() == "mine\n"
    assert not service.requests


def test_nobody_at_the_endpoint_is_said_within_seconds(seeds: Path, tmp_path: Path) -> None:
    started = time.monotonic()
    words = ["--rows", "5", "--endpoint", "http://127.0.0.1:9/v1", "--endpoint-model", "m"]
    line = one_line(synth(seeds, "--output", "rows.jsonl", *words))
    assert time.monotonic() - started < 20  # of which most is the start of Python on a busy machine
    assert line.startswith("error: http://127.0.0.1:9/v1/chat/completions: connection refused; start the service")
    assert [path.name for path in tmp_path.iterdir()] == ["seeds.jsonl"]


def test_rows_are_made_and_a_table_closes_it(seeds: Path, tmp_path: Path) -> None:
    with Service([429, 500]) as service:
        done = synth(*at(service, seeds, "rows.jsonl", 8))
    assert done.returncode == 0, done.stderr
    assert "trying again in" in done.stderr
    assert "8 of 8" in done.stdout
    assert "rejected: too similar" in done.stdout
    assert len((tmp_path / "rows.jsonl").read_text().splitlines()) == 8


@pytest.mark.slow
def test_after_kill_9_it_goes_on_to_the_rows_of_an_unbroken_run(seeds: Path, tmp_path: Path) -> None:
    with Service(delay=0.2) as service:
        process = subprocess.Popen(
            words_of(*at(service, seeds, "rows.jsonl")), stderr=subprocess.PIPE, text=True, preexec_fn=heed_ctrl_c
        )
        wait_for_rows(process, tmp_path / "rows.jsonl", 5)
        process.kill()
        process.communicate()
        service.delay = 0
        before = (tmp_path / "rows.jsonl").read_text()
        assert 5 <= len(before.splitlines()) < 30
        assert "go on with --resume" in one_line(synth(*at(service, seeds, "rows.jsonl")))
        with (tmp_path / "rows.jsonl").open("a") as file:
            file.write('{"instruction": "torn off in the mid')
        done = synth(*at(service, seeds, "rows.jsonl"), "--resume")
        assert done.returncode == 0, done.stderr
        assert "was cut off and is made again" in done.stderr
        assert synth(*at(service, seeds, "whole.jsonl")).returncode == 0
    after = (tmp_path / "rows.jsonl").read_text()
    assert after.startswith(before)
    assert after == (tmp_path / "whole.jsonl").read_text()


def test_ctrl_c_says_how_to_go_on_even_while_the_service_is_slow(seeds: Path, tmp_path: Path) -> None:
    with Service(delay=0.1) as service:
        process = subprocess.Popen(
            words_of(*at(service, seeds, "rows.jsonl")), stderr=subprocess.PIPE, text=True, preexec_fn=heed_ctrl_c
        )
        wait_for_rows(process, tmp_path / "rows.jsonl", 5)
        service.delay = 30
        time.sleep(0.5)
        started = time.monotonic()
        process.send_signal(signal.SIGINT)
        printed = process.communicate(timeout=20)[1]
        assert time.monotonic() - started < 10
    assert process.returncode == 130
    assert "Traceback" not in printed
    count = len((tmp_path / "rows.jsonl").read_text().splitlines())
    assert f"{count} of 30 rows are kept in rows.jsonl" in printed
    command = " ".join(map(str, at(service, seeds, "rows.jsonl")))
    assert f"go on with: ftkit synth {command} --resume" in printed


@pytest.mark.slow
def test_a_local_model_that_writes_junk_ends_with_its_counts(
    seeds: Path, stand_in: Callable[[str], Path], tmp_path: Path
) -> None:
    words = ["--rows", "3", "--model", stand_in("gpt2"), "--max-new-tokens", "16", "--patience", "2", "--shots", "2"]
    done = synth(seeds, "--output", "rows.jsonl", *words)
    line = one_line(done)
    assert "--patience: no new row in 2 rounds, mostly malformed; 0 of 3 rows are made" in line
    assert "0 of 3" in done.stdout
    rounds = [json.loads(text) for text in (tmp_path / "rows.jsonl.rounds").read_text().splitlines()[1:]]
    assert sum(sum(done["rejected"].values()) for done in rounds) >= 8
