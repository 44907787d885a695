"""The run folder: its paths, its states, and writing that leaves each file whole or absent."""

import hashlib
import json
import math
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import yaml

from ftkit import __version__, console
from ftkit.claim import LOCK, Busy, Sign, is_first_rank, sign_of
from ftkit.disk import refusal
from ftkit.errors import FtkitError, UserError
from ftkit.reading import LOOK, MISSING, Damaged, object_if_there, read_log
from ftkit.recipe.load import load_recipe
from ftkit.recipe.schema import Recipe
from ftkit.recipe.tasks import TASK_SPECS
from ftkit.seals import describe, digest_of, seal_of, unlike
from ftkit.secrets import all_without_secrets
from ftkit.signals import signals_held
from ftkit.units import ago

PACKAGES = ("ftkit", "torch", "transformers", "datasets", "peft", "accelerate", "bitsandbytes", "tokenizers", "numpy")
PROMPT_TEMPLATE = "prompt_template.json"  # in model/: the forms that become a prompt when filled with a row's columns
RECORD = {  # what run.json holds under a key
    "state": str, "model": str, "load": dict, "data": dict, "parameters": dict, "versions": dict, "fingerprints": dict,
    "seconds": dict, "verified": dict, "hub": list, "parts": list, "divergence": list, "resumed": list,
    "out_of_memory": list, "forced": list,
}  # fmt: skip
METRICS = {"tuned": dict, "rows": int}  # what metrics.json of a finished run has, and must have
DATA_REPORT = {"prompts": list, "caveats": dict, "streamed": dict}  # the same of data_report.json, where it has them
MEND = "go on with `ftkit train … --resume`, which takes the copy in the last checkpoint, or put a whole copy of it back"
SMALL = 64 << 20  # bytes of a file that are read again whenever a run's model is loaded
FINISHED, TRAINING, INTERRUPTED, FAILED = "finished", "training", "interrupted", "failed"
RUNNING, DEAD = "running", "dead"  # what a run that is training may truly be; nobody can write down that he died
UNFINISHED_NAME = re.compile(r"\..+\.(jsonl?|yaml|md|html)\.[a-z0-9_]{8}")  # of a file that `write_text` has not renamed


UMASK = os.umask(0o077)  # which can be read by setting it alone
os.umask(UMASK)


