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
NAMING = (CONFIG, "tokenizer_config.json", ADAPTER)  # files of a model that say where code or a base lies
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
    """Make sure that no code of a run's folder is run without permission, and say of a run that no training of it is noted.

    Args:
        trust_code: the user has given it on the command line.
        metric: the command would run the recipe's own metric.
        recipe: that the user named, in place of the folder's.

    Raises:
        UserError: there is code that nobody has permitted; each place is named. Or a class that ftkit never writes.
    """
    own_code = recipe is not None and recipe.model.trust_remote_code
    strange = list(strange_names(folder))
    unknown = [place for place in code_places(folder, own_code=own_code) if not is_known(place)]
    wanted = [place for place in unknown if place.kind != METRIC or (metric and recipe is None)]
    named = ", ".join(place.words() for place in unknown)
    if strange:
        beside = f"; it would run code, too: {named}" if unknown else ""
        message = f"it names what is not taken: {', '.join(strange)}{beside}"
        raise UserError(message, "ftkit writes no such thing, and imports nothing by such a name", str(folder))
    if wanted and not trust_code:
        message = f"no training of it as it is was noted here, and it would run code: {named}"
        raise UserError(message, f"read that code, and say {OPTION} where you trust it", str(folder))
    if wanted:
        console.say(f"no training of {folder} as it is was noted here, and its code is run as you say: {named}")
    elif not is_noted("run", identity(folder)):
        console.say(f"{folder} was made elsewhere, or before trainings were noted: ftkit's cache has no note of it")


def code_places(folder: Path, *, own_code: bool = False) -> list[Place]:
    """All places of a run's folder that name code which it would run.

    Args:
        own_code: the model's own is run whatever the folder's recipe says of it.
    """
    model, recipe = folder / "model", readable_recipe(folder)
    wanting = ["recipe.yaml: model.trust_remote_code"] if recipe and recipe.model.trust_remote_code else []
    for record in RECORDS:
        load = object_or_nothing(folder / record).get("load")
        arguments = load.get("arguments") if isinstance(load, dict) else None
        if isinstance(arguments, dict) and arguments.get(OWN_CODE):
            wanting.append(f"{record}: load.arguments.trust_remote_code")
    if own_code or wanting:
        wanting += [f"model/{where}" for where in code_files(model)]
    own = code_of(recipe.model if recipe else Model(name=str(model)), model) if wanting else ("", "")
    found = [Place(where, OWN_CODE, *own) for where in wanting]
    if recipe and (file := recipe.evaluation.metric_file) and Path(file).expanduser().exists():
        found.append(Place("recipe.yaml: evaluation.metric_file", METRIC, file, digest_of([Path(file).expanduser()])))
    return found


def readable_recipe(folder: Path) -> Recipe | None:
    """The folder's recipe; None where it cannot be read, by which nothing is run either."""
    try:
        return load_recipe(folder / "recipe.yaml")
    except UserError:
        return None


def code_files(model: Path) -> Iterator[str]:
    """Where a model's folder brings code, which is run where the model's own code is."""
    for name in (CONFIG, "tokenizer_config.json"):
        if object_or_nothing(model / name).get("auto_map"):
            yield f"{name}: auto_map"
    if (model / "custom_generate" / "generate.py").is_file():
        yield "custom_generate/generate.py"


def strange_names(folder: Path) -> Iterator[str]:
    """What would import something by a name that stands in a file, and that ftkit never writes."""
    for record in RECORDS:
        load = object_or_nothing(folder / record).get("load")
        if load is not None and (words := strange_load(load)):
            yield f"{record}: {words}"
    for name, found in ((ADAPTER, strange_adapter), (CONFIG, strange_config)):
        if words := found(object_or_nothing(folder / "model" / name)):
            yield f"model/{name}: {words}"


def code_of(block: Model, model: Path | None = None) -> tuple[str, str]:
    """The files of a model's own code in words, and their digest.

    Args:
        model: the folder of a run's model, beside the base that it was made from.
    """
    places = [model, Path(block.name).expanduser(), Path(block.tokenizer).expanduser() if block.tokenizer else None]
    folders = [folder for folder in places if folder is not None and folder.is_dir()]
    files = [file for folder in folders for file in sorted(folder.rglob("*.py"))]
    named = [object_or_nothing(folder / name) for folder in folders for name in NAMING if (folder / name).is_file()]
    maps = [[values.get(key) for key in ("auto_map", "base_model_name_or_path", "revision")] for values in named]
    shown = ", ".join(dict.fromkeys(file.name for file in files[:SHOWN])) + (", …" if len(files) > SHOWN else "")
    where = block.name if not Path(block.name).expanduser().is_dir() else ""
    words = " of ".join(filter(None, (shown or "the model's own code", where)))
    beside = [block.name if where else "", block.revision if where else None]
    return words, digest_of(files, *beside, block.tokenizer, block.tokenizer_revision, maps)


def digest_of(files: list[Path], *beside: Any) -> str:
    """Of what files hold, by their names, and of what stands beside them."""
    found = hashlib.sha256(json.dumps(beside, sort_keys=True, default=str).encode())
    for file in files:
        with suppress(OSError):
            found.update(f"\0{file.name}\0".encode() + hashlib.sha256(file.read_bytes()).digest())
    return found.hexdigest()


def is_known(place: Place) -> bool:
    """Whether the user's own `ftkit train` ran that very code."""
    return is_noted(place.kind, place.digest)


def identity(folder: Path) -> str:
    """A digest by which a run is known, whatever its folder is called later."""
    record = object_or_nothing(folder / "run.json")
    return digest_of([], *(record.get(name) for name in ("started", "fingerprints")))


def remember_run(folder: Path) -> None:
    """Note outside of a run's folder that the run, and its code, were the user's own; what cannot be noted is asked for."""
    found = [("run", identity(folder)), *((place.kind, place.digest) for place in code_places(folder))]
    for kind, digest in found:
        with suppress(*NO_FAULT):
            file = _note(kind, digest)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps({"kind": kind, "where": str(folder.absolute())}), encoding="utf-8")


def is_noted(kind: str, digest: str) -> bool:
    with suppress(*NO_FAULT):
        return _note(kind, digest).is_file()
    return False


def _note(kind: str, digest: str) -> Path:
    key = hashlib.sha256(f"{kind}\0{digest}".encode()).hexdigest()[:32]
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


def object_or_nothing(file: Path) -> dict[str, Any]:
    """A file's JSON object; empty where there is none: of a damaged file whoever reads it next says what is wrong."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
