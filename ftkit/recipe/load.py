"""Read a recipe: YAML, overrides, types, and the rules that join blocks; every mistake of the file in one go."""

import copy
import difflib
import re
from pathlib import Path as FilePath
from typing import Any

from pydantic import ValidationError

from ftkit.errors import Mistake, RecipeError, UserError
from ftkit.recipe.blocks import SHORT_FORMS, STRATEGY_CLASSES, key_homes, known_words, value_at
from ftkit.recipe.document import Document, Path, parse, parse_value, with_colon
from ftkit.recipe.fields import DATA_DRIVEN_INITS, library_fields
from ftkit.recipe.hints import did_you_mean, metric_hint, override_hint, role_hint, shown, value_hint
from ftkit.recipe.packaged import packaged_recipes
from ftkit.recipe.schema import Recipe
from ftkit.recipe.tasks import TASK_SPECS, TEXT_METRICS, TaskSpec
from ftkit.recipe.unknown import unknown_key, unknown_strategy

MAX_BYTES = 1_000_000
# What a key takes, by pydantic's name of the error.
KINDS = {
    "int_type": "a whole number", "int_from_float": "a whole number", "float_type": "a number", "string_type": "text",
    "bool_type": "true or false", "list_type": "a list", "dict_type": "a mapping", "model_type": "a block of keys",
    "model_attributes_type": "a block of keys",
}  # fmt: skip
OVER_LONG = {how for spec in TASK_SPECS.values() for how in spec.over_long}
ANSWER_ROLES = ("output", "completion", "summary", "messages")  # what a prompt asks for, and so may not give away


def load_recipe(path: str | FilePath, overrides: list[str] | None = None) -> Recipe:
    """Read and check a recipe file.

    Args:
        path: the YAML file.
        overrides: `key.path=value` as on the command line, the value in YAML.

    Raises:
        UserError: the file cannot be read.
        RecipeError: all mistakes of the recipe, each with its place.
    """
    document = parse(read_text(FilePath(path).expanduser()), str(path), known_words())
    if document.value is None and not document.mistakes:
        raise UserError("the recipe is empty", "start from one of `ftkit recipes`: ftkit init NAME", str(path))
    for override in overrides or []:
        apply_override(document, override)
    recipe = check_document(document)
    recipe._overrides = list(overrides or [])
    return recipe


def load_values(values: dict[str, Any], name: str = "recipe", overrides: list[str] | None = None) -> Recipe:
    """Check a recipe given as plain values, as `load_recipe` does."""
    document = Document(name, values)
    for override in overrides or []:
        apply_override(document, override)
    return check_document(document)


def read_text(path: FilePath) -> str:
    """A recipe's text, or one clear line about why there is none."""
    if path.is_dir():
        raise UserError("a folder, not a recipe file", "name the .yaml file", str(path))
    try:
        if path.stat().st_size > MAX_BYTES:
            raise UserError("larger than 1 MB: this is no recipe", place=str(path))
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError("no such recipe file", nearest_recipe(path), str(path)) from None
    except UnicodeDecodeError as error:
        raise UserError(f"not UTF-8 at byte {error.start}", "save the recipe as UTF-8", str(path)) from None
    except OSError as error:
        raise UserError(f"cannot be read: {error.strerror}", place=str(path)) from None


def nearest_recipe(path: FilePath) -> str:
    if path.name.removesuffix(".yaml") in packaged_recipes():
        return f"it comes with ftkit, which copies it out: ftkit init {path.name.removesuffix('.yaml')}"
    files = [str(found) for found in path.parent.glob("*.yaml")] if path.parent.is_dir() else []
    near = difflib.get_close_matches(str(path), files, n=1)
    return f"did you mean {near[0]}?" if near else "`ftkit recipes` lists those that come with ftkit"