class Run:
    """One execution and its folder.

    run.json holds the state: training, interrupted, failed or finished. Whether one that is training lives, its lock says.
    """

    def __init__(self, folder: Path) -> None:
        folder = folder if folder.name not in ("", "..") else folder.resolve()  # what lies beside it is known by its name
        self.folder = folder
        self.recipe_file = folder / "recipe.yaml"
        self.record_file = folder / "run.json"
        self.log_file = folder / "log.jsonl"
        self.checkpoints = folder / "checkpoints"
        self.model = folder / "model"
        self.verification = folder / "verification"  # what verifying holds the saved model against
        self.metrics_file = folder / "metrics.json"
        self.data_report = folder / "data_report.json"
        self.analysis_file = folder / "analysis.json"
        self.outputs = folder / "outputs"  # what the figures are computed from: baseline and tuned, as arrays
        self.draws = self.outputs / "draws.npz"  # the tuned model's metrics over the draws of its intervals
        self.predictions_file = folder / "predictions.jsonl"
        self.card = folder / "README.md"
        self.report = folder / "report.html"
        self.tensorboard = folder / "tensorboard"
        self.inputs = folder / "inputs.json"  # sums of the files that it follows from, as they were when it began
        self.seal = folder / "seal.json"  # of the files above, as they were when the run ended
        self.replaced = folder / "replaced"  # the finished run before, until this one is finished
        self.setting_aside = folder / "replaced.part"  # the same while it is put there
        self.lock = folder / LOCK
        self.files = (  # that it is made of, beside folders
            self.recipe_file, self.record_file, self.log_file, self.metrics_file, self.analysis_file, self.data_report,
            self.predictions_file, self.inputs,
        )  # fmt: skip
        self._patient = False  # see `patience`
        self._waiting: dict[str, Any] | None = None  # run.json as it is to be
        self._waiting_lines: list[str] = []  # of log.jsonl

    def clear_outputs(self) -> None:
        """An empty folder for the arrays."""
        shutil.rmtree(self.outputs, ignore_errors=True)
        self.outputs.mkdir(parents=True)

    @property
    def record(self) -> dict[str, Any]:
        """run.json, or an empty record where there is none.

        Raises:
            Damaged: it cannot be read.
        """
        if self._waiting is not None:
            return self._waiting
        try:
            return object_if_there(self.record_file, RECORD)
        except Damaged as error:
            raise Damaged(error.file, error.what, LOOK if error.hint == LOOK else MEND) from None

    def read_recipe(self) -> Recipe:
        """The recipe as it lies in the folder.

        Raises:
            UserError: it cannot be read.
        """
        try:
            return load_recipe(self.recipe_file)
        except UserError as error:
            if not self.recipe_file.is_file():
                raise Damaged(self.recipe_file, MISSING) from None
            if self.has_its_recipe():
                raise
            words = str(error).splitlines()[0].removeprefix(f"{self.recipe_file}:").strip()
            raise Damaged(self.recipe_file, f"it was changed since the run began, and does not hold: {words}") from error

    def has_its_recipe(self) -> bool:
        """Whether recipe.yaml is as it was when the run began, so far as run.json knows."""
        recorded = self.record.get("fingerprints", {}).get("recipe")
        return not recorded or describe(self.recipe_file)[1] == recorded

    @property
    def state(self) -> str:
        """As run.json says; see `true_state`."""
        return str(self.record.get("state", ""))

    @property
    def sign(self) -> Sign | None:
        """The last sign of life of the process that works on the folder, or died at it; None where none does or did."""
        return sign_of(self.lock)

    @property
    def true_state(self) -> str:
        """The state, with running and dead where run.json says training, or nothing yet; empty where no run was begun.

        Raises:
            Damaged: run.json cannot be read.
        """
        sign, state = self.sign, self.state
        if sign is not None and sign.running:
            return RUNNING
        return DEAD if state == TRAINING or (sign is not None and not state) else state

    def update(self, **fields: Any) -> None:
        """Change fields of run.json; no secret is written, as of a command or a library's error."""
        self._write_record(self.record | all_without_secrets(fields))

    def forget(self, *names: str) -> None:
        """Take fields out of run.json."""
        self._write_record({name: value for name, value in self.record.items() if name not in names})

    @contextmanager
    def patience(self) -> Iterator[None]:
        """While the block runs, what the disk does not take of run.json and log.jsonl waits in memory and is tried again."""
        self._patient = True
        try:
            yield
        finally:
            self._patient = False

    def settle(self) -> None:
        """Write all that waits.

        Raises:
            OSError: the disk does not take it yet.
        """
        if self._waiting is not None:
            write_json(self.record_file, self._waiting)
            self._waiting = None
        if self._waiting_lines:
            self._append("".join(self._waiting_lines))
            self._waiting_lines = []

    def _write_record(self, record: dict[str, Any]) -> None:
        before, self._waiting = self._waiting, None
        try:
            write_json(self.record_file, record)
        except OSError as error:
            self._waiting = before
            self._wait(self.record_file, error, told=before is not None)
            self._waiting = record
            return
        if self.seal.is_file():
            with suppress(Damaged):  # then it stays so, for `verify` to tell
                write_json(self.seal, object_if_there(self.seal) | {self.record_file.name: describe(self.record_file)})

    def _wait(self, file: Path, error: OSError, *, told: bool) -> None:
        """Raises the error where nothing may wait, or where it is no disk's that takes no more."""
        if not (self._patient and (what := refusal(error))):
            raise error
        if not told:
            console.warn(f"{file}: {what}; what belongs there waits in memory")

    def forget_steps(self, after: int) -> None:
        """Take out of log.jsonl what was logged after a step, which is done again, and what ended an earlier training.

        Lines that cannot be read go, too, and a warning says so.
        """
        if self.log_file.is_file():
            events = read_log(self.log_file)
            events += map(json.loads, self._waiting_lines)
            kept = [event for event in events if event.get("step", 0) <= after and "train_runtime" not in event]
            write_jsonl(self.log_file, kept)
            self._waiting_lines = []

    def log(self, event: dict[str, Any]) -> None:
        """Append one event to log.jsonl, whole or not at all."""
        lines = [*self._waiting_lines, json.dumps(event) + "\n"]
        try:
            self._append("".join(lines))
        except OSError as error:
            self._wait(self.log_file, error, told=len(lines) > 1)
            self._waiting_lines = lines
        else:
            self._waiting_lines = []

    def _append(self, text: str) -> None:
        size = self.log_file.stat().st_size if self.log_file.is_file() else 0
        try:
            with self.log_file.open("a", encoding="utf-8") as file:
                file.write(text)
        except OSError:  # as of a full disk
            if self.log_file.is_file():
                os.truncate(self.log_file, size)
            raise


