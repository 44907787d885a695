"""Mutated recipes through `ftkit check`, or `ftkit train` for two steps: each is sound, or refused by words.

    python -m tests.fuzz.mutated --cases 5000
    python -m tests.fuzz.mutated --command train --cases 2000 --seed 7
    python -m tests.fuzz.mutated --seed 7 --only 1234

Each case runs in a fork that has so many seconds of processor and so much memory. A fault is what is none of ftkit's own errors: a
traceback, a process that dies, one that does not end. Each is printed with its recipe; 1 at the end where there was one.
"""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import argparse
import contextlib
import gc
import importlib
import json
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import datasets.config

from ftkit import api, console
from ftkit.cli import check as check_command
from ftkit.errors import FtkitError, UserError
from tests.fuzz.mutations import Fiend, Values, make_files, sound_recipes

SECONDS = 60  # of processor
WALL_SECONDS = 240
BYTES = 16 << 30
LIBRARIES = (
    "ftkit",
    "transformers",
    "torch",
    "peft",
    "datasets",
    "accelerate",
    "bitsandbytes",
    "sklearn",
    "scipy",
    "pyarrow",
)
SOUND, REFUSED = "sound", "refused"


@dataclass(frozen=True)
class Outcome:
    """What became of one recipe: `sound`, `refused`, or a fault by its kind; `words` are what was said."""

    kind: str
    words: str
    seconds: float = 0.0

    @property
    def is_fault(self) -> bool:
        return self.kind not in (SOUND, REFUSED)


def run_recipe(command: str, file: Path, folder: Path) -> None:
    """The command as the command line runs it, in this process."""
    if command == "train":
        api.train(file, output_dir=folder / "run", overwrite=True)
    else:
        check_command.check(file, None, None, None, None, False, True, False)


def outcome_of(command: str, file: Path, folder: Path) -> Outcome:
    try:
        run_recipe(command, file, folder)
    except UserError as error:
        said = str(error)
        return Outcome(REFUSED if said.strip() and "Traceback" not in said else "empty words", said)
    except FtkitError as error:
        return Outcome(REFUSED, str(error))
    except BaseException as error:
        return Outcome(type(error).__name__, traceback.format_exc())
    return Outcome(SOUND, "")


