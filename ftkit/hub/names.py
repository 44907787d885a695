"""Which names of a recipe are those of repositories on the hub."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from ftkit.recipe.schema import Model, Recipe, Source

# As the hub's library has it, which raises at any other.
_PART = "[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,94}[A-Za-z0-9_])?"
HUB_ID = re.compile(rf"(?!.*(?:--|\.\.|\.git\Z)){_PART}(?:/{_PART})?\Z", re.ASCII)
FILE_ENDINGS = {  # of a file, not of a hub id
    ".csv", ".tsv", ".json", ".jsonl", ".ndjson", ".parquet", ".txt", ".text", ".conll", ".conllu", ".gz", ".zip",
}  # fmt: skip
PARTS = ("train", "eval", "test")
TOKENIZER_KEY = "model.tokenizer"
COMMIT = re.compile(r"^[0-9a-f]{40}$")
Kind = Literal["model", "dataset"]


@dataclass(frozen=True)
class Repository:
    """A repository on the hub, as a recipe or a command names it.

    Attributes:
        name: its id, `owner/name` or `name`.
        revision: branch, tag or commit; None is the main branch.
        key: the recipe key, or the option, that names it; it may be named by several.
    """

    name: str
    kind: Kind
    revision: str | None = None
    key: str = field(default="", compare=False)

    def __str__(self) -> str:
        return f"the data set {self.name}" if self.kind == "dataset" else f"the model {self.name}"

    @property
    def ref(self) -> str:
        """The branch, tag or commit that is meant."""
        return self.revision or "main"

    @property
    def is_tokenizer(self) -> bool:
        """Whether a tokenizer alone is taken of it."""
        return self.key == TOKENIZER_KEY


def is_commit(ref: str | None) -> bool:
    """Whether a revision is a whole commit, which never moves."""
    return ref is not None and COMMIT.match(ref) is not None


def is_hub_id(name: str) -> bool:
    """Whether `name` can only be a hub id: no such path here, nor one within a file, and the form `name` or `owner/name`."""
    path = Path(name).expanduser()
    return bool(HUB_ID.match(name)) and not path.exists() and not any(parent.is_file() for parent in path.parents)


def hub_names(recipe: Recipe) -> list[Repository]:
    """The repositories that a recipe names: its model, another tokenizer, and its data sets."""
    named = [*model_names(recipe.model)]
    for part in PARTS:
        named += [found for source in getattr(recipe.data, part) or [] for found in source_names(source, f"data.{part}")]
    return named


def model_names(block: Model, key: str = "model.name") -> Iterator[Repository]:
    """Those of a model and of another tokenizer than its own."""
    if is_hub_id(block.name):
        yield Repository(block.name, "model", block.revision, key)
    if block.tokenizer and is_hub_id(block.tokenizer):
        yield Repository(block.tokenizer, "model", block.tokenizer_revision, TOKENIZER_KEY)


def source_names(source: Source, key: str) -> Iterator[Repository]:
    """That of a source of rows, if it is a data set on the hub."""
    if names_dataset(source.path):
        yield Repository(source.path, "dataset", source.revision, key)


def names_dataset(path: str) -> bool:
    """Whether rows are named by the id of a data set on the hub, and not as a file or a sample."""
    return ":" not in path and Path(path).suffix.lower() not in FILE_ENDINGS and is_hub_id(path)
