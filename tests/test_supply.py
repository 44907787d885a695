"""What `make audit` and `make test-oldest` are made of.

Kind: an audit that calls well what it could not look up; an oldest version that is not the one that pyproject.toml promises.
"""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tomllib
from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
sys.path.insert(0, str(ROOT / "scripts"))

from audit import verdict
from oldest import oldest

FAULT = {"id": "PYSEC-1", "fix_versions": ["1.1"]}
SOUND: dict[str, Any] = {"name": "a", "version": "1.0", "vulns": []}
WRONG: dict[str, Any] = {"name": "b", "version": "1.0", "vulns": [FAULT]}
SKIPPED = {"name": "c", "skip_reason": "Dependency not found"}
OWN = {"name": "ftkit", "skip_reason": "Dependency not found"}


@pytest.mark.parametrize(
    ("found", "fault", "status", "said"),
    [
        ([SOUND, OWN], "", 0, "1 packages were looked up, 0 of them"),
        ([SOUND, WRONG], "", 1, "b 1.0: PYSEC-1, fixed in 1.1"),
        ([SOUND, WRONG, SKIPPED], "", 1, "1 packages could not be audited: c"),
        ([SOUND, SKIPPED], "", 2, "1 packages could not be audited: c"),
        ([SKIPPED] * 9, "", 2, "9 packages could not be audited: c, c, c, c, c and 4 more"),
        ([], "", 2, "could not be audited"),
        ([], "no answer", 2, "could not be audited: no answer"),
    ],
)
def test_an_audit_is_good_where_all_was_looked_up(found: list[Any], fault: str, status: int, said: str) -> None:
    lines, ended = verdict(found, fault)
    assert ended == status
    assert any(said in line for line in lines)
    assert ("could not be audited" in "\n".join(lines)) is (status == 2 or SKIPPED in found)


def test_the_oldest_versions_are_inside_their_ranges() -> None:
    script = [sys.executable, str(ROOT / "scripts" / "oldest.py")]
    for extra in ("", "qlora"):
        wanted = PROJECT["optional-dependencies"][extra] if extra else PROJECT["dependencies"]
        done = subprocess.run([*script, *filter(None, [extra])], capture_output=True, text=True, check=True)
        found = dict(line.split("==") for line in done.stdout.splitlines())
        assert found.keys() == {Requirement(text).name for text in wanted}
        assert all(Requirement(text).specifier.contains(found[Requirement(text).name]) for text in wanted)


def test_a_range_without_a_lower_bound_is_no_promise() -> None:
    with pytest.raises(ValueError, match="no lower bound"):
        oldest(["regex"], {})
    assert oldest(["torch>=2.6", "rich>=14.1,<16", "x>=1; sys_platform == 'none'"], {"torch": "2.13.0"}) == [
        "torch==2.13.0", "rich==14.1",
    ]  # fmt: skip
