"""kill -9 at random moments: each run, however often it was killed, ends as the one that never was.

    python -m tests.chaos.kills --kills 200 --seed 1 --jobs 2

A chain is one run, killed and gone on with until it is finished. Half of the kills come at a random time of the command, half
when it is about to change the so-manieth file. Of each chain the weights, losses, predictions and metrics are compared with
the unbroken run's, and so are the names of all files, those in the temporary folder among them. After each kill the state that
`ftkit runs` would tell is asked for. 1 at the end where one is not so.
"""

import argparse
import json
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.chaos import zygote
from tests.chaos.zygote import Place

STEPS = {"max_steps": 10, "logging_steps": 1, "save_strategy": "steps", "save_steps": 3, "save_total_limit": 2, "eval_strategy": "steps", "eval_steps": 4, "learning_rate": 1e-3, "per_device_train_batch_size": 4, "seed": 3}  # fmt: skip
QUICK = {"general_text": False, "verify": False}
GENERATION = {"rows": 2, "max_new_tokens": 2}
# Task, kind of model, strategy, and what else the recipe has.
RECIPES: dict[str, tuple[str, str, dict[str, Any], dict[str, Any]]] = {
    "classification full": ("text-classification", "distilbert", {"name": "full"}, {}),
    "classification lora, verified": ("text-classification", "distilbert", {"name": "lora", "r": 4, "target_modules": ["q_lin"]}, {"evaluation": {**QUICK, "verify": True}}),
    "classification transfer": ("text-classification", "bert", {"name": "transfer"}, {}),
    "instruction lora, packed": ("instruction", "gpt2", {"name": "lora", "r": 4, "target_modules": ["c_attn"]}, {"data": {"packing": True}, "training": {**STEPS, "max_steps": 6}}),
    "summarization qlora": ("summarization", "llama", {"name": "qlora", "r": 4, "target_modules": ["q_proj"]}, {"data": {"columns": {"document": "dialogue"}}}),
    "batch searched": ("text-classification", "distilbert", {"name": "full"}, {"training": {**STEPS, "per_device_train_batch_size": "auto"}}),
    "instruction full, rows by length": ("instruction", "gpt2", {"name": "full"}, {"training": {**STEPS, "train_sampling_strategy": "group_by_length", "gradient_accumulation_steps": 2, "per_device_train_batch_size": 2}}),
}  # fmt: skip
SAMPLES = {"text-classification": "sentiment", "instruction": "instructions", "summarization": "dialogues"}
VARY = {"started", "finished", "parts", "seconds", "pid", "host"}


@dataclass
class Chain:
    """What became of one run: how often it was killed, and what was found wrong."""

    name: str
    kills: int = 0
    wrong: list[str] = field(default_factory=list)
    where: Counter[str] = field(default_factory=Counter)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--only", default="", help="recipes whose names begin so")
    parser.add_argument("--keep", type=Path, help="where what went wrong is kept")
    asked = parser.parse_args()
    began = time.monotonic()
    zygote.load_libraries()
    chains = [chain for part in shared_out(asked) for chain in part]
    kills, wrong = sum(chain.kills for chain in chains), [chain for chain in chains if chain.wrong]
    where = sum((chain.where for chain in chains), Counter())
    print(f"killed in: {', '.join(f'{state} {count}' for state, count in where.most_common())}")
    print(f"{kills} kills in {len(chains)} chains, {len(wrong)} not right; {time.monotonic() - began:.0f} s")
    return int(bool(wrong))


