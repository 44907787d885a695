"""What `ftkit doctor` looks at, in its order: what is known at once, what needs the libraries, a training."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftkit.doctor.children import answers
from ftkit.doctor.findings import BROKEN, GOOD, NOTE, Finding, error_words
from ftkit.doctor.imports import HARDWARE
from ftkit.doctor.installed import (
    TRIED,
    VERSIONS,
    declared,
    extras,
    module_of,
    of_ftkit,
    parsed,
    serving,
    version_of,
    versions,
)
from ftkit.doctor.places import disk, hub
from ftkit.scratch import scratch

if TYPE_CHECKING:
    from packaging.requirements import Requirement

IMPORTS, TRAINING = "imports", "training"
Status = Callable[[str], AbstractContextManager[None]]


def examine(status: Status = lambda message: nullcontext()) -> Iterator[Finding]:
    """All findings, each as soon as it is known.

    Args:
        status: shows what is being done while the block runs.
    """
    for finding in _examine(status):
        yield finding.public()


def _examine(status: Status) -> Iterator[Finding]:
    needed, requirements = [], []
    try:
        texts, python = declared()
        requirements = parsed(texts)
        needed = serving(requirements)
    except ImportError as error:
        yield of_ftkit()
        yield Finding(
            VERSIONS, "packaging", f"the ranges are not known: {error_words(error)}", BROKEN, "pip install packaging"
        )
    else:
        yield from versions(needed, python)
    yield from disk()
    yield from hub()
    errors: dict[str, str] = {}
    yield from imports(needed, requirements, errors, status)
    yield from extras(requirements, errors)
    yield training(status)


def imports(
    needed: list["Requirement"], requirements: list["Requirement"], errors: dict[str, str], status: Status
) -> Iterator[Finding]:
    """What cannot be imported of that which is installed, and the hardware as the libraries see it.

    Args:
        errors: is filled with why a module cannot be imported, by its name.
    """
    needed = sorted(needed, key=lambda one: one.name != "torch")  # on which most others stand
    tried = needed + [one for extra in TRIED for one in serving(requirements, extra)]
    modules = dict.fromkeys(module_of(one) for one in tried if version_of(one.name) is not None)
    with status("importing the libraries"):
        hardware = import_all(list(modules), errors)
    required = [name for name in map(module_of, needed) if name in modules]
    for why in dict.fromkeys(errors[name] for name in required if name in errors):  # one fault may be that of several
        names = [name for name in required if errors.get(name) == why]
        yield Finding(IMPORTS, ", ".join(names), f"cannot be imported: {why}", BROKEN, "install anew what it names")
    good = sum(name not in errors for name in required)
    yield Finding(IMPORTS, "required", f"{good} of {len(required)} can be imported", GOOD if good == len(required) else NOTE)
    yield from hardware


def import_all(modules: list[str], errors: dict[str, str]) -> list[Finding]:
    """Fill `errors`, and tell the hardware; what ends the process is passed over by the next."""
    left, hardware = modules, []
    while True:
        begun = ""
        for told in answers("ftkit.doctor.imports", *left):
            if "begun" in told:
                begun = told["begun"]
            elif "module" in told:
                errors |= {told["module"]: told["error"]} if told["error"] else {}
            elif "part" in told:
                hardware.append(Finding(**told))
            elif why := told["ended"]:
                if begun in left:
                    errors[begun] = why
                    break
                hardware.append(Finding(HARDWARE, "all", f"not known: {why}", BROKEN))
        if begun not in left or not left:
            return hardware
        left = left[left.index(begun) + 1 :]


def training(status: Status) -> Finding:
    """What came of a short training without network, of which nothing stays."""
    told: dict[str, Any] = {}
    try:
        with status("training for some seconds"), scratch() as name:
            folder = Path(name)
            for answer in answers("ftkit.doctor.training", folder=folder, variables=own_places(folder)):
                told |= answer
    except OSError as error:
        return Finding(TRAINING, "training", f"could not begin: {error_words(error)}", BROKEN)
    if "after" not in told:
        return Finding(TRAINING, "training", f"failed: {told.get('error') or told['ended'] or 'it told nothing'}", BROKEN)
    words = f"loss {told['before']:.3f} before, {told['after']:.3f} after; {told['tokens'] / told['seconds']:,.0f} tokens/s"
    words += f" on {told['device']} in {told['precision']}"
    if not told["after"] < told["before"]:
        return Finding(TRAINING, "training", f"{words}: the loss did not fall", BROKEN)
    return Finding(TRAINING, "training", words)


def own_places(folder: Path) -> dict[str, str]:
    """Variables by which nothing is written elsewhere, and nothing asked."""
    caches = {"FTKIT_CACHE": "cache", "HF_HOME": "hub", "HF_HUB_CACHE": "hub/hub", "HF_DATASETS_CACHE": "hub/datasets"}
    offline = dict.fromkeys(("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE"), "1")
    return {name: str(folder / place) for name, place in caches.items()} | offline
