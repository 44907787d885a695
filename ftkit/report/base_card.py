"""What the base's own card says that holds for a model made of it: its licence, languages and tags."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import ModelCard, constants, try_to_load_from_cache

from ftkit.hub.names import is_hub_id
from ftkit.recipe.schema import Model

CARD = "README.md"


@dataclass(frozen=True)
class BaseCard:
    """Each as the hub takes it; None where the base says nothing of it.

    Attributes:
        license: a name that the hub knows, or "other", which `license_name` and `license_link` say more of.
        tags: its own words, without those for what it was used for and by which library, which another model is not.
    """

    license: str | None = None
    license_name: str | None = None
    license_link: str | None = None
    language: str | list[str] | None = None
    tags: tuple[str, ...] = ()


def base_card(block: Model) -> BaseCard:
    """That of the base as it is on this machine; the hub is not asked."""
    found = front_matter_of(card_file(block))
    language, link = found.get("language"), text_of(found.get("license_link"))
    several = isinstance(language, list) and len(language) > 1 and all(isinstance(one, str) for one in language)
    return BaseCard(
        license=text_of(found.get("license")),
        license_name=text_of(found.get("license_name")),
        license_link=link and absolute(link, block),
        language=language if several else text_of(language),
        tags=own_tags(found),
    )


def own_tags(found: dict[str, Any]) -> tuple[str, ...]:
    """The tags that hold for a model made of it; those of a form `key:value` are the hub's own."""
    listed, untrue = found.get("tags"), {found.get("pipeline_tag"), found.get("library_name")}
    words = listed if isinstance(listed, list) else []
    return tuple(word for word in words if isinstance(word, str) and ":" not in word and word not in untrue)


def front_matter_of(file: Path | None) -> dict[str, Any]:
    """What a card says to the hub; nothing where there is none, or it is no YAML."""
    if file is None:
        return {}
    try:
        return ModelCard.load(file, ignore_metadata_errors=True).data.to_dict()
    except (OSError, ValueError, TypeError, AttributeError, yaml.YAMLError):  # of whatever people write there
        return {}


def absolute(link: str, block: Model) -> str | None:
    """The link as it is found from another repository; None where it leads to a file of a local folder."""
    if "://" in link:
        return link
    return f"{constants.ENDPOINT}/{block.name}/blob/{block.revision or 'main'}/{link}" if is_hub_id(block.name) else None


def card_file(block: Model) -> Path | None:
    """The base's README.md, in its folder or in the hub's cache at the base's revision."""
    if is_hub_id(block.name):
        found: Any = try_to_load_from_cache(block.name, CARD, revision=block.revision)
        return Path(found) if isinstance(found, str) else None
    file = Path(block.name).expanduser() / CARD
    return file if file.is_file() else None


def text_of(value: Any) -> str | None:
    """A text, or the only one of a list."""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    return value if isinstance(value, str) and value.strip() else None
