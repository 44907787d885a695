"""Is what was saved what was trained? A new process loads model/ by plain transformers or peft, and is held against memory.

Before training, the scores of a few eval rows and a digest of every tensor that learns are written into the run's folder;
after it, those of the trained model. The new process (ftkit/evaluation/reload.py) is to come to the same as the latter, and
its losses of the rows to those that the run reports (ftkit/evaluation/reported.py): scores are computed by the same code
before and after, and could be wrong in the same way; a loss that the plain model itself gives could not.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset

import ftkit
from ftkit import console
from ftkit.classes import OWN_CODE
from ftkit.evaluation.records import PADDED, read_rows, read_scores, write_rows
from ftkit.evaluation.reload import FACTS, ROWS, saved_name
from ftkit.evaluation.reported import LossCheck, Measured, check_losses
from ftkit.evaluation.scoring import Row, digest, is_coarse, largest_difference, score_rows
from ftkit.models.label_scale import KEY
from ftkit.models.saved import require_sound
from ftkit.reading import Damaged, read_object
from ftkit.run import finite, write_json
from ftkit.seals import describe, difference

FACT_TYPES = {
    "load": dict,
    "shift": bool,
    "before": dict,
    "after": dict,
    "coarse": bool,
    "rough": bool,
    "entries": list,
    "padded": list,
}
ROWS_SEAL = "rows_file"  # in the facts: size and SHA-256 of the file of rows
ROW_COUNT = 32
PADDED_COUNT = 3  # of them that are asked with padding too
SHOWN = 3  # tensors that a finding names
PATIENCE = 3600.0  # seconds that the new process may take
# How far the new process may be from memory, as a share of the largest score. The weights are the same to the bit, so only
# the order of sums differs, by library, device or number of threads: float32 keeps 7 digits, of which a deep model may lose
# 3; bfloat16 keeps 2 to 3, and 1/64 is 4 of its steps. An adapter on a base in another precision is farther off than that.
TOLERANCE, COARSE_TOLERANCE = 1e-4, 1 / 64
# Run without the current folder on the path, where a file may have a library's name.
COMMAND = "import sys; sys.path = [place for place in sys.path if place]; from ftkit.evaluation.reload import main; main()"


@dataclass
class Verification:
    """What was found; `failures` is empty where the saved model is the trained one.

    Attributes:
        deviation: largest difference of a score of the new process from that in memory.
        change: largest difference of a score in memory from that before training.
        loss: of the rows, as reported and by plain transformers; None where that was not compared, for the reason in
            `no_loss`.
    """

    rows: int = 0
    tensors: int = 0
    deviation: float | None = None
    change: float | None = None
    loss: LossCheck | None = None
    no_loss: str = ""
    failures: list[str] = field(default_factory=list)

    def describe(self) -> dict[str, Any]:
        """For run.json."""
        names = ("rows", "tensors", "deviation", "change", "failures")
        loss = asdict(self.loss) if self.loss else None
        return {"good": not self.failures, **{name: getattr(self, name) for name in names}, "loss": loss}

    def facts(self) -> dict[str, str]:
        """In words, where nothing is wrong."""
        return {
            "tensors": f"{self.tensors} trained tensors are in the saved files as they were in memory, and moved",
            "scores": f"{self.rows} rows scored by a new process differ from memory by at most {self.deviation:.2g}, "
            f"from the model before training by up to {self.change:.2g}",
            "eval loss": self.loss.words() if self.loss else f"not checked: {self.no_loss}",
        }


def begin(
    folder: Path, model: Any, rows: Dataset, load: dict[str, Any], collate: Callable[[list[Any]], Any], *, shift: bool
) -> None:
    """Write down what the model is before training; a resumed run keeps what it began with, where that can be read.

    Args:
        folder: the run's folder of verification.
        rows: the eval rows as the model takes them.
        load: how plain libraries load the saved model, see `ftkit.models.loading`.
        collate: makes a padded batch of rows.
        shift: the logits at a position foretell the next token, as in decoder-only models.
    """
    # drawn from all: the first may be of one label
    entries = sorted(np.random.default_rng(0).permutation(len(rows))[:ROW_COUNT].tolist())
    chosen = list(rows.select(entries))
    plain, places = [plain_row(row) for row in chosen], padded_places([len(row["input_ids"]) for row in chosen])
    scale = vars(model.config).get(KEY)
    facts = {"load": load, "shift": shift, "entries": entries, "padded": places, "before": digests(model), KEY: scale}
    if was_begun(folder, facts):
        return
    write_rows(folder / ROWS, plain, padded_rows(collate(chosen), places), before=score_rows(model, plain, shift=shift))
    write_json(folder / FACTS, facts | {ROWS_SEAL: describe(folder / ROWS)})


def was_begun(folder: Path, facts: dict[str, Any]) -> bool:
    """Whether what the model was before training is there, whole; a warning tells where it is not.

    Args:
        facts: what is known of the model now, which has not gone on from its checkpoint yet.
    """
    if not (folder / FACTS).is_file():
        return False
    try:
        known, rows = read_facts(folder), folder / ROWS
        if other := [name for name, value in json.loads(json.dumps(finite(facts))).items() if known.get(name) != value]:
            raise Damaged(folder / FACTS, f"its '{other[0]}' is not that of the model")
        if ROWS_SEAL in known and (what := difference(rows, known[ROWS_SEAL])):
            raise Damaged(rows, what)
        read_rows(rows)
    except Damaged as error:
        console.warn(f"{error.place}: {error.message}; written anew from the model before training")
        return False
    return True


def plain_row(row: dict[str, Any]) -> Row:
    """An encoded row as tensors."""
    return {name: torch.tensor(value) for name, value in row.items() if value is not None}


def padded_places(lengths: list[int]) -> list[int]:
    """Which rows are asked with padding too: the shortest, and some between that and the longest."""
    order = np.argsort(lengths, kind="stable")
    spread = np.linspace(0, len(order) - 1, PADDED_COUNT, endpoint=False).astype(int)
    return [int(place) for place in dict.fromkeys(order[spread].tolist()) if lengths[place] < max(lengths)]


def padded_rows(batch: dict[str, Any], places: list[int]) -> list[Row]:
    """Some rows of a padded batch, each for itself."""
    return [
        {name: value[place].clone() for name, value in batch.items() if isinstance(value, torch.Tensor)} for place in places
    ]


def digests(model: Any) -> dict[str, str]:
    """Of each tensor that learns, by name."""
    return {name: digest(tensor) for name, tensor in model.named_parameters() if tensor.requires_grad}


def finish(folder: Path, model: Any, *, rough: bool) -> None:
    """Write down what the trained model is, in memory.

    Args:
        rough: it was measured in less than float32.
    """
    facts, rows = read_facts(folder), read_rows(folder / ROWS)
    before, after = read_scores(folder / ROWS, "before"), score_rows(model, rows, shift=facts["shift"])
    write_rows(folder / ROWS, rows, read_rows(folder / ROWS, PADDED), before=before, after=after)
    more = {"after": digests(model), "coarse": is_coarse(model), "rough": rough, ROWS_SEAL: describe(folder / ROWS)}
    write_json(folder / FACTS, facts | more)


def read_facts(folder: Path) -> dict[str, Any]:
    """What was written down of the model.

    Raises:
        Damaged: it cannot be read.
    """
    return read_object(folder / FACTS, FACT_TYPES, ("load", "shift", "before"))


def is_recorded(folder: Path) -> bool:
    """Whether a run wrote down what verifying needs, to its end."""
    return (folder / FACTS).is_file() and "after" in read_facts(folder)


class Reloader:
    """The verifying process: its libraries are imported while the parent still saves and measures."""

    def __init__(self, model: Path, verification: Path, *, own_code: bool) -> None:
        self.model, self.verification, self.own_code = model, verification, own_code
        self.complaints = tempfile.TemporaryFile()  # noqa: SIM115, closed by `close`
        self.told, self.process = False, self._start()

    def _start(self) -> subprocess.Popen[bytes] | None:
        home = str(Path(ftkit.__file__).parent.parent)
        paths = os.pathsep.join(filter(None, [home, os.environ.get("PYTHONPATH")]))
        words = [sys.executable, "-c", COMMAND, str(self.model.absolute()), str(self.verification.absolute())]
        words += [OWN_CODE] if self.own_code else []
        pipe = subprocess.PIPE
        try:
            return subprocess.Popen(
                words, stdin=pipe, stdout=pipe, stderr=self.complaints, env=os.environ | {"PYTHONPATH": paths}
            )
        except OSError:
            return None

    def saved(self, device: str) -> None:
        """The model is saved; on a GPU it is loaded only once this process has measured, since memory is short there."""
        if device == "cpu":
            self.tell()

    def tell(self) -> None:
        """Load the model."""
        if self.process is not None and self.process.stdin is not None and not self.told:
            self.told = True
            with suppress(OSError):  # it is gone already, and its answer will say so
                self.process.stdin.write(b"\n")
                self.process.stdin.flush()

    def answer(self) -> dict[str, Any]:
        """What it found; under `error` why it found nothing."""
        if self.process is None:
            return {"error": "no process could be started"}
        self.tell()
        try:
            said, _ = self.process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            return {"error": f"no answer within {PATIENCE:.0f} s"}
        try:
            found: dict[str, Any] = json.loads(said)
        except json.JSONDecodeError:
            return {"error": f"the process ended with status {self.process.returncode}: {self._last_complaint()}"}
        return found

    def _last_complaint(self) -> str:
        self.complaints.seek(0)
        lines = self.complaints.read().decode(errors="replace").strip().splitlines()
        return lines[-1][:300] if lines else "it said nothing"

    def close(self) -> None:
        """End it where it still runs, and wait for it, so that nothing is left behind."""
        if self.process is not None:
            self.process.kill()
            with suppress(OSError):
                self.process.communicate()
        self.complaints.close()


@contextmanager
def reloading(model: Path, verification: Path | None, *, own_code: bool) -> Iterator[Reloader | None]:
    """The verifying process, ended with the block whatever happens in it; none where nothing was written down.

    Args:
        own_code: code of the model's own may be run.
    """
    if verification is None:
        yield None
        return
    reloader = Reloader(model, verification, own_code=own_code)
    try:
        yield reloader
    finally:
        reloader.close()


def conclude(folder: Path, model: Any, reloader: Reloader, measured: Measured | None, *, rough: bool) -> dict[str, Any]:
    """The end of a run: compare the new process with memory. What is wrong is said loudly, and the run still finishes.

    Args:
        measured: what the run reports of the model; `rough`: it was measured in less than float32.
    """
    finish(folder, model, rough=rough)
    if torch.cuda.is_available():
        torch.cuda.empty_cache()  # the new process loads the model beside this one
    with console.status("verifying the saved model in a new process"):
        found = judge(folder, reloader.answer(), measured)
    for failure in found.failures:
        console.warn(f"NOT VERIFIED: {failure}")
    return found.describe()


def verify_model(model: Path, verification: Path, measured: Measured | None, *, own_code: bool) -> Verification:
    """Load a finished run's model in a new process, and compare it with what was written down while it was trained.

    Args:
        measured: what the run reports of the model; None where that is not known.
        own_code: code of the model's own may be run.
    """
    try:
        require_sound(model)
    except Damaged as error:
        return Verification(failures=[f"{error.file.relative_to(model)} is {error.message}"])
    with reloading(model, verification, own_code=own_code) as reloader:
        return judge(verification, reloader.answer() if reloader else {}, measured)


def judge(folder: Path, answer: dict[str, Any], measured: Measured | None) -> Verification:
    """Hold the new process's answer against what was written down while training, and against what the run reports."""
    facts, rows = read_facts(folder), folder / ROWS
    before, after = read_scores(rows, "before"), read_scores(rows, "after")
    found = Verification(len(after), len(facts["after"]), change=largest_difference(before, after))
    if "error" in answer:
        lost = [f"{named(names)} not in the saved files"] if (names := answer.get("missing")) else []
        found.failures += [*lost, f"the saved model does not load in a new process: {answer['error']}"]
        return found
    found.failures += tensor_failures(facts, answer)
    scores = [torch.tensor(score) for score in answer["scores"]]
    found.deviation = largest_difference(scores, after)
    found.failures += score_failures(found, tolerance(after, coarse=facts["coarse"]))
    judge_loss(found, facts, answer, measured)
    return found


