"""A finished run's model, ready to answer: with the tokenizer, prompt and template that it was trained with, and no data."""

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets import Features, Value
from transformers import PretrainedConfig, PreTrainedTokenizerBase

from ftkit import console
from ftkit.data.columns import ANSWERS
from ftkit.data.encode import ASIDE, OUTCOME, Encoder, entries_of, is_empty
from ftkit.data.ledger import Outcome
from ftkit.data.prompts import PLACEHOLDER
from ftkit.errors import UserError
from ftkit.evaluation.generation import prompt_and_target
from ftkit.hub.door import pinned
from ftkit.models.load import fit_tokenizer, load_config, load_tokenizer, usable_length
from ftkit.models.saved import require_sound, warn_of_changes
from ftkit.prediction.fields import fields_under_roles
from ftkit.prediction.rows import TEXT
from ftkit.reading import object_if_there
from ftkit.recipe.schema import Generation, Recipe
from ftkit.recipe.tasks import BESIDE_CHATS
from ftkit.run import DATA_REPORT, Run
from ftkit.scratch import scratch
from ftkit.tasks.base import Task
from ftkit.tasks.table import TASKS
from ftkit.training.arguments import autocast_dtype, training_arguments
from ftkit.training.dispatcher import load_trained, seed_everything

# Only the answers' types are looked at, and a row that is to be predicted has none of its own.
FEATURES = Features({name: Value("string") for name in ("label", "tags")})

MESSAGES = "messages"


@dataclass(frozen=True)
class Question:
    """A row as the model takes it, in several entries where it is long; in none where it cannot be answered."""

    values: dict[str, Any]
    entries: list[dict[str, Any]]
    outcome: Outcome

    @property
    def cut(self) -> bool:
        return self.outcome in (Outcome.CUT_TEXT, Outcome.CUT_PROMPT)


@dataclass(frozen=True)
class Trained:
    """A run's model and what it was trained with.

    Attributes:
        batch_size: as in the run's own evaluation; 1 where what the model says of a row hangs on its batch's padding.
        bf16: compute in bfloat16 as in training.
        encoder: that of training.
        shorter: the same with less room for a prompt, so that an answer fits behind one that is cut.
        text_role: the column that a line of plain text stands for.
    """

    recipe: Recipe
    task: Task
    config: PretrainedConfig
    tokenizer: PreTrainedTokenizerBase
    model: Any
    batch_size: int
    bf16: bool
    encoder: Encoder
    shorter: Encoder
    text_role: str

    @property
    def generation(self) -> Generation:
        return self.recipe.evaluation.generation

    def ask(self, row: Mapping[str, Any]) -> Question:
        """A row's fields as the model takes them, by the encoder of training; a lone `text` is what the task asks about.

        Raises:
            UserError: a field is missing, or of the wrong type.
        """
        values = fields_under_roles(row, self.recipe)
        return self.encode(self._clean(self.as_row(row[TEXT]) if values is None else values))

    def encode(self, values: dict[str, Any]) -> Question:
        """Fields under the task's names as the model takes them.

        Raises:
            UserError: a field is of the wrong type.
        """
        values = self.task.ask(self._as_learnt(values))
        entries, outcome = encode_one(self.encoder, values)
        if outcome is Outcome.CUT_PROMPT:
            entries, outcome = encode_one(self.shorter, values)
        return Question(values, entries, outcome)

    def as_row(self, text: Any) -> dict[str, Any]:
        """Plain text as a row of the kind that the run was trained on."""
        if self.text_role == MESSAGES:
            return {MESSAGES: [{"role": "user", "content": text}]}
        return {self.text_role: text}

    def prompt(self, question: Question) -> tuple[list[int], set[int]]:
        """The ids to generate from, and the token that ends such an answer."""
        prompt, target = prompt_and_target(question.entries[0], self.config.is_encoder_decoder)
        return prompt, {target[-1]} & self.task.end_tokens(self.tokenizer)

    def _as_learnt(self, values: dict[str, Any]) -> dict[str, Any]:
        """The fields so that they become a chat where chats were learnt, and a prompt where prompts were."""
        said = {name: value for name, value in values.items() if name not in BESIDE_CHATS or not is_empty(value)}
        return {"system": None} | said if self.text_role == MESSAGES and MESSAGES not in said else said

    def _clean(self, values: dict[str, Any]) -> dict[str, Any]:
        """The texts brought to the form that the training texts were brought to."""
        block = self.recipe.data.clean

        def clean(text: str) -> str:
            text = unicodedata.normalize(block.unicode, text) if block.unicode else text
            return text.strip() if block.strip else text

        return {name: clean(value) if isinstance(value, str) else value for name, value in values.items()}