def apply_override(document: Document, override: str) -> None:
    """Set `key.path=value` in the document; the value is parsed as in the file."""
    key, equals, text = override.partition("=")
    if not equals or not key.strip():
        hint = override_hint(key.strip(), "…", key_homes()) or "write key.path=value, as training.learning_rate=2e-5"
        raise UserError(f"'{override}' is not an override", hint)
    if not isinstance(document.value, dict):
        document.value = {}
    for path in _targets(document.value, tuple(key.strip().split(".")), (), override):
        value_at(document.value, path[:-1])[path[-1]] = parse_value(text)
        for stale in [known for known in document.places if known[: len(path)] == path]:
            del document.places[stale]
        document.places[path] = override


def _targets(block: Any, keys: tuple[str, ...], above: Path, override: str) -> list[Path]:
    """Where an override sets its value: in a list of sources in each, or in the one that it numbers.

    Short forms on the way, as `strategy: lora` or `train: owner/name`, are written out.
    """
    if isinstance(block, list):
        rest = keys[1:] if keys[0].isdigit() else keys
        numbers = [int(keys[0])] if keys[0].isdigit() else range(len(block))
        _require_numbers(block, keys, above, override)
        return [
            target
            for number in numbers
            for target in (_targets(_opened(block, number, above, override), rest, (*above, number), override))
        ]
    if len(keys) == 1:
        return [(*above, keys[0])]
    inner = (*above, keys[0])
    return _targets(_opened(block, keys[0], inner, override), keys[1:], inner, override)


def _opened(block: Any, key: str | int, path: Path, override: str) -> Any:
    """What stands at a key, as a block of keys or a list of sources; a new block where nothing does."""
    value = block[key] if isinstance(key, int) else block.setdefault(key, {})
    short = SHORT_FORMS.get(tuple(part for part in path if isinstance(part, str)))
    if isinstance(value, str) and short:
        value = block[key] = {short: value}
    if not isinstance(value, dict) and not (isinstance(value, list) and short == "path"):
        raise UserError(f"'{'.'.join(map(str, path))}' holds no keys", "see `ftkit schema`", override)
    return value


def _require_numbers(sources: list[Any], keys: tuple[str, ...], path: Path, override: str) -> None:
    """A list of sources has the one that is numbered; their paths are not all to become one."""
    name, last = ".".join(map(str, path)), len(sources) - 1
    if keys[0].isdigit() and int(keys[0]) > last:
        raise UserError(f"{name} has no source {keys[0]}", f"they are numbered from 0 to {last}", override)
    if len(keys) == 1 and keys[0].isdigit():
        raise UserError(f"{name}.{keys[0]} is a source", f"say which of its keys: {name}.{keys[0]}.path=…", override)
    if keys[0] == "path" and last > 0:
        raise UserError(f"{name} has {len(sources)} sources", f"say which: {name}.0.path=…", override)


def check_document(document: Document) -> Recipe:
    """Raises RecipeError with every mistake, in the order of the file; returns the recipe when there is none."""
    if not isinstance(document.value, dict) and not document.mistakes:
        raise RecipeError([Mistake(document.place(()), "a recipe is a mapping of keys", "see `ftkit schema`")])
    mistakes, recipe = list(document.mistakes), None
    try:
        recipe = Recipe.model_validate(document.value)
    except ValidationError as error:
        mistakes += [describe(document, item) for item in first_errors(document, error)]
    mistakes += find_joint_mistakes(document)
    if mistakes or recipe is None:
        raise RecipeError(sorted(dict.fromkeys(mistakes), key=_file_order))
    recipe._places = {".".join(map(str, path)): place for path, place in document.places.items()}
    recipe._source = document.name
    return recipe


def _file_order(mistake: Mistake) -> tuple[int, int]:
    parts = mistake.place.rsplit(":", 2)
    return (int(parts[1]), int(parts[2])) if len(parts) == 3 and parts[1].isdigit() and parts[2].isdigit() else (10**9, 0)


def first_errors(document: Document, error: ValidationError) -> list[Any]:
    """pydantic's errors, of each key the first alone; of a key that takes this or that, one that says both."""
    found: dict[Path, list[Any]] = {}
    for item in error.errors(include_url=False):
        found.setdefault(_document_path(document, item["loc"]), []).append(item)
    return [joined(items) for items in found.values()]


