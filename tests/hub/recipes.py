"""The packaged recipes on a hub of the tests' own, unchanged but for steps and rows, in four states of cache and hub.

    python -m tests.hub.recipes --out tests/hub/recipes.csv
    python -m tests.hub.recipes --only full_distilbert --out tests/hub/recipes.csv

cold: the cache is empty. warm: it has all. offline: it has all, and there is no hub. gone: it is empty, and the hub goes when
it has given the weights. A line each: recipe × state × requests × seconds × result; 1 at the end where one is not verified,
not as it was when cold, or asks too much.
"""

import argparse
import copy
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ftkit.recipe.load import load_recipe
from ftkit.recipe.packaged import packaged_recipes
from tests.hub.commands import Done, ftkit
from tests.hub.packaged import publish_packaged
from tests.hub.server import Fault, Hub
from tests.hub.table import write_table

STATES: dict[str, Fault | None] = {
    "cold": None,
    "warm": None,
    "offline": Fault(gone=True),
    "gone": Fault(after=r"GET .*\.safetensors", gone=True),
}
MOST_REQUESTS = 4  # of a warm run
COLUMNS = ("recipe", "state", "requests", "of weights", "seconds", "result")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", default=list(packaged_recipes()))
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder, Hub() as hub:
        publish_packaged(hub, Path(folder, "models"))
        for row in (row for name in asked.only for row in runs(name, hub, Path(folder, name))):
            rows.append(row)
            print(*row.values(), sep="  ", flush=True)
            if asked.out:
                write_table(asked.out, rows, [(recipe, state) for recipe in packaged_recipes() for state in STATES])
    return int(any(row["result"] != "right" for row in rows))


def runs(name: str, hub: Hub, folder: Path) -> Iterator[dict[str, Any]]:
    """A recipe's four runs."""
    for state, fault in STATES.items():
        home = folder / ("home-gone" if state == "gone" else "home")
        hub.fault = copy.copy(fault)
        done = ftkit(["train", packaged_recipes()[name], *shorter(name), "-o", folder / state], hub, home, folder / "work")
        hub.fault = None
        weights = len(done.asked(r"\.safetensors"))
        values = (name, state, len(done.requests), weights, f"{done.seconds:.0f}", judged(done, state, folder))
        yield dict(zip(COLUMNS, values, strict=True))


def shorter(name: str) -> list[str]:
    """Steps and rows of a size for tiny data."""
    recipe = load_recipe(packaged_recipes()[name])
    words = ["training.max_steps=4"]  # under warm-up an adapter has moved whole after three
    if recipe.data.eval is None:
        words += ["data.eval_size=16"]
    return words + (["evaluation.generation.rows=4"] if recipe.generates else [])


def judged(done: Done, state: str, folder: Path) -> str:
    if done.status:
        return f"status {done.status}: {done.error or done.output[-300:]}"
    if "saved model  verified" not in done.output:
        return "not verified"
    if scores(folder / state) != scores(folder / "cold"):
        return "other scores than cold"
    if state == "warm" and (len(done.requests) > MOST_REQUESTS or done.asked(r"\.safetensors")):
        return "asks too much"
    return "right"


def scores(run: Path) -> dict[str, Any]:
    return {part: json.loads((run / "metrics.json").read_text())[part] for part in ("baseline", "tuned")}


if __name__ == "__main__":
    raise SystemExit(main())
