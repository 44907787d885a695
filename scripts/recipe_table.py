"""Write recipes/README.md: what each recipe is planned to take, and what its smoke run took and reached.

For each NAME of `ftkit recipes`, where the model's config.json can be had:

    ftkit train recipes/NAME.yaml --smoke
    ftkit plan recipes/NAME.yaml --device cuda --no-measure --json > runs/NAME_plan.json

Then: python scripts/recipe_table.py runs > recipes/README.md
"""

import json
import sys
from pathlib import Path
from typing import Any

from ftkit.recipe.load import load_recipe
from ftkit.recipe.packaged import packaged_recipes
from ftkit.units import size_words

OPENING = """# Packaged recipes

`ftkit init NAME` copies one, `ftkit train recipes/NAME.yaml --smoke` tries it offline. Each file opens with what it needs.

- *weights* and *memory* are planned, for a GPU, of config.json and the recipe alone, without the weights:
  `ftkit plan recipes/NAME.yaml --device cuda --no-measure`.
- *smoke* is measured, as `ftkit train recipes/NAME.yaml --smoke` printed it on two cores of an {processor} that did other
  work beside it: a tiny stand-in on sample data. Its score says that the recipe trains, not what the real model reaches.
- Scores and times of real models beside a plain `Trainer` script are in benchmarks/RESULTS.md.

A `-` was not measured. Written by `python scripts/recipe_table.py runs > recipes/README.md`.

| recipe | task | model | weights | learn | memory | smoke: time | memory | score |
| --- | --- | --- | ---: | ---: | ---: | ---: | ---: | --- |"""


def main(folder: Path) -> None:
    runs = {name: folder / f"{name}_smoke" for name in packaged_recipes()}
    machine = next((read(run / "run.json")["machine"] for run in runs.values() if read(run / "run.json")), {})
    print(OPENING.format(processor=machine.get("processor", "CPU")))
    for name, path in packaged_recipes().items():
        recipe = load_recipe(path)
        cells = [f"`{name}`", recipe.task, recipe.model.name.rpartition("/")[2], *planned(folder / f"{name}_plan.json")]
        print(f"| {' | '.join([*cells, *measured(runs[name])])} |")


def read(file: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    return found


def planned(file: Path) -> list[str]:
    plan = read(file)
    if not plan:
        return ["-"] * 3
    counts = plan["parameters"]
    return [f"{counts['total'] / 1e6:,.1f} M", f"{counts['trainable_percent']:.2f} %", size_words(plan["needed"])]


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
