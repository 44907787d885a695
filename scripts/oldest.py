"""The oldest versions that pyproject.toml allows, as constraints for pip: what `make test-oldest` installs.

    python scripts/oldest.py > build/oldest.txt
    python scripts/oldest.py qlora > build/oldest-qlora.txt      what an extra asks for, alone

torch alone stays at the version of constraints.txt: an older one would bring gigabytes of a GPU's libraries along.
"""

import sys
from pathlib import Path

import tomllib
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent
LOWER = (">=", "==", "~=")


def oldest(requirements: list[str], kept: dict[str, str]) -> list[str]:
    """`name==version` for each requirement with a lower bound, less those whose marker excludes this machine.

    Args:
        kept: the version of a package that is not to be its oldest.

    Raises:
        ValueError: a requirement has no lower bound.
    """
    found = []
    for text in requirements:
        requirement = Requirement(text)
        if requirement.marker is not None and not requirement.marker.evaluate():
            continue
        bounds = [part.version for part in requirement.specifier if part.operator in LOWER]
        if not bounds:
            raise ValueError(f"{text} in pyproject.toml has no lower bound")
        found.append(f"{requirement.name}=={kept.get(requirement.name, bounds[0])}")
    return found


def pinned(name: str) -> str:
    """A package's version in constraints.txt."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return next(line.partition("==")[2] for line in lines if line.startswith(f"{name}=="))


def main(extra: str = "") -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = project["optional-dependencies"][extra] if extra else project["dependencies"]
    print("\n".join(oldest(wanted, {"torch": pinned("torch")})))


if __name__ == "__main__":
    main(*sys.argv[1:])
