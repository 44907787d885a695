"""What a run took when it went on in several processes: sums and peaks over all of them, and no step twice.

The kind: a resumed run that reports its last process alone, or keeps what went wrong after it was mended.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from ftkit import Interrupted, Recipe, compare, train
from ftkit.reading import read_jsonl
from ftkit.report.evidence import read_evidence
from ftkit.report.page import cost
from ftkit.run import Run, dump_recipe
from ftkit.training import account, callbacks
from ftkit.training.account import totals
from ftkit.training.micro_batches import weight_of

RecipeMaker = Callable[..., Recipe]
STEPS, KILLED_AT = 40, 25


@contextmanager
def signalled(step: int, number: int) -> Iterator[None]:
    """Inside the block training gets a signal when so many steps are done."""
    with pytest.MonkeyPatch.context() as patch:
        plain = callbacks.StopOnSignal.on_step_end

        def on_step_end(self: Any, args: Any, state: Any, control: Any, **named: Any) -> None:
            if state.global_step == step:
                os.kill(os.getpid(), number)
                time.sleep(0.01)
            plain(self, args, state, control, **named)

        patch.setattr(callbacks.StopOnSignal, "on_step_end", on_step_end)
        yield


def killed(recipe: Recipe, folder: Path) -> None:
    """A process of its own goes on with the run, and is killed when its log has come some steps beyond a checkpoint."""
    file = folder.parent / "killed.yaml"
    file.write_text(dump_recipe(recipe), encoding="utf-8")
    command = [sys.executable, "-m", "ftkit", "train", str(file), "--resume", "--output-dir", str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        ended = time.monotonic() + 120
        while last_step(folder) < KILLED_AT and process.poll() is None and time.monotonic() < ended:
            time.sleep(0.002)
    finally:
        process.kill()
        process.wait()


def last_step(folder: Path) -> int:
    lines = (folder / "log.jsonl").read_text().splitlines()
    return max((json.loads(line)["step"] for line in lines if line.endswith("}")), default=0)


@pytest.fixture(scope="module")
def found(
    tmp_path_factory: pytest.TempPathFactory, stand_in: Callable[[str], Path], reviews: Path
) -> tuple[Run, Run, list[int]]:
    """An unbroken run, and the same one after Ctrl-C, kill -9 and SIGTERM; with the states that it was found in."""
    from ftkit.recipe.load import load_values

    made = load_values({
        "task": "text-classification", "model": {"name": str(stand_in("distilbert")), "max_length": 128}, "strategy": {"name": "full"},
        "data": {"train": str(reviews), "eval_size": 20}, "evaluation": {"verify": False, "general_text": False},
        "training": {"max_steps": STEPS, "per_device_train_batch_size": 8, "learning_rate": 1e-3, "logging_steps": 1,
                     "save_strategy": "steps", "save_steps": 10, "seed": 1},
    })  # fmt: skip
    folder = tmp_path_factory.mktemp("parts")
    train(made, output_dir=folder / "unbroken")
    broken = Run(folder / "broken")
    with signalled(7, signal.SIGINT), pytest.raises(Interrupted):
        train(made, output_dir=broken.folder)
    killed(made, broken.folder)
    reached = last_step(broken.folder)
    broken.update(state="failed", error="OSError: the disk went away")
    with signalled(33, signal.SIGTERM), pytest.raises(Interrupted):
        train(made, output_dir=broken.folder, resume=True)
    train(made, output_dir=broken.folder, resume=True)
    return Run(folder / "unbroken"), broken, [7, reached, 33]


@pytest.mark.slow
def test_each_step_counts_once(found: tuple[Run, Run, list[int]]) -> None:
    unbroken, broken, (_, reached, _) = found
    parts, (one,) = broken.record["parts"], unbroken.record["parts"]
    steps = [(part["from_step"], part["to_step"]) for part in parts]
    assert steps == [(0, 7), (7, 20), (20, 33), (33, STEPS)]
    assert reached >= KILLED_AT
    assert (one["from_step"], one["to_step"]) == (0, STEPS)
    logged = [event["step"] for event in read_jsonl(broken.log_file) if "loss" in event]
    assert logged == list(range(1, STEPS + 1))
    seconds = [event["seconds"] for event in read_jsonl(broken.log_file)]
    assert seconds == sorted(seconds)


@pytest.mark.slow
def test_the_parts_sum_to_the_whole(found: tuple[Run, Run, list[int]]) -> None:
    unbroken, broken, _ = found
    record, parts = broken.record, broken.record["parts"]
    for kind in ("training", "total"):
        assert record["seconds"][kind] == pytest.approx(sum(part["seconds"][kind] for part in parts), abs=1e-6)
    assert all(0 < part["seconds"]["training"] <= part["seconds"]["total"] for part in parts)
    for kind in ("peak_memory_bytes", "training_peak_bytes"):
        assert record[kind]["process"] == max(part[kind]["process"] for part in parts)
    assert record["training_peak_bytes"]["process"] <= record["peak_memory_bytes"]["process"]
    ours, plain = (cost(read_evidence(run)) for run in (broken, unbroken))
    assert ours["tokens"] == plain["tokens"]
    assert ours["computation"] == plain["computation"]
    assert "in parts" not in plain
    assert ours["in parts"].startswith("4: steps 1 to 7, steps 8 to 20")
    assert [entry.seconds for entry in compare([broken.folder]).entries] == [record["seconds"]["total"]]


@pytest.mark.slow
def test_what_was_mended_leaves_no_trace(found: tuple[Run, Run, list[int]]) -> None:
    _, broken, _ = found
    assert broken.state == "finished"
    assert "error" not in broken.record
    assert broken.record["resumed"] == [7, 20, 33]


def test_sums_and_peaks() -> None:
    parts = [
        {"seconds": {"training": 2.0, "total": 9.0}, "peak_memory_bytes": {"process": 5}, "training_peak_bytes": {"process": 4},
         "energy_joules": {"gpu": 3.0, "processor": 1.5}, "training_energy_joules": {"gpu": 1.0}, "from_step": 0, "to_step": 2,
         "trained": {"rows": 8, "tokens": 70}},
        {"seconds": {"training": 0.5, "total": 3.0}, "peak_memory_bytes": {"process": 7, "gpu": 1}, "training_peak_bytes": {},
         "energy_joules": {"gpu": 0.25}, "training_energy_joules": {"gpu": 0.5}, "from_step": 2, "to_step": 3,
         "trained": {"rows": 4, "tokens": 30}, "resuming": {"seconds": 7.0, "energy_joules": {"gpu": 2.0}}},
    ]  # fmt: skip
    assert totals(parts) == {
        "seconds": {"training": 2.5, "total": 12.0}, "peak_memory_bytes": {"process": 7, "gpu": 1},
        "training_peak_bytes": {"process": 4}, "energy_joules": {"gpu": 3.25}, "training_energy_joules": {"gpu": 1.5},
        "trained": {"rows": 12, "tokens": 100}, "resuming": {"seconds": 7.0, "energy_joules": {"gpu": 2.0}},
    }  # fmt: skip


def test_a_checkpoint_of_an_earlier_version_has_no_account(tmp_path: Path) -> None:
    found = account.Account(Run(tmp_path))
    found.go_on(tmp_path, 5)
    assert found.trained() == 0
    parts = found.parts(9)
    assert [part["from_step"] for part in parts] == [5]
    assert totals(parts)["trained"] == {}  # of the first five steps nobody knows


@pytest.mark.parametrize(
    ("batch", "expected"),
    [
        (
            {"input_ids": [[5, 6, 0], [5, 6, 7]], "attention_mask": [[1, 1, 0], [1, 1, 1]], "labels": [1, 0]},
            {"rows": 2, "tokens": 5},
        ),
        (
            {"input_ids": [[5, 6, 7]], "attention_mask": [[1, 1, 1]], "labels": [[-100, -100, 7]]},
            {"rows": 1, "tokens": 3, "supervised_tokens": 1},
        ),
        (
            {"input_ids": [[5, 6, 5, 6, 7, 0]], "position_ids": [[0, 1, 0, 1, 2, 0]], "labels": [[5, 6, 5, 6, 7, -100]]},
            {"rows": 2, "tokens": 5, "supervised_tokens": 5},
        ),
        ({"attention_mask": [[1], [1]], "frozen_outputs": [[[0.0]], [[0.0]]], "labels": [1, 0]}, {"rows": 2}),
        ({"input_ids": [[5, 6]], "labels": [[0.0, 1.0]]}, {"rows": 1}),
    ],
    ids=["padded", "an answer", "packed", "kept outputs", "no mask"],
)
def test_what_a_batch_holds(batch: dict[str, Any], expected: dict[str, int]) -> None:
    tensors = {name: torch.tensor(value) for name, value in batch.items()}
    assert account.contents(tensors, weight_of(tensors, shifted=False)) == expected
