"""Write recipes/README.md: what each recipe is planned to take, and what its smoke run took and reached.

python scripts/recipe_runs.py runs
python scripts/recipe_table.py runs > recipes/README.md
"""

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ftkit.recipe.load import load_recipe
from ftkit.recipe.packaged import packaged_recipes
from ftkit.units import size_words

OPENING = """# Packaged recipes

`ftkit init NAME` copies one, `ftkit train recipes/NAME.yaml --smoke` tries it offline. Each file opens with what it needs.

- *weights* to *memory* are planned, for a GPU, of config.json and the recipe alone, without weights and rows, the longest
  batch taken to be of `model.max_length`: `ftkit plan recipes/NAME.yaml --device cuda --no-measure`. *training* is what
  steps take, *memory* what the whole run does: with libraries, and with measuring, 32 rows at a time, which takes more
  where a large model writes text. The configs were written after the published ones (`SHAPES` in
  `scripts/recipe_runs.py`), and each makes a model of the published size; but for FLAN-T5's, of which a config does not
  tell that its output embedding is its own.
- *smoke* is measured, as `ftkit train recipes/NAME.yaml --smoke` printed it, on {threads} of an {processor}: a tiny
  stand-in, made before, on sample data. Its score says that the recipe trains, not what the real model reaches.
- Scores and times of real models beside a plain `Trainer` script are in benchmarks/RESULTS.md.

A `-` was not made. Written by `make recipe-table`.

| recipe | task | model | weights | learn | training | memory | smoke: time | memory | score |
| --- | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | --- |"""


def main(folder: Path) -> None:
    runs = {name: folder / f"{name}_smoke" for name in packaged_recipes()}
    records = [found for run in runs.values() if (found := read(run / "run.json"))]
    print(
        OPENING.format(processor=one_of(record["machine"]["processor"] for record in records), threads=threads_of(records))
    )
    for name, path in packaged_recipes().items():
        recipe = load_recipe(path)
        cells = [f"`{name}`", recipe.task, recipe.model.name.rpartition("/")[2], *planned(folder / f"{name}_plan.json")]
        print(f"| {' | '.join([*cells, *measured(runs[name])])} |")


def threads_of(records: list[dict[str, Any]]) -> str:
    threads = one_of(record["process"]["threads"] for record in records)
    return "one thread" if threads == 1 else f"{threads} threads"


def one_of(values: Iterable[Any]) -> Any:
    """What all runs have in common; figures of several machines do not go into one table."""
    found = set(values)
    if len(found) != 1:
        raise SystemExit(f"the runs are not of one machine: {', '.join(map(str, found)) or 'there are none'}")
    return found.pop()


def read(file: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    return found


def planned(file: Path) -> list[str]:
    plan = read(file)
    if not plan:
        return ["-"] * 4
    counts, sizes = plan["parameters"], (plan["memory"]["training"], plan["needed"])
    return [f"{counts['total'] / 1e6:,.1f} M", f"{counts['trainable_percent']:.2f} %", *map(size_words, sizes)]


def measured(run: Path) -> list[str]:
    record, metrics = read(run / "run.json"), read(run / "metrics.json")
    if not metrics:
        return ["-"] * 3
    name = next(iter(metrics["tuned"]))
    score = f"{name} {metrics['baseline'][name]:.4f} → {metrics['tuned'][name]:.4f}"
    peak = max(record["peak_memory_bytes"].values())
    return [f"{record['seconds']['total']:.0f} s", size_words(peak), score]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