def in_fork(command: str, file: Path, folder: Path) -> Outcome:
    """The outcome in a process of its own, with bounds; what it prints goes into a file."""
    begun, answer = time.monotonic(), folder / "outcome.json"
    answer.unlink(missing_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    if not (child := os.fork()):
        bounded(folder / "printed.txt")
        found = outcome_of(command, file, folder)
        answer.write_text(json.dumps([found.kind, found.words]))
        os._exit(0)
    status = waited(child, begun + WALL_SECONDS)
    seconds, printed = time.monotonic() - begun, (folder / "printed.txt").read_text(errors="replace")
    if not answer.exists():
        hung = status is None or os.WTERMSIG(status) in (signal.SIGXCPU, signal.SIGKILL)
        return Outcome("hang" if hung else f"died {status}", printed[-3000:], seconds)
    kind, words = json.loads(answer.read_text())
    if kind in (SOUND, REFUSED) and "Traceback" in printed:
        kind, words = "printed traceback", printed[-3000:]
    return Outcome(kind, words, seconds)


def bounded(printed: Path) -> None:
    """In the child: its own group and standard streams, and an end to time and memory."""
    os.setpgid(0, 0)
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS + 5))
    resource.setrlimit(resource.RLIMIT_AS, (BYTES, BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    target = os.open(printed, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(target, 1)
    os.dup2(target, 2)


def waited(child: int, until: float) -> int | None:
    """The child's status; None where it went on for too long. Processes that it left are ended."""
    status = None
    while time.monotonic() < until:
        done, code = os.waitpid(child, os.WNOHANG)
        if done:
            status = code
            break
        time.sleep(0.005)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child, signal.SIGKILL)
    if status is None:
        os.waitpid(child, 0)
    return status


def cases(
    recipes: list[Values], seed: int, command: str, folder: Path, only: int | None, count: int
) -> Iterator[tuple[int, bytes]]:
    """The number of each case and the bytes of its recipe; a case follows from seed and number alone."""
    for number in [only] if only is not None else range(count):
        fiend = Fiend(seed * 1_000_003 + number, folder)
        recipe = fiend.mutate(fiend.random.choice(recipes), number)
        if command == "train":
            keep_short(recipe)
        yield number, fiend.text(recipe)


def keep_short(recipe: Values) -> None:
    """A run of many steps is no hang: whatever was changed, there are two."""
    if isinstance(recipe.get("training"), dict):
        recipe["training"]["max_steps"] = 2


def in_child(work: Callable[[], object], printed: Path) -> None:
    """Do something in a fork, so that this process starts no thread, which a later fork would lack."""
    if not (child := os.fork()):
        bounded(printed)
        try:
            work()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
        os._exit(1)
    if os.waitpid(child, 0)[1]:
        raise RuntimeError(printed.read_text(errors="replace"))


def warm_up(recipes: list[Values], folder: Path) -> None:
    """What is imported late is imported before there are forks."""
    known, file = folder / "modules.txt", folder / "recipe.yaml"

    def note_modules() -> None:
        for recipe in recipes[::3]:
            file.write_text(json.dumps(recipe))
            with contextlib.suppress(FtkitError):
                api.check(file)
        known.write_text("\n".join(sys.modules))

    in_child(note_modules, folder / "printed.txt")
    for name in known.read_text().split():
        if name.partition(".")[0] in LIBRARIES:
            with contextlib.suppress(Exception):
                importlib.import_module(name)
    gc.freeze()  # or each fork would copy all objects, to count what refers to them


@contextlib.contextmanager
def caches_in(folder: Path) -> Iterator[None]:
    """Inside the block nothing is kept outside the folder."""
    before = datasets.config.HF_DATASETS_CACHE, os.environ.get("FTKIT_CACHE")
    datasets.config.HF_DATASETS_CACHE = folder / "rows"
    os.environ["FTKIT_CACHE"] = str(folder / "cache")
    try:
        yield
    finally:
        datasets.config.HF_DATASETS_CACHE = before[0]
        os.environ.pop("FTKIT_CACHE")
        if before[1] is not None:
            os.environ["FTKIT_CACHE"] = before[1]


def sweep(command: str, count: int, seed: int, only: int | None = None, most: float = 1e9) -> tuple[Counter[str], list[str]]:
    """How often each outcome came, and the faults in words; ends early after `most` seconds."""
    found: Counter[str] = Counter()
    faults: list[str] = []
    until = time.monotonic() + most
    with tempfile.TemporaryDirectory() as name, caches_in(Path(name)):
        folder = Path(name).resolve()
        in_child(lambda: make_files(folder / "fuzz"), folder / "printed.txt")
        recipes = sound_recipes(folder / "fuzz")
        warm_up(recipes, folder)
        for number, data in cases(recipes, seed, command, folder / "fuzz", only, count):
            if time.monotonic() > until:
                break
            (file := folder / "recipe.yaml").write_bytes(data)
            outcome = in_fork(command, file, folder)
            found[outcome.kind] += 1
            if outcome.is_fault:
                faults.append(fault_words(number, seed, data, outcome))
                print(faults[-1], flush=True)
            if found.total() % 100 == 0:
                print(f"{found.total()} recipes, {len(faults)} faults", file=sys.stderr, flush=True)
            if only is not None:
                print(data.decode(errors="replace"), outcome.kind, outcome.words, sep="\n")
    return found, faults


def fault_words(number: int, seed: int, data: bytes, outcome: Outcome) -> str:
    head = f"=== case {number} of seed {seed}: {outcome.kind}, {outcome.seconds:.1f} s"
    return f"{head}\n{data.decode(errors='backslashreplace')}\n--- {outcome.words.strip()}\n"


def main() -> int:
    parser = argparse.ArgumentParser(description="Mutated recipes through check or train.")
    parser.add_argument("--command", choices=("check", "train"), default="check")
    parser.add_argument("--cases", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, help="this case alone, with its recipe")
    parser.add_argument("--seconds", type=float, default=1e9, help="end after so many, whatever has run by then")
    given = parser.parse_args()
    console.set_quiet(True)
    begun = time.monotonic()
    found, faults = sweep(given.command, given.cases, given.seed, given.only, given.seconds)
    print(
        f"{given.command}: {found.total()} recipes of seed {given.seed} in {time.monotonic() - begun:.0f} s: {dict(found)}"
    )
    print(f"{len(faults)} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
