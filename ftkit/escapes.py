"""What data may not do to what it is shown on: a terminal obeys control characters, and Markdown what looks like its own."""

import re

# C0 but for tabs and line ends, DEL, C1; line ends of Unicode's own and the marks that make later text run the other way;
# halves of characters, the byte order mark, and what is no character.
CONTROLS = {
    *range(9), *range(11, 32), *range(0x7F, 0xA0), *range(0x2028, 0x202F), *range(0x2066, 0x206A), *range(0xD800, 0xE000),
    0xFEFF, 0xFFFE, 0xFFFF,
}  # fmt: skip
_ESCAPED = {code: f"\\u{code:04x}" for code in CONTROLS}
_MARKDOWN = (
    _ESCAPED | {ord(sign): f"\\{sign}" for sign in "\\`*[]|~"} | {ord("\n"): " ", ord("<"): "&lt;", ord("&"): "&amp;"}
)
_EMPHASIS = re.compile(r"(?<![^\W_])_|_(?![^\W_])")  # not that within a word, as in the name of a metric


def visible(text: str) -> str:
    """The text with its control characters written as in JSON, as `\\u001b`; tabs and line ends stay."""
    return text.translate(_ESCAPED)


def markdown(text: str) -> str:
    """The text in a line of Markdown or a cell of its tables, as it is: no HTML, code or emphasis, no link behind words.

    A viewer may make a link of an address that is shown.
    """
    return _EMPHASIS.sub(r"\_", text.translate(_MARKDOWN))
