"""What a library refuses of a recipe's values: one line that names the key, whatever kind of error the library raises."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress

from ftkit import console
from ftkit.errors import FtkitError, UserError
from ftkit.models.load import first_line, lacks_memory


@contextmanager
def refusing(
    words: str, block: str, keys: Iterable[str], without: Callable[[str], object], hint: Callable[[str], str] = lambda _: ""
) -> Iterator[None]:
    """Around a call that hands a block's values to a library; a lack of memory is none of its refusals.

    Args:
        words: what stands before the library's own words, as "transformers refuses".
        keys: those of the block that the recipe says.
        without: makes the same call without one of them.
        hint: what to do about it, by the library's words.

    Raises:
        UserError: the library refuses.
    """
    try:
        yield
    except (FtkitError, MemoryError):
        raise
    except Exception as error:  # each library raises what it likes, as KeyError, AssertionError or OSError
        if lacks_memory(error):
            raise
        raise UserError(f"{words}: {said(error)}", hint(said(error)), key=blamed(block, keys, without)) from error


def said(error: Exception) -> str:
    """A library's words; a missing key's name alone tells nothing."""
    kind = f"{type(error).__name__}: " if isinstance(error, LookupError | AssertionError) else ""
    return f"{kind}{first_line(error)}"


def blamed(block: str, keys: Iterable[str], without: Callable[[str], object]) -> str:
    """The key without which the library takes the others; the block where there is no such one."""
    for key in sorted(keys):
        with suppress(Exception), console.hushed():
            without(key)
            return f"{block}.{key}"
    return block
