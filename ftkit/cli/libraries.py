"""Loading torch and transformers, which takes seconds: with a word on it, and only when a command needs them."""

import os
import sys
from contextlib import AbstractContextManager

from ftkit import console

# What the libraries say by themselves would stand above the line that counts; read when they are imported.
HUSHED = {"HF_DATASETS_DISABLE_PROGRESS_BARS": "1", "TRANSFORMERS_VERBOSITY": "error"}


def hush_from_the_start() -> None:
    """Let the libraries be silent as soon as a command loads one; what the user has set stays."""
    for name, value in HUSHED.items():
        os.environ.setdefault(name, value)


def loading_libraries() -> AbstractContextManager[None]:
    """Something to be seen while the block imports what stands on them, at once where that will take seconds."""
    return console.status("loading torch and transformers", after=console.SOON if "torch" in sys.modules else 0)
