"""Read a recipe: YAML, overrides, types, and the rules that join blocks; every mistake of the file in one go."""

import difflib
import re
from pathlib import Path as FilePath
from typing import Any

from pydantic import BaseModel, ValidationError

from ftkit.errors import Mistake, RecipeError, UserError
from ftkit.recipe.document import Document, Path, parse, parse_value
from ftkit.recipe.fields import DATA_DRIVEN_INITS, FORMER_TRAINING, OWNED_LORA, OWNED_TRAINING, library_fields
from ftkit.recipe.schema import (
    Augment,
    Auto,
    Clean,
    Data,
    Evaluation,
    Full,
    Gate,
    Generation,
    Lora,
    Model,
    QLora,
    Recipe,
    Source,
    Speed,
    Training,
    Transfer,
)
from ftkit.recipe.tasks import TASK_SPECS, TEXT_METRICS, TaskSpec

STRATEGY_CLASSES: dict[str, type[BaseModel]] = {
    "full": Full, "transfer": Transfer, "lora": Lora, "qlora": QLora, "auto": Auto,
}  # fmt: skip
BLOCKS: dict[str, type[BaseModel]] = {
    "model": Model, "data": Data, "training": Training, "evaluation": Evaluation, "speed": Speed,
}  # fmt: skip
INNER_BLOCKS: dict[tuple[str | int, ...], type[BaseModel]] = {
    ("data", "train"): Source, ("data", "eval"): Source, ("data", "test"): Source,
    ("data", "gate"): Gate, ("data", "clean"): Clean, ("data", "augment"): Augment,
    ("evaluation", "generation"): Generation,
}  # fmt: skip
MAX_BYTES = 1_000_000
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
    document = parse(read_text(FilePath(path)), str(path))
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
    files = [str(found) for found in path.parent.glob("*.yaml")] if path.parent.is_dir() else []
    near = difflib.get_close_matches(str(path), files, n=1)
    return f"did you mean {near[0]}?" if near else "`ftkit recipes` lists those that come with ftkit"


def apply_override(document: Document, override: str) -> None:
    """Set `key.path=value` in the document; the value is parsed as in the file."""
    key, equals, text = override.partition("=")
    if not equals or not key.strip():
        raise UserError(f"'{override}' is not an override", "write key.path=value, as training.learning_rate=2e-5")
    path = tuple(key.strip().split("."))
    if not isinstance(document.value, dict):
        document.value = {}
    block = document.value
    for depth, part in enumerate(path[:-1], 1):
        if isinstance(block.get(part), str) and part in ("model", "strategy"):
            block[part] = {"name": block[part]}  # the short form: `strategy: lora`
        block = block.setdefault(part, {})
        if not isinstance(block, dict):
            raise UserError(f"'{'.'.join(path[:depth])}' holds no keys", "see `ftkit schema`", override)
    block[path[-1]] = parse_value(text)
    for stale in [known for known in document.places if known[: len(path)] == path]:
        del document.places[stale]
    document.places[path] = override


def check_document(document: Document) -> Recipe:
    """Raises RecipeError with every mistake, in the order of the file; returns the recipe when there is none."""
    if not isinstance(document.value, dict) and not document.mistakes:
        raise RecipeError([Mistake(document.place(()), "a recipe is a mapping of keys", "see `ftkit schema`")])
    mistakes, recipe = list(document.mistakes), None
    try:
        recipe = Recipe.model_validate(document.value)
    except ValidationError as error:
        mistakes += [describe(document, item) for item in error.errors(include_url=False)]
    mistakes += find_joint_mistakes(document)
    if mistakes or recipe is None:
        raise RecipeError(sorted(dict.fromkeys(mistakes), key=_file_order))
    recipe._places = {".".join(map(str, path)): place for path, place in document.places.items()}
    recipe._source = document.name
    return recipe


def _file_order(mistake: Mistake) -> tuple[int, int]:
    parts = mistake.place.rsplit(":", 2)
    return (int(parts[1]), int(parts[2])) if len(parts) == 3 and parts[1].isdigit() and parts[2].isdigit() else (10**9, 0)


def describe(document: Document, error: Any) -> Mistake:
    """One pydantic error as a mistake of the recipe."""
    path = _document_path(document, error["loc"])
    key, value = str(path[-1]) if path else "", error["input"]
    place, context = document.place(path), error.get("ctx", {})
    kind, field = error["type"], ".".join(map(str, path))
    if kind == "extra_forbidden":
        return Mistake(place, *unknown_key(document, path))
    if kind == "missing":
        return Mistake(document.place(path[:-1]), f"'{field}' is missing", f"add {key}: …")
    if kind in ("union_tag_not_found", "union_tag_invalid"):
        return Mistake(document.place((*path, "name")), *unknown_strategy(value))
    if kind == "literal_error":
        valid = context.get("valid") or [item.strip("'") for item in _literals(context.get("expected", ""))]
        return Mistake(
            place, f"{field}: {shown(value)} is not valid", f"{did_you_mean(value, valid)}valid are {', '.join(valid)}"
        )
    words = {
        "int_type": "must be a whole number", "int_from_float": "must be a whole number", "float_type": "must be a number",
        "string_type": "must be text", "bool_type": "must be true or false", "list_type": "must be a list",
        "dict_type": "must be a mapping", "model_type": "must be a block of keys",
        "model_attributes_type": "must be a block of keys", "string_too_short": "must not be empty",
        "too_short": f"must name at least {context.get('min_length')}",
        "too_small": f"must be at least {context.get('least')}",
        "too_large": f"must be at most {context.get('most')}", "not_finite": "must be a finite number",
    }  # fmt: skip
    rule = words.get(kind, error["msg"].replace("Input should be", "must be"))
    return Mistake(place, f"{field}: {rule}, not {shown(value)}", _quote_hint(value, rule))


