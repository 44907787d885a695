"""What a word is in a script: texts as tokens for ROUGE, token F1 and the health of generated text, and BLEU's tokenizer.

Latin letters are read as each metric's own implementation reads them, so that figures of Latin texts are its.
"""

import unicodedata
from collections.abc import Iterable

import regex

from ftkit.data.scripts import CHARACTER, apart

SHARE = 0.1  # of the letters, from which a script without spaces decides how texts are cut
LONG_WORD = 30  # characters; what is longer is no word of a script with spaces, and its characters are looked at
LONG_RUN = 8  # of one character
CHARACTERS = "characters"

_OTHER = r"[[\p{L}\p{Nd}]--[\p{Latin}\p{Common}\p{Inherited}]]"
_TOKEN = regex.compile(rf"{CHARACTER.pattern}|{_OTHER}(?:{_OTHER}|\p{{M}}|[\u200c\u200d])*|[a-z0-9]+", regex.V1)
_OF_OTHER_SCRIPTS = regex.compile(rf"{_OTHER}|ー", regex.V1)
_LETTER = regex.compile(r"\p{L}")
_HAN, _KANA = regex.compile(r"\p{Han}"), regex.compile(r"[\p{Hiragana}\p{Katakana}]")
_RUN = regex.compile(rf"(\S)\1{{{LONG_RUN - 1},}}")


def is_latin(text: str) -> bool:
    """Whether no letter is of another script."""
    return text.isascii() or not _OF_OTHER_SCRIPTS.search(text)


def tokens(text: str) -> list[str]:
    """Words in lower case, and the characters of scripts without spaces; of Latin letters those from a to z."""
    return _TOKEN.findall(unicodedata.normalize("NFKC", text).lower())  # type: ignore[no-any-return]


def written(text: str) -> list[str]:
    """What a text is long by: its words as they stand, and characters where there are no words, as in "ZZZZ…"."""
    found: list[str] = []
    for word in apart(text).split():
        found.extend(word if len(word) > LONG_WORD or _RUN.search(word) else [word])
    return found


def bleu_tokenizer(references: Iterable[str]) -> str:
    """sacreBLEU's tokenizer for the script of the references: 13a for words, zh for Chinese, char for the others."""
    letters = unspaced = han = kana = 0
    for text in references:
        if text.isascii():
            letters += sum(map(str.isalpha, text))
            continue
        letters += len(_LETTER.findall(text))
        unspaced += len(CHARACTER.findall(text))
        han += len(_HAN.findall(text))
        kana += len(_KANA.findall(text))
    if not unspaced or unspaced < SHARE * letters:
        return "13a"
    return "zh" if han > unspaced / 2 and kana < SHARE * unspaced else "char"


def rouge_tokens(references: Iterable[str]) -> str:
    """What ROUGE counts in such texts, in a word; nothing where that is what rouge-score itself counts."""
    texts = list(references)
    if all(map(is_latin, texts)):
        return ""
    return "Unicode words" if bleu_tokenizer(texts) == "13a" else CHARACTERS
