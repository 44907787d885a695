"""What is changed of a tokenizer and a config while a run lasts, so that what is saved is what was loaded.

Rows are padded on the right, encoding leaves its truncation in the tokenizer, and the Trainer switches `use_cache` off.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

from transformers import PreTrainedModel, PreTrainedTokenizerBase, PreTrainedTokenizerFast

USE_CACHE = "use_cache"


@dataclass(frozen=True)
class Sides:
    """How a tokenizer pads and truncates; its backend's settings are those of its file.

    Attributes:
        pads: whether it has a pad token.
    """

    padding_side: str
    pads: bool
    truncation: dict[str, Any] | None = None
    padding: dict[str, Any] | None = None


LOADED_SIDES: WeakKeyDictionary[PreTrainedTokenizerBase, Sides] = WeakKeyDictionary()
LOADED_VALUES: WeakKeyDictionary[PreTrainedModel, dict[str, Any]] = WeakKeyDictionary()
DRAWN: WeakKeyDictionary[PreTrainedModel, list[str]] = WeakKeyDictionary()


def remember_tokenizer(tokenizer: PreTrainedTokenizerBase) -> None:
    """To be called when it was just loaded."""
    LOADED_SIDES[tokenizer] = sides_of(tokenizer)


def lent_pad_token(tokenizer: PreTrainedTokenizerBase) -> str | None:
    """The token that pads since the tokenizer came without one for it; None where it has its own."""
    sides = LOADED_SIDES.get(tokenizer)
    return None if sides is None or sides.pads else str(tokenizer.pad_token)


def remember_config(model: PreTrainedModel) -> None:
    """To be called when the model was just loaded."""
    LOADED_VALUES[model] = {key: value for key, value in vars(model.config).items() if key == USE_CACHE}


def remember_drawn(model: PreTrainedModel, names: list[str]) -> None:
    """To be called where a checkpoint lacks weights that it should have, so that they start at random."""
    DRAWN[model] = names


def is_drawn(model: PreTrainedModel) -> bool:
    """Whether a model has weights at random that its checkpoint should have."""
    return bool(DRAWN.get(model))


@contextmanager
def tokenizer_as_loaded(tokenizer: PreTrainedTokenizerBase) -> Iterator[None]:
    """Inside the block the tokenizer pads and truncates as it did when it was loaded."""
    now = sides_of(tokenizer)
    set_sides(tokenizer, LOADED_SIDES.get(tokenizer, now))
    try:
        yield
    finally:
        set_sides(tokenizer, now)


@contextmanager
def config_as_loaded(model: PreTrainedModel) -> Iterator[None]:
    """Inside the block the model's config has what it had, but for what the task has put in."""
    values = vars(model.config)
    now = {key: value for key, value in values.items() if key == USE_CACHE}
    values.pop(USE_CACHE, None)
    values.update(LOADED_VALUES.get(model, now))
    try:
        yield
    finally:
        values.pop(USE_CACHE, None)
        values.update(now)


def sides_of(tokenizer: PreTrainedTokenizerBase) -> Sides:
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        return Sides(tokenizer.padding_side, tokenizer.pad_token is not None)
    backend = tokenizer.backend_tokenizer
    return Sides(tokenizer.padding_side, tokenizer.pad_token is not None, backend.truncation, backend.padding)


def set_sides(tokenizer: PreTrainedTokenizerBase, sides: Sides) -> None:
    tokenizer.padding_side = sides.padding_side
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        return
    backend = tokenizer.backend_tokenizer
    backend.enable_truncation(**sides.truncation) if sides.truncation else backend.no_truncation()
    backend.enable_padding(**sides.padding) if sides.padding else backend.no_padding()
