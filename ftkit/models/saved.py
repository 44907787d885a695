"""The files of a run's own model, looked at before a library loads them: of what is damaged it is said which file it is."""

from pathlib import Path
from typing import Any

from peft import PeftModel, get_peft_model_state_dict
from safetensors import SafetensorError

from ftkit import console
from ftkit.data.digests import Change, base_changes
from ftkit.errors import UserError
from ftkit.models.load import first_line, lacks_memory
from ftkit.reading import COPY, MISSING, Damaged, opened_tensors, read_object, read_text
from ftkit.run import SMALL, Run, changed_files

ADAPTER, ADAPTER_CONFIG, INDEX = "adapter_model.safetensors", "adapter_config.json", "*.safetensors.index.json"
TEXTS = ("*.jinja", "*.txt")


def require_sound(folder: Path) -> None:
    """Make sure that a saved model's files can be read.

    Raises:
        Damaged: one is missing, or cannot be.
    """
    for file in sorted(folder.glob("*.json")):
        read_object(file)
    for file in sorted(file for pattern in TEXTS for file in folder.glob(pattern)):
        read_text(file)
    for file in sorted(folder.glob("*.safetensors")):
        with opened_tensors(file):
            pass
    for one, other in ((ADAPTER, ADAPTER_CONFIG), (ADAPTER_CONFIG, ADAPTER)):
        if (folder / one).is_file() and not (folder / other).is_file():
            raise Damaged(folder / other, MISSING)
    for index in folder.glob(INDEX):
        named = read_object(index, {"weight_map": dict}, ("weight_map",))["weight_map"]
        for name in sorted(map(str, named.values())):
            if not (folder / name).is_file():
                raise Damaged(folder / name, MISSING)


def warn_of_changes(folder: Path) -> None:
    """Say which files of a run's model are not as when it ended, large ones by the size alone; and which of its base."""
    for name, what in changed_files(Run(folder.parent), within=f"{folder.name}/", largest=SMALL).items():
        console.warn(f"{folder.parent / name}: not as when the run ended: {what}; see `ftkit verify`")
    for change in base_changes(Run(folder.parent)):
        console.warn(other_base(change))


def other_base(change: Change) -> str:
    """What is to be known of an adapter whose base is not the one that it was trained on."""
    return f"{change.name}: not as when the adapter was trained on it: {change.what}; what it says is another model's"


def require_own_base(run: Run) -> None:
    """Raises UserError where an adapter's base is not the one that it was trained on."""
    if found := base_changes(run):
        message = f"it is not as when the adapter was trained on it: {found[0].what}"
        raise UserError(message, "put that one back", found[0].name)


def load_adapter(base: Any, folder: Path) -> PeftModel:
    """A run's adapter over its base.

    Raises:
        UserError: it does not go over it, or its file lacks some of its tensors, in whose place peft would leave noughts.
    """
    try:
        model = PeftModel.from_pretrained(base, folder)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, SafetensorError) as error:
        if lacks_memory(error):
            raise
        raise UserError(f"the adapter does not go over its base: {first_line(error)}", COPY, str(folder)) from error
    with opened_tensors(folder / ADAPTER) as held:
        lacking = sorted(set(get_peft_model_state_dict(model, save_embedding_layers=False)) - set(held.keys()))
    if lacking:
        raise Damaged(folder / ADAPTER, f"it lacks {len(lacking)} tensors of the adapter, as {lacking[0]}")
    return model
