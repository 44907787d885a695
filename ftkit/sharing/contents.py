"""The folder that becomes the repository: the model's files as they are, and the run's without what is nobody's business."""

import hashlib
import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from ftkit.hub.layout import CARD, RECIPE, RECORD, REPORT, ROW_FILES, RUN_FILES, TEMPLATES, is_model_file
from ftkit.reading import object_if_there, read_jsonl, read_log, read_object, read_text
from ftkit.recipe.schema import Recipe
from ftkit.report.base_card import base_card
from ftkit.report.evidence import Evidence, read_evidence
from ftkit.run import PROMPT_TEMPLATE, Run, write_json, write_text
from ftkit.sharing.scrub import local_names, require_scrubbed, scrubbed

UNTOLD = (  # of run.json: the machine, its user, and where another run lies
    "command", "machine", "git", "process", "error", "published", "python", "rerun",
)  # fmt: skip
OF_ROWS = {"data_report.json": ("prompts",), "analysis.json": ("worst", "changed")}  # texts of the user's rows
LOG = "log.jsonl"
HEADER = "# The recipe of this run as resolved; of local paths the last part is left.\n"


@dataclass(frozen=True)
class Contents:
    """What is to be made public.

    Attributes:
        folder: the files as they will lie in the repository.
        license: as the card says; None where nobody has named one.
        rows: of the user's data, whose texts are in it.
    """

    folder: Path
    license: str | None
    rows: int

    @property
    def files(self) -> dict[str, int]:
        """Each file with its size in bytes, the largest first."""
        found = [path for path in self.folder.rglob("*") if path.is_file()]
        sizes = {path.relative_to(self.folder).as_posix(): path.stat().st_size for path in found}
        return dict(sorted(sizes.items(), key=lambda item: -item[1]))


def gather(run: Run, folder: Path, address: str, *, with_rows: bool) -> Contents:
    """Lay out a finished run as a repository.

    Args:
        folder: empty.
        address: the repository's id, by which the card says the model is loaded.
        with_rows: the texts of the eval rows, too.

    Raises:
        UserError: a file would make a folder of this machine public.
    """
    from ftkit.report.card import card  # these two bring Bokeh, and other commands need not wait for it
    from ftkit.report.page import page

    recipe, names = run.read_recipe(), local_names(run, run.read_recipe())
    for name in RUN_FILES + (ROW_FILES if with_rows else ()):
        copy_scrubbed(run.folder / name, folder / name, names, with_rows=with_rows)
    write_recipe(run, folder, names)
    evidence = replace(read_evidence(Run(folder)), prompt_forms=object_if_there(run.model / PROMPT_TEMPLATE))
    write_text(folder / REPORT, page(evidence, address))
    about = base_card(recipe.model)
    write_text(folder / CARD, card(evidence, address=address, about=about))
    copy_model(run.model, folder, recipe)
    require_scrubbed([path for path in folder.rglob("*") if path.is_file()], run, recipe)
    return Contents(folder, about.license, rows_shown(evidence))


def rows_shown(evidence: Evidence) -> int:
    return len(evidence.rows)


def copy_scrubbed(file: Path, target: Path, names: list[str], *, with_rows: bool) -> None:
    """A file of the run's without local paths, and without texts of rows where they are not wanted."""
    if not file.is_file() or file.name in (RECIPE, REPORT):
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    if file.suffix not in (".json", ".jsonl"):
        shutil.copyfile(file, target)
        return
    if file.suffix == ".jsonl":
        rows = read_log(file) if file.name == LOG else read_jsonl(file)
        lines = [json.dumps(scrubbed(row, names), ensure_ascii=False) for row in rows]
        write_text(target, "".join(f"{line}\n" for line in lines))
        return
    left_out = UNTOLD if file.name == RECORD else () if with_rows else OF_ROWS.get(file.name, ())
    known = read_object(file)
    values = {name: value for name, value in known.items() if name not in left_out}
    if "prompts" in known and "prompts" in left_out:
        values["prompts"] = [without_texts(prompt) for prompt in known["prompts"]]
    write_json(target, scrubbed(values, names))


def without_texts(prompt: dict[str, Any]) -> dict[str, Any]:
    """In which form rows became prompts: whoever predicts needs it, and it says nothing of a row."""
    kept = {name: prompt[name] for name in ("form", "arguments") if name in prompt}
    return kept | ({"messages": []} if "messages" in prompt else {})


def write_recipe(run: Run, folder: Path, names: list[str]) -> None:
    """The recipe without local paths, and its digest in place of that of the run's own."""
    values = scrubbed(yaml.safe_load(read_text(run.recipe_file)), names)
    text = HEADER + yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=120)
    write_text(folder / RECIPE, text)
    shared = Run(folder)
    digest = hashlib.sha256(text.encode()).hexdigest()
    shared.update(fingerprints={**shared.record.get("fingerprints", {}), "recipe": digest})


def copy_model(model: Path, folder: Path, recipe: Recipe) -> None:
    """The model's files, byte for byte; code of its own only where the recipe lets it be run."""
    code = recipe.model.trust_remote_code
    for file in sorted(model.iterdir()):
        if file.is_file() and (is_model_file(file.name) or (code and file.suffix == ".py")):
            shutil.copyfile(file, folder / file.name)
    if (model / TEMPLATES).is_dir():
        shutil.copytree(model / TEMPLATES, folder / TEMPLATES)
