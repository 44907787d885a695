"""RESULTS.md: each script writes its own section, between marks that carry its name."""

from pathlib import Path

PAGE = Path(__file__).parent / "RESULTS.md"


def write_section(script: str, lines: list[str]) -> None:
    """Put the lines in place of what the script wrote before, or at the end of the page."""
    begin, end = f"<!-- {script} -->", f"<!-- /{script} -->"
    text = PAGE.read_text(encoding="utf-8") if PAGE.is_file() else ""
    before, _, rest = text.partition(begin)
    after = rest.partition(end)[2].strip()
    parts = [before.rstrip(), "\n".join([begin, *lines, end]), after]
    PAGE.write_text("\n\n".join(part for part in parts if part) + "\n", encoding="utf-8")
