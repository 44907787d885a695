"""Each file of a run damaged in each way, before each command that reads a run: `python tests/damage_sweep.py decoder`.

A line for each case that is a traceback, more than one line, a damage that `verify` does not find, or a run that ends otherwise
than its twin; then how many cases there were. Exit status 1 where a line was written. `--part 1/8` takes each eighth case.
"""

import argparse
import shutil
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from damaged_runs import (
    ANEW,
    COMMANDS,
    DAMAGES,
    FURTHER,
    MISSING,
    RAN,
    REFUSED,
    RESUME,
    TRACEBACK,
    damage,
    files_of,
    invoke,
    make_runs,
)

from ftkit import Recipe
from ftkit.compat import hush_libraries
from ftkit.data.samples.table import generate
from ftkit.models.standins import make_stand_in
from ftkit.reading import read_object
from ftkit.recipe.load import load_values
from ftkit.run import Run, changed_files, write_jsonl
from ftkit.training.smoke import tokenizer_texts

KINDS: dict[str, dict[str, Any]] = {
    "classifier": {
        "task": "text-classification",
        "kind": "distilbert",
        "data": "sentiment",
        "strategy": {"name": "lora", "r": 2, "target_modules": ["q_lin"]},
    },
    "decoder": {"task": "instruction", "kind": "gpt2", "data": "instructions", "strategy": {"name": "full"}},
    "tagger": {"task": "token-classification", "kind": "bert", "data": "entities", "strategy": {"name": "full"}},
}
UNREAD = ("tensorboard/", "README.md", "report.html")
CHECKPOINTS = "checkpoints/"  # with seals of their own
READING = COMMANDS | FURTHER


def recipe_maker(kind: str, place: Path) -> Callable[..., Recipe]:
    """A small recipe of a kind, whatever strategy is asked for."""
    found = KINDS[kind]
    make_stand_in(found["kind"], tokenizer_texts(), place / "model")
    write_jsonl(place / "rows.jsonl", generate(found["data"], rows=40, split="train", seed=1))

    def make(strategy: str, **blocks: Any) -> Recipe:
        blocks["evaluation"] = {**blocks.get("evaluation", {}), "generation": {"rows": 2, "max_new_tokens": 2}}
        if found["task"] != "instruction":
            blocks["evaluation"].pop("generation")
        model = {"name": str(place / "model"), "max_length": 128}
        data = {"train": str(place / "rows.jsonl"), "eval_size": 8}
        return load_values({"task": found["task"], "model": model, "strategy": found["strategy"], "data": data} | blocks)

    return make


def cases(made: Path) -> Iterator[tuple[str, str, str, str]]:
    """Which run, which file, how it is damaged, and the command."""
    for name in files_of(made / "finished"):
        if not name.startswith((*UNREAD, CHECKPOINTS)):
            for kind in (*DAMAGES, MISSING):
                yield from (("finished", name, kind, command) for command in READING)
    for which in ("stopped", "ended"):
        for name in files_of(made / which):
            if not name.startswith(UNREAD):
                yield from ((which, name, kind, "resume") for kind in (*DAMAGES, MISSING))
    for name in ("run.json", "recipe.yaml", "log.jsonl", "seal.json"):
        yield from (("finished", name, kind, "anew") for kind in (*DAMAGES, MISSING))


def fault(made: Path, which: str, name: str, kind: str, command: str) -> str:
    """What is wrong with a case; empty where nothing is."""
    shutil.rmtree(made.parent / "work", ignore_errors=True)
    shutil.copytree(made / which, made.parent / "work/run")
    run = Run(made.parent / "work/run")
    damage(run.folder / name, kind)
    changed = changed_files_or_all(run)
    words = {**READING, "resume": RESUME, "anew": ANEW}[command]
    found, said = invoke(words, run.folder, made)
    if found == TRACEBACK:
        return f"a traceback: {said}"
    if found == REFUSED and command != "verify" and "\n" in said:
        return f"more than a line: {said}"
    if command == "verify" and found == RAN and changed and (name, kind) != ("seal.json", MISSING):
        return "not found"
    if command in ("resume", "anew") and found == RAN:
        return difference(run, Run(made / "finished"))
    if command == "resume" and not name.startswith(CHECKPOINTS):
        return f"refused: {said}"
    return ""


def changed_files_or_all(run: Run) -> bool:
    try:
        return bool(changed_files(run))
    except Exception:  # of a damaged seal, which is what is asked
        return True


def difference(run: Run, twin: Run) -> str:
    if run.recipe_file.read_text() != twin.recipe_file.read_text() or changed_files(run):
        return "its files are others"
    found, expected = (read_object(one.metrics_file) for one in (run, twin))
    other = [key for key in ("baseline", "tuned", "intervals") if found[key] != expected[key]]
    weights = [{file.name: file.read_bytes() for file in one.model.glob("*.safetensors")} for one in (run, twin)]
    return f"its {other} differ" if other else "" if weights[0] == weights[1] else "its weights differ"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("--part", default="1/1")
    arguments = parser.parse_args()
    number, parts = map(int, arguments.part.split("/"))
    hush_libraries()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(124))  # by `timeout`: the counts so far are printed
    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "made"
        made.mkdir()
        make_runs(recipe_maker(arguments.kind, Path(folder)), made)
        try:
            for case in list(cases(made))[number - 1 :: parts]:
                what = fault(made, *case)
                counts["faults" if what else "good"] += 1
                counts[case[-1]] += 1
                if what:
                    print(*case, what, sep=" | ", flush=True)
        finally:
            print(dict(counts), flush=True)
    sys.exit(bool(counts["faults"]))


if __name__ == "__main__":
    main()
