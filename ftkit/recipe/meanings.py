"""Columns that change what a row means by their name: where no task reads them, rows would be learnt as something else."""

from dataclasses import dataclass

PREFERENCES = "preference data, and there is no task for it yet"
ANSWERED = ("messages", "output", "completion")  # roles of rows that hold an answer
LABELLED = ("label", "tags")  # roles of rows that are judged already; what else is said of them is beside the point
ASKED = ("messages", "instruction", "prompt")


@dataclass(frozen=True)
class Meaning:
    """What a column of a name says of its row.

    Attributes:
        columns: the names.
        says: what is wrong if it is not read.
        hint: what to do.
        beside: it says so beside one of these roles; none for beside any.
        not_beside: it says nothing beside one of these.
        values: which values say so: "any", "false" (an answer that is not wanted), "others" (another split's name) or
            "unequal" (another weight than 1).
        unless: not where this column is read.
    """

    columns: tuple[str, ...]
    says: str
    hint: str
    beside: tuple[str, ...] = ()
    not_beside: tuple[str, ...] = ()
    values: str = "any"
    unless: str = ""


MEANINGS = (
    Meaning(
        ("chosen", "rejected"), f"these rows are {PREFERENCES}",
        "to learn the chosen answer alone, say columns: {completion: chosen}", not_beside=LABELLED, unless="chosen",
    ),
    Meaning(
        ("label",), f"false marks an answer that is not wanted, so these rows are {PREFERENCES}",
        "to learn the wanted answers alone, leave the others out of the file", beside=ANSWERED, values="false",
    ),
    Meaning(("history",), "earlier turns would be left out", "write the turns as messages", beside=ASKED),
    Meaning(("system",), "system prompts would be left out", "write it as the first of messages", beside=ASKED),
    Meaning(("tools", "functions"), "the tools that an answer calls would be left out", "take them out", beside=ASKED),
    Meaning(
        ("weight", "sample_weight"), "all rows would count alike",
        "repeat or leave out rows, give a source a weight, or in chats turns a weight of 0 or 1", values="unequal",
    ),
    Meaning(
        ("split",), "it names rows of another split", "say data.split_column: split, or take these rows out",
        values="others",
    ),
    Meaning(
        ("score", "scores"), "rows of any score would be learnt alike",
        "keep those rows alone in the file that are to be learnt", not_beside=LABELLED,
    ),
)  # fmt: skip


def meaning_of(column: str, read: set[str], roles: set[str]) -> Meaning | None:
    """What a column says that is not read, beside the columns and roles that are; None where its name says nothing."""
    for meaning in MEANINGS:
        beside = (not meaning.beside or roles & set(meaning.beside)) and not roles & set(meaning.not_beside)
        if column.lower() in meaning.columns and beside and meaning.unless not in read:
            return meaning
    return None
