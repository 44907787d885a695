"""The two looks of a preview: on the terminal, and as a page of HTML that needs nothing else."""

from typing import Any

from jinja2 import Environment, PackageLoader
from rich.console import Group
from rich.rule import Rule
from rich.text import Text

from ftkit import console, escapes
from ftkit.report.preview import Piece, Preview, PreviewRow, figures, length_line, visible

BAR_WIDTH = 40
LEARNT = "bold green"
MARKS = ("⟦", "⟧")  # around what is supervised, where there are no colours


def terminal(preview: Preview, *, colours: bool = True, outcomes: bool = True) -> Group:
    """Rows, legend and figures, to be printed with rich.

    Args:
        colours: without, marks stand around what is supervised.
        outcomes: with the table of what became of every row.
    """
    parts: list[Any] = [Text.assemble((preview.title, "bold"), f" · {preview.split}"), legend(preview, colours)]
    for row in preview.rows:
        parts += [Text(), Rule(row_title(row), align="left", style="dim"), *row_texts(row, colours)]
    parts += [Text(), bars(preview)]
    if outcomes:
        parts.append(outcome_table(preview))
    parts += [Text(), console.facts("", figures(preview))]
    parts += [
        Text(f"{'refused by' if fault.refused else 'allowed by'} data.gate.{fault.rule}: {fault.message} ({fault.rows})",
             style="bold red" if fault.refused else "yellow")
        for fault in preview.faults
    ]  # fmt: skip
    return Group(*parts)


def legend(preview: Preview, colours: bool) -> Text:
    """Which look means what, of those that occur."""
    pieces = [piece for row in preview.rows for piece in (*row.pieces, *(row.target or []))]
    text = Text()
    if preview.supervised is not None:
        opened, closed = ("", "") if colours else MARKS
        text.append(f"{opened}supervised{closed}", LEARNT).append("  ").append("not supervised", "dim").append("  ")
    if any(piece.special for piece in pieces):
        text.append("special token", "reverse").append("  ")
    if any(piece.learnt is not None for piece in pieces):
        text.append("seen").append("(learnt)", "italic green").append("  ")
    if any(piece.boundary for piece in pieces):
        text.append("│ next example of the block", "bold magenta").append("  ")
    return text.append("⏎ · →  line end, space, tab", "dim")


def row_title(row: PreviewRow) -> Text:
    title = Text.assemble((row.name, "bold cyan"))
    if row.label is not None:
        title.append(f" · {row.label}", LEARNT)
    for words in row_figures(row):
        title.append(f" · {words}")
    for fault in row.faults:
        title.append(f" · {fault}", "bold red")
    return title


def row_figures(row: PreviewRow) -> list[str]:
    """A row's lengths in words."""
    if row.label is not None:
        return [f"{row.length:,} tokens"]
    if row.target is not None:
        return [f"{row.length:,} source tokens", f"{row.supervised:,} target tokens"]
    return [f"{row.length:,} tokens", f"{row.supervised:,} supervised"]


def row_texts(row: PreviewRow, colours: bool) -> list[Text]:
    resting = "" if row.label is not None else "dim"
    if row.target is None:
        return [piece_text(row.pieces, resting, colours)]
    return [
        Text("source", "italic magenta"), piece_text(row.pieces, "", colours),
        Text("target", "italic magenta"), piece_text(row.target, resting, colours),
    ]  # fmt: skip


def piece_text(pieces: list[Piece], resting: str, colours: bool) -> Text:
    """Pieces in one text that wraps.

    Args:
        resting: the style of what is not supervised.
    """
    text, example, marked = Text(no_wrap=False, overflow="fold"), 1, False
    for index, piece in enumerate(pieces):
        if not colours and piece.supervised != marked:
            text.append(MARKS[marked])
            marked = not marked
        if piece.boundary:
            example += 1
            text.append(f"\n│ example {example}\n", "bold magenta")
        style = LEARNT if piece.supervised else resting
        for shown, is_mark in [(" ", False)] if parts_words(pieces, index) else visible(piece.text):
            text.append(shown, f"{style} reverse" if piece.special else f"{style} dim" if is_mark else style)
        if piece.learnt is not None:
            text.append(f"({piece.learnt})", "italic green")
    return text.append(MARKS[1]) if marked else text


def parts_words(pieces: list[Piece], index: int) -> bool:
    """Whether a piece is the one space between two words, which needs no mark and lets lines wrap."""
    around = pieces[index - 1 : index] + pieces[index + 1 : index + 2]
    return (
        pieces[index].text == " "
        and len(around) == 2
        and not around[0].text[-1:].isspace()
        and not (around[1].text[:1].isspace())
    )


def bars(preview: Preview) -> Group:
    """The histogram of lengths, a bar a line."""
    what = "source tokens" if preview.has_target else "tokens"
    most, wide = max(bar.count for bar in preview.histogram), len(f"{preview.histogram[-1].last:,}")
    lengths = f"{length_line(preview.lengths)}, of at most {preview.max_length:,}"
    lines = [Text.assemble((what, "bold"), f" a {preview.unit}: {lengths}")]
    for bar in preview.histogram:
        span = f"{bar.first:>{wide},}" + (f"–{bar.last:<{wide},}" if bar.last > bar.first else "")
        length = round(BAR_WIDTH * bar.count / most) or (1 if bar.count else 0)
        lines.append(Text.assemble((f"{span:<{2 * wide + 1}} ", "dim"), ("█" * length, "cyan"), f" {bar.count:,}"))
    return Group(*lines)


def outcome_table(preview: Preview) -> Any:
    total = sum(preview.outcomes.values())
    rows = [[fate, f"{count:,}", f"{100 * count / total:.1f} %"] for fate, count in preview.outcomes.items()]
    return console.table("", ["input rows", "", ""], [*rows, ["sum", f"{total:,}", ""]])


def page(preview: Preview) -> str:
    """The preview as one HTML file: no script, nothing fetched."""
    environment = Environment(
        loader=PackageLoader("ftkit.report"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )  # fmt: skip
    pieces = [piece for row in preview.rows for piece in (*row.pieces, *(row.target or []))]
    environment.globals.update(
        visible=visible, figures=figures, length_line=length_line, row_figures=row_figures, tip=tip
    )  # fmt: skip
    text = environment.get_template("preview.html").render(
        preview=preview,
        special=next((piece.text for piece in pieces if piece.special), None),
        differs=any(piece.learnt is not None for piece in pieces),
    )
    return escapes.visible(text)


def tip(piece: Piece) -> str:
    """What is said of a piece on pointing at it."""
    words = [f"id {' '.join(map(str, piece.ids))}"]
    if piece.special:
        words.append("special token")
    if piece.learnt is not None:
        words.append(f"learnt here: {piece.learnt}")
    words.append("supervised" if piece.supervised else "not supervised")
    return " · ".join(words)
