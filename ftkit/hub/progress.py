"""How far a download has come, once it takes longer than a second; a bar on a terminal, else a line now and then."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.errors import LiveError
from rich.progress import Progress
from tqdm.std import tqdm  # type: ignore[import-untyped]

from ftkit import console
from ftkit.units import size_words

SHOWN_AFTER = 1.0  # seconds
LINE_EVERY = 30.0  # seconds, where there is no terminal
LOOKED_EVERY = 0.5


class Download:
    """Bytes of several files together.

    Attributes:
        name: what is fetched, in words.
    """

    def __init__(self, name: str) -> None:
        self.name, self.total, self.received = name, 0, 0
        self.lock, self.ended = threading.Lock(), threading.Event()

    def add(self, total: int = 0, received: int = 0) -> None:
        with self.lock:
            self.total += total
            self.received += received

    def words(self) -> str:
        """So far."""
        return f"{size_words(self.received)} of {size_words(max(self.total, self.received))}"

    def bar_class(self) -> type[tqdm]:
        """A class that huggingface_hub makes a bar of for each file; what it is told goes here, and nothing is shown."""
        download = self

        class Counter(tqdm):  # type: ignore[misc]
            def __init__(self, *_: Any, total: float | None = None, initial: float = 0, **__: Any) -> None:
                super().__init__(disable=True)
                download.add(int(total or 0), int(initial))

            def update(self, n: float | None = 1) -> None:
                download.add(received=int(n or 0))

        return Counter

    def show(self) -> None:
        """Until it has ended; in a thread of its own."""
        if self.ended.wait(SHOWN_AFTER):
            return
        try:
            with console.download_bar() as bar:
                self._follow(bar)
        except LiveError:  # something is on the screen that moves already
            self._tell()

    def _follow(self, bar: Progress) -> None:
        if bar.disable:
            return self._tell()
        task = bar.add_task(self.name, total=None)
        while not self.ended.wait(LOOKED_EVERY):
            bar.update(task, total=self.total or None, completed=self.received)
        bar.update(task, total=self.total or None, completed=self.received)
        return None

    def _tell(self) -> None:
        told = time.monotonic()
        console.say(f"{self.name}: {self.words()}")
        while not self.ended.wait(LOOKED_EVERY):
            if time.monotonic() - told > LINE_EVERY:
                told = time.monotonic()
                console.say(f"{self.name}: {self.words()}")


@contextmanager
def download_shown(name: str) -> Iterator[Download]:
    """Show how far the downloads of the block have come that report to the one that is given."""
    download = Download(name)
    shower = threading.Thread(target=download.show, daemon=True)
    shower.start()
    try:
        yield download
    finally:
        download.ended.set()
        shower.join()
