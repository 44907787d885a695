"""The one place that prints: results on standard output, messages and progress on standard error.

Nothing that comes from data reaches a terminal as anything but text, and no secret reaches a stream: see `Screen`.
"""

import codecs
import io
import json
import math
import shlex
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

from rich import box
from rich._wrap import divide_line
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from ftkit.disk import refusal
from ftkit.errors import FtkitError, RecipeError
from ftkit.escapes import visible
from ftkit.secrets import without_secrets
from ftkit.units import time_words

PIPE = "|"  # the one word of a command that no shell may have in quotes


class Screen(Console):
    """A console on which control characters of a text are shown and not obeyed, and secrets are hidden."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for part in super().render(renderable, options):
            yield part if part.control else Segment(visible(without_secrets(part.text)), part.style)


class Messages(Screen):
    """The console of messages and progress: what the disk that they go to does not take is left out, and ends nothing."""

    def _check_buffer(self) -> None:
        try:
            super()._check_buffer()
        except OSError as error:
            if not refusal(error):
                raise
            self._buffer.clear()


out = Screen(highlight=False, soft_wrap=True)
err = Messages(stderr=True, highlight=False, soft_wrap=True)

LONG = 1.0  # seconds from which on it is said how long something took
SOON = 0.5  # seconds that a pipe waits for the first word on what is mostly done by then
FIRST_SIGN = 1.0  # seconds until a pipe is told how far something is; it is told again after twice that
GROWTH = 0.05  # of the time that it has taken, where that is longer
AGAIN = 10.0  # seconds until a pipe hears again of what has not got any further

_listening: list[list[str]] = []
_hushed = [False]


def show_unencodable() -> None:
    """What the encoding of a stream has not is written as in JSON, as `\\u20ac`, in place of a traceback."""
    codecs.register_error("json", _as_json)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="json")


def _as_json(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return json.dumps(error.object[error.start : error.end])[1:-1], error.end


def set_quiet(quiet: bool) -> None:
    """Messages and progress off; errors and results stay."""
    err.quiet = quiet


@contextmanager
def hushed() -> Iterator[None]:
    """No messages while the block runs, but for what spins already: what it would say has been said."""
    before, _hushed[0] = _hushed[0], True
    try:
        yield
    finally:
        _hushed[0] = before


@contextmanager
def on_the_same_stream() -> Iterator[None]:
    """Messages go where they went before, whatever the block does to `sys.stderr`."""
    before, err._file = err._file, err.file
    try:
        yield
    finally:
        err._file = before


def is_silent() -> bool:
    """Whether messages are not wanted."""
    return err.quiet or _hushed[0]


def say(message: str) -> None:
    """A line on what is being done."""
    if not is_silent():
        err.print(Line(message))


def warn(message: str) -> None:
    message = without_secrets(message)  # what is heard may be kept
    for heard in _listening:
        heard.append(message)
    if not is_silent():
        err.print(Line(Text.assemble(("warning: ", "yellow"), message)))


@contextmanager
def warnings_heard() -> Iterator[list[str]]:
    """Filled with the warnings of the block, which are printed as ever."""
    heard: list[str] = []
    _listening.append(heard)
    try:
        yield heard
    finally:
        _listening.pop()


def show(table: Table) -> None:
    """A table among the messages."""
    if not is_silent():
        err.print(table)


def show_error(error: FtkitError) -> None:
    """An error of the user's on one line, the mistakes of a recipe on one each; a name may hold what ends lines."""
    quiet, err.quiet = err.quiet, False
    for said in error.mistakes if isinstance(error, RecipeError) else [error]:
        line = "\\n".join(without_secrets(str(said)).splitlines())
        err.print(Line(Text.assemble(("error: ", "bold red"), line)))
    err.quiet = quiet


@contextmanager
def status(message: str, *, after: float = 0.0) -> Iterator[None]:
    """A spinner with a message while something takes long; in a pipe a line, and another now and then while it goes on.

    Args:
        after: seconds that a pipe waits for the first line, of what is mostly done by then.
    """
    started = time.monotonic()
    if is_silent():
        yield
        return
    if not err.is_terminal:
        with said_in_time(message, after):
            yield
        return
    with err.status(Line(message)):
        yield
    if (seconds := time.monotonic() - started) > LONG:
        say(f"{message}: {time_words(seconds)}")


@contextmanager
def said_in_time(message: str, after: float) -> Iterator[None]:
    """The message once so many seconds are gone, then the longer it takes the more seldom."""
    first = iter([message] if after else [])

    def tell(seconds: float) -> float:  # also where what goes on in the block is hushed
        err.print(Line(next(first, f"{message}: {time_words(seconds)} so far")))
        return max(AGAIN, seconds)

    if not after:
        say(message)
    with called_in_time(tell, after or AGAIN):
        yield


@contextmanager
def called_in_time(tell: Callable[[float], float], first: float) -> Iterator[None]:
    """While the block runs, call `tell` from a thread with the seconds gone, for the first time after `first` of them.

    Args:
        tell: says how many seconds later it is to be called again.
    """
    started, ended = time.monotonic(), threading.Event()

    def call() -> None:
        wait = first
        while not ended.wait(wait):
            wait = tell(time.monotonic() - started)

    teller = threading.Thread(target=call, daemon=True)
    teller.start()
    try:
        yield
    finally:
        ended.set()
        teller.join()


class Fitting(ProgressColumn):
    """All of a task on one line, less what the width has no room for, the least important first."""

    def __init__(self, screen: Console, extra: Sequence[str]) -> None:
        super().__init__()
        self.screen, self.extra = screen, extra

    def render(self, task: Task) -> Text:
        first, *fields, left = map(Text, told_parts(task, self.extra))
        fewer = [[first, *fields[:count], left] for count in range(len(fields), -1, -1)]
        lines = ([[first, bar_of(task), *fields, left]] if task.total else []) + fewer
        joined = [Text("  ").join(parts) for parts in lines]
        return next((line for line in joined if line.cell_len < self.screen.width), joined[-1])


