"""`ftkit push`: put a run on the hub."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from ftkit import console
from ftkit.cli.arguments import Quiet, TrustCode
from ftkit.cli.libraries import loading_libraries
from ftkit.errors import UserError
from ftkit.run import finished_run
from ftkit.units import size_words

if TYPE_CHECKING:
    from ftkit.sharing.push import Publication

EXAMPLES = """[bold]Examples[/bold]

ftkit push runs/lora_distilbert

ftkit push runs/lora_distilbert my-team/reviews --private

ftkit push runs/lora_distilbert my-team/reviews --yes

ftkit predict my-team/reviews reviews.csv
"""
MOST_FILES = 8  # by name; the rest by their number


def push(
    run: Path = typer.Argument(..., metavar="RUN", help="A finished run's folder.", show_default=False),
    name: str | None = typer.Argument(
        None, metavar="[OWNER/NAME]", help="The repository. (default: yours, by the run's name)", show_default=False
    ),
    private: bool = typer.Option(False, "--private", help="Make it one that only its owner sees."),
    with_rows: bool = typer.Option(
        False, "--with-rows", help="With the texts of the eval rows: predictions, examples in card and report."
    ),
    unverified: bool = typer.Option(False, "--unverified", help="Also a run that is not verified, or of --smoke."),
    yes: bool = typer.Option(False, "--yes", "-y", help="Do not ask; needed where nobody is at a terminal."),
    trust_code: TrustCode = False,
    quiet: Quiet = False,
) -> None:
    """Put a run's model, card, figures and report on the hub, once you have seen what will be public.

    The same command goes on where it broke off: what the hub has is not sent again. Others use it by its name.
    """
    console.set_quiet(quiet)
    finished = finished_run(run)
    with loading_libraries():
        from ftkit import api  # torch and transformers

    with api.publication(
        finished, name, private=private, with_rows=with_rows, unverified=unverified, trust_code=trust_code
    ) as found:
        tell(found)
        if not yes and not asked(found.repository.name):
            console.say("nothing was pushed")
            raise typer.Exit(1)
        with console.status(f"pushing to {found.repository.name}"):
            found.send()
        console.out.print(found.address, markup=False)
        console.say(f"use it with: ftkit predict {found.repository.name} FILE")


def asked(name: str) -> bool:
    """Whether whoever sits at the terminal wants it.

    Raises:
        UserError: nobody does.
    """
    if not sys.stdin.isatty():
        raise UserError("nothing was pushed: nobody is here to be asked", "say --yes where that may be public", name)
    return typer.confirm(f"push to {name}?", err=True)


def tell(found: "Publication") -> None:
    """What will be public, and where."""
    files = found.contents.files
    rest = f", and {len(files) - MOST_FILES} more" if len(files) > MOST_FILES else ""
    facts = {
        "repository": f"{found.address} ({seen_by(found)}{'' if found.present is None else ', there already'})",
        "files": f"{len(files)}, {size_words(sum(files.values()))}: "
        + ", ".join(f"{name} {size_words(size)}" for name, size in [*files.items()][:MOST_FILES]) + rest,
        "licence": found.contents.license or "none: the base's card names none, and the repository will say none",
        "rows of your data": row_words(found.contents.rows),
    }  # fmt: skip
    if found.stale:
        facts["removed there"] = ", ".join(found.stale)
    console.show(console.facts("what is pushed", facts))


def row_words(rows: int) -> str:
    if rows:
        return f"{rows:,}, with their texts; card and report show some of them"
    return "none; card and report have counts, labels and scores alone"


def seen_by(found: "Publication") -> str:
    return "private" if found.private else "public: anybody can read it"
