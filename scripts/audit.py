"""Known vulnerabilities of what is installed, by pip-audit: what `make audit` runs.

    python scripts/audit.py .venv/bin/python       the environment whose Python that is; pip-audit is in this one

pip-audit ends well where it could look up nothing at all. Here that is no good end: 0 says that every package was looked up
and none is known to be vulnerable, 1 that some are, 2 that a package could not be audited.
"""

import json
import subprocess
import sys
from typing import Any

OWN = ("ftkit",)  # is in no index yet
PLACE = "import sysconfig; print(sysconfig.get_path('purelib'))"
SHOWN = 5  # names of packages that could not be audited


def audit(python: str) -> tuple[list[dict[str, Any]], str]:
    """What pip-audit says of each package, or why it says nothing."""
    place = subprocess.run([python, "-c", PLACE], capture_output=True, text=True, check=True).stdout.strip()
    words = [sys.executable, "-m", "pip_audit", "--path", place, "--format", "json", "--progress-spinner", "off"]
    done = subprocess.run(words, capture_output=True, text=True)
    try:
        return json.loads(done.stdout)["dependencies"], ""
    except (ValueError, KeyError):
        return [], (done.stderr.strip().splitlines() or [f"pip-audit ended with status {done.returncode}"])[-1]


def verdict(found: list[dict[str, Any]], fault: str) -> tuple[list[str], int]:
    """The lines to print, and the exit status."""
    if fault:
        return [f"could not be audited: {fault}"], 2
    if not found:
        return ["could not be audited: no package was found"], 2
    skipped = [one["name"] for one in found if "skip_reason" in one and one["name"] not in OWN]
    wrong = [one for one in found if one.get("vulns")]
    lines = [f"{one['name']} {one['version']}: {fault['id']}, fixed in {', '.join(fault['fix_versions']) or 'none yet'}"
             for one in wrong for fault in one["vulns"]]  # fmt: skip
    audited = sum("skip_reason" not in one for one in found)
    if audited:
        lines.append(f"{audited} packages were looked up, {len(wrong)} of them have known vulnerabilities")
    if skipped:
        names = ", ".join(skipped[:SHOWN]) + f" and {len(skipped) - SHOWN} more" * (len(skipped) > SHOWN)
        lines.append(f"{len(skipped)} packages could not be audited: {names}")
    return lines, 1 if wrong else 2 if skipped else 0


def main(python: str) -> int:
    lines, status = verdict(*audit(python))
    print("\n".join(lines))
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
