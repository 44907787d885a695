"""The one place that prints: results on standard output, messages and progress on standard error."""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from rich import box
from rich._wrap import divide_line
from rich.console import Console, ConsoleOptions, RenderResult
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Table
from rich.text import Text

from ftkit.errors import FtkitError

PIPE = "|"  # the one word of a command that no shell may have in quotes


out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)

_listening: list[list[str]] = []


def set_quiet(quiet: bool) -> None:
    """Messages and progress off; errors and results stay."""
    err.quiet = quiet


@contextmanager
def hushed() -> Iterator[None]:
    """No messages while the block runs: what it would say has been said."""
    quiet, err.quiet = err.quiet, True
    try:
        yield
    finally:
        err.quiet = quiet


def say(message: str) -> None:
    """A line on what is being done."""
    err.print(Line(message))


def warn(message: str) -> None:
    for heard in _listening:
        heard.append(message)
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
    err.print(table)


def show_error(error: FtkitError) -> None:
    """An error of the user's on one line, or one line each."""
    quiet, err.quiet = err.quiet, False
    for line in str(error).splitlines():
        err.print(Line(Text.assemble(("error: ", "bold red"), line)))
    err.quiet = quiet


@contextmanager
def status(message: str) -> Iterator[None]:
    """A spinner with a message while something takes long, a plain line where there is no terminal."""
    if err.is_terminal and not err.quiet:
        with err.status(message):
            yield
    else:
        say(message)
        yield


def progress_bar(*extra: str) -> Progress:
    """A bar with count, the given task fields, time taken and time left; nothing where there is no terminal."""
    fields = [TextColumn(f"{{task.fields[{name}]}}") for name in extra]
    return Progress(
        TextColumn("{task.description}"), BarColumn(bar_width=24), MofNCompleteColumn(), *fields,
        TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(),
        console=err, disable=err.quiet or not err.is_terminal, transient=False,
    )  # fmt: skip


def download_bar() -> Progress:
    """A bar with bytes, their rate and the time left; nothing where there is no terminal."""
    return Progress(
        TextColumn("{task.description}"), BarColumn(bar_width=24), DownloadColumn(binary_units=True), TransferSpeedColumn(),
        TextColumn("left"), TimeRemainingColumn(), console=err, disable=err.quiet or not err.is_terminal, transient=True,
    )  # fmt: skip


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], *, numbers: bool = True) -> Table:
    """A table whose columns after the first stand to the right where they hold numbers."""
    grid = Table(title=title or None, title_justify="left", title_style="bold", header_style="bold", box=box.SIMPLE_HEAD)
    grid.show_lines = not numbers  # rows of text take several lines each
    for index, column in enumerate(columns):
        grid.add_column(column, justify="right" if numbers and index else "left", overflow="fold")
    for row in rows:
        grid.add_row(*(Text(cell) for cell in row))
    return grid


def facts(title: str, values: Mapping[str, str]) -> Table:
    """Names and values, without lines between them."""
    grid = Table.grid(padding=(0, 2))
    grid.title, grid.title_justify = title or None, "left"
    for name, value in values.items():
        grid.add_row(Text(name, style="bold"), Text(value))
    return grid


class Line:
    """A line that a terminal breaks between words and never within one, so that paths stay whole; a pipe gets it as it is."""

    def __init__(self, text: str | Text, style: str = "") -> None:
        self.text = Text(text, style=style) if isinstance(text, str) else text

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
