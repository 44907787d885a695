"""`ftkit predict`: what a run's model says to the rows of a file, or of standard input."""

import itertools
import os
import shlex
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from ftkit import console
from ftkit.cli.arguments import Quiet, TrustCode
from ftkit.cli.libraries import loading_libraries
from ftkit.errors import UserError
from ftkit.run import Run, finished_run
from ftkit.units import time_words

if TYPE_CHECKING:
    from ftkit.prediction.predict import Predictor
    from ftkit.prediction.rows import Source

INTERRUPTED = 130
EXAMPLES = """[bold]Examples[/bold]

ftkit predict runs/lora_distilbert reviews.csv --out predictions.jsonl

echo "A great film." | ftkit predict runs/lora_distilbert -

ftkit predict runs/gpt2_instruction questions.jsonl --batch-size 8 --max-new-tokens 200
"""


def predict(
    run: Path = typer.Argument(
        ..., metavar="RUN", help="A finished run's folder, or OWNER/NAME on the hub.", show_default=False
    ),
    file: str = typer.Argument(
        ...,
        metavar="FILE|-",
        help="Rows: .jsonl, .csv, .txt with a text a line, or any file that training reads; - is standard input.",
    ),
    out: Path | None = typer.Option(
        None, "--out", "-o", help="Write to this file, .jsonl or .csv. (default: standard output)"
    ),
    format: str | None = typer.Option(
        None, "--format", help="jsonl, csv or text. (default: by the name; standard input by its first line)"
    ),
    encoding: str = typer.Option("utf-8", "--encoding", help="Of the rows, as latin-1 or utf-16."),
    separator: str | None = typer.Option(None, "--separator", help="Between csv columns. (default: a comma)"),
    batch_size: int | None = typer.Option(None, "--batch-size", help="Rows at a time. (default: as in the recipe)"),
    max_new_tokens: int | None = typer.Option(None, "--max-new-tokens", help="The longest answer. (default: the recipe's)"),
    max_length: int | None = typer.Option(None, "--max-length", help="Tokens a row may have. (default: the recipe's)"),
    skip_bad: bool = typer.Option(False, "--skip-bad", help="Bad rows become lines with a problem, and do not stop it."),
    resume: bool = typer.Option(False, "--resume", help="Go on behind the rows that --out has already."),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace what is in --out."),
    trust_code: TrustCode = False,
    quiet: Quiet = False,
) -> None:
    """Predict rows of any number: JSON lines or csv out, one a row, in order, with its fields and what is predicted."""
    console.set_quiet(quiet)
    from ftkit.prediction.output import require_output, whole_lines
    from ftkit.prediction.rows import STDIN, Source, require_readable

    source = Source(file, format, encoding, separator)
    require_readable(source)
    require_output(out, file, resume=resume, overwrite=overwrite)
    require_sizes(batch_size, separator)
    finished = finished_run(run)
    if file != STDIN:  # which can be read but once
        look_at(source, finished, skip_bad=skip_bad)
    with loading_libraries():
        from ftkit import api  # torch and transformers, once the arguments and the file are known to be sound

    predictor = api.predictor(
        finished, batch_size=batch_size, max_new_tokens=max_new_tokens, max_length=max_length, skip_bad=skip_bad,
        trust_code=trust_code,
    )  # fmt: skip
    done = whole_lines(out) if out is not None and resume else 0
    with told(predictor, source, done, out):
        write_predictions(predictor, source, out, done, resume=resume)


def look_at(source: "Source", run: Run, *, skip_bad: bool) -> None:
    """Raises UserError where the file holds no rows of the run's kind, before torch is loaded for it."""
    with console.status(f"looking at {source.name}"):
        from ftkit.prediction.files import require_first_row  # pandas and Arrow come with it

        require_first_row(source, run.read_recipe(), skip_bad=skip_bad)


def write_predictions(predictor: "Predictor", source: "Source", out: Path | None, done: int, *, resume: bool) -> None:
    """Predict and write the rows behind those that are done, a batch at a time."""
    from ftkit.prediction.files import opened_rows
    from ftkit.prediction.output import opened_output, writer_for

    write = writer_for(out)
    with (
        opened_output(out, resume=resume) as stream,
        opened_rows(source, predictor.trained.recipe) as rows,
        console.progress_bar() as bar,
    ):
        task = bar.add_task("predicting", total=None, visible=out is not None or not sys.stdout.isatty())
        for batch in predictor.batches(itertools.islice(rows, done, None)):
            write(stream, batch)
            bar.advance(task, len(batch))


@contextmanager
def told(predictor: "Predictor", source: "Source", before: int, out: Path | None) -> Iterator[None]:
    """However the block ends, it is said what is done, but to a reader who has enough; after Ctrl-C also how to go on."""
    started = time.monotonic()
    try:
        yield
    except BrokenPipeError:  # whoever read has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        say_what_is_done(predictor, source, before, time.monotonic() - started)
        say_how_to_go_on(out)
        raise typer.Exit(INTERRUPTED) from None
    except UserError:
        say_what_is_done(predictor, source, before, time.monotonic() - started)
        raise
    say_what_is_done(predictor, source, before, time.monotonic() - started)


def require_sizes(batch_size: int | None, separator: str | None) -> None:
    """Raises UserError where a number or a sign is out of its range."""
    if batch_size is not None and batch_size < 1:
        raise UserError(f"{batch_size} rows are no batch", "give 1 or more", "--batch-size")
    if separator is not None and (len(separator) != 1 or separator in '"\r\n'):
        raise UserError(f"'{separator}' cannot separate columns", "give one character", "--separator")


def say_what_is_done(predictor: "Predictor", source: "Source", before: int, seconds: float) -> None:
    """Rows, speed, and what was not as it should be."""
    counts = predictor.counts
    rows = counts["rows"]
    if not rows and not before:
        console.warn(f"{source.name}: no row was predicted")
        return
    behind = f" behind the {before:,} that were there" if before else ""
    console.say(f"{rows:,} rows predicted{behind} in {time_words(seconds)} ({rows / max(seconds, 1e-9):,.0f} a second)")
    if counts["cut"]:
        console.warn(f'{counts["cut"]:,} rows were cut to the length of training: "cut" in their line')
    if counts["not answered"]:
        console.warn(f'{counts["not answered"]:,} rows were not answered: "problem" in their line')


def say_how_to_go_on(out: Path | None) -> None:
    if out is not None and out.suffix.lower() not in (".csv", ".tsv"):
        words = [word for word in sys.argv[1:] if word not in ("--resume", "--overwrite")]
        console.say(f"go on with: {shlex.join(['ftkit', *words, '--resume'])}")
