"""The `ftkit` command: one sub-command a file. Nothing heavy is imported until a command needs it."""

import atexit
import errno
import os
import shlex
import sys
import threading
from contextlib import suppress

import typer

from ftkit import __version__, console
from ftkit.cli import (
    chat,
    check,
    compare,
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
    schema,
    synth,
    train,
    verify,
)
from ftkit.cli.libraries import hush_from_the_start
from ftkit.cli.other_words import at_home, refuse_other_words
from ftkit.errors import Diverged, FtkitError, Interrupted, UserError

LAST_WAIT = 2.0  # seconds for a thread that goes on behind a command
INTERRUPTED = 130
FULL = (errno.ENOSPC, errno.EDQUOT)

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
app.command("recipes", epilog=recipes.EXAMPLES)(recipes.recipes)
app.command("init", epilog=init.EXAMPLES)(init.init)
app.command("schema", epilog=schema.EXAMPLES)(schema.schema)
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
    """Run the command; the user's errors are one line and status 2, what is unverified or diverged is 3, what does not
    come out again 4, a signal 130."""
    console.show_unencodable()
    sys.argv[1:] = at_home(sys.argv[1:])
    hush_from_the_start()
    try:
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
    except OSError as error:
        if error.errno not in FULL or error.filename is not None:
            raise
        with suppress(OSError):
            console.err.print(f"error: no more can be written: {error.strerror}")
        os._exit(1)  # what standard output still holds would be written once more
    except SystemExit as error:
        if error.code == INTERRUPTED:  # typer's word for Ctrl-C
            console.err.print("interrupted")
        if "torch" in sys.modules and isinstance(error.code, int):  # taking it down takes seconds in which nothing is said
            end_threads()
            atexit._run_exitfuncs()
            leave(error.code)
        raise


def end_threads() -> None:
    """Wait for threads that a process ends with, as a tracker's that sends its last figures; not for ever."""
    for thread in threading.enumerate():
        if not thread.daemon and thread is not threading.current_thread():
            thread.join(LAST_WAIT)


def leave(status: int) -> None:
    """Exit at once where the libraries' threads would hold the process, with everything printed."""
    with suppress(BrokenPipeError):  # whoever read has enough
        sys.stdout.flush()
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
