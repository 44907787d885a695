"""The commit that each repository of a recipe is held at, and what was asked for: in the recipe and in run.json (`hub`)."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ftkit.hub.names import PARTS, TOKENIZER_KEY, Repository, model_names, source_names
from ftkit.recipe.schema import Model, Recipe, Source

Pin = dict[str, Any]  # name, kind, key, asked (None is the main branch), commit


def pin_of(repository: Repository, commit: str) -> Pin:
    """What run.json says of one."""
    return {
        "name": repository.name, "kind": repository.kind, "key": repository.key, "asked": repository.revision,
        "commit": commit,
    }  # fmt: skip


def with_revisions(recipe: Recipe, revision: Callable[[Repository], str | None]) -> Recipe:
    """The recipe with another revision of each of its repositories."""
    data = {
        part: [_source(source, f"data.{part}", revision) for source in getattr(recipe.data, part)]
        for part in PARTS
        if getattr(recipe.data, part)
    }
    return recipe.model_copy(
        update={"model": with_model_revisions(recipe.model, revision), "data": recipe.data.model_copy(update=data)}
    )


def with_model_revisions(block: Model, revision: Callable[[Repository], str | None], key: str = "model.name") -> Model:
    """A model's block with another revision of it, and of another tokenizer than its own."""
    found = {repository.key: revision(repository) for repository in model_names(block, key)}
    names = {key: "revision", TOKENIZER_KEY: "tokenizer_revision"}
    return block.model_copy(update={names[own]: value for own, value in found.items()})


def _source(source: Source, key: str, revision: Callable[[Repository], str | None]) -> Source:
    found = [revision(repository) for repository in source_names(source, key)]
    return source.model_copy(update={"revision": found[0]}) if found else source


def as_begun(recipe: Recipe, pins: Sequence[Mapping[str, Any]]) -> Recipe:
    """The recipe at the commits that a run began with, of what it asks for as that run did."""

    def revision(repository: Repository) -> str | None:
        same = (
            pin["commit"] for pin in pins if is_of(pin, repository) and repository.revision in (pin["asked"], pin["commit"])
        )
        return next(same, repository.revision)

    begun = with_revisions(recipe, revision)
    begun.keep_pins(pins)
    return begun


def as_asked(recipe: Recipe) -> Recipe:
    """The recipe with what was asked for in place of the commits."""

    def revision(repository: Repository) -> str | None:
        same = (pin["asked"] for pin in recipe.pins if is_of(pin, repository) and repository.revision == pin["commit"])
        return next(same, repository.revision)

    return with_revisions(recipe, revision)


def is_of(pin: Mapping[str, Any], repository: Repository) -> bool:
    """Whether it is one of this repository."""
    return (pin["name"], pin["kind"]) == (repository.name, repository.kind)