def default_folder(recipe: Recipe, *, smoke: bool) -> Path:
    """Where a run goes that no folder is named for: `runs/` and the name of the recipe's file."""
    return Path("runs") / (Path(recipe.source).stem + ("_smoke" if smoke else ""))


def is_run(folder: Path) -> bool:
    return (folder / "run.json").is_file() and (folder / "recipe.yaml").is_file()


def was_run(folder: Path) -> bool:
    """Whether a folder holds a run, or one that has lost what says of which state or which recipe it is."""
    run = Run(folder)
    rest = run.model.is_dir() or run.checkpoints.is_dir()
    return is_run(folder) or (rest and (run.record_file.is_file() or run.recipe_file.is_file()))


def require_files(run: Run) -> None:
    """Raises Damaged where a folder holds a run, and lacks what says of which state or which recipe."""
    for file, other in ((run.recipe_file, run.record_file), (run.record_file, run.recipe_file)):
        if other.is_file() and not file.is_file() and (run.model.is_dir() or run.checkpoints.is_dir()):
            raise Damaged(file, MISSING, MEND)


def finished_run(name: Path) -> Run:
    """The run in a folder, or in a repository on the hub.

    Raises:
        UserError: there is none, or it is not finished.
    """
    from ftkit.hub.runs import run_folder  # the hub's library takes longer than all else that is needed to name a run

    folder = run_folder(name)
    run = Run(folder)
    require_files(run)
    if not is_run(folder) and not (folder / LOCK).exists():
        what = "is no run" if folder.exists() else "does not exist"
        raise UserError(f"{folder} {what}", "name a run's folder, as runs/my_recipe")
    require_finished(run)
    return run


def require_finished(run: Run) -> None:
    """Raises UserError where a run is not finished: what it is, how far it came, and what to type."""
    if run.state == FINISHED and run.model.is_dir():
        return
    what, hint = state_words(run)
    raise UserError(f"the run in {run.folder} is {what}", hint)


def state_words(run: Run) -> tuple[str, str]:
    """What a run that is not finished is, in words, and what to do about it."""
    state, sign = run.true_state, run.sign
    if state == RUNNING and sign is not None:
        return f"running ({sign.words()})", "wait for it"
    if not is_run(run.folder):
        return "dead: it was killed before it began", "start it again with the same command"
    if state == FINISHED:  # which does not go on
        return f"finished, but has no {run.model.name}/", "put a copy of that back, or train it again with --overwrite"
    former = f"; the run that it was to replace is in {run.replaced}" if run.replaced.is_dir() else ""
    hint = f"go on with `{resume_command(run)}`{former}"
    if state == DEAD and sign is not None and sign.pid:
        return f"dead: killed at {sign.where()} (pid {sign.pid} on {sign.host}, last sign of life {ago(sign.age)})", hint
    return "dead: its process is gone" if state == DEAD else state or "broken", hint


def resume_command(run: Run) -> str:
    """What makes a run go on, to be pasted."""
    return shlex.join(["ftkit", "train", str(run.recipe_file), "--resume", "--output-dir", str(run.folder)])


