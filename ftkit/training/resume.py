"""What resuming needs beyond the Trainer: the same recipe, and a run whose training had already ended."""

from pathlib import Path
from typing import Any

from transformers import Trainer
from transformers.trainer_callback import TrainerState

from ftkit import console
from ftkit.errors import UserError
from ftkit.hub.pins import as_asked
from ftkit.reading import Damaged, read_bytes, read_object, read_text
from ftkit.recipe.schema import Recipe
from ftkit.run import RECORD, Run, resolved_values, write_text
from ftkit.training.checkpoints import copies, is_whole, newest_first

STATE = {"global_step": int, "max_steps": int}  # of a checkpoint
MAY_CHANGE = ("training.on_divergence",)  # says nothing of the steps that go well


def put_back(run: Run) -> None:
    """Put run.json and recipe.yaml of a run back where one is lost or damaged, and a whole checkpoint has a copy.

    What no checkpoint has stays as it is, for those who read it to refuse.
    """
    whole = None
    for name, file in copies(run).items():  # the record first, which knows the recipe's digest
        if not (what := damage_of(run, file)):
            continue
        whole = whole or next((checkpoint for checkpoint in newest_first(run.checkpoints) if is_whole(checkpoint)), None)
        if whole is not None and (whole / name).is_file():
            write_text(file, read_text(whole / name))
            console.warn(f"{file}: {what}; put back from {whole}")


def damage_of(run: Run, file: Path) -> str:
    """What is wrong with run.json or recipe.yaml, which are not read as what they are not; empty where nothing is."""
    try:
        if file == run.record_file:
            read_object(file, RECORD, ("state",))
            return ""
        read_bytes(file)
        return "" if run.has_its_recipe() else "not as it was when the run began"
    except Damaged as error:
        return error.message if error.file == file else ""


def require_same_recipe(run: Run, recipe: Recipe) -> None:
    """A resumed run goes on as it began: the scheduler's state would silently win over a new learning rate.

    Raises:
        UserError: the recipe differs from the one that the run began with; the keys are named.
    """
    began = run.read_recipe()
    began.keep_pins(run.record.get("hub", []))
    recipe = recipe if began.pins else as_asked(recipe)  # a run of before ftkit noted commits
    before, after = (flatten(resolved_values(r)) for r in (began, recipe))
    changed = sorted(key for key in before | after if before.get(key) != after.get(key) and key not in MAY_CHANGE)
    if changed:
        asked = [flatten(resolved_values(as_asked(r))) for r in (began, recipe)]
        shown = ", ".join(changed_words(key, [before, after], asked) for key in changed[:5])
        hint = "start anew with --overwrite or another --output-dir"
        raise UserError(f"the recipe changed since the run began: {shown}", hint, "--resume")


def changed_words(key: str, values: list[dict[str, Any]], asked: list[dict[str, Any]]) -> str:
    """What was and what is, of a revision by what was asked for; where that is the same, by its commits."""
    before, after = (found.get(key) for found in (asked if asked[0].get(key) != asked[1].get(key) else values))
    return f"{key} ({before} → {after})"


def flatten(value: Any, key: str = "") -> dict[str, Any]:
    """Nested mappings as dotted keys."""
    if not isinstance(value, dict):
        return {key: value}
    return {name: item for part, inner in value.items() for name, item in flatten(inner, f"{key}.{part}".strip(".")).items()}


def load_finished(trainer: Trainer, checkpoint: Path) -> bool:
    """Load a checkpoint of the last step, if this is one: the Trainer would take one step more on it.

    Returns:
        Whether the training had already ended there.
    """
    state = read_object(checkpoint / "trainer_state.json", STATE, STATE)
    if state["global_step"] < state["max_steps"]:
        return False
    trainer._load_from_checkpoint(str(checkpoint))
    trainer.state = TrainerState.load_from_json(str(checkpoint / "trainer_state.json"))
    if trainer.args.load_best_model_at_end and trainer.state.best_model_checkpoint:
        trainer._load_best_model()
    return True
