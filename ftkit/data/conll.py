"""CoNLL files, a word a line with its tags and an empty line after each sentence; and CoNLL-U, whose columns have names."""

import re
from collections.abc import Iterator, Sequence
from itertools import islice

from datasets import Dataset

from ftkit.data.diagnose import ReadableFile
from ftkit.errors import UserError

DOCSTART = "-DOCSTART-"
# https://universaldependencies.org/format.html
UNIVERSAL = ("id", "form", "lemma", "upos", "xpos", "feats", "head", "deprel", "deps", "misc")
WORD = re.compile(r"\d+")  # the number of a word; 1-2 is of a written form of two, 1.1 of a word that is not written
PEEKED = 1000  # lines that are looked at


def read_conll(files: Sequence[ReadableFile], encoding: str, header: Sequence[str] | None = None) -> Dataset:
    """One row a sentence: tokens (the first fields), tags (the last fields), text (the tokens joined by a space).

    Fields are separated by tabs where the first line has one, else by spaces; an empty line ends a sentence. Comments,
    lines that begin with "# ", are passed over. Where the columns have names, as in CoNLL-U or by the header, each is a
    column of lists, and there are no `tags`.

    Args:
        header: the names of the fields, of which `tokens` is one.

    Raises:
        UserError: a line has another number of fields than the first.
        UnicodeError: a file is not in the encoding.
    """
    found = [words for file in files for _, words in sentences(file, encoding)]
    named = header or (UNIVERSAL if all(is_universal(file, encoding) for file in files) else None)
    width = len(found[0][0]) if found else 0
    if named and found and len(named) != width:
        raise UserError(f"{files[0]}: {width} fields where `header` names {len(named)}", "name each field once")
    places = {name: place for place, name in enumerate(named)} if named else {"tokens": 0, "tags": -1}
    columns = {name: [[fields[place] for fields in words] for words in found] for name, place in places.items()}
    if "form" in columns:
        columns["tokens"] = columns.pop("form")
    texts = {"text": [" ".join(words) for words in columns["tokens"]]} if "tokens" in columns else {}
    return Dataset.from_dict(columns | texts)


def is_universal(file: ReadableFile, encoding: str) -> bool:
    """Whether a file has the form of CoNLL-U: ten fields, of which the first counts the words of a sentence."""
    with file.path.open(encoding=encoding) as stream:
        lines = [line.rstrip("\r\n").split("\t") for line in islice(stream, PEEKED) if line.strip() and line[0] != "#"]
    return bool(lines) and lines[0][0].split("-")[0] == "1" and all(len(fields) == len(UNIVERSAL) for fields in lines)


def sentences(file: ReadableFile, encoding: str) -> Iterator[tuple[int, list[list[str]]]]:
    """Each sentence's first line, and the fields of each of its words."""
    universal = is_universal(file, encoding)
    sentence: list[list[str]] = []
    start = width = 0
    separator: str | None = None
    with file.path.open(encoding=encoding) as stream:
        for number, line in enumerate(stream, 1):
            if not line.strip() or line.startswith(DOCSTART):
                if sentence:
                    yield start, sentence
                sentence = []
                continue
            if not sentence and _is_comment(line, width, separator):
                continue
            if not width:
                separator = "\t" if "\t" in line else None
            fields = [field.strip() for field in line.strip("\r\n").split(separator)]
            width = width or len(fields)
            _require_fields(f"{file}:{number}", len(fields), width)
            if not universal or WORD.fullmatch(fields[0]):
                start = start if sentence else number
                sentence.append(fields)
    if sentence:
        yield start, sentence


def _is_comment(line: str, width: int, separator: str | None) -> bool:
    """Whether a line before a sentence's first word is a comment, and not the word "#" with its tags."""
    if not line.startswith("#") or (separator or "\t") in line:
        return False
    return " = " in line or line.strip() == "#" or len(line.split()) != (width or 2)


def _require_fields(place: str, found: int, width: int) -> None:
    if found == width and found > 1:
        return
    what = "fields where a token and its tag are needed" if width < 2 else f"fields where the first line has {width}"
    hint = "each line is a token, then its tag, separated by tabs or spaces; an empty line ends a sentence"
    raise UserError(f"{place}: {found} {what}", hint)
