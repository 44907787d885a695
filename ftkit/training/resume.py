"""What resuming needs beyond the Trainer: the same recipe, and a run whose training had already ended."""

from pathlib import Path
from typing import Any

from transformers import Trainer
from transformers.trainer_callback import TrainerState

from ftkit.errors import UserError
from ftkit.hub.pins import as_asked
from ftkit.reading import read_jsonl, read_object
from ftkit.recipe.schema import Recipe
from ftkit.run import Run, resolved_values
from ftkit.training.checkpoints import rotate

STATE = {"global_step": int, "max_steps": int}  # of a checkpoint
MAY_CHANGE = ("training.on_divergence",)  # says nothing of the steps that go well


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


def lost_steps(run: Run, checkpoint: Path) -> list[int]:
    """Steps of which the checkpoint knows that something was logged, and log.jsonl has nothing."""
    history = read_object(checkpoint / "trainer_state.json", {"log_history": list}).get("log_history", [])
    return sorted({entry["step"] for entry in history} - {event.get("step") for event in read_jsonl(run.log_file)})


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
    rotate(trainer.args, trainer.state)  # the last process may have been killed before it did
    return True
