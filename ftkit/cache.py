"""Where ftkit keeps what it would otherwise compute again."""

import os
from pathlib import Path

CACHE = "FTKIT_CACHE"


def cache_folder() -> Path:
    """$FTKIT_CACHE, else $XDG_CACHE_HOME/ftkit, else ~/.cache/ftkit."""
    if given := os.environ.get(CACHE):
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "ftkit"