def judge_loss(found: Verification, facts: dict[str, Any], answer: dict[str, Any], measured: Measured | None) -> None:
    """Put into `found` what the reported loss is beside that of the new process."""
    if "entries" not in facts:
        found.no_loss = "the run is of a version that did not note which rows it looked at"
    elif measured is None:
        found.no_loss = "what the run measured, outputs/tuned.npz, is not at hand"
    else:
        checked = check_losses(measured, facts, answer, coarse=facts["coarse"] or facts["rough"])
        found.loss = checked if isinstance(checked, LossCheck) else None
        found.failures += checked.failures() if isinstance(checked, LossCheck) else [checked]


def tolerance(scores: list[torch.Tensor], *, coarse: bool) -> float:
    """The largest deviation that rounding can explain."""
    largest = max((float(score.abs().max()) for score in scores if score.numel()), default=0.0)
    return (COARSE_TOLERANCE if coarse else TOLERANCE) * max(1.0, largest)


def tensor_failures(facts: dict[str, Any], answer: dict[str, Any]) -> list[str]:
    """Tensors that the files lack, that are not as trained, and that training did not change."""
    missing = [name for name in answer["missing"] if not name.endswith("position_ids")]
    absent = {saved_name(name) for name in missing}
    other = [
        name
        for name, trained in facts["after"].items()
        if answer["digests"].get(name) != trained and saved_name(name) not in absent
    ]
    still = [name for name, trained in facts["after"].items() if facts["before"].get(name) == trained]
    return [
        f"{named(names)} {what}"
        for names, what in (
            (missing, "not in the saved files"),
            (other, "saved otherwise than trained"),
            (still, "did not move in training"),
        )
        if names
    ]


def named(names: list[str]) -> str:
    """How many tensors, and which; the first few of many."""
    shown = ", ".join(saved_name(name) for name in names[:SHOWN]) + (", …" if len(names) > SHOWN else "")
    return f"{len(names)} {'tensor' if len(names) == 1 else 'tensors'} ({shown})"


def score_failures(found: Verification, allowed: float) -> list[str]:
    """Whether the scores are those of memory, and not those from before training."""
    failures = []
    if not found.deviation <= allowed:  # type: ignore[operator]
        message = f"a new process scores the rows otherwise than memory did: by up to {found.deviation:.3g}"
        failures.append(f"{message}, where rounding explains {allowed:.3g}")
    if not found.change > found.deviation:  # type: ignore[operator]
        failures.append(f"the trained model scores the rows as it did before training: they differ by {found.change:.3g}")
    return failures