def require_free(folder: Path, *, overwrite: bool, resume: bool) -> None:
    """Make sure, before anything expensive, that a run may be written into the folder.

    Raises:
        UserError: it holds a run or other files that would be lost, there is nothing to resume, or it is not writable.
    """
    run = Run(folder)
    if resume and overwrite:
        raise UserError("--resume goes on with a run, --overwrite replaces it", "give one of them", "--overwrite")
    if resume:
        if not is_run(folder):
            raise UserError(f"{folder} holds no run to resume", "start it without --resume", "--resume")
        if run.state == FINISHED:
            raise UserError(
                f"the run in {folder} is finished", "evaluate it with `ftkit eval`, or use --overwrite", "--resume"
            )
    elif holds_something(run):
        if not (was_run(folder) if overwrite else is_run(folder)):
            hint = "--overwrite replaces runs only" if overwrite else "choose another folder"
            raise UserError(f"{folder} holds files that are not a run's", hint, "--output-dir")
        if not overwrite and run.state == FINISHED:
            raise UserError(f"{folder} holds a finished run", "choose another --output-dir, or replace it with --overwrite")
        kept = "with checkpoints" if any(run.checkpoints.glob("*checkpoint-*")) else ""
        if run.replaced.is_dir() and not is_torn(run):  # it would be removed at the end, by one who has not asked for that
            kept = f"and in {run.replaced.name}/ the finished one that it was to replace"
        if not overwrite and kept:
            what = DEAD if run.state == TRAINING else run.state or "broken"
            hint = "go on with --resume, or replace it with --overwrite"
            raise UserError(f"{folder} holds a run that is {what}, {kept}", hint)
    require_writable(folder)


def require_idle(run: Run) -> None:
    """Raises Busy where another process works on the run's folder."""
    if is_first_rank() and (sign := run.sign) is not None and sign.running:
        raise Busy(run.folder, sign, "--output-dir")


def holds_something(run: Run) -> bool:
    """Whether a folder holds more than what a start leaves that was killed before there was a run."""
    if not run.folder.is_dir():
        return False
    litter = {run.lock, *unfinished_files(run.folder), *([run.record_file] if is_stillborn(run) else [])}
    rest = [path for path in run.folder.iterdir() if path not in litter]
    return any(path != run.checkpoints or not is_hollow(path) for path in rest)


def is_stillborn(run: Run) -> bool:
    """Whether a run was killed between its record and its recipe, the first two files that it writes."""
    if holds_more(run):
        return False
    try:
        return run.state == TRAINING
    except Damaged:
        return False


def holds_more(run: Run) -> bool:
    """Whether there is anything of a run that comes after its record."""
    return run.recipe_file.exists() or run.model.exists() or (run.checkpoints.exists() and not is_hollow(run.checkpoints))


def is_hollow(folder: Path) -> bool:
    """Whether a folder holds folders at most."""
    return folder.is_dir() and not any(not path.is_dir() or path.is_symlink() for path in folder.rglob("*"))


def is_torn(run: Run) -> bool:
    """Whether a process was killed between setting a finished run aside and beginning the one that replaces it."""
    began = holds_more(run) or (run.record_file.exists() and not is_stillborn(run))  # its record may have got lost since
    return run.setting_aside.is_dir() or (run.replaced.is_dir() and not began)


def unfinished_files(folder: Path) -> list[Path]:
    """Files that `write_text` was killed at."""
    found = folder.iterdir() if folder.is_dir() else ()
    return [path for path in found if UNFINISHED_NAME.fullmatch(path.name) and path.is_file()]


def sweep(run: Run) -> None:
    """Take away what a killed process has left half done in a folder that this process has claimed.

    A finished run that was set aside for one that did not begin is put back.
    """
    torn = is_torn(run)
    if is_stillborn(run):
        run.record_file.unlink()
    if torn:
        if not run.setting_aside.is_dir():
            run.replaced.rename(run.setting_aside)
        for path in sorted(run.setting_aside.iterdir(), key=lambda path: path.name == run.record_file.name):
            place = run.folder / path.name
            shutil.rmtree(place) if place.is_dir() and not place.is_symlink() else place.unlink(missing_ok=True)
            path.rename(place)  # the record last: a run without one is none
        run.setting_aside.rmdir()
    for folder in (run.folder, run.outputs, run.verification, run.model):
        for path in unfinished_files(folder):
            path.unlink(missing_ok=True)
    if not is_run(run.folder) and is_hollow(run.checkpoints):
        shutil.rmtree(run.checkpoints)
    if run.replaced.is_dir() and not may_not_be_finished(run):
        shutil.rmtree(run.replaced)


def require_writable(folder: Path) -> None:
    """Raises UserError where nothing can be written into the folder, or where it cannot be made."""
    parent = folder
    while not parent.exists() and parent != parent.parent:
        parent = parent.parent
    try:
        if not parent.is_dir():
            raise NotADirectoryError
        with tempfile.TemporaryFile(dir=parent):
            pass
    except OSError as error:
        reason = error.strerror or "a file stands in the way"
        raise UserError(f"{folder} cannot be written: {reason}", "choose another --output-dir", "--output-dir") from None


