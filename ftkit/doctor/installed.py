"""Versions against the ranges of ftkit's own metadata, and the extras: there or not, what for, and how to get them."""

import platform
import re
from collections.abc import Iterable, Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftkit import __version__
from ftkit.doctor.findings import BROKEN, GOOD, NOTE, Finding

if TYPE_CHECKING:
    from packaging.requirements import Requirement

VERSIONS, EXTRAS = "versions", "extras"
# What each extra is for.
PURPOSES = {
    "qlora": "strategy qlora",
    "gpu": "speed.liger_kernel, on an NVIDIA GPU",
    "onnx": "ftkit export --format onnx",
    "tensorboard": "training.report_to: tensorboard",
    "benchmarks": "ftkit eval --benchmarks",
    "bench": "measuring ftkit beside TRL",
    "docs": "building the documentation",
    "dev": "working on ftkit itself",
}
TRIED = ("qlora", "gpu", "onnx", "tensorboard")  # extras whose packages are imported; the others take long, or are programs
# Modules that are not called as their package is.
MODULES = {"pyyaml": "yaml", "scikit-learn": "sklearn"}


def declared() -> tuple[list[str], str]:
    """The requirements of ftkit as installed, else of the pyproject.toml beside its source, and the Python it asks for."""
    try:
        own = metadata.metadata("ftkit")
        return list(metadata.requires("ftkit") or []), own["Requires-Python"] or ""
    except metadata.PackageNotFoundError:
        return of_source(Path(__file__).parent.parent.parent / "pyproject.toml")


def of_source(file: Path) -> tuple[list[str], str]:
    """The same of pyproject.toml; nothing where there is none, or where Python is too old to read it."""
    try:
        import tomllib

        project: dict[str, Any] = tomllib.loads(file.read_text(encoding="utf-8"))["project"]
    except (ImportError, OSError):
        return [], ""
    extras = [
        f"{requirement.partition(';')[0]}; extra == '{name}'"
        + (f" and ({marker})" if (marker := requirement.partition(";")[2].strip()) else "")
        for name, requirements in project["optional-dependencies"].items()
        for requirement in requirements
    ]
    return [*project["dependencies"], *extras], project["requires-python"]


def parsed(requirements: Iterable[str]) -> list["Requirement"]:
    """Raises ImportError where `packaging` is not installed."""
    from packaging.requirements import Requirement

    return [Requirement(text) for text in requirements]


def serving(requirements: Iterable["Requirement"], extra: str = "") -> list["Requirement"]:
    """Those of an extra that are meant for this machine; without a name those that are always needed."""
    needed = [one for one in requirements if one.marker is None or one.marker.evaluate({"extra": ""})]
    if not extra:
        return needed
    return [one for one in requirements if one not in needed and one.marker and one.marker.evaluate({"extra": extra})]


def is_of(requirement: "Requirement", extra: str) -> bool:
    """Whether a requirement is of an extra, on whatever system."""
    return re.search(rf"extra == [\"']{extra}[\"']", str(requirement.marker)) is not None


def module_of(requirement: "Requirement") -> str:
    """The name by which a package is imported."""
    name = requirement.name.lower()
    return MODULES.get(name, name.replace("-", "_"))


def version_of(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def versions(required: Iterable["Requirement"], python: str) -> Iterator[Finding]:
    """ftkit, Python and what ftkit stands on; broken is what is missing or outside its range."""
    from packaging.specifiers import SpecifierSet

    yield of_ftkit()
    here = platform.python_version()
    inside = SpecifierSet(python).contains(here, prereleases=True)
    yield Finding(
        VERSIONS, "python", f"{here} ({python or 'any'})", GOOD if inside else BROKEN, "" if inside else f"takes {python}"
    )
    for one in required:
        yield of_package(one)


def of_ftkit() -> Finding:
    found = version_of("ftkit")
    if found is None:
        return Finding(VERSIONS, "ftkit", f"{__version__}, from its source and not installed", NOTE)
    if found != __version__:
        return Finding(VERSIONS, "ftkit", f"{__version__}, but installed is {found}", NOTE, "pip install -e . anew")
    return Finding(VERSIONS, "ftkit", __version__)


def of_package(one: "Requirement") -> Finding:
    """A package that ftkit cannot do without."""
    here, wanted = version_of(one.name), str(one.specifier) or "any"
    if here is None:
        return Finding(VERSIONS, one.name, f"missing ({wanted})", BROKEN, f"pip install '{one.name}{one.specifier}'")
    if not one.specifier.contains(here, prereleases=True):
        value = f"{here} is outside {wanted}"
        return Finding(VERSIONS, one.name, value, BROKEN, f"pip install '{one.name}{one.specifier}'")
    return Finding(VERSIONS, one.name, f"{here} ({wanted})")


def extras(requirements: list["Requirement"], errors: Mapping[str, str]) -> Iterator[Finding]:
    """Each extra.

    Args:
        errors: why a module cannot be imported, by its name.
    """
    for name, purpose in PURPOSES.items():
        wanted = serving(requirements, name)
        if wanted:
            yield of_extra(name, purpose, wanted, errors)
        elif any(is_of(one, name) for one in requirements):
            yield Finding(EXTRAS, name, f"not for this system (for {purpose})")
        else:
            yield Finding(EXTRAS, name, "the ftkit that is installed does not know it", NOTE, "install ftkit anew")


def of_extra(name: str, purpose: str, wanted: list["Requirement"], errors: Mapping[str, str]) -> Finding:
    """An extra with at least one package for this machine."""
    here = {one.name: version_of(one.name) for one in wanted}
    install = f"pip install 'ftkit[{name}]'"
    if missing := [one for one, version in here.items() if version is None]:
        return Finding(EXTRAS, name, f"missing: {', '.join(missing)} (for {purpose})", GOOD, install)
    outside = [
        f"{one.name} {here[one.name]} is outside {one.specifier}"
        for one in wanted
        if not one.specifier.contains(str(here[one.name]), prereleases=True)
    ]
    refused = [f"{one.name} cannot be imported: {errors[module_of(one)]}" for one in wanted if module_of(one) in errors]
    if found := [*outside, *refused]:
        return Finding(EXTRAS, name, f"{', '.join(found)} (for {purpose})", NOTE, install)
    shown = ", ".join(f"{one} {version}" for one, version in here.items()) if len(here) < 4 else f"{len(here)} packages"
    return Finding(EXTRAS, name, f"there: {shown} (for {purpose})")