def shared_out(asked: argparse.Namespace) -> list[list[Chain]]:
    """The chains of each job, which are processes side by side."""
    import multiprocessing

    with multiprocessing.get_context("fork").Pool(asked.jobs, maxtasksperchild=1) as pool:
        share = -(-asked.kills // asked.jobs)
        given = [(asked.seed + job, share, job, asked.jobs, asked.only, asked.keep) for job in range(asked.jobs)]
        return pool.starmap(chains_of, given, chunksize=1)


def chains_of(seed: int, kills: int, job: int, jobs: int, only: str, keep: Path | None) -> list[Chain]:
    chance = random.Random(seed)
    names = [name for name in RECIPES if name.startswith(only)]
    names = names[job % len(names) :: min(jobs, len(names))]
    done: list[Chain] = []
    folder = Path(tempfile.mkdtemp())  # a TemporaryDirectory would be taken away by each fork that ends
    try:
        wholes: dict[str, tuple[Place, zygote.Ended]] = {}
        while sum(chain.kills for chain in done) < kills:
            recipe = names[len(done) % len(names)]
            if recipe not in wholes:
                wholes[recipe] = unbroken(recipe, folder / f"whole{len(wholes)}")
            place = folder / f"chain{len(done)}"
            chain = broken(recipe, wholes[recipe], place, chance, kills - sum(one.kills for one in done))
            done.append(chain)
            print(f"{chain.kills} kills  {recipe}  {'; '.join(chain.wrong) or 'right'}", flush=True)
            if keep and chain.wrong:
                shutil.copytree(place, keep / f"{seed}-{place.name}", dirs_exist_ok=True)
            shutil.rmtree(place)
    finally:
        shutil.rmtree(folder)
    return done


def prepared(name: str, folder: Path) -> Place:
    """A folder with rows, a small model and the recipe."""
    import yaml

    from ftkit.data.samples.table import generate
    from ftkit.models.standins import make_stand_in
    from ftkit.run import write_jsonl
    from ftkit.training.smoke import tokenizer_texts

    task, kind, strategy, more = RECIPES[name]
    place = Place(folder, folder / "temporary", folder / "said.txt")
    place.temporary.mkdir(parents=True)
    place.said.touch()
    write_jsonl(folder / "rows.jsonl", generate(SAMPLES[task], rows=60, split="train", seed=1))
    zygote.apart(lambda: make_stand_in(kind, tokenizer_texts(), folder / "base"))
    values = {
        "task": task, "model": {"name": "base", "max_length": 128}, "strategy": strategy,
        "data": {"train": "rows.jsonl", "eval_size": 12, **more.get("data", {})},
        "training": more.get("training", STEPS), "evaluation": {**more.get("evaluation", QUICK), **({} if task == "text-classification" else {"generation": GENERATION})},
    }  # fmt: skip
    (folder / "recipe.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
    return place


def unbroken(name: str, folder: Path) -> tuple[Place, zygote.Ended]:
    place = prepared(name, folder)
    ended = zygote.run(["train", "recipe.yaml", "-o", "run"], place)
    if ended.status:
        raise RuntimeError(f"{name}: the unbroken run ended with {ended.status}:\n{place.said.read_text()}")
    print(f"unbroken  {name}  {ended.seconds:.1f} s, {ended.changes} changes of files", flush=True)
    return place, ended


def broken(name: str, whole: tuple[Place, zygote.Ended], folder: Path, chance: random.Random, most: int) -> Chain:
    """One run, killed until it comes through, or `most` times."""
    unkilled, ended = whole
    from ftkit.run import FINISHED, is_run

    place, chain = prepared(name, folder), Chain(name)
    for _ in range(200):
        words = ["train", "recipe.yaml", "-o", "run"]
        if is_run(folder / "run"):
            words.append("--resume")
        if state_of(folder) == FINISHED:
            words = ["report", "run"]  # which works on the folder, and so sweeps what the dead left
        when: dict[str, Any] = {"seconds": chance.uniform(0, ended.seconds)}
        if chance.random() < 0.5:
            when = {"change": chance.randint(1, ended.changes)}
        found = zygote.run(words, place, **(when if chain.kills < most else {}))
        with place.said.open("a") as said:
            said.write(f"--- {' '.join(words)} {when} {found}\n")
        if found.left_running:
            chain.wrong.append("a process was left running")
        if found.status >= 0:
            break
        chain.kills += 1
        state = state_of(folder)
        chain.where[state] += 1
        if state.split()[0] not in ("dead", "nothing", "finished"):
            chain.wrong.append(f"after a kill the state is {state}")
    if found.status:
        last = place.said.read_text().split("---")[-2].strip().splitlines()
        chain.wrong.append(f"{' '.join(words)} ended with {found.status}: {last[-1] if last else ''}")
        return chain
    chain.wrong += differences(unkilled.folder, folder)
    return chain


def state_of(folder: Path) -> str:
    """What is told of the run in a folder."""
    from ftkit.run import Run

    run = Run(folder / "run")
    return run.true_state or "nothing yet"


def differences(whole: Path, broken: Path) -> Iterator[str]:
    """What of a finished run, and of what lies beside it, is not as the unbroken run's."""
    ours, theirs = names_in(broken), names_in(whole)
    if more := ours - theirs:
        yield f"left over: {', '.join(sorted(more)[:3])}"
    if fewer := theirs - ours:
        yield f"missing: {', '.join(sorted(fewer)[:3])}"
    for name in sorted(ours & theirs):
        mine, other = broken / name, whole / name
        if name.endswith(".safetensors") and name.startswith("run/model") and mine.read_bytes() != other.read_bytes():
            yield f"other bits: {name}"
        if name.endswith(("predictions.jsonl", "analysis.json")) and mine.read_bytes() != other.read_bytes():
            yield f"not the same: {name}"
    if losses(broken) != losses(whole):
        yield "other losses"
    ours_measured, theirs_measured = measured(broken), measured(whole)
    yield from (f"another {key}" for key in theirs_measured if ours_measured.get(key) != theirs_measured[key])


def names_in(folder: Path) -> set[str]:
    """All files, but those of the cache, which has bounds and sweeps of its own, and events of trackers."""
    found = (file.relative_to(folder).as_posix() for file in folder.rglob("*") if not file.is_dir())
    return {name for name in found if not name.startswith(("cache/", "run/tensorboard/"))}


def losses(folder: Path) -> list[tuple[int, float]]:
    lines = (folder / "run" / "log.jsonl").read_text().splitlines()
    return [(event["step"], event["loss"]) for event in map(json.loads, lines) if "loss" in event]


def measured(folder: Path) -> dict[str, Any]:
    metrics = json.loads((folder / "run" / "metrics.json").read_text())
    record = json.loads((folder / "run" / "run.json").read_text())
    return {**{f"metrics.{key}": value for key, value in metrics.items()}, "trained": record.get("trained")}


if __name__ == "__main__":
    sys.exit(main())