def _literals(expected: str) -> list[str]:
    return expected.replace(" or ", ", ").split(", ")


def _quote_hint(value: Any, rule: str) -> str:
    if isinstance(value, str) and "number" in rule and value.replace(".", "").replace("-", "").isalnum():
        try:
            float(value)
        except ValueError:
            return ""
        return f"write {value} without quotes"
    return "put it in quotes" if rule == "must be text" and isinstance(value, int | float | bool) else ""


def shown(value: Any) -> str:
    """A value as in the recipe, short enough for one line."""
    text = {True: "true", False: "false", None: "null"}.get(value) if isinstance(value, bool | None) else repr(value)
    text = text or ""
    return text if len(text) <= 60 else text[:57] + "…"


def did_you_mean(value: Any, valid: list[str]) -> str:
    near = difflib.get_close_matches(str(value).lower(), valid, n=1, cutoff=0.5)
    return f"did you mean {near[0]}? " if near else ""


def _document_path(document: Document, loc: tuple[str | int, ...]) -> Path:
    """pydantic's path without what stands only in the models: union tags, and the list around a single source."""
    path: list[str | int] = []
    value = document.value
    for part in loc:
        if path == ["strategy"] and part in STRATEGY_CLASSES:
            continue
        if isinstance(part, int) and not isinstance(value, list):
            continue
        path.append(part)
        value = value.get(part) if isinstance(value, dict) else value[part] if _has_item(value, part) else None
    return tuple(path)


def _has_item(value: Any, part: str | int) -> bool:
    return isinstance(value, list) and isinstance(part, int) and part < len(value)


def unknown_strategy(value: Any) -> tuple[str, str]:
    name = value.get("name") if isinstance(value, dict) else value
    names = list(STRATEGY_CLASSES)
    if name is None:
        return "'strategy.name' is missing", f"one of {', '.join(names)}"
    return f"strategy.name: {shown(name)} is not valid", f"{did_you_mean(name, names)}valid are {', '.join(names)}"


def unknown_key(document: Document, path: Path) -> tuple[str, str]:
    """What is wrong with a key that its block does not have, and what was meant."""
    block, key = path[:-1], str(path[-1])
    field = ".".join(map(str, path))
    if block == ("training",) and (hint := OWNED_TRAINING.get(key) or FORMER_TRAINING.get(key)):
        renamed = key in FORMER_TRAINING
        return f"unknown key '{field}'" if renamed else f"'{field}' has no effect", f"it is {hint}" if renamed else hint
    if block == ("strategy",):
        strategy = document.value["strategy"].get("name")
        if key in OWNED_LORA and strategy in ("lora", "qlora", "auto"):
            return f"'{field}' has no effect", OWNED_LORA[key]
        homes = [name for name, model in STRATEGY_CLASSES.items() if key in model.model_fields]
        if homes := [name for name in homes if name != "auto"] or homes:
            return f"'{field}' has no effect with strategy {strategy}", f"it belongs to {' and '.join(homes)}"
    valid = _keys_at(document, block)
    if near := difflib.get_close_matches(key, valid, n=1, cutoff=0.6):
        return f"unknown key '{field}'", f"did you mean {near[0]}?"
    if homes := [name for name, model in BLOCKS.items() if key in model.model_fields and (name,) != block]:
        return f"unknown key '{field}'", f"{key} belongs under {homes[0]}"
    if block != ("strategy",) and key in Lora.model_fields:
        return f"unknown key '{field}'", f"{key} belongs under strategy, with lora or qlora"
    return f"unknown key '{field}'", f"valid here are {_listed(valid)}"


def _listed(valid: list[str]) -> str:
    return ", ".join(valid[:12]) + (", … (`ftkit schema` lists all)" if len(valid) > 12 else "")


def _keys_at(document: Document, block: Path) -> list[str]:
    if not block:
        return list(Recipe.model_fields)
    if block == ("strategy",):
        return list(STRATEGY_CLASSES[document.value["strategy"]["name"]].model_fields)
    if inner := INNER_BLOCKS.get(block[:2]):
        return list(inner.model_fields)
    return list(BLOCKS[str(block[0])].model_fields)


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
            hint = f"{did_you_mean(role, list(spec.roles))}{task} has {', '.join(spec.roles)}"
            mistakes.append(Mistake(document.place(("data", "columns", role)), f"unknown column role '{role}'", hint))
    for index, metric in enumerate(metrics if isinstance(metrics, list) else ()):
        if isinstance(metric, str) and metric not in spec.metrics:
            hint = f"{did_you_mean(metric, list(spec.metrics))}{task} has {', '.join(spec.metrics)}"
            mistakes.append(Mistake(document.place(("evaluation", "metrics", index)), f"unknown metric '{metric}'", hint))
    best = blocks["training"].get("metric_for_best_model")
    while_training = [name for name in spec.metrics if name not in TEXT_METRICS]
    if isinstance(best, str) and best.removeprefix("eval_") not in while_training:
        near = did_you_mean(best.removeprefix("eval_"), while_training)
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
