"""The errors that a user sees, and the exit status of each.

FtkitError
├── UserError        exit 2: the user can mend it; printed as one line, nothing written
│   ├── RowError     a row is to blame, known by its position until `rows_named` says where it stands
│   └── RecipeError  several mistakes of one recipe, each with its place
├── Unverified       exit 3: what was saved is not what was trained
├── NotReproduced    exit 4: what a run follows from changed, or it gives something else when it is run again
├── Diverged         exit 3: training diverged and was stopped; good checkpoints are kept
└── Interrupted      exit 130, 143, 129: stopped by Ctrl-C, SIGTERM, SIGHUP, after a checkpoint was saved
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


class FtkitError(Exception):
    """Base of everything ftkit raises on purpose."""

    exit_status = 1


class UserError(FtkitError):
    """A mistake that the user can mend.

    Args:
        message: what is wrong, with the value that was found.
        hint: what to do about it.
        place: where it is, as `file:line:column`, a file or an option.
        key: the recipe key that is to blame, as `data.columns.text`, where the place is not known yet.
    """

    exit_status = 2

    def __init__(self, message: str, hint: str = "", place: str = "", *, key: str = "") -> None:
        self.message, self.hint, self.place, self.key = message, hint, place, key
        super().__init__(message)

    def __str__(self) -> str:
        place = f"{self.place or self.key}: " if self.place or self.key else ""
        hint = f"; {self.hint}" if self.hint else ""
        return f"{place}{self.message}{hint}"

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.message, self.hint, self.place or self.key)


class RowError(UserError):
    """A row is to blame; the message says what is wrong with it and not where it stands.

    Args:
        position: the row's, counted from 0 among the rows that were handed to whoever raises this.
    """

    def __init__(self, position: int, message: str, hint: str = "", *, key: str = "") -> None:
        self.position = position
        super().__init__(message, hint, key=key)

    def __str__(self) -> str:
        return str(UserError(f"row {self.position + 1}: {self.message}", self.hint, self.place, key=self.key))

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.position, self.message, self.hint)


@contextmanager
def rows_named(name: Callable[[int], str], key: str = "") -> Iterator[None]:
    """Inside the block a `RowError` becomes an error for the user, by the row's name.

    Args:
        name: where the row of a position stands, as its owner finds it.
        key: the recipe key that is to blame where the error names none.
    """
    try:
        yield
    except RowError as error:
        message = f"{name(error.position)}: {error.message}"
        raise UserError(message, error.hint, error.place, key=error.key or key) from None


@dataclass(frozen=True)
class Mistake:
    """One thing wrong in a recipe. `place` is `file:line:column` or the override as typed."""

    place: str
    message: str
    hint: str = ""

    def __str__(self) -> str:
        return str(UserError(self.message, self.hint, self.place))


class RecipeError(UserError):
    """All mistakes found in one recipe, in the order of the file."""

    def __init__(self, mistakes: list[Mistake]) -> None:
        self.mistakes = mistakes
        super().__init__("\n".join(map(str, mistakes)))

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.mistakes,)


class Unverified(FtkitError):
    """A check of a finished run failed; the message says which and how."""

    exit_status = 3


class NotReproduced(FtkitError):
    """A run cannot be made again as it was, or does not come out as it did; the message says what differs."""

    exit_status = 4


class Diverged(FtkitError):
    """Training gave what is no number, or a loss beyond all measure; nothing of it was saved.

    Args:
        folder: the run's.
        message: the step, what was found, and the rows.
        hint: how to go on.
        resumes: whether the run can go on from a good checkpoint with a lower rate.
    """

    exit_status = 3

    def __init__(self, folder: Path, message: str, hint: str, *, resumes: bool) -> None:
        self.folder, self.message, self.hint, self.resumes = folder, message, hint, resumes
        super().__init__(f"{message}; {hint}")


class Interrupted(FtkitError):
    """A run that a signal stopped after its checkpoint was saved; `folder` is the run's, `number` the signal's."""

    def __init__(self, folder: Path, step: int, number: int = 2) -> None:
        self.folder, self.step, self.number = folder, step, number
        self.exit_status = 128 + number
        super().__init__(f"stopped at step {step}; the run is in {folder}")