def joined(items: list[Any]) -> Any:
    """The errors of one key as one."""
    if not items[1:]:
        return items[0]
    kinds = list(dict.fromkeys(filter(None, map(kind_words, items))))
    return items[0] | {"type": "kinds", "msg": " or ".join(kinds)} if kinds[1:] else items[0]


def kind_words(error: Any) -> str:
    """What a key takes, of one of its types; nothing where the error is not about that."""
    if error["type"] == "literal_error":
        return " or ".join("false" if word == "False" else word for word in literals_of(error))
    return KINDS.get(error["type"], "")


def literals_of(error: Any) -> list[str]:
    """The values that pydantic would have taken."""
    context = error.get("ctx", {})
    return context.get("valid") or [
        item.strip("'") for item in context.get("expected", "").replace(" or ", ", ").split(", ")
    ]


def describe(document: Document, error: Any) -> Mistake:
    """One pydantic error as a mistake of the recipe."""
    path = _document_path(document, error["loc"])
    key, value = str(path[-1]) if path else "", error["input"]
    place, context = document.place(path), error.get("ctx", {})
    kind, field = error["type"], ".".join(map(str, path))
    if kind == "extra_forbidden":
        return Mistake(place, *unknown_key(document, path, refusal))
    if kind == "missing":
        return Mistake(document.place(path[:-1]), f"'{field}' is missing", f"add {key}: …")
    if kind in ("union_tag_not_found", "union_tag_invalid"):
        return Mistake(document.place((*path, "name")), *unknown_strategy(value))
    if kind == "literal_error":
        valid = literals_of(error)
        known = ".".join(part for part in path if isinstance(part, str))
        if len(path) > 1:  # what the task takes of them
            valid = [choice for choice in valid if not refusal(document, path, {known: choice})] or valid
        return Mistake(place, f"{field}: {shown(value)} is not valid", value_hint(known, value, valid))
    words = {kind: f"must be {words}" for kind, words in KINDS.items()} | {
        "string_too_short": "must not be empty", "invalid_key": "must have text for keys",
        "string_too_long": f"must have no more characters than {context.get('max_length')}",
        "too_short": f"must name at least {context.get('min_length')}",
        "too_small": f"must be at least {context.get('least')}", "too_large": f"must be at most {context.get('most')}",
        "greater_than_equal": f"must be at least {context.get('ge')}",
        "less_than_equal": f"must be at most {context.get('le')}",
        "greater_than": f"must be above {context.get('gt')}", "less_than": f"must be below {context.get('lt')}",
        "not_finite": "must be a finite number", "kinds": f"must be {error['msg']}",
    }  # fmt: skip
    rule = words.get(kind, error["msg"].replace("Input should be", "must be"))
    if isinstance(value, str) and "block" in rule and (meant := with_colon(value, known_words())):
        return Mistake(place, f"{field}: {shown(value)} has no colon with a space behind it", f"write {meant}")
    return Mistake(place, f"{field}: {rule}, not {shown(value)}", _quote_hint(value, rule))


def _quote_hint(value: Any, rule: str) -> str:
    if isinstance(value, str) and "number" in rule and value.replace(".", "").replace("-", "").isalnum():
        try:
            float(value)
        except ValueError:
            return ""
        return f"write {value} without quotes"
    return "put it in quotes" if rule == "must be text" and isinstance(value, int | float | bool) else ""


def _document_path(document: Document, loc: tuple[str | int, ...]) -> Path:
    """pydantic's path without what stands only in the models: union tags, and the list around a single source."""
    path: list[str | int] = []
    value = document.value
    for part in loc:
        if path == ["strategy"] and part in STRATEGY_CLASSES:
            continue
        if isinstance(part, int) and not isinstance(value, list):
            continue
        if isinstance(part, str) and part not in (value if isinstance(value, dict) else ()) and part not in known_words():
            break  # which of the types that a key takes
        path.append(part)
        value = value.get(part) if isinstance(value, dict) else value[part] if _has_item(value, part) else None
    return tuple(path)


