"""Code that lies in a run's folder, or that its files name: which there is, and whether the user has let it run.

What is examined never permits itself. Permission is `--trust-code` on the command line; or the user's own `ftkit train` ran
that very code, which is noted outside of the folder, in ftkit's cache, under a digest of the code.
"""

import hashlib
import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ftkit import console
from ftkit.cache import cache_folder
from ftkit.classes import OWN_CODE, strange_adapter, strange_config, strange_load
from ftkit.errors import UserError
from ftkit.recipe.load import load_recipe
from ftkit.recipe.schema import Model, Recipe

OPTION = "--trust-code"
METRIC = "metric_file"
RECORDS = ("run.json", "verification/facts.json")
ADAPTER, CONFIG = "adapter_config.json", "config.json"
SHOWN = 4  # files that a line names
NO_FAULT = (OSError, RuntimeError)  # no right to write; no home


@dataclass(frozen=True)
class Place:
    """Where code is named.

    Attributes:
        where: the file and the key in it.
        kind: of the code, as the last part of the key.
        what: the files or the name of it.
        digest: of the code itself, as far as it is at hand.
    """

    where: str
    kind: str
    what: str
    digest: str

    def words(self) -> str:
        return f"{self.where} ({self.what})"


def require_trust(folder: Path, trust_code: bool, *, metric: bool = False, recipe: Recipe | None = None) -> None:
    """Make sure that no code of a run's folder is run without permission.

    Args:
        trust_code: the user has given it on the command line.
        metric: the command would run the recipe's own metric.
        recipe: that the user named, in place of the folder's.

    Raises:
        UserError: there is code that nobody has permitted; each place is named. Or a class that ftkit never writes.
    """
    if not (folder / "recipe.yaml").is_file():
        return
    if strange := next(strange_names(folder), ""):
        hint = "ftkit writes no such thing, and imports nothing by such a name"
        raise UserError(f"{strange} is not taken", hint, str(folder))
    own_code = recipe is not None and recipe.model.trust_remote_code
    found = code_places(folder, own_code=own_code)
    wanted = [place for place in found if place.kind != METRIC or (metric and recipe is None)]
    unknown = [place for place in wanted if not is_known(place)]
    if not unknown:
        return
    named = ", ".join(place.words() for place in unknown)
    if trust_code:
        console.say(f"{folder} was not trained here as it is, and its code is run as you say: {named}")
        return
    message = f"it was not trained here as it is, and would run code: {named}"
    raise UserError(message, f"read that code, and say {OPTION} where you trust it", str(folder))


def code_places(folder: Path, *, own_code: bool = False) -> list[Place]:
    """All places of a run's folder that name code which it would run.

    Args:
        own_code: the model's own is run whatever the folder's recipe says of it.
    """
    recipe = load_recipe(folder / "recipe.yaml")
    model, found = folder / "model", list[Place]()
    own = code_of(recipe.model, model)
    if recipe.model.trust_remote_code:
        found.append(Place("recipe.yaml: model.trust_remote_code", OWN_CODE, *own))
    if file := recipe.evaluation.metric_file:
        found.append(Place("recipe.yaml: evaluation.metric_file", METRIC, file, digest_of([Path(file).expanduser()])))
    for record in RECORDS:
        arguments = dict((read_object(folder / record).get("load") or {}).get("arguments") or {})
        if arguments.get(OWN_CODE):
            found.append(Place(f"{record}: load.arguments.trust_remote_code", OWN_CODE, *own))
    if own_code or any(place.kind == OWN_CODE for place in found):
        found += [Place(f"model/{where}", OWN_CODE, *own) for where in code_files(model)]
    return found


def code_files(model: Path) -> Iterator[str]:
    """Where a model's folder brings code, which is run where the model's own code is."""
    for name in (CONFIG, "tokenizer_config.json"):
        if read_object(model / name).get("auto_map"):
            yield f"{name}: auto_map"
    if (model / "custom_generate" / "generate.py").is_file():
        yield "custom_generate/generate.py"


def strange_names(folder: Path) -> Iterator[str]:
    """What would import something by a name that stands in a file, and that ftkit never writes."""
    for record in RECORDS:
        load = read_object(folder / record).get("load")
        if load is not None and (words := strange_load(load)):
            yield f"{record}: {words}"
    for name, found in ((ADAPTER, strange_adapter), (CONFIG, strange_config)):
        if words := found(read_object(folder / "model" / name)):
            yield f"model/{name}: {words}"


def code_of(block: Model, model: Path | None = None) -> tuple[str, str]:
    """The files of a model's own code in words, and their digest.

    Args:
        model: the folder of a run's model, beside the base that it was made from.
    """
    folders = [folder for folder in (model, Path(block.name).expanduser()) if folder is not None and folder.is_dir()]
    files = [file for folder in folders for file in sorted(folder.rglob("*.py"))]
    named = [name for folder in folders for name in (CONFIG, "tokenizer_config.json") if (folder / name).is_file()]
    maps = [read_object(folder / name).get("auto_map") for folder in folders for name in named]
    shown = ", ".join(dict.fromkeys(file.name for file in files[:SHOWN])) + (", …" if len(files) > SHOWN else "")
    where = block.name if not Path(block.name).is_dir() else ""
    words = " of ".join(filter(None, (shown or "the model's own code", where)))
    return words, digest_of(files, block.name if where else "", block.revision if where else None, maps)


def digest_of(files: list[Path], *beside: Any) -> str:
    """Of what files hold, by their names, and of what stands beside them."""
    found = hashlib.sha256(json.dumps(beside, sort_keys=True, default=str).encode())
    for file in files:
        with suppress(OSError):
            found.update(f"\0{file.name}\0".encode() + hashlib.sha256(file.read_bytes()).digest())
    return found.hexdigest()


def is_known(place: Place) -> bool:
    """Whether the user's own `ftkit train` ran that very code."""
    with suppress(*NO_FAULT):
        return _file(place).is_file()
    return False


def remember_code(folder: Path) -> None:
    """Note outside of a run's folder that the user's own recipe ran its code; what cannot be noted is asked for."""
    for place in code_places(folder):
        with suppress(*NO_FAULT):
            _file(place).parent.mkdir(parents=True, exist_ok=True)
            _file(place).write_text(json.dumps({"where": str(folder.absolute()), "what": place.what}), encoding="utf-8")


def _file(place: Place) -> Path:
    key = hashlib.sha256(f"{place.kind}\0{place.digest}".encode()).hexdigest()[:32]
    return cache_folder() / "trusted" / f"{key}.json"


def say_code(recipe: Recipe) -> None:
    """One line on the code that a recipe names, before any of it is run: who names the recipe permits it."""
    if named := list(named_code(recipe)):
        console.say(f"the recipe names code, which is run: {', '.join(named)}")


def named_code(recipe: Recipe) -> Iterator[str]:
    """Each key of a recipe that names code, with the code."""
    if recipe.evaluation.metric_file:
        yield f"evaluation.metric_file ({recipe.evaluation.metric_file})"
    if recipe.model.trust_remote_code:
        yield f"model.trust_remote_code ({code_of(recipe.model)[0]})"


def read_object(file: Path) -> dict[str, Any]:
    """A file's JSON object; empty where there is none."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
