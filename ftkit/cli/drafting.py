"""From a data file to a recipe of it: look, guess, measure, write. For `ftkit init FILE` and `ftkit train FILE`."""

import math
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ftkit import console
from ftkit.data.paths import GLOB_CHARACTERS
from ftkit.data.scripts import split_words
from ftkit.errors import UserError
from ftkit.hub.names import FILE_ENDINGS
from ftkit.recipe.load import load_recipe
from ftkit.recipe.tasks import TASK_SPECS
from ftkit.run import write_text

if TYPE_CHECKING:
    from datasets import Dataset

    from ftkit.data.guess import Guess

COUNTED = 400  # rows whose length is taken
TOKENS_A_WORD = 1.3
MOST_NAMED = 30  # columns of a line
USUAL, STEP = 512, 32
RECIPE_ENDINGS = {".yaml", ".yml"}
SAYS_TASK = re.compile(rb'^\s*\{?\s*"?task"?\s*:\s*"?[a-z-]+"?\s*,?\s*(#.*)?$', re.MULTILINE)


def default_target(name: str) -> Path:
    """The recipe's name here for a data file: tickets.yaml for data/tickets.csv.gz."""
    path = Path(name)
    stem = path.name.split(".")[0].strip("*?[]") or path.parent.name or "my"
    return Path(f"{stem}.yaml")


def recipe_of(word: Path, task: str | None, model: str | None) -> tuple[Path, list[str]]:
    """What `train` and `check` are given: a recipe, or rows for which one is written here; and overrides that follow.

    Raises:
        UserError: the file fits no task, or there is a recipe of its name already.
    """
    if not is_data(str(word)):
        if task is not None:
            raise UserError("--task has no effect on a recipe", "its own task stands in it; write task=…")
        return word, [f"model.name={model}"] if model is not None else []
    target = default_target(str(word))
    write_draft(str(word), task=task, model=model, target=target)
    console.say(f"written: {target}")
    return target, []


def is_data(name: str) -> bool:
    """Whether a word of the command line means rows, and no recipe."""
    path = Path(name).expanduser()
    if path.suffix.lower() in RECIPE_ENDINGS or _is_recipe(path):
        return False
    named = path.suffix.lower() in FILE_ENDINGS or bool(GLOB_CHARACTERS & set(name))
    return named or path.is_file() or (path.is_dir() and not (path / "recipe.yaml").is_file())


def _is_recipe(path: Path) -> bool:
    """Whether a file by another name is a recipe: one of its first lines says the task."""
    if not path.is_file():
        return False
    with path.open("rb") as stream:
        return bool(SAYS_TASK.search(stream.read(4096)))


def write_draft(file: str, *, task: str | None, model: str | None, target: Path, overwrite: bool = False) -> None:
    """Look at a file and write a recipe for it.

    Raises:
        UserError: the file cannot be read or fits no task, or the recipe would replace another.
    """
    if target.exists() and not overwrite:
        raise UserError(
            f"{target} is there already", f"train it: ftkit train {shlex.quote(str(target))}; or name another with -o"
        )
    if task is not None and task not in TASK_SPECS:
        from ftkit.recipe.hints import value_hint

        raise UserError(f"no task '{task}'", value_hint("task", task, TASK_SPECS), "--task")
    with console.status(f"looking at {file}"):
        text, seen = draft(file, task, model, target)
    try:
        write_text(target, text)
    except OSError as error:
        raise UserError(f"{target} cannot be written: {error.strerror}", "name another file with -o") from None
    load_recipe(target)
    for line in seen:
        console.say(line)


def draft(file: str, task: str | None, model: str | None, target: Path) -> tuple[str, list[str]]:
    """The text of a recipe, and what was seen."""
    from ftkit.data.guess import columns_of, notes_on, split_column
    from ftkit.data.look import look, other_parts
    from ftkit.recipe.draft import Draft, model_for

    source, rows = look(file)
    columns = columns_of(rows)
    reader = Reader(model)
    guess, others = choose(columns, task, file, foretells=reader.foretells)
    seen = [
        f"{file}: {len(rows):,} rows with the columns {named_columns(rows.column_names)}",
        f"taken: {guess.task}, {guess.why}",
        *([f"it could also be {', '.join(others)}: say which with --task"] if others else []),
        *notes_on(columns, guess),
    ]
    data = [(key, value, "what parts the labels in a cell") for key, value in guess.keys.items()]
    if others_held := other_parts(source):
        data += [(part, held, f"the files of it that are named {part}") for part, held in others_held.items()]
        seen.append(f"it holds files of several splits: {source['split']}, {', '.join(others_held)}")
    if named := split_column(columns):
        data.append(("split_column", named, "says which rows are for training and which for eval"))
    elif len(rows) < 100 and "eval" not in others_held:
        data.append(("eval_size", 0.2, "there are few rows"))
    if any(len(column.filled) < len(column.values) for column in columns if column.name in guess.columns.values()):
        data.append(("drop_empty", True, "some fields are empty; such rows are dropped, and counted"))
    if "messages" in guess.columns and reader.lacks_template:
        data.append(("chat_template", "alpaca", "the model has none of its own"))
    length, too_long, words = reader.length(rows, guess)
    seen.append(words)
    if too_long > 0.05 and "data.chat_template" in TASK_SPECS[guess.task].keys:  # prompts are not cut there
        seen.append(f"{too_long:.0%} of the rows do not fit into {length} tokens: they are dropped, and counted")
        data.append(
            ("gate", {"dropped": min(1.0, round(1.3 * too_long + 0.05, 2))}, "the share of rows that may be dropped")
        )
    name = model or model_for(guess.task, guess.columns)
    made = Draft(str(target), guess.task, name, seen, source, guess.columns, data, (length, "tokens a row may have"))
    return made.text(), seen