def _has_item(value: Any, part: str | int) -> bool:
    return isinstance(value, list) and isinstance(part, int) and part < len(value)


def refusal(document: Document, taken: Path, wanted: dict[str, Any]) -> str:
    """What would be said against the recipe with these settings in place of the key at `taken`, if anything."""
    trial = Document(document.name, copy.deepcopy(document.value))
    del value_at(trial.value, taken[:-1])[taken[-1]]
    for key, value in wanted.items():
        _put(trial.value, tuple(key.split(".")), value)
    said: list[Mistake] = []
    try:
        Recipe.model_validate(trial.value)
    except ValidationError as error:
        paths = [tuple(key.removesuffix(".name").split(".")) for key in wanted]  # of another strategy all keys are looked at
        for item in first_errors(trial, error):
            place = tuple(part for part in _document_path(trial, item["loc"]) if isinstance(part, str))
            if any(place[: len(path)] == path for path in paths):
                said.append(describe(trial, item))
    before = {mistake.message for mistake in find_joint_mistakes(document)}
    said += [found for found in find_joint_mistakes(trial) if found.message not in before]
    return "; ".join(filter(None, [said[0].message, said[0].hint])) if said else ""


def _put(block: Any, path: Path, value: Any) -> None:
    """Set a key in plain values; a short form on the way, as `model: gpt2` or a list of sources, is written out."""
    for depth, part in enumerate(path[:-1], 1):
        short = block.get(part)
        if isinstance(short, list) and short:
            short = block[part] = short[0]
        if isinstance(short, str) and path[:depth] in SHORT_FORMS:
            block[part] = {SHORT_FORMS[path[:depth]]: short}
        if not isinstance(block.get(part), dict):
            block[part] = {}
        block = block[part]
    block[path[-1]] = value


def find_joint_mistakes(document: Document) -> list[Mistake]:
    """Mistakes that only two keys together make; each is looked for on the plain values, valid or not elsewhere."""
    values = document.value if isinstance(document.value, dict) else {}
    spec = TASK_SPECS.get(values["task"]) if isinstance(values.get("task"), str) else None
    blocks = {
        name: values[name] if isinstance(values.get(name), dict) else {}
        for name in ("data", "evaluation", "training", "speed")
    }
    mistakes = find_idle_keys(document, blocks["data"], blocks["training"])
    if blocks["speed"].get("liger_kernel") is not None and blocks["training"].get("use_liger_kernel"):
        message = "'speed.liger_kernel' has no effect beside training.use_liger_kernel"
        mistakes.append(Mistake(document.place(("speed", "liger_kernel")), message, "remove one of the two"))
    mistakes += find_batch_mistakes(document, blocks["training"])
    mistakes += find_streaming_mistakes(document, blocks["data"], blocks["training"])
    if isinstance(values.get("strategy"), dict) and values["strategy"].get("init_lora_weights") in DATA_DRIVEN_INITS:
        message = f"strategy.init_lora_weights: {values['strategy']['init_lora_weights']} needs a pass over the data first"
        hint = "ftkit makes none; valid are true, gaussian, orthogonal, pissa, olora"
        mistakes.append(Mistake(document.place(("strategy", "init_lora_weights")), message, hint))
    if spec is not None:
        mistakes += find_task_mistakes(document, values, spec, blocks)
    return mistakes