def remove_empty(run: Run) -> None:
    """Take away what the Trainer makes when it is built, where nothing is in it yet."""
    if run.checkpoints.is_dir() and not any(run.checkpoints.iterdir()):
        run.checkpoints.rmdir()


def start_run(run: Run, recipe: Recipe, fields: dict[str, Any]) -> None:
    """A fresh run folder with its recipe and record.

    A finished run that was in it is set aside until this one is finished; what is left of an unfinished one is removed. One
    that was to replace another, which is still there, is none of which that is not known.
    """
    if may_be_finished(run) and not (run.replaced.is_dir() and may_not_be_finished(run)):
        set_aside_finished(run)
    for path in (run.checkpoints, run.model, run.verification, run.tensorboard, run.outputs):
        shutil.rmtree(path, ignore_errors=True)
    for path in (*run.files, run.card, run.report, run.seal):
        path.unlink(missing_ok=True)
    run.update(state=TRAINING, started=now(), **fields)  # before the recipe, which may be anybody's: see `is_stillborn`
    write_text(run.recipe_file, dump_recipe(recipe))


def set_aside_finished(run: Run) -> None:
    """All that a folder holds goes into `replaced`; the folder itself stays, be it a link, and locked."""
    shutil.rmtree(run.replaced, ignore_errors=True)
    with signals_held():
        run.setting_aside.mkdir()
        held = [path for path in run.folder.iterdir() if path not in (run.lock, run.setting_aside)]
        for path in sorted(held, key=lambda path: path != run.record_file):  # first: a run without a record is none
            path.rename(run.setting_aside / path.name)
        run.setting_aside.rename(run.replaced)


def may_be_finished(run: Run) -> bool:
    """Whether a run is finished, or its record cannot say."""
    try:
        return run.state == FINISHED or (run.model.is_dir() and run.state not in (TRAINING, INTERRUPTED, FAILED))
    except Damaged:
        return True


def may_not_be_finished(run: Run) -> bool:
    """Whether a run is unfinished, or its record cannot say."""
    try:
        return run.state != FINISHED
    except Damaged:
        return True


def end_run(run: Run) -> None:
    """The run is finished, its files are sealed, and the one that it replaces is removed.

    The seal comes first: who is killed between the two leaves a run that is not finished, and is sealed anew.
    """
    sealed = seal_of(run.folder, sealed_files(run))
    record = record_text(run.record | {"state": FINISHED, "finished": now()})
    with signals_held():
        write_json(run.seal, sealed | {run.record_file.name: digest_of(record.encode())})
        write_text(run.record_file, record)
    shutil.rmtree(run.replaced, ignore_errors=True)


def sealed_files(run: Run) -> Iterator[Path]:
    """What of a run stays as it is once it is finished: not its cards, which may be written again, nor a user's files."""
    inside = (file for folder in (run.model, run.outputs, run.verification) for file in folder.rglob("*"))
    for file in (*run.files, *inside):
        if file.is_file() and file != run.model / run.card.name and not file.name.startswith("."):
            yield file


def changed_files(run: Run, *, within: str = "", largest: int | None = None) -> dict[str, str]:
    """Files of a finished run that are not as they were when it ended, and what is wrong; none where that was not noted.

    Args:
        within: a folder of the run, with a slash behind its name; all where it is empty.
        largest: of files of more bytes the size alone is compared.

    Raises:
        Damaged: what was noted cannot be read.
    """
    seal = object_if_there(run.seal)
    return unlike(run.folder, {name: known for name, known in seal.items() if name.startswith(within)}, largest=largest)


@contextmanager
def blaming_damage(run: Run) -> Iterator[None]:
    """What goes wrong in the block is blamed on a file of the run that is not as it was when the run ended, if one is.

    Raises:
        Damaged: one is; else the error goes on as it is, being none of the files'.
    """
    try:
        yield
    except (FtkitError, MemoryError):
        raise
    except Exception as error:  # whatever libraries stumble over in files that they trust
        for name, what in changed_files(run).items():
            raise Damaged(run.folder / name, what) from error
        raise