def told_parts(task: Task, extra: Sequence[str]) -> list[str]:
    """What is done of how much; the extra fields, the most important first; and the time left, at the end."""
    count = f"{task.completed:,.0f}" + (f"/{task.total:,.0f}" if task.total else "")
    fields = [str(task.fields[name]) for name in extra if task.fields.get(name)]
    left = f"{whole_words(task.time_remaining)} left" if task.time_remaining else f"in {whole_words(task.elapsed or 0)}"
    return [f"{task.description} {count}", *fields, left]


def whole_words(seconds: float) -> str:
    """Seconds for people, of a time that changes while it is read: without tenths."""
    return f"{math.ceil(seconds)} s" if seconds <= 59 else time_words(seconds)


def bar_of(task: Task, width: int = 20) -> Text:
    full = int(width * min(1.0, task.completed / task.total)) if task.total else 0
    return Text.assemble(("━" * full, "cyan"), ("━" * (width - full), "dim"))


class Bar(Progress):
    """How far something is: a line that changes; in a pipe lines, the longer it takes the more seldom, steps or none."""

    def __init__(self, extra: Sequence[str]) -> None:
        self.extra = extra
        self.told = 0.0, 0.0  # when a pipe was last told, and how far it was
        self.telling = ExitStack()
        super().__init__(Fitting(err, extra), console=err, disable=is_silent() or not err.is_terminal)

    def start(self) -> None:
        super().start()
        if self.disable and not is_silent():
            self.told = time.monotonic(), -1.0
            self.telling.enter_context(called_in_time(self._tell_if_due, FIRST_SIGN))

    def stop(self) -> None:
        self.telling.close()
        super().stop()

    def _tell_if_due(self, seconds: float) -> float:
        """Tell of the task that was begun last, if it got further or was not told of for long."""
        tasks = [task for task in self.tasks if task.visible]
        when, completed = self.told
        if tasks and (tasks[-1].completed != completed or time.monotonic() - when >= AGAIN):
            self.tell(tasks[-1].id)
        return max(2 * FIRST_SIGN, GROWTH * seconds)

    def tell(self, task_id: TaskID) -> None:
        """Say how far a task is, on a line that stays."""
        with self._lock:
            task = self._tasks[task_id]
            self.told = time.monotonic(), task.completed
            say("  ".join(told_parts(task, self.extra)))


def progress_bar(*extra: str) -> Bar:
    """What is done, the given fields of the task, the most important first, and the time left."""
    return Bar(extra)


def download_bar() -> Progress:
    """A bar with bytes, their rate and the time left; nothing where there is no terminal."""
    return Progress(
        TextColumn("{task.description}"), BarColumn(bar_width=24), DownloadColumn(binary_units=True), TransferSpeedColumn(),
        TextColumn("left"), TimeRemainingColumn(), console=err, disable=err.quiet or not err.is_terminal, transient=True,
    )  # fmt: skip


def table(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], *, numbers: bool = True, lines: bool | None = None
) -> Table:
    """A table whose columns after the first stand to the right where they hold numbers.

    Args:
        lines: between its rows; default where they hold texts, of several lines each.
    """
    grid = Table(title=title or None, title_justify="left", title_style="bold", header_style="bold", box=box.SIMPLE_HEAD)
    grid.show_lines = not numbers if lines is None else lines
    for index, column in enumerate(columns):
        grid.add_column(column, justify="right" if numbers and index else "left", overflow="fold")
    for row in rows:
        grid.add_row(*(Text(visible(cell)) for cell in row))
    return grid


def facts(title: str, values: Mapping[str, str]) -> Table:
    """Names and values, without lines between them."""
    grid = Table.grid(padding=(0, 2))
    grid.title, grid.title_justify = title or None, "left"
    for name, value in values.items():
        grid.add_row(Text(visible(name), style="bold"), Text(visible(value)))
    return grid


class Line:
    """A line that a terminal breaks between words alone, so that paths stay whole; a pipe gets it as it is."""

    def __init__(self, text: str | Text, style: str = "") -> None:
        self.text = Text(visible(without_secrets(text)), style=style) if isinstance(text, str) else text

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for line in self.text.split("\n", allow_blank=True):
            ends = divide_line(line.plain, options.max_width, fold=False) if console.is_terminal else []
            for part in line.divide(ends):
                part.rstrip()
                part.no_wrap = True
                yield part


class Commands:
    """Commands to be pasted into a shell, under what each does; on a narrow screen parted where a shell allows it.

    Args:
        commands: the words of each command, by what it does.
    """

    def __init__(self, commands: Mapping[str, Sequence[str]]) -> None:
        self.commands = commands

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for purpose, words in self.commands.items():
            yield Text(purpose, style="dim")
            quoted = [word if word == PIPE else shlex.quote(word) for word in words]
            lines = parted(quoted, options.max_width - 2) if console.is_terminal else [" ".join(quoted)]
            yield Text("\n".join(f"  {line}" for line in lines), no_wrap=True)


def parted(words: Sequence[str], width: int) -> list[str]:
    """A command on lines of at most `width` signs where its words allow, each but the last with a backslash at its end."""
    lines = [words[0]]
    for word in words[1:]:
        if len(lines[-1]) + len(word) + len("  \\") > width:
            lines[-1] += " \\"
            lines.append(f"  {word}")
        else:
            lines[-1] += f" {word}"
    return lines
