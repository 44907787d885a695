"""How much may come out of what is compressed: a small file may hold more than a disk, or a lifetime, has."""

from pathlib import Path
from typing import BinaryIO

from ftkit.errors import UserError
from ftkit.units import size_words

MOST_BYTES = 1 << 30  # that an archive may hold, however small it is
MOST_GROWTH = 100  # times its size that a larger one may hold: texts grow tenfold, a bomb a thousandfold


class Room:
    """What the members of an archive may take together."""

    def __init__(self, path: Path, name: str) -> None:
        self.path, self.name, self.taken = path, name, 0
        self.most = max(MOST_BYTES, MOST_GROWTH * path.stat().st_size)

    def take(self, count: int) -> None:
        """Raises UserError where so many bytes more are too many."""
        self.taken += count
        if self.taken > self.most:
            times = self.most // self.path.stat().st_size
            message = f"{self.name} holds more than {size_words(self.most)}, {times} times its size"
            raise UserError(message, "if that is right, unpack it and name what it held")


class Bounded:
    """What comes out of a member, of which no more is read than there is room for."""

    def __init__(self, stream: BinaryIO, room: Room) -> None:
        self.stream, self.room = stream, room

    def read(self, count: int) -> bytes:
        """Raises UserError where it is too much."""
        content = self.stream.read(count)
        self.room.take(len(content))
        return content
