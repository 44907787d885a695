"""A first recipe for rows that were looked at, as commented YAML."""

import json
import re
import shlex
from dataclasses import dataclass, field
from typing import Any

from ftkit.escapes import visible
from ftkit.recipe.tasks import TASK_SPECS

PLAIN = re.compile(r"^[A-Za-z_./][\w./ -]*$")
WORDS_OF_YAML = {"true", "false", "null", "yes", "no", "on", "off", "~"}
# What is trained where no model is named: small ones that a CPU bears, encoders for labels and hidden words.
ENCODER, CASED_ENCODER = "distilbert/distilbert-base-uncased", "distilbert/distilbert-base-cased"
DECODER, CHAT = "openai-community/gpt2", "HuggingFaceTB/SmolLM2-135M-Instruct"
MODELS = {
    "text-classification": ENCODER, "text-regression": ENCODER, "token-classification": CASED_ENCODER,
    "masked-language-modeling": ENCODER, "summarization": DECODER, "instruction": DECODER, "language-modeling": DECODER,
}  # fmt: skip
FULL = ("{name: full}", 5e-5, "every weight learns; for a large model: {name: lora, r: 8, target_modules: all-linear}")
LORA = ("{name: lora, r: 16, target_modules: all-linear}", 2e-4, "adapters on all linear layers learn")


@dataclass(frozen=True)
class Draft:
    """What a recipe is made of.

    Attributes:
        file: the recipe's own file, for the commands in its head.
        seen: what was seen in the rows, a line each.
        source: keys of the one source, its path among them.
        data: further keys of the data block, each with its comment.
        length: model.max_length, with its comment.
    """

    file: str
    task: str
    model: str
    seen: list[str]
    source: dict[str, Any]
    columns: dict[str, str]
    data: list[tuple[str, Any, str]] = field(default_factory=list)
    length: tuple[int, str] | None = None

    def text(self) -> str:
        """The recipe as YAML with comments."""
        spec, small = TASK_SPECS[self.task], MODELS[self.task] != DECODER
        strategy, rate, why = FULL if small else LORA
        source = self.source["path"] if len(self.source) == 1 else self.source
        columns = {role: name for role, name in self.columns.items() if role != name}
        file = shlex.quote(self.file)
        lines = [
            *(_comment(line) for line in self.seen), "#",
            _comment(f"  ftkit check {file}              what is wrong, found without training"),
            _comment(f"  ftkit train {file} --limit 200  a first try on a few rows"),
            _comment(f"  ftkit train {file}"),
            _line("task", self.task, spec.about),
            "model:", _line("  name", self.model, "a hub id, or a local folder"),
            *([_line("  max_length", *self.length)] if self.length else []),
            f"strategy: {strategy}  # {why}",
            "data:", _line("  train", source, "without eval rows of their own some are split off"),
            *([_line("  columns", columns, "the task's name of a column: what the file calls it")] if columns else []),
            *(_line(f"  {key}", value, comment) for key, value, comment in self.data),
            _line("  drop_overlap", True, "training rows that are also eval rows are dropped, and counted"),
            "training:", _line("  learning_rate", rate, ""), _line("  num_train_epochs", 3, ""),
            _line("  per_device_train_batch_size", 8, "or auto: as many as fit"),
            "evaluation:",
            _line("  metrics", list(spec.default_metrics), f"of {', '.join(spec.metrics)}"),
        ]  # fmt: skip
        return "\n".join(lines) + "\n"


def model_for(task: str, columns: dict[str, str]) -> str:
    """A small model for a task; for chats one that has a chat template."""
    return CHAT if "messages" in columns else MODELS[task]


def _line(key: str, value: Any, comment: str) -> str:
    return f"{key}: {_yaml(value)}" + (f"  {_comment(comment)}" if comment else "")


def _comment(line: str) -> str:
    """A comment on one line, whatever names of files and columns it has."""
    return "# " + visible(line).replace("\n", "\\n")


def _yaml(value: Any) -> str:
    """A value in YAML's flow style."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_yaml(key)}: {_yaml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_yaml, value)) + "]"
    if isinstance(value, bool) or not isinstance(value, str):
        return json.dumps(value)
    plain = PLAIN.match(value) and value.lower() not in WORDS_OF_YAML and value == value.strip()
    return value if plain else visible(json.dumps(value, ensure_ascii=False))
