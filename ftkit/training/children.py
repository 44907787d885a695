"""Runs one after another, each in a process of its own, so that the peak memory of one is not that of another."""

import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from ftkit import console
from ftkit.errors import UserError
from ftkit.hub.pins import as_asked, as_begun
from ftkit.recipe.schema import Recipe
from ftkit.run import FINISHED, Run, dump_recipe, is_run, require_writable, resolved_values, write_text
from ftkit.signals import ENDING, Stopped, arrived

STOPPED = {status for number in (signal.SIGINT, *ENDING) for status in (128 + number, -number)}
STDERR = 2


def train_all(recipes: Mapping[str, Recipe], folder: Path, *, smoke: bool, overwrite: bool, quiet: bool) -> list[str]:
    """Train each recipe into a sub-folder of its name, but those that are finished there; their output goes to stderr.

    Returns:
        The names of those that failed; each has said why.

    Raises:
        UserError: a sub-folder holds a run of another recipe.
        KeyboardInterrupt: a run was interrupted; the same command goes on with it.
    """
    require_writable(folder)
    recipes = {
        name: as_begun(as_asked(recipe), Run(folder / name).record.get("hub", recipe.pins))
        for name, recipe in recipes.items()
    }
    plans = {name: plan(recipe, folder / name, smoke=smoke, overwrite=overwrite) for name, recipe in recipes.items()}
    failed = []
    for name, options in plans.items():
        if options is None:
            console.say(f"{name}: finished before, with the same recipe")
            continue
        console.say(f"{name}: training into {folder / name}")
        file = folder / f"{name}.yaml"
        write_text(file, dump_recipe(recipes[name]))
        words = ["train", str(file), "--output-dir", str(folder / name), *options]
        status = run_child([*words, *(["--smoke"] if smoke else []), *(["--quiet"] if quiet else [])], quiet=quiet)
        if status in STOPPED:
            raise KeyboardInterrupt
        if status:
            failed.append(name)
    return failed


def going_on(recipe: Recipe, run: Run) -> Recipe:
    """The recipe at the commits of the run that is in the folder, if there is one that noted them."""
    return as_begun(as_asked(recipe), run.record.get("hub") or recipe.pins)


def plan(recipe: Recipe, folder: Path, *, smoke: bool, overwrite: bool) -> list[str] | None:
    """The options that a run is started with, or None where it is finished.

    Raises:
        UserError: the folder holds a run of another recipe.
    """
    run = Run(folder)
    if not is_run(folder) or overwrite:
        return ["--overwrite"] if is_run(folder) else []
    if smoke:  # the recipe of such a run is that of its stand-in
        return ["--overwrite"]
    if resolved_values(run.read_recipe()) != resolved_values(recipe):
        hint = "choose another --output-dir, or replace it with --overwrite"
        raise UserError(f"{folder} holds a run of another recipe", hint, "--output-dir")
    if run.state == FINISHED and run.model.is_dir():
        return None
    return ["--resume"] if any(run.checkpoints.glob("*checkpoint-*")) else ["--overwrite"]


def run_child(words: list[str], *, quiet: bool) -> int:
    """The exit status of an ftkit command; Ctrl-C reaches it from the terminal, other signals are handed on, and it ends."""
    out = subprocess.DEVNULL if quiet else STDERR  # results of the whole go to standard output
    process = subprocess.Popen([sys.executable, "-m", "ftkit", *words], stdout=out)
    while True:
        try:
            return process.wait()
        except Stopped as error:
            arrived()  # a second one would end the child at once, without its checkpoint
            process.send_signal(error.number)
        except KeyboardInterrupt:
            continue
