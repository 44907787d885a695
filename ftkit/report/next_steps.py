"""What may be done with a finished run, as commands for a shell; each works for this very run."""

from contextlib import suppress
from pathlib import Path
from typing import Any

from ftkit.console import PIPE
from ftkit.evaluation.verification import is_recorded
from ftkit.reading import Damaged
from ftkit.recipe.schema import Recipe
from ftkit.report.predicting import SENTENCE, example
from ftkit.run import FINISHED, Run, is_run


def next_steps(run: Run, recipe: Recipe) -> dict[str, list[str]]:
    """The words of each command, by what it does."""
    folder = str(run.folder)
    steps = {"open the report": ["ftkit", "report", folder, "--open"]}
    if predicts(recipe):
        steps["predict"] = ["echo", asked_text(recipe), PIPE, "ftkit", "predict", folder, "-"]
    if recipe.generates:
        steps["talk to it"] = ["ftkit", "chat", folder]
    if (other := latest_beside(run)) is not None:
        steps["compare it with the run before"] = ["ftkit", "compare", str(other), folder]
    if (run.model / "adapter_config.json").is_file() and is_recorded(run.verification):  # else nothing to compare it on
        steps["make one whole model of adapter and base"] = [
            "ftkit",
            "merge",
            folder,
            str(free_beside(run.folder, "merged")),
        ]
    return steps


def predicts(recipe: Recipe) -> bool:
    """Whether rows can be predicted: a run on plain text alone has nothing to say of a row."""
    return any(len(form.required) > 1 or form.name == "chat" for form in recipe.spec.formats)


def asked_text(recipe: Recipe) -> str:
    """A line that `ftkit predict` takes from standard input."""
    roles = recipe.spec.formats[0].required
    return SENTENCE if "tokens" in roles else example(roles[0])


def latest_beside(run: Run) -> Path | None:
    """The folder of the run that was finished last beside this one, of those that were measured on the same rows."""
    others: dict[Path, dict[str, Any]] = {}
    for path in run.folder.parent.iterdir():
        with suppress(Damaged, OSError):  # of another run, which is no fault of this one
            if path.name != run.folder.name and is_run(path):
                others[path] = Run(path).record
    own = measured_rows(run.record)
    alike = [path for path, record in others.items() if record.get("state") == FINISHED and measured_rows(record) == own]
    return max(alike, key=lambda path: str(others[path].get("finished", "")), default=None)


def measured_rows(record: dict[str, Any]) -> Any:
    """What tells the eval rows of a run from others."""
    return record.get("data", {}).get("eval", {}).get("sha256")


def free_beside(folder: Path, ending: str) -> Path:
    """A path beside the folder that is not taken."""
    paths = (folder.with_name(f"{folder.name}_{ending}{number}") for number in ("", *map(str, range(2, 1000))))
    return next(path for path in paths if not path.exists())
