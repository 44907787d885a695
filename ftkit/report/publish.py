"""Write what a run shows to others: report.html, and the model card beside it and in model/."""

from pathlib import Path

from ftkit.report.evidence import read_evidence
from ftkit.run import Run, blaming_damage, write_text


def write_report(run: Run) -> Path:
    """Write the page and the card from the run's own files, and return where the page is.

    Raises:
        UserError: the folder holds no finished run, or a file of it is damaged; nothing is written.
    """
    from ftkit.report.card import card  # these two bring Bokeh, and training need not wait for it
    from ftkit.report.page import page

    with blaming_damage(run):
        evidence = read_evidence(run)
        made, text = page(evidence), card(evidence)
    write_text(run.report, made)
    write_text(run.card, text)
    if run.model.is_dir():  # in place of the empty form that peft writes, so that pushing model/ carries the card
        write_text(run.model / "README.md", text)
    return run.report
