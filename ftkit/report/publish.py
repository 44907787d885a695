"""Write what a run shows to others: report.html, and the model card beside it and in model/."""

from pathlib import Path

from ftkit.report.evidence import read_evidence
from ftkit.run import Run, write_text


def write_report(run: Run) -> Path:
    """Write the page and the card from the run's own files, and return where the page is.

    Raises:
        UserError: the folder holds no finished run.
    """
    from ftkit.report.card import card  # these two bring Bokeh, and training need not wait for it
    from ftkit.report.page import page

    evidence = read_evidence(run)
    write_text(run.report, page(evidence))
    text = card(evidence)
    write_text(run.card, text)
    if run.model.is_dir():  # in place of the empty form that peft writes, so that pushing model/ carries the card
        write_text(run.model / "README.md", text)
    return run.report
