"""What `ftkit eval` measures: a run's folder, or a model with a recipe or a task and data. Imports nothing heavy."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ftkit.data.paths import KINDS, OF_FILES, ending_of
from ftkit.errors import UserError
from ftkit.hub.door import pinned
from ftkit.hub.names import is_hub_id, names_dataset
from ftkit.hub.runs import found_run, run_repository
from ftkit.recipe.load import load_recipe, load_values
from ftkit.recipe.schema import Recipe
from ftkit.recipe.tasks import TASK_SPECS
from ftkit.run import Run, require_files, require_finished, resolved_values
from ftkit.trust import require_trust, say_code

SPLITS = ("eval", "test", "train")


@dataclass(frozen=True)
class Target:
    """A model and the rows that it is measured on.

    Attributes:
        recipe: what is to be measured: task, data, metrics; its model is the base.
        trained: the folder of a run's trained model, or None where the recipe's model is measured as it is.
        split: which split of the recipe's data.
    """

    name: str
    recipe: Recipe
    trained: Path | None
    split: str
    own_rows: bool = False


def resolve_target(
    name: str, *, recipe: Path | None, task: str | None, data: str | None, split: str, revision: str | None = None,
    trust_code: bool = False,
) -> Target:  # fmt: skip
    """From the command line's words to a target.

    Args:
        trust_code: code that a run's folder brings may be run.

    Raises:
        UserError: they do not say what is to be measured, or on what.
    """
    if split not in SPLITS:
        raise UserError(f"no split '{split}'", f"there are {', '.join(SPLITS)}", "--split")
    require_hub_id(name, revision)
    require_files(Run(Path(name).expanduser()))
    folder = found_run(name, revision)
    trained = None
    given = load_recipe(recipe) if recipe is not None else None
    if given is not None:
        say_code(given)
    if folder is not None:
        run = Run(folder)
        if task is not None:
            raise UserError("--task has no effect on a run", "its recipe says the task; leave it out", "--task")
        require_finished(run)
        require_trust(folder, trust_code, metric=True, recipe=given)
        values = resolved_values(given or run.read_recipe())
        trained = run.model
    elif given is not None:
        values = resolved_values(given) | {"model": model_block(name, revision)}
    elif task is not None and data is not None:
        values = {"task": task, "model": model_block(name, revision), "strategy": "full", "data": {"train": data}}
        if task not in TASK_SPECS:
            raise UserError(f"no task '{task}'", f"there are {', '.join(TASK_SPECS)}", "--task")
    else:
        raise UserError(f"{name} is no run", "say what to measure: --recipe FILE, or --task TASK --data ROWS")
    if data is not None:
        values["data"], split = replaced_data(values["data"], data), "eval"
    checked = load_values(values, name)
    if data is None and run_repository(name, revision) is not None and folder is not None:
        require_rows(checked, name)
    if split == "test" and not checked.data.names_test:
        raise UserError(
            "the recipe has no test rows", "name some with --data, or set data.test or data.test_size", "--split"
        )
    whole = trained is not None and not (trained / "adapter_config.json").is_file()  # an adapter needs its base
    checked = pinned(checked, ("dataset",) if whole else ("model", "dataset"))
    return Target(name, checked, trained, split, own_rows=trained is not None and data is None and recipe is None)


def model_block(name: str, revision: str | None) -> dict[str, Any]:
    return {"name": name} | ({"revision": revision} if revision else {})


def require_rows(recipe: Recipe, name: str) -> None:
    """Raises UserError where a run on the hub was measured on files that are not on this machine."""
    named = [source.path for part in SPLITS for source in getattr(recipe.data, part) or []]
    if lost := [path for path in named if ":" not in path and not names_dataset(path) and not Path(path).exists()]:
        raise UserError(f"{name} is on the hub without its rows, {lost[0]}", "give some with --data", "--data")


def require_hub_id(name: str, revision: str | None) -> None:
    """Raises UserError where a revision is asked of a folder, which has none."""
    if revision and not is_hub_id(name):
        raise UserError(f"{name} is no hub id, and has no revisions", "leave it out", "--revision")


REPLACED = ("eval", "eval_size", "test", "test_size", "split_column", "group_column")


def replaced_data(block: dict[str, Any], data: str) -> dict[str, Any]:
    """The data block with other rows to measure on; columns, labels and prompts stay."""
    kept = {key: value for key, value in block.items() if key not in REPLACED}
    return kept | {"eval": as_in_training(data, block["train"])}


def as_in_training(path: str, sources: Any) -> dict[str, Any]:
    """A source that is read as that one of the training data whose files are of the same kind."""
    listed = [
        one if isinstance(one, dict) else {"path": one} for one in (sources if isinstance(sources, list) else [sources])
    ]
    kind = KINDS.get(ending_of(path))
    same = next((one for one in listed if kind and KINDS.get(ending_of(one["path"])) == kind), {})
    return {"path": path} | {key: same[key] for key in (*OF_FILES, "encoding", "columns") if same.get(key)}
