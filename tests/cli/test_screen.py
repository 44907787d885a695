"""The screen while a run goes on, on terminals of several widths and in a pipe.

Kind: what a narrow screen makes unreadable. A recorded terminal shows one line of progress with step, loss and time left,
lines of evaluations that stay, and no word or path that is broken; in a pipe lines come sparsely, and never none for long.
"""

import contextlib
import io
import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pexpect
import pyte
import pytest
from rich.console import Console

from ftkit import Recipe, console
from ftkit.errors import Interrupted
from ftkit.report.summary import comparison_row, decimals
from ftkit.run import dump_recipe

WIDTHS = (60, 80, 120)
SAID = "the run is kept in a/folder/with-a-long.name/that.must/stay/in/one/piece and nothing of it is lost"


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], io.StringIO]:
    """Messages as a terminal of a width gets them."""

    def make(width: int) -> io.StringIO:
        shown = io.StringIO()
        screen = Console(file=shown, width=width, force_terminal=True, color_system=None, highlight=False, soft_wrap=True)
        monkeypatch.setattr(console, "err", screen)
        return shown

    return make


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("told", [console.say, console.warn, lambda words: console.show_error(Interrupted(Path(words), 3))])
def test_messages_break_between_words(
    terminal: Callable[[int], io.StringIO], width: int, told: Callable[[str], None]
) -> None:
    shown = terminal(width)
    told(SAID)
    lines = shown.getvalue().splitlines()
    assert all(len(line) <= width for line in lines)
    assert SAID in " ".join(lines)


def test_a_path_that_is_wider_than_the_screen_is_left_whole(terminal: Callable[[int], io.StringIO]) -> None:
    shown, path = terminal(60), "/".join(["folder"] * 20)
    console.say(f"kept in {path} as ever")
    assert shown.getvalue().splitlines() == ["kept in", path, "as ever"]


@pytest.mark.parametrize("width", [20, 40, *WIDTHS, 200])
@pytest.mark.parametrize("total", [None, 7, 1_234_567])
def test_the_line_of_progress_keeps_to_the_width(
    terminal: Callable[[int], io.StringIO], width: int, total: int | None
) -> None:
    terminal(width)
    with console.progress_bar("loss", "lr", "rate") as bar:
        task = bar.add_task("step", total=total, loss="loss 0.3173", lr="lr 0.0001234", rate="12,345 rows/s")
        bar.update(task, completed=5)
        line = bar.columns[0].render(bar._tasks[task]).plain  # type: ignore[union-attr]
    assert len(line) < max(width, 30)
    assert ("loss" in line) is (width >= 40)
    assert "rows/s" in line or width < 80
    assert re.search(r" left$| in \d+ s$", line)


def recorded(words: list[str], width: int) -> Iterator[list[str]]:
    """The lines on a terminal of a width, those that have scrolled away included, each time that something is printed."""
    screen = pyte.HistoryScreen(width, 40, history=10_000)
    stream = pyte.ByteStream(screen)
    size = {"COLUMNS": str(width), "LINES": "40"}  # a process that is started may look before its terminal has one
    process = pexpect.spawn(
        sys.executable, ["-m", "ftkit", *words], dimensions=(40, width), timeout=120, env=os.environ | size
    )
    while True:
        try:
            stream.feed(process.read_nonblocking(4096))
        except pexpect.EOF:
            break
        above = ["".join(line[column].data for column in range(width)).rstrip() for line in screen.history.top]
        yield above + [line.rstrip() for line in screen.display]
    process.close()
    assert process.exitstatus == 0


@pytest.mark.slow
@pytest.mark.parametrize("width", WIDTHS)
def test_a_run_on_a_terminal(recipe: Callable[..., Recipe], width: int) -> None:
    steps = {"max_steps": 120, "eval_strategy": "steps", "eval_steps": 40, "logging_steps": 10}
    Path("my.yaml").write_text(dump_recipe(recipe("lora", training=steps, evaluation={"general_text": False})))
    frames = list(recorded(["train", "my.yaml"], width))
    running = [[line for line in frame if re.match(r"step \d+/120 .* left$", line)] for frame in frames]
    assert max(map(len, running)) == 1  # one line, however often it changes
    later = [lines[0] for lines in running if lines and int(re.split("[ /]", lines[0])[1]) > 10]
    assert later
    assert all("loss" in line for line in later)
    end, sentence = frames[-1], json.loads(Path("runs/my/metrics.json").read_text())["verdict"]["sentence"]
    assert re.findall(r"step (\d+)/120 +eval loss", " ".join(end)) == ["40", "80", "120"]
    assert sentence in " ".join(end)
    assert any("runs/my/report.html" in line for line in end)
    assert "  ftkit report runs/my --open" in end


