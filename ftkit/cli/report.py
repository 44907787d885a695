"""`ftkit report`: write a run's page and card again."""

from contextlib import nullcontext
from pathlib import Path

import typer

from ftkit import console
from ftkit.claim import claimed
from ftkit.hub.runs import run_folder
from ftkit.run import FINISHED, Run, is_run, sweep

EXAMPLES = """[bold]Examples[/bold]

ftkit report runs/lora_distilbert

ftkit report runs/lora_distilbert --open
"""


def report(
    run: Path = typer.Argument(..., help="A run's folder, or OWNER/NAME on the hub."),
    open_page: bool = typer.Option(False, "--open", help="Open the page in the browser."),
) -> None:
    """Write report.html and the model card of a run again, from the files in its folder; prints where the page is."""
    with console.status("writing the page", after=console.SOON):
        from ftkit.report.publish import write_report  # the hub's library, for the card

        found = Run(run_folder(run))
        ended = is_run(found.folder) and found.state == FINISHED  # of another one the lock says what became of it
        with claimed(found.folder, "writing the report", "") if ended else nullcontext() as claim:
            if claim is not None:
                sweep(found)
            page = write_report(found)
    console.out.print(str(page), markup=False)
    if open_page:
        typer.launch(page.resolve().as_uri())
