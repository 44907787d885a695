"""What a hub can do wrong, and what a command says of it: a table of fault × command.

    python -m tests.hub.faults --out tests/hub/faults.csv
    python -m tests.hub.faults --only hang --commands train eval

Each command has an empty cache. A line each: fault × command × seconds × status × what was said. Right is one line that names
the true reason, within ten seconds or those that Retry-After names, and status 2; or, of a command that does not need what
could not be had, its result. 1 at the end where one is not so.
"""

import argparse
import copy
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.hub.commands import Done, ftkit
from tests.hub.packaged import publish_packaged
from tests.hub.server import Fault, Hub
from tests.hub.table import write_table

MOST_SECONDS = 10.0
COLUMNS = ("fault", "command", "seconds", "status", "result", "line")
MODEL, ROWS = "openai-community/gpt2", "Salesforce/wikitext"
RECIPE = f"""\
task: language-modeling
model: {{name: {MODEL}, max_length: 64}}
strategy: {{name: lora, r: 4, target_modules: [c_attn]}}
data: {{train: {{path: {ROWS}, name: wikitext-2-raw-v1}}, eval_size: 8}}
training: {{max_steps: 1}}
"""
COMMANDS = {
    "train": ["train", "recipe.yaml", "-o", "run"],
    "plan": ["plan", "recipe.yaml"],
    "eval": ["eval", MODEL, "--recipe", "recipe.yaml"],
}
FILES = {
    "config": r"gpt2/resolve/.*/config\.json", "tokenizer": r"gpt2/resolve/.*/tokenizer", "weights": r"\.safetensors",
    "data": r"wikitext/resolve/.*parquet|large/datasets",
}  # fmt: skip
# The words of the hub itself for a status, and what the line must name of the reason.
STATUSES: dict[int, tuple[str, str]] = {
    401: ("Invalid credentials in Authorization header", "401|token"), 403: ("You have no access", "403|access"),
    404: ("Entry not found", "404|no file|not found"), 429: ("You have sent too many requests", "429|too many"),
    500: ("Internal error", "500|Internal error"),
}  # fmt: skip


@dataclass(frozen=True)
class Case:
    """A fault, the words of which one must be in the line, and what of the environment makes it."""

    fault: Fault | None
    words: str
    variables: dict[str, str] = field(default_factory=dict)


def cases() -> dict[str, Case]:
    found = {
        f"{status} {file}": Case(Fault(pattern, status=status, words=said), words)
        for status, (said, words) in STATUSES.items()
        for file, pattern in FILES.items()
    }
    found |= {
        f"cut {file}": Case(Fault(f"GET .*({FILES[file]})", cut=40), "broke|cut|incomplete|peer|size|bytes")
        for file in FILES
    }
    found |= {f"hang {file}": Case(Fault(FILES[file], hang=True), "answer|time") for file in FILES}
    silent, dead = "answer|reach|connect", "http://127.0.0.1:9"
    return found | {
        "hang": Case(Fault(hang=True), silent),
        "gone": Case(Fault(gone=True), silent),
        "login page": Case(Fault(login=True), "login|HTML|page|log in"),
        "429 for 3 s": Case(Fault("/api/", status=429, retry_after="3", words=STATUSES[429][0]), "3 s"),
        "429 for an hour": Case(
            Fault("/api/", status=429, retry_after="3600", words=STATUSES[429][0]), "3600 s|3,600 s|hour"
        ),
        "500": Case(Fault("/api/", status=500), "500"),
        "changed bytes": Case(
            Fault(f"GET .*({FILES['weights']})", changed=200), "bytes|changed|safetensors|header|corrupt|digest"
        ),
        "no proxy there": Case(None, "prox|connect|reach", {"HTTP_PROXY": dead}),
        "a proxy without a scheme": Case(None, "prox|scheme", {"HTTP_PROXY": "127.0.0.1:9"}),
        "no host of that name": Case(None, "resolv|name|reach|connect", {"HF_ENDPOINT": "http://hub.invalid"}),
        "no hub there": Case(None, "connect|reach|refused", {"HF_ENDPOINT": dead}),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", help="faults that begin so")
    parser.add_argument("--commands", nargs="+", default=list(COMMANDS))
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder, Hub() as hub:
        publish_packaged(hub, Path(folder, "models"))
        chosen = {name: case for name, case in cases().items() if not asked.only or name.startswith(tuple(asked.only))}
        for row in runs(chosen, asked.commands, hub, Path(folder)):
            rows.append(row)
            print(*row.values(), sep="  ", flush=True)
            if asked.out:
                write_table(asked.out, rows, [(fault, command) for fault in cases() for command in COMMANDS])
    wrong = [row for row in rows if row["result"] not in ("right", "not needed")]
    print(f"{len(rows)} runs, {len(wrong)} not right")
    return int(bool(wrong))


def runs(chosen: dict[str, Case], commands: list[str], hub: Hub, folder: Path) -> Iterator[dict[str, Any]]:
    for number, (name, command) in enumerate((name, command) for name in chosen for command in commands):
        case, place = chosen[name], folder / str(number)
        place.mkdir()
        (place / "recipe.yaml").write_text(RECIPE)
        hub.fault = copy.copy(case.fault)
        done = ftkit(COMMANDS[command], hub, place / "home", place, case.variables)
        struck = hub.fault is None or hub.fault.struck > 0
        hub.fault = None
        values = (
            name,
            command,
            f"{done.seconds:.1f}",
            done.status,
            judged(done, case, struck),
            done.error.replace(str(place), ""),
        )
        yield dict(zip(COLUMNS, (re.sub(r"127\.0\.0\.1:\d\d+", "HUB", str(value)) for value in values), strict=True))


def judged(done: Done, case: Case, struck: bool) -> str:
    if done.tracebacks:
        return "traceback"
    if done.status == 0:
        return "not needed"
    if done.status != 2:
        return "status"
    if not done.error:
        return "not one line"
    if done.seconds > MOST_SECONDS:
        return "slow"
    return "right" if struck and re.search(case.words, done.error, re.IGNORECASE) else "another reason"


if __name__ == "__main__":
    raise SystemExit(main())