def load_run(run: Run, *, max_length: int | None = None, max_new_tokens: int | None = None) -> Trained:
    """Load what a run has trained; its data is not needed.

    Args:
        max_length: tokens a row may have, in place of the recipe's.
        max_new_tokens: the longest answer, in place of the recipe's.

    Raises:
        UserError: the task has nothing to predict, or the model cannot be loaded.
    """
    recipe = adjusted(run.read_recipe(), max_length, max_new_tokens)
    if (run.model / "adapter_config.json").is_file():
        recipe = pinned(recipe, ("model",))
    saved = recipe.model.model_copy(update={"name": str(run.model), "revision": None, "tokenizer": None})
    with scratch() as folder:
        arguments = training_arguments(recipe.training, Path(folder), recipe.spec.metrics)
    task = TASKS[recipe.task](recipe.data.model_copy(update={"supervise": "last"}))  # of a chat one answer is asked for
    if not (task.generates or task.new_head):
        message = f"a run of {recipe.task} has nothing to predict for a row"
        raise UserError(message, "measure it with `ftkit eval RUN --data FILE`", str(run.folder))
    require_sound(run.model)
    warn_of_changes(run.model)
    tokenizer, config = load_tokenizer(saved), load_config(saved, {})
    task.auto_class(config)
    task.recall(config)
    seed_everything(recipe)
    with console.status(f"loading {run.folder}"):
        model = load_trained(recipe, task, config, saved, run.model, autocast=bool(autocast_dtype(arguments)))
        fit_tokenizer(model, tokenizer)
        if recipe.strategy.name != "qlora":  # 4-bit weights are where they belong already
            model.to(arguments.device)
        model.eval()
    length = usable_length(task.auto_class(config), recipe.model, config, tokenizer)
    # A cut prompt was cut in training so that its answer had room; how long an answer will be is not known now.
    room = 0 if config.is_encoder_decoder else min(recipe.evaluation.generation.max_new_tokens, length // 2)
    whole, shorter = (task.encoder(FEATURES, tokenizer, config, tokens) for tokens in (length, length - room))
    return Trained(
        recipe, task, config, tokenizer, model,
        batch_size=1 if run.record.get("padding_matters") else recipe.training.per_device_eval_batch_size,
        bf16=bool(arguments.bf16),
        encoder=whole, shorter=shorter, text_role=text_role(run, recipe),
    )  # fmt: skip


def adjusted(recipe: Recipe, max_length: int | None, max_new_tokens: int | None) -> Recipe:
    """The recipe with lengths that were given in place of its own."""
    for value, least, option in ((max_length, 8, "--max-length"), (max_new_tokens, 1, "--max-new-tokens")):
        if value is not None and value < least:
            raise UserError(f"{value} is too few", f"give {least} or more", option)
    if max_new_tokens is not None and not recipe.generates:
        raise UserError(f"a run of {recipe.task} generates no text", "leave it out", "--max-new-tokens")
    generation = recipe.evaluation.generation
    if max_new_tokens is not None:
        generation = generation.model_copy(update={"max_new_tokens": max_new_tokens})
    model = recipe.model if max_length is None else recipe.model.model_copy(update={"max_length": max_length})
    evaluation = recipe.evaluation.model_copy(update={"generation": generation})
    return recipe.model_copy(update={"model": model, "evaluation": evaluation})


def text_role(run: Run, recipe: Recipe) -> str:
    """The column that a line of text stands for: the first that is given to the model in the form that it was trained on."""
    named = PLACEHOLDER.findall(recipe.data.prompt or "")
    if role := next((role for role in named if role in recipe.spec.roles), None):
        return role
    prompts = object_if_there(run.data_report, DATA_REPORT).get("prompts")
    trained = prompts[0] if prompts else {}
    if trained.get("form") == "prompt" and "prompt" in recipe.spec.roles:
        return "prompt"
    if MESSAGES in trained:
        return MESSAGES
    return next(role for role in recipe.spec.roles if role not in ANSWERS)


def encode_one(encoder: Encoder, values: dict[str, Any]) -> tuple[list[dict[str, Any]], Outcome]:
    """One row's entries as the collator takes them, and what became of the row."""
    made = encoder({name: [value] for name, value in values.items()}, [0])
    count = len(entries_of(made))
    outcome = Outcome(made.pop(OUTCOME)[0])
    columns = {name: column for name, column in made.items() if name not in ASIDE}
    entries = [{name: column[index] for name, column in columns.items()} for index in range(count)]
    return entries if outcome.is_kept else [], outcome