def choose(columns: list, task: str | None, file: str, *, foretells: bool) -> "tuple[Guess, list[str]]":  # type: ignore[type-arg]
    """The guess that is taken, and the other tasks that would fit.

    Raises:
        UserError: the columns fit no task, or not the one that is asked for.
    """
    from ftkit.data.guess import guesses

    found: dict[str, Guess] = {}
    for guess in [*guesses(columns, foretells=foretells), *(guesses(columns, foretells=not foretells) if task else ())]:
        found.setdefault(guess.task, guess)
    chosen = found.get(task) if task else next(iter(found.values()), None)
    if not found and columns and len(columns[0].values) < 2:
        raise UserError("one row shows no task", "if it is the header, the file has no rows; else name the task", file)
    if chosen is None:
        has = named_columns([column.name for column in columns])
        fits = f"it fits {', '.join(found)}" if found else "each task needs texts of several words in a column: " + FORMS
        raise UserError(f"the columns {has} {f'do not fit {task}' if task else 'fit no task'}", fits, file)
    return chosen, [other for other in found if other != chosen.task]


def named_columns(names: list[str]) -> str:
    """The columns in words; of very many the first."""
    return ", ".join(names[:MOST_NAMED]) + (f" and {len(names) - MOST_NAMED:,} more" if len(names) > MOST_NAMED else "")


FORMS = "; ".join(f"{task}: {', '.join(spec.formats[0].required)}" for task, spec in TASK_SPECS.items())


class Reader:
    """What the named model says about itself, where its folder is here; else what is usual."""

    def __init__(self, model: str | None) -> None:
        self.foretells, self.lacks_template = True, False
        self._count: Callable[[str], int] = lambda text: math.ceil(len(split_words(text)) * TOKENS_A_WORD)
        self._room, self._exact = USUAL, False
        if model is not None:
            from ftkit.data.paths import locate

            if Path(locate(model, "--model")).is_dir():
                self._read(model)

    def _read(self, model: str) -> None:
        from ftkit.models.architecture import named_positions
        from ftkit.models.load import load_config, load_tokenizer
        from ftkit.recipe.schema import Model

        block = Model(name=model)
        config, tokenizer = load_config(block, {}), load_tokenizer(block)
        self.foretells = tokenizer.mask_token is None
        self.lacks_template = not tokenizer.chat_template
        self._count = lambda text: len(tokenizer(text, add_special_tokens=False)["input_ids"])
        positions = named_positions(config) or USUAL
        self._room, self._exact = min(int(positions), USUAL, tokenizer.model_max_length), True

    def length(self, rows: "Dataset", guess: "Guess") -> tuple[int, float, str]:
        """model.max_length for the rows, rounded up, the share of rows that are longer, and what was seen of lengths."""
        head = rows.select(range(0, len(rows), len(rows) // COUNTED + 1))
        lengths = [0] * len(head)
        for column in (name for role, name in guess.columns.items() if role not in ("label", "tags")):
            for place, value in enumerate(head[column]):
                lengths[place] += self._count(words_of(value))
        lengths.sort()
        median, most = lengths[len(lengths) // 2], lengths[min(len(lengths) - 1, int(len(lengths) * 0.99))]
        extra = 16 if "label" in guess.columns or "tags" in guess.columns else 64  # what the task puts around a text
        wanted = STEP * math.ceil((most + extra) / STEP)
        if TASK_SPECS[guess.task].sample_by == "paragraph":  # plain text, which takes all there is
            wanted = self._room
        said = "" if self._exact else "about "
        length = min(self._room, max(STEP, wanted))
        too_long = sum(tokens + extra > length for tokens in lengths) / len(lengths)
        return length, too_long, f"a row has {said}{median} tokens, 99 % have {most} or fewer"


def words_of(value: object) -> str:
    """All texts of a cell."""
    if isinstance(value, dict):
        return " ".join(words_of(item) for item in value.values())
    if isinstance(value, list):
        return " ".join(map(words_of, value))
    return "" if value is None else str(value)
