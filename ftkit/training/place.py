"""The folder that a run goes into, as training takes it: locked first, then asked what it holds."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ftkit.claim import Claim, claimed, is_first_rank
from ftkit.errors import UserError
from ftkit.run import Run, is_torn, require_free, require_idle, sweep
from ftkit.training.checkpoints import put_back


@contextmanager
def place_claimed(folder: Path, *, overwrite: bool, resume: bool) -> Iterator[Claim]:
    """A folder into which a run may be written, by this process alone while the block runs.

    Raises:
        UserError: another process works on it, it holds what would be lost, or there is nothing to resume.
    """
    require_name(folder)
    run = Run(folder)
    if not is_first_rank():  # the first of this launch asks for all
        with claimed(folder) as claim:
            yield claim
        return
    require_idle(run)
    goes_on = resume and not overwrite and (run.record_file.exists() or run.recipe_file.exists())
    if not (goes_on or is_torn(run)):
        require_free(folder, overwrite=overwrite, resume=resume)  # where it is refused nothing is written
    with claimed(folder) as claim:
        sweep(run)
        if resume and not overwrite:
            put_back(run)
        require_free(folder, overwrite=overwrite, resume=resume)
        yield claim


def require_name(folder: Path) -> None:
    """Raises UserError where a folder's name is not UTF-8, in which all that is written of a run is."""
    try:
        str(folder).encode()
    except UnicodeEncodeError:
        shown = str(folder).encode(errors="backslashreplace").decode()
        raise UserError(f"the name {shown} is not UTF-8", "choose another --output-dir", "--output-dir") from None
