"""Why something could not be had from the hub, in one line: the library's own reason, and the hint of that reason."""

from collections.abc import Iterator
from contextlib import contextmanager

from ftkit.errors import FtkitError, UserError
from ftkit.hub.names import Repository


def reason_of(error: BaseException, repository: Repository) -> UserError:
    """What a library raised, as one line for the user."""
    words = " ".join(str(error).split())[:300] or type(error).__name__
    return UserError(f"{repository} cannot be had: {words}", key=repository.key)


@contextmanager
def one_line(repository: Repository) -> Iterator[None]:
    """Whatever a library raises within the block leaves it as one line for the user."""
    try:
        yield
    except (FtkitError, MemoryError):
        raise
    except Exception as error:
        raise reason_of(error, repository) from error