def find_task_mistakes(document: Document, values: dict[str, Any], spec: TaskSpec, blocks: dict[str, Any]) -> list[Mistake]:
    task, mistakes = values["task"], []
    strategy = values.get("strategy")
    strategy = strategy.get("name") if isinstance(strategy, dict) else strategy
    if isinstance(strategy, str) and strategy in STRATEGY_CLASSES and strategy not in (*spec.strategies, "auto"):
        reason = "no new head is trained" if strategy == "transfer" else "it makes no sense"
        hint = f"{reason} in {task}; possible are {', '.join(spec.strategies)}"
        mistakes.append(
            Mistake(document.place(("strategy", "name")), f"strategy {strategy} cannot be with task {task}", hint)
        )
    for name in {key for other in TASK_SPECS.values() for key in other.keys} - spec.keys:
        block, _, key = name.partition(".")
        if key in blocks[block]:
            homes = " and ".join(other for other, its in TASK_SPECS.items() if name in its.keys)
            mistakes.append(
                Mistake(document.place((block, key)), f"'{name}' has no effect with task {task}", f"it belongs to {homes}")
            )
    mistakes += find_prompt_mistakes(document, blocks["data"].get("prompt"), spec)
    mistakes += find_length_mistakes(document, blocks["data"], spec, task)
    columns, metrics = blocks["data"].get("columns"), blocks["evaluation"].get("metrics")
    for role in columns if isinstance(columns, dict) else ():
        if role not in spec.roles:
            hint = f"{role_hint(role, columns, spec.roles)}{task} has {', '.join(spec.roles)}"
            mistakes.append(Mistake(document.place(("data", "columns", role)), f"unknown column role '{role}'", hint))
        elif role in spec.list_roles and isinstance(columns[role], str):
            hint = role_hint(role, columns, [other for other in spec.roles if other not in spec.list_roles])
            message = f"'data.columns.{role}' takes a list of columns of 0 and 1"
            mistakes.append(Mistake(document.place(("data", "columns", role)), message, hint.strip()))
    for index, metric in enumerate(metrics if isinstance(metrics, list) else ()):
        if isinstance(metric, str) and metric not in spec.metrics:
            hint = f"{metric_hint(metric, spec.metrics)}{task} has {', '.join(spec.metrics)}"
            mistakes.append(Mistake(document.place(("evaluation", "metrics", index)), f"unknown metric '{metric}'", hint))
    best = blocks["training"].get("metric_for_best_model")
    while_training = [name for name in spec.metrics if name not in TEXT_METRICS]
    if isinstance(best, str) and best.removeprefix("eval_") not in while_training:
        near = metric_hint(best.removeprefix("eval_"), while_training)
        hint = f"{near}while training there are {', '.join(while_training)}"
        mistakes.append(Mistake(document.place(("training", "metric_for_best_model")), f"unknown metric '{best}'", hint))
    return mistakes


def find_prompt_mistakes(document: Document, prompt: Any, spec: TaskSpec) -> list[Mistake]:
    """Names in braces that are no column of the task would reach the model as they stand."""
    if not isinstance(prompt, str) or "data.prompt" not in spec.keys:
        return []
    named, place = re.findall(r"\{(\w+)\}", prompt), document.place(("data", "prompt"))
    askable = [role for role in spec.roles if role not in ANSWER_ROLES]
    wrong = [name for name in named if name not in askable]
    mistakes = [
        Mistake(place, f"the prompt names '{{{name}}}'", f"{did_you_mean(name, askable)}it may name {', '.join(askable)}")
        for name in wrong
    ]
    if not named:
        mistakes.append(Mistake(place, "the prompt names no column", f"write one in braces, as {{{askable[0]}}}"))
    return mistakes


def find_length_mistakes(document: Document, data: dict[str, Any], spec: TaskSpec, task: str) -> list[Mistake]:
    """What is to be done with long rows, and cannot be in this task; and the overlap of windows that there are none of."""
    how, mistakes = data.get("over_long"), []
    if isinstance(how, str) and spec.over_long and how not in spec.over_long and how in OVER_LONG:
        hint = f"possible are {', '.join(spec.over_long)}"
        mistakes.append(Mistake(document.place(("data", "over_long")), f"data.over_long: {how} cannot be with {task}", hint))
    elif data.get("window_overlap") is not None and "windows" in spec.over_long and how in OVER_LONG - {"windows"}:
        message = f"'data.window_overlap' has no effect with data.over_long: {how}"
        mistakes.append(Mistake(document.place(("data", "window_overlap")), message, "remove one of the two"))
    return mistakes


