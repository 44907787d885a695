"""CoNLL files: a word a line with its tags, an empty line after each sentence."""

from collections.abc import Iterator, Sequence

from datasets import Dataset

from ftkit.data.diagnose import ReadableFile
from ftkit.errors import UserError

DOCSTART = "-DOCSTART-"


def read_conll(files: Sequence[ReadableFile], encoding: str) -> Dataset:
    """One row a sentence: tokens (the first fields), tags (the last fields), text (the tokens joined by a space).

    Fields are separated by tabs where the first line has one, else by spaces; an empty line ends a sentence.

    Raises:
        UserError: a line has another number of fields than the first.
        UnicodeError: a file is not in the encoding.
    """
    tokens: list[list[str]] = []
    tags: list[list[str]] = []
    for file in files:
        for _, sentence in sentences(file, encoding):
            tokens.append([fields[0] for fields in sentence])
            tags.append([fields[-1] for fields in sentence])
    return Dataset.from_dict({"tokens": tokens, "tags": tags, "text": [" ".join(words) for words in tokens]})


def sentences(file: ReadableFile, encoding: str) -> Iterator[tuple[int, list[list[str]]]]:
    """Each sentence's first line, and the fields of each of its words."""
    sentence: list[list[str]] = []
    start = 0
    separator: str | None = None
    width = 0
    with file.path.open(encoding=encoding) as stream:
        for number, line in enumerate(stream, 1):
            if not line.strip() or line.startswith(DOCSTART):
                if sentence:
                    yield start, sentence
                sentence = []
                continue
            if not width:
                separator = "\t" if "\t" in line else None
            fields = [field.strip() for field in line.strip("\r\n").split(separator)]
            width = width or len(fields)
            if len(fields) != width or len(fields) < 2:
                what = (
                    "fields where a token and its tag are needed"
                    if width < 2
                    else f"fields where the first line has {width}"
                )
                hint = "each line is a token, then its tag, separated by tabs or spaces; an empty line ends a sentence"
                raise UserError(f"{file}:{number}: {len(fields)} {what}", hint)
            start = start if sentence else number
            sentence.append(fields)
    if sentence:
        yield start, sentence
