"""The few-shot prompt that asks for new rows, and reading the rows out of a model's answer.

After Self-Instruct (Wang et al. 2022, https://arxiv.org/abs/2212.10560): a prompt shows rows written by people and, once
there are some, rows generated before, in the paper 6 and 2 of 8. Whole rows are asked for at once, where the paper asks for
the instruction first and for its input and output in a second prompt.
"""

import itertools
import json
import random
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

GENERATED_SHARE = 1 / 4  # of the shots, as in the paper
TRIES = 4  # so many rows are looked at for each shot where a short context has no room for long ones
NO_INPUT = "<noinput>"
WITHOUT_INPUT = {"", "none", "n/a", "na", "empty", "noinput", "no input"}
HEADER = f"""Below are tasks for an assistant. Each has an instruction, an input ({NO_INPUT} if none) and an output.
Go on with two new tasks, unlike these in topic and kind, in the same form.
"""
MARKER = re.compile(
    r"^[ \t>*#_-]*(?:(?:task[ \t]+)?\d+[ \t]*[.):]\s*)?[*#_ \t]*(instruction|input|output)[*_ \t]*:[*_]*[ \t]*", re.I | re.M
)
TRAILING = re.compile(r"(?:\n[ \t]*(?:#{2,}|-{3,}|={3,}|\d+[.):])[ \t]*)+\s*$")
FENCE = re.compile(r"^\s*```[\w-]*\s*\n(.*?)(?:\n\s*```\s*)?$", re.S)
FOLLOWING = {
    "instruction": ("instruction", "input", "output"),
    "input": ("instruction", "output"),
    "output": ("instruction",),
}
MALFORMED, TOO_LONG = "malformed", "too long"


@dataclass(frozen=True)
class Row:
    """An instruction row; `id` is the seed's own, or says its place in the output."""

    id: str
    instruction: str
    input: str
    output: str


@dataclass(frozen=True)
class Candidate:
    """What was found in an answer; `fault` is empty, or why it can be no row."""

    instruction: str = ""
    input: str = ""
    output: str = ""
    fault: str = ""


def build_prompt(shots: Sequence[Row]) -> str:
    """The shots, numbered, and the beginning of the next row."""
    blocks = [
        f"{number}. Instruction: {row.instruction}\nInput: {row.input or NO_INPUT}\nOutput: {row.output}\n"
        for number, row in enumerate(shots, 1)
    ]
    return "\n".join([HEADER, *blocks, f"{len(shots) + 1}. Instruction:"])


def choose_shots(
    seeds: Sequence[Row], made: Sequence[Row], *, shots: int, rng: random.Random, fits: Callable[[str], bool]
) -> list[Row]:
    """Up to `shots` rows in random order, a quarter of them generated ones; rows that do not fit give way to shorter ones.

    Args:
        fits: whether the model has room for a prompt.
    """
    generated = rng.sample(made, min(round(shots * GENERATED_SHARE), len(made)))
    human = rng.sample(seeds, len(seeds))[: TRIES * shots]
    first, spare = [*generated, *human[: shots - len(generated)]], human[shots - len(generated) :]
    rng.shuffle(first)
    chosen: list[Row] = []
    for row in itertools.chain(first, spare):
        if len(chosen) < shots and fits(build_prompt([*chosen, row])):
            chosen.append(row)
    return chosen


def parse_answer(text: str, *, cut: bool = False) -> list[Candidate]:
    """The rows of an answer: JSON, or blocks of `Instruction:`, `Input:` and `Output:`, numbered or not.

    Args:
        text: what the model wrote after a prompt that ends in `Instruction:`; it may repeat that word.
        cut: the answer ended for lack of tokens, so that its last row is unfinished.
    """
    fenced = FENCE.match(text)
    body = fenced.group(1) if fenced else text
    found = list(_json_rows(body)) or list(_blocks(body)) or [Candidate(fault=MALFORMED)]
    last = found[-1]
    if cut and not last.fault:
        found[-1] = Candidate(last.instruction, last.input, last.output, TOO_LONG)
    return found


def _json_rows(text: str) -> Iterator[Candidate]:
    """Rows of one JSON value, or of JSON lines; nothing where the text is no JSON."""
    try:
        value = json.loads(text)
    except ValueError:
        yield from _json_lines(text)
    else:
        yield from (_from_json(item) for item in (value if isinstance(value, list) else [value]))


def _json_lines(text: str) -> Iterator[Candidate]:
    """Rows of those lines that are objects; nothing where none of them has an instruction."""
    lines = [line.strip().rstrip(",") for line in text.split("\n")]  # U+2028 may stand within one
    objects = [line for line in lines if line.startswith("{")]
    if not any('"instruction"' in line.lower() for line in objects):
        return
    for line in objects:
        try:
            yield _from_json(json.loads(line))
        except ValueError:
            yield Candidate(fault=MALFORMED)


def _from_json(value: Any) -> Candidate:
    if not isinstance(value, dict):
        return Candidate(fault=MALFORMED)
    fields = {str(name).lower(): item for name, item in value.items()}
    texts = [fields.get("instruction"), fields.get("input") or "", fields.get("output")]
    if not all(isinstance(item, str | int | float) for item in texts):
        return Candidate(fault=MALFORMED)
    return _candidate(*map(str, texts))


def _blocks(text: str) -> Iterator[Candidate]:
    """Rows of marked blocks. A marker out of its order is text: an output may well hold a line `Input: 3`."""
    parts: dict[str, str] = {"instruction": ""}  # the prompt ends in this marker
    field, start, opened = "instruction", 0, False
    for marker in MARKER.finditer(text):
        name = marker.group(1).lower()
        if name not in FOLLOWING[field]:
            continue
        parts[field] = text[start : marker.start()]
        if name == "instruction":
            if opened or "output" in parts:  # otherwise it is what stands before the first row
                yield _from_parts(parts)
            parts, opened = {}, True
        field, start = name, marker.end()
        parts[field] = ""
    parts[field] = text[start:]
    if any(part.strip() for part in parts.values()):
        yield _from_parts(parts)


def _from_parts(parts: dict[str, str]) -> Candidate:
    if "output" not in parts:
        return Candidate(parts["instruction"].strip(), fault=MALFORMED)
    return _candidate(parts["instruction"], parts.get("input", ""), TRAILING.sub("", parts["output"]))


def _candidate(*texts: str) -> Candidate:
    # JSON may hold half a surrogate pair, which neither a tokenizer nor a file takes.
    instruction, given, output = (text.encode(errors="replace").decode().strip() for text in texts)
    without = given.strip("<>()[]*. ").lower() in WITHOUT_INPUT
    return Candidate(instruction, "" if without else given, output)
