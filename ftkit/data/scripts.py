"""Where words end in a script: at spaces in most; where a script writes none, as Chinese or Thai, its characters count."""

import regex

UNSPACED_SCRIPTS = (
    "Han", "Hiragana", "Katakana", "Bopomofo", "Thai", "Lao", "Khmer", "Myanmar", "Tibetan", "Tai_Le", "New_Tai_Lue",
    "Tai_Tham", "Tai_Viet", "Javanese", "Balinese",
)  # fmt: skip

_UNSPACED = "".join(rf"\p{{{name}}}" for name in UNSPACED_SCRIPTS) + "ー"  # the last is of no script of its own
CHARACTER = regex.compile(rf"[[{_UNSPACED}]&&[\p{{L}}\p{{Nd}}\p{{Nl}}]]\p{{M}}*", regex.V1)  # with its marks


def apart(text: str) -> str:
    """The text with a space around each character of a script without spaces."""
    return text if text.isascii() else CHARACTER.sub(r" \g<0> ", text)


def split_words(text: str) -> list[str]:
    """The words of a text, and the characters of scripts without spaces, as they stand."""
    return apart(text).split()


def count_words(text: str) -> float:
    """How many words a text has, about; a character of a script without spaces is half of one, so that a name is no text."""
    if text.isascii():
        return len(text.split())
    parted, characters = CHARACTER.subn(r" \g<0> ", text)
    return len(parted.split()) - characters / 2
