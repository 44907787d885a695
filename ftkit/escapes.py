"""What data may not do to what it is shown on: a terminal obeys control characters, and Markdown what looks like its own."""

# C0 but for tabs and line ends, DEL, C1, and the marks that make later text run the other way.
CONTROLS = {*range(9), *range(11, 32), *range(0x7F, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A)}
_ESCAPED = {code: f"\\u{code:04x}" for code in CONTROLS}
_MARKDOWN = _ESCAPED | {ord(sign): f"\\{sign}" for sign in "\\`*[]|"} | {ord("\n"): " ", ord("<"): "&lt;", ord("&"): "&amp;"}


def visible(text: str) -> str:
    """The text with its control characters written as in JSON, as `\\u001b`; tabs and line ends stay."""
    return text.translate(_ESCAPED)


def markdown(text: str) -> str:
    """The text on one line of Markdown or in a cell of its tables, shown as it is: no HTML, link, code or emphasis."""
    return text.translate(_MARKDOWN)