@pytest.fixture
def pipe(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """Messages as a pipe gets them, with all waits a tenth or less of what they are."""
    shown = io.StringIO()
    monkeypatch.setattr(console, "err", Console(file=shown, width=80, soft_wrap=True, highlight=False))
    for name, seconds in (("SOON", 0.05), ("FIRST_SIGN", 0.1), ("AGAIN", 0.5)):
        monkeypatch.setattr(console, name, seconds)
    return shown


def wait_for(shown: io.StringIO, pattern: str) -> str:
    """What has been printed, once the pattern is found in it: however busy the machine is, it comes from a thread."""
    deadline = time.monotonic() + 20
    while not re.search(pattern, shown.getvalue()):
        assert time.monotonic() < deadline, shown.getvalue()
        time.sleep(0.01)
    return shown.getvalue()


def test_in_a_pipe_lines_are_sparse(pipe: io.StringIO) -> None:
    began = time.monotonic()
    with console.progress_bar("loss") as bar:
        task = bar.add_task("step", total=1000, loss="loss 1.5")
        while pipe.getvalue().count("\n") < 3:
            assert time.monotonic() < began + 20
            bar.advance(task)
            time.sleep(0.01)
    lines = pipe.getvalue().splitlines()
    assert len(lines) <= 1 + (time.monotonic() - began) / (2 * console.FIRST_SIGN)
    assert re.fullmatch(r"step \d+/1,000  loss 1\.5  .* left", lines[0])


def test_in_a_pipe_a_status_is_told_again(pipe: io.StringIO) -> None:
    with console.status("thinking"), console.hushed():
        console.say("not to be heard")
        wait_for(pipe, "so far")
    assert re.fullmatch("thinking\n(thinking: .* so far\n)+", pipe.getvalue())


def test_a_status_is_told_where_the_block_takes_standard_error(monkeypatch: pytest.MonkeyPatch) -> None:
    shown, taken = io.StringIO(), io.StringIO()
    monkeypatch.setattr(sys, "stderr", shown)
    monkeypatch.setattr(console, "err", Console(stderr=True, width=80, soft_wrap=True, highlight=False))
    monkeypatch.setattr(console, "AGAIN", 0.05)
    with console.on_the_same_stream(), console.status("running"), contextlib.redirect_stderr(taken):
        wait_for(shown, "so far")
    assert taken.getvalue() == ""
    with contextlib.redirect_stderr(taken):
        console.say("later")
    assert taken.getvalue() == "later\n"


def test_in_a_pipe_what_is_soon_done_is_not_told_and_what_lasts_is(pipe: io.StringIO) -> None:
    with console.status("quickly done", after=60):
        pass
    assert pipe.getvalue() == ""
    with console.status("looking", after=console.SOON):
        assert re.fullmatch("looking\n(looking: .* so far\n)+", wait_for(pipe, "so far"))


def test_in_a_pipe_a_bar_that_gets_no_further_is_told_of_again(pipe: io.StringIO) -> None:
    with console.progress_bar() as bar:
        bar.add_task("done before", total=1, completed=1)
        bar.add_task("encoding", total=1000)
        lines = wait_for(pipe, "(?s)encoding.*encoding").splitlines()
    assert all(re.fullmatch(r"encoding 0/1,000  in \d+ s", line) for line in lines)
    ended = pipe.getvalue()
    time.sleep(3 * console.FIRST_SIGN)
    assert pipe.getvalue() == ended


@pytest.mark.parametrize(
    "silence", [lambda: console.err.__setattr__("quiet", True), lambda: console._hushed.__setitem__(0, True)]
)
def test_where_it_is_silent_no_thread_speaks(
    pipe: io.StringIO, monkeypatch: pytest.MonkeyPatch, silence: Callable[[], None]
) -> None:
    monkeypatch.setattr(console, "_hushed", [False])
    silence()
    with console.progress_bar() as bar, console.status("looking", after=console.SOON):
        bar.add_task("encoding", total=1000)
        time.sleep(3 * console.FIRST_SIGN)
    assert pipe.getvalue() == ""


@pytest.mark.slow
def test_ctrl_c_while_a_stand_in_warms_up_names_the_users_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FTKIT_CACHE", str(tmp_path / "cache"))
    words = ["-m", "ftkit", "train", "recipe.yaml", "--smoke"]
    Path("recipe.yaml").write_text("task: text-classification\nmodel: distilbert\nstrategy: full\ndata: {train: rows.csv}\n")
    process = pexpect.spawn(sys.executable, words, timeout=60, encoding="utf-8", dimensions=(40, 120))
    process.expect("making a tiny distilbert stand-in")
    while not list((tmp_path / "cache/standins").glob(".*/run/log.jsonl")):  # its first steps are made
        assert process.isalive()
        time.sleep(0.1)
    process.sendintr()
    printed = process.read()
    process.close()
    assert process.exitstatus == 130
    assert "interrupted before runs/recipe_smoke was begun" in " ".join(printed.split())
    assert str(tmp_path / "cache") not in printed
    assert "--resume" not in printed
    assert not Path("runs").exists()
    assert list((tmp_path / "cache/standins").iterdir()) == []


@pytest.mark.parametrize(
    ("values", "digits"),
    [([0.0, 1.0], 2), ([0.0, -1.0, 1.0], 2), ([0.5, 1.0], 4), ([250.25, 0.5], 2), ([99.5], 4), ([float("nan"), 1.0], 2)],
)
def test_numbers_have_the_digits_that_they_are_worth(values: list[float], digits: int) -> None:
    assert decimals(values) == digits


def test_a_line_of_whole_numbers_has_two_decimals() -> None:
    assert comparison_row("stop_rate", 1.0, 1.0, (0.0, 0.0)) == ["stop_rate", "1.00", "1.00", "+0.00", "+0.00 to +0.00"]
    wide = comparison_row("mae", 1234.5, 34.25, (-1300.125, -1100))
    assert wide == ["mae", "1,234.5", "34.25", "-1,200.2", "-1,300.1 to -1,100.0"]
    assert comparison_row("loss", 0.5, 0.25, None) == ["loss", "0.5000", "0.2500", "-0.2500", "-"]
