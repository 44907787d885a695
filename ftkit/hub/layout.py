"""What a repository of a run holds: the model's files at its root, where plain transformers or peft looks for them, and
beside them the run's own. Nothing else is taken from one: no weights that need unpickling, and no code."""

from collections.abc import Iterable
from pathlib import PurePosixPath

CARD, RECIPE, RECORD, REPORT = "README.md", "recipe.yaml", "run.json", "report.html"
RUN_FILES = (RECORD, RECIPE, "metrics.json", "analysis.json", "data_report.json", "log.jsonl", "outputs/draws.npz", REPORT)
ROW_FILES = (  # made of the user's rows
    "predictions.jsonl", "outputs/baseline.npz", "outputs/tuned.npz", "outputs/baseline.jsonl", "outputs/tuned.jsonl",
    "verification/facts.json", "verification/rows.safetensors",
)  # fmt: skip
OWN_FILES = {CARD, *RUN_FILES, *ROW_FILES}
TEMPLATES = "additional_chat_templates"
MODEL_ENDINGS = {".safetensors", ".json", ".txt", ".model", ".jinja", ".spm", ".bpe", ".codes", ".vocab", ".tiktoken"}


def is_run(files: Iterable[str]) -> bool:
    """Whether a repository with these files is that of a run."""
    return {RECORD, RECIPE} <= set(files)


def is_model_file(name: str) -> bool:
    """Whether a file of a repository of a run is the model's, and is data."""
    path = PurePosixPath(name)
    if name in OWN_FILES or path.name.startswith("."):
        return False
    return path.suffix in MODEL_ENDINGS and (len(path.parts) == 1 or path.parts[:-1] == (TEMPLATES,))


def place_in_run(name: str) -> str | None:
    """Where a repository's file lies in a run's folder; None where it is not taken."""
    if name in OWN_FILES:
        return name
    return f"model/{name}" if is_model_file(name) else None