def find_batch_mistakes(document: Document, training: dict[str, Any]) -> list[Mistake]:
    """Keys that say how large a step is where the batch is found, and where it is not."""
    if training.get("per_device_train_batch_size") == "auto":
        beside = {
            "gradient_accumulation_steps": "it follows: say how many rows a step takes with effective_batch_size",
            "auto_find_batch_size": "memory that runs out later is met by smaller parts of the same step",
            "deepspeed": "it needs the batch beforehand", "fsdp": "it needs the batch beforehand",
        }  # fmt: skip
    else:
        beside = {"effective_batch_size": "set per_device_train_batch_size and gradient_accumulation_steps"}
    how = "beside" if len(beside) > 1 else "without"
    return [
        Mistake(
            document.place(("training", key)),
            f"'training.{key}' cannot be {how} per_device_train_batch_size: auto", hint,
        )
        for key, hint in beside.items() if training.get(key) not in (None, False)
    ]  # fmt: skip


def find_streaming_mistakes(document: Document, data: dict[str, Any], training: dict[str, Any]) -> list[Mistake]:
    """What a stream, whose rows are not known beforehand, needs and cannot do."""
    if data.get("streaming") is not True:
        if data.get("judged_rows") is None:
            return []
        hint = "all rows are judged before step 0"
        return [Mistake(document.place(("data", "judged_rows")), "'data.judged_rows' is for data.streaming", hint)]
    place, mistakes = document.place(("data", "streaming")), []
    if data.get("eval") is None:
        mistakes.append(Mistake(place, "data.streaming needs data.eval", "eval rows cannot be split off a stream"))
    if not isinstance(training.get("max_steps"), int) or training["max_steps"] < 1:
        mistakes.append(Mistake(place, "data.streaming needs training.max_steps", "the length of a stream is not known"))
    clean = data["clean"] if isinstance(data.get("clean"), dict) else {}
    for key in ("duplicates", "max_rows_per_label", "balance"):
        if clean.get(key):
            message = f"'data.clean.{key}' needs all rows at once, and cannot be with data.streaming"
            mistakes.append(Mistake(document.place(("data", "clean", key)), message, "remove one of the two"))
    for key in ("split_column", "group_column", "augment", "packing", "drop_overlap"):
        if data.get(key):
            hint = "such rows are always dropped then" if key == "drop_overlap" else "remove one of the two"
            mistakes.append(Mistake(document.place(("data", key)), f"'data.{key}' has no effect with data.streaming", hint))
    if training.get("dataloader_num_workers"):
        message = "'training.dataloader_num_workers' cannot be with data.streaming"
        mistakes.append(Mistake(place, message, "rows are counted in the main process"))
    return mistakes


def find_idle_keys(document: Document, data: dict[str, Any], training: dict[str, Any]) -> list[Mistake]:
    """Keys that another key makes idle."""
    mistakes = []
    for kind in ("eval", "test"):
        if data.get(kind) is not None and f"{kind}_size" in data:
            hint = f"remove it, or remove data.{kind}"
            mistakes.append(
                Mistake(
                    document.place(("data", f"{kind}_size")),
                    f"'data.{kind}_size' has no effect beside data.{kind}",
                    hint,
                )
            )
    if data.get("split_column") is not None:
        for key in ("eval", "eval_size", "test", "test_size", "group_column"):
            if data.get(key) is not None:
                message = f"'data.{key}' has no effect beside data.split_column"
                mistakes.append(Mistake(document.place(("data", key)), message, "remove one of the two"))
    elif data.get("group_column") is not None and data.get("eval") is not None:
        message = "'data.group_column' has no effect beside data.eval"
        mistakes.append(Mistake(document.place(("data", "group_column")), message, "remove it, or remove data.eval"))
    defaults = library_fields()["training"]
    for kind in ("eval", "save", "logging"):
        strategy = training.get(f"{kind}_strategy", defaults[f"{kind}_strategy"]["default"])
        if training.get(f"{kind}_steps") is not None and strategy != "steps":
            hint = f"add {kind}_strategy: steps"
            message = f"'training.{kind}_steps' has no effect with {kind}_strategy {strategy}"
            mistakes.append(Mistake(document.place(("training", f"{kind}_steps")), message, hint))
    return mistakes
