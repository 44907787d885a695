"""Loading torch and transformers, which takes seconds: with a word on it, and only when a command needs them."""

from contextlib import AbstractContextManager

from ftkit import console


def loading_libraries() -> AbstractContextManager[None]:
    """Something to be seen while the block imports what stands on them."""
    return console.status("loading torch and transformers", after=console.SOON)