def dump_recipe(recipe: Recipe) -> str:
    """The recipe with its defaults filled in, as YAML that `load_recipe` reads back to the same."""
    header = "# The recipe of this run as resolved: overrides applied, defaults filled in.\n"
    return header + yaml.safe_dump(resolved_values(recipe), sort_keys=False, allow_unicode=True, width=120)


def resolved_values(recipe: Recipe) -> dict[str, Any]:
    """The recipe as plain values, less what is null by default or has no effect beside another key."""
    values = _without_defaults_that_are_null(recipe)
    for part in ("eval", "test"):
        if values["data"].get(part) is not None:
            values["data"].pop(f"{part}_size", None)
    if values["data"].get("split_column") is not None:
        for key in ("eval_size", "test_size"):
            values["data"].pop(key, None)
    if values["data"].get("streaming"):
        for key in ("augment", "drop_overlap", "packing"):
            values["data"].pop(key, None)
    if recipe.training.finds_batch:
        values["training"].pop("gradient_accumulation_steps", None)
    for kind in ("eval", "save", "logging"):
        if values["training"][f"{kind}_strategy"] != "steps":
            values["training"].pop(f"{kind}_steps", None)
    for key in {key for spec in TASK_SPECS.values() for key in spec.keys} - recipe.spec.keys:
        block, _, name = key.partition(".")
        values[block].pop(name, None)
    return values


def _without_defaults_that_are_null(block: Any) -> Any:
    if isinstance(block, list):
        return [_without_defaults_that_are_null(item) for item in block]
    if not hasattr(block, "model_fields_set"):
        return block
    fields = type(block).model_fields
    return {
        name: _without_defaults_that_are_null(getattr(block, name))
        for name in fields
        if getattr(block, name) is not None or fields[name].default is not None
    }


def now() -> str:
    """The time in UTC, to the second."""
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def environment(folder: Path, *, status: bool = True) -> dict[str, Any]:
    """What the run stands on: command, versions, machine, and the git commit of the recipe's folder.

    Args:
        status: say also whether all is committed; filters and hooks that the repository's settings name are run for that.
    """
    return {
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "python": platform.python_version(),
        "versions": package_versions(),
        "machine": {"system": platform.platform(), "processor": _processor(), "cores": os.cpu_count()},
        "git": git_commit(folder, status=status),
    }


def package_versions() -> dict[str, str]:
    """Of ftkit and the libraries that it stands on, those that are installed."""
    return {name: found for name in PACKAGES if (found := _version(name))}


def code_digest() -> str:
    """Of ftkit's own source files."""
    return hashlib.sha256(b"".join(file.read_bytes() for file in sorted(Path(__file__).parent.rglob("*.py")))).hexdigest()


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return __version__ if name == "ftkit" else ""  # it may run from its source without being installed


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def git_commit(folder: Path, *, status: bool) -> dict[str, Any] | None:
    def git(*words: str) -> str | None:
        try:
            done = subprocess.run(["git", "-C", str(folder), *words], capture_output=True, text=True, timeout=10)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    commit = git("rev-parse", "HEAD")
    if commit is None or not status:
        return {"commit": commit} if commit else None
    return {"commit": commit, "clean": git("status", "--porcelain", "-uno") == ""}


def write_text(path: Path, text: str) -> None:
    """Write a whole file or none: into a neighbour first, then renamed over it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        as_umask_says(Path(name))
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def as_umask_says(path: Path) -> None:
    """Let a file, or all in a folder, be read by whom the umask lets: some libraries write for the owner alone."""
    for file in path.rglob("*") if path.is_dir() else [path]:
        if file.is_file() and not file.is_symlink():
            file.chmod(0o666 & ~UMASK)


def write_json(path: Path, value: Any) -> None:
    write_text(path, record_text(value))


def record_text(value: Any) -> str:
    """A value as the JSON that a run's files hold."""
    return json.dumps(finite(value), indent=2, ensure_ascii=False) + "\n"


def write_jsonl(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    write_text(path, "".join(json.dumps(finite(row), ensure_ascii=False) + "\n" for row in rows))


def finite(value: Any) -> Any:
    """The value with null for every number that JSON has no word for: NaN and the infinities."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    return [finite(item) for item in value] if isinstance(value, list | tuple) else value
