"""The `ftkit` command: one sub-command a file. Nothing heavy is imported until a command needs it."""

import atexit
import errno
import os
import shlex
import sys
import threading
import traceback
from contextlib import suppress
from types import TracebackType

import typer

from ftkit import __version__, console
from ftkit.cli import (
    chat,
    check,
    compare,
    doctor,
    evaluate,
    export,
    init,
    merge,
    plan,
    predict,
    preview,
    push,
    recipes,
    report,
    rerun,
    runs,
    schema,
    synth,
    train,
    verify,
)
from ftkit.cli.libraries import hush_from_the_start
from ftkit.cli.other_words import at_home, refuse_other_words, require_text
from ftkit.disk import FULL, place_of, refusal, refused
from ftkit.errors import Diverged, FtkitError, Interrupted, UserError
from ftkit.secrets import without_secrets
from ftkit.signals import arrived, exit_status, heed_signals, stop_words

LAST_WAIT = 2.0  # seconds for a thread that goes on behind a command
INTERRUPTED = 130
NAMES = (errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR, errno.EACCES, errno.EPERM)  # a file cannot be used so

app = typer.Typer(
    name="ftkit",
    help="One YAML recipe, one command, one finished fine-tuning run.\n\nStart with: [bold]ftkit recipes[/bold]",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("train", epilog=train.EXAMPLES)(train.train)
app.command("eval", epilog=evaluate.EXAMPLES)(evaluate.evaluate)
app.command("check", epilog=check.EXAMPLES)(check.check)
app.command("plan", epilog=plan.EXAMPLES)(plan.plan)
app.command("preview", epilog=preview.EXAMPLES)(preview.preview)
app.command("verify", epilog=verify.EXAMPLES)(verify.verify)
app.command("predict", epilog=predict.EXAMPLES)(predict.predict)
app.command("chat", epilog=chat.EXAMPLES)(chat.chat)
app.command("compare", epilog=compare.EXAMPLES)(compare.compare)
app.command("merge", epilog=merge.EXAMPLES)(merge.merge)
app.command("export", epilog=export.EXAMPLES)(export.export)
app.command("push", epilog=push.EXAMPLES)(push.push)
app.command("rerun", epilog=rerun.EXAMPLES)(rerun.rerun)
app.command("report", epilog=report.EXAMPLES)(report.report)
app.command("runs", epilog=runs.EXAMPLES)(runs.runs)
app.command("recipes", epilog=recipes.EXAMPLES)(recipes.recipes)
app.command("init", epilog=init.EXAMPLES)(init.init)
app.command("schema", epilog=schema.EXAMPLES)(schema.schema)
app.command("doctor", epilog=doctor.EXAMPLES)(doctor.doctor)
app.command("synth", epilog=synth.EXAMPLES)(synth.synth)


def _version(value: bool) -> None:
    if value:
        console.out.print(f"ftkit {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Show the version and exit."),
) -> None:
    pass


def main() -> None:
    """Run the command; the user's errors are one line and status 2, what is unverified or diverged 3, what does not come out
    again 4, a signal 128 + N."""
    heed_signals()
    try:
        run_command()
    except KeyboardInterrupt:  # before or behind what heeds it
        say_interrupted()
        leave(exit_status())


def run_command() -> None:
    """As `main`."""
    console.show_unencodable()
    sys.argv[1:] = at_home(sys.argv[1:])
    hush_from_the_start()
    try:
        require_text(sys.argv[1:])
        refuse_other_words(sys.argv[1:], getattr(typer.main.get_command(app), "commands", {}))
        app()
    except Interrupted as error:
        console.show_error(error)
        console.say(f"go on with: {resume_command(error)}")
        leave(error.exit_status)
    except Diverged as error:
        console.show_error(error)
        if error.resumes:
            console.say(f"go on with: {resume_command(error)} training.on_divergence=rollback")
        leave(error.exit_status)
    except UserError as error:
        console.show_error(error)
        leave(error.exit_status)
    except FtkitError as error:
        console.set_quiet(False)  # what is wrong is no progress
        console.say(str(error))
        leave(error.exit_status)
    except Exception as error:
        tell_system_error(error)
    except SystemExit as error:
        if error.code == INTERRUPTED:  # typer's word for Ctrl-C
            say_interrupted()
            error.code = exit_status()
        if "torch" in sys.modules and isinstance(error.code, int):  # taking it down takes seconds in which nothing is said
            end_threads()
            atexit._run_exitfuncs()
            leave(error.code)
        raise
    finally:
        sys.excepthook = show_fault  # typer sets its own


def show_fault(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """The traceback of what nobody foresaw, as Python prints it, but for secrets."""
    sys.stderr.write(without_secrets("".join(traceback.format_exception(kind, error, trace))))


def say_interrupted() -> None:
    """The one line of who was stopped by a signal."""
    arrived()
    console.err.print(stop_words())


def tell_system_error(error: Exception) -> None:
    """One line where a name or a disk does not let a file be used; else the error goes on as it is."""
    named = isinstance(error, OSError) and error.filename is not None
    if isinstance(error, OSError) and named and error.errno in NAMES:
        line = UserError(str(error.strerror).lower(), "check the name and who may use it", str(error.filename))
        console.show_error(line)
        leave(line.exit_status)
    if isinstance(error, OSError) and not named and error.errno in FULL:
        with suppress(OSError):
            console.err.print(f"error: no more can be written: {error.strerror}")
        os._exit(1)  # what standard output still holds would be written once more
    if not refusal(error):
        raise error
    line = refused(error, place_of(error) or "what is written", "free some, then do it again")
    console.show_error(line)
    leave(line.exit_status)


def end_threads() -> None:
    """Wait for threads that a process ends with, as a tracker's that sends its last figures; not for ever."""
    for thread in threading.enumerate():
        if not thread.daemon and thread is not threading.current_thread():
            thread.join(LAST_WAIT)


def leave(status: int) -> None:
    """Exit at once where the libraries' threads would hold the process, with everything printed."""
    with suppress(BrokenPipeError):  # whoever read has enough
        sys.stdout.flush()
    with suppress(OSError):
        sys.stderr.flush()
    os._exit(status)


def resume_command(error: Interrupted | Diverged) -> str:
    """The command that was typed, with what makes it go on."""
    words = [word for word in sys.argv[1:] if word not in ("--resume", "--overwrite")]
    if not any(word.startswith("--output-dir") or word == "-o" for word in words):
        words += ["--output-dir", str(error.folder)]
    return shlex.join(["ftkit", *words, "--resume"])


if __name__ == "__main__":
    main()
