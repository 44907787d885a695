"""What a run was made of, as digests: its recipe, its rows and ftkit's own code; and whether that still holds."""

import hashlib
from pathlib import Path
from typing import Any

from ftkit.data.digests import DATA, data_paths
from ftkit.data.splits import fingerprint, read_splits
from ftkit.errors import UserError
from ftkit.recipe.schema import Recipe, Source
from ftkit.run import PACKAGES, Run, code_digest, environment
from ftkit.tasks.table import TASKS
from ftkit.training.inputs import compare_inputs, words_of
from ftkit.training.prepare import limit_rows


def fingerprints(run: Run) -> dict[str, str]:
    """Of the recipe as it lies in the run's folder, and of the code, for run.json."""
    return {"recipe": sha256(run.recipe_file), "code": code_digest()}


def sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def recipe_failures(run: Run) -> list[str]:
    """Whether recipe.yaml is as it was when the run began."""
    if not run.has_its_recipe():
        return [f"{run.recipe_file} was changed since the run began"]
    return []


def data_findings(run: Run) -> tuple[list[str], str]:
    """Which splits are no longer the rows of the run, and what was found in words."""
    recorded = {name: split["sha256"] for name, split in run.record.get("data", {}).items()}
    try:
        recipe = run.read_recipe()
        found = read_fingerprints(recipe, run)
    except UserError as error:
        return [], f"not checked: {error}"
    changed = [name for name, digest in recorded.items() if found.get(name) != digest]
    if changed:
        return [f"the data changed since the run: {split_words(recipe, run, name)}" for name in changed], ""
    return [], f"{' and '.join(recorded)} rows are those of the run" if recorded else "not checked: run.json names no rows"


def split_words(recipe: Recipe, run: Run, split: str) -> str:
    """A split whose rows changed, its sources, and what differs in their files."""
    sources = sources_of(recipe, split)
    files = {str(path) for source in sources for path in data_paths(source)}
    try:
        found = [one for one in compare_inputs(recipe, run).changes if one.key.startswith(DATA)]
    except UserError:
        found = []
    words = words_of([one for one in found if any(one.name.startswith(file) for file in files)])
    return f"the {split} rows, from {', '.join(source.path for source in sources)}" + (f"; {words}" if words else "")


def sources_of(recipe: Recipe, split: str) -> list[Source]:
    own = recipe.data.eval if split == "eval" else recipe.data.train
    return own or recipe.data.train


def read_fingerprints(recipe: Recipe, run: Run) -> dict[str, str]:
    """Of each split as the recipe gives it now.

    Raises:
        UserError: the rows cannot be read.
    """
    task = TASKS[recipe.task](recipe.data)
    splits = read_splits(recipe.data, recipe.spec, task.strata, members=task.members)
    limit_rows(splits, "eval", recipe)
    return {name: fingerprint(rows) for name, rows in splits.rows.items()}


def code_words(run: Run) -> str:
    """Whether the code is that of the run; another version is no fault of the saved model, which stands by its scores."""
    record, here = run.record, environment(run.folder, status=False)
    versions: dict[str, Any] = record.get("versions", {})
    changed = [
        f"{name} {versions[name]} → {here['versions'].get(name, 'none')}"
        for name in PACKAGES
        if name in versions and versions[name] != here["versions"].get(name)
    ]
    before, after = record.get("git") or {}, here["git"] or {}
    if after and before.get("commit") and before["commit"] != after["commit"]:
        changed.append(f"git commit {before['commit'][:10]} → {after['commit'][:10]}")
    if (recorded := record.get("fingerprints", {}).get("code")) and recorded != code_digest():
        changed.append("ftkit's source files")
    return f"differs from the run's: {', '.join(changed)}" if changed else "that of the run"
