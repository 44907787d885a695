"""What makes ftkit fast changes no loss: 200 steps with each lever and without it, all else the same.

    python benchmarks/curves.py                        every lever; writes its part of benchmarks/RESULTS.md
    python benchmarks/curves.py --only packing bf16    these alone; prints the table

The first two layers of MiniLM on film reviews and a Llama of 0.26 million parameters on instruction pairs, real weights and
rows, trained by recipes as a user writes them, with the same seed. A lever that does the same computation in another way is
compared step by step, in float32; without dropout where it changes the order of the draws. A lever that changes the
precision is compared by the mean of every 20 steps, and one that draws its dropout otherwise by the loss on the eval rows.
Needs ../shared.
"""

import ftkit  # isort: skip  # noqa: F401  # first, so that it prepares the process for torch
import argparse
import json
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
import transformers
from results_page import write_section
from speed import Case, rows_of
from speed_ftkit import recipe_values

from ftkit import console, load_recipe, train

WINDOW = 20  # steps of which the mean is compared where single steps differ by rounding
LAYERS = {"minilm-l6": 2}  # the first of six: a third of the time
PACKED_ROWS = 16  # all of them in every step, so that blocks and rows hold the same


@dataclass(frozen=True)
class Base:
    """What is trained, but for the lever.

    Attributes:
        dropout: the model's own; else it has none.
        rows: of the training set; None for as many as the steps take.
    """

    case: Case
    dropout: bool = False
    rows: int | None = None


@dataclass(frozen=True)
class Trained:
    losses: list[float]
    eval_loss: float


@dataclass(frozen=True)
class Lever:
    """A way of training faster.

    Attributes:
        on, off: keys of the recipe, as on the command line.
        compare: what of two trainings is held together.
        tolerance: the most that one of these figures may differ, in nats.
    """

    base: str
    on: tuple[str, ...]
    off: tuple[str, ...]
    compare: Callable[[Trained], list[float]]
    tolerance: float


def each_step(trained: Trained) -> list[float]:
    """each step"""
    return trained.losses


def windows(trained: Trained) -> list[float]:
    """mean of 20 steps"""
    return [fmean(trained.losses[start : start + WINDOW]) for start in range(0, len(trained.losses), WINDOW)]


def eval_rows(trained: Trained) -> list[float]:
    """eval rows"""
    return [trained.eval_loss]


def bases(steps: int) -> dict[str, Base]:
    adapters = {"name": "lora", "r": 8, "lora_alpha": 16, "target_modules": ["query", "value"]}
    sentences = {"task": "text-classification", "model": "minilm-l6", "beside": (), "steps": steps, "max_length": 64}
    pairs = {"task": "instruction", "model": "stories260K", "beside": (), "steps": steps, "learning_rate": 5e-4}
    transfer, full = {"name": "transfer"}, {"name": "full"}
    return {
        "encoder": Base(Case(strategy=adapters, batch=16, learning_rate=2e-3, **sentences)),
        "encoder, dropout": Base(Case(strategy=adapters, batch=16, learning_rate=2e-3, **sentences), dropout=True),
        "frozen body": Base(Case(strategy=transfer, batch=8, **sentences), dropout=True, rows=800),
        "frozen blocks": Base(Case(strategy=transfer | {"unfreeze_last": 1}, batch=8, **sentences), rows=800),
        "decoder": Base(Case(strategy=full, batch=8, **pairs)),
        "few rows": Base(Case(strategy=full, batch=PACKED_ROWS, **pairs | {"learning_rate": 2e-4}), rows=PACKED_ROWS),
    }


PADDED, PARTS = ("speed.unpadded=false", "speed.micro_batches=false"), ("speed.micro_batches=true",)
OTHER_DRAWS = 0.1  # nats on 64 eval rows: two draws of dropout differ by 0.04, whichever way they are drawn
HALF, APART = ("training.bf16=true",), ("speed.fused_adapters=false",)  # fused they round once less
LEVERS = {
    "supervised logits": Lever("decoder", (), ("speed.supervised_logits=false",), each_step, 1e-4),
    "packing": Lever("few rows", ("data.packing=true",), (), each_step, 1e-4),
    "cached body": Lever("frozen body", (), ("strategy.cache_frozen=false",), each_step, 1e-4),
    "cached blocks, the last learns": Lever("frozen blocks", (), ("strategy.cache_frozen=false",), each_step, 1e-3),
    "no padding": Lever("encoder", (), PADDED, each_step, 1e-4),
    "no padding, decoder": Lever("decoder", (), PADDED, each_step, 1e-4),
    "no padding, dropout": Lever("encoder, dropout", (), PADDED, eval_rows, OTHER_DRAWS),
    "micro-batches": Lever("encoder", PARTS, PADDED, each_step, 1e-4),
    "micro-batches, dropout": Lever("encoder, dropout", PARTS, PADDED, eval_rows, OTHER_DRAWS),
    "dropout drawn by fours": Lever("encoder, dropout", (), ("speed.fast_dropout=false",), eval_rows, OTHER_DRAWS),
    "embedding gradients by row": Lever("decoder", (), ("speed.embedding_rows=false",), each_step, 1e-4),
    "fused adapters": Lever("encoder", (), APART, each_step, 1e-4),
    "bf16, fused adapters": Lever(
        "encoder", HALF, (*HALF, *APART), windows, 2e-2
    ),
    "half the batch, accumulated": Lever(
        "decoder", ("training.per_device_train_batch_size=4", "training.gradient_accumulation_steps=2"), (), each_step, 1e-4
    ),
    "fused optimizer": Lever("decoder", (), ("training.optim=adamw_torch",), each_step, 1e-4),
    "sdpa attention": Lever("decoder", (), ("model.attn_implementation=eager",), each_step, 1e-4),
    "bf16": Lever("decoder", HALF, (), windows, 2e-2),
    "bf16, encoder": Lever("encoder", HALF, (), windows, 2e-2),
    "frozen layers at rest in bf16": Lever(
        "encoder", (*HALF, *APART), (*HALF, *APART, "speed.frozen_bfloat16=false"), each_step, 0.0
    ),
    "bf16, whole base in bf16": Lever(
        "encoder", ("training.bf16=true", "model.dtype=bfloat16"), (), windows, 2e-2
    ),
}  # fmt: skip


class Trainings:
    """Trains each recipe once, whoever asks for it.

    Args:
        shared: the folder of real data and models.
        folder: where models, rows and runs go.
    """

    def __init__(self, shared: Path, folder: Path, steps: int) -> None:
        self.shared, self.folder, self.bases = shared, folder, bases(steps)
        self.found: dict[tuple[str, tuple[str, ...]], Trained] = {}

    def get(self, base: str, keys: tuple[str, ...]) -> Trained:
        if (base, keys) not in self.found:
            print(f"{base} {' '.join(keys)}", file=sys.stderr, flush=True)
            self.found[base, keys] = self.train(base, keys)
        return self.found[base, keys]

    def train(self, base: str, keys: tuple[str, ...]) -> Trained:
        file = self.write_recipe(self.bases[base], self.folder / base.replace(", ", "-").replace(" ", "-"))
        run = train(load_recipe(file, list(keys)), output_dir=file.parent / f"run-{len(self.found)}", overwrite=True)
        lines = [json.loads(line) for line in (run.folder / "log.jsonl").read_text(encoding="utf-8").splitlines()]
        losses = [line["loss"] for line in lines if "loss" in line]
        return Trained(losses, run.metrics["tuned"]["loss"])

    def write_recipe(self, base: Base, folder: Path) -> Path:
        """Rows, model and recipe in a folder of their own."""
        folder.mkdir(parents=True, exist_ok=True)
        case, values = base.case, {}
        train_rows, held_out = rows_of(case, self.shared, case.steps)
        for name, rows in (("train", train_rows[: base.rows]), ("eval", held_out[:64])):
            values[name] = str(folder / f"{name}.jsonl")
            Path(values[name]).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        model = (self.shared / "models" / case.model).resolve()
        values["model"] = str(adjusted(model, folder / "model", dropout=base.dropout))
        recipe = recipe_values(vars(case) | values)
        recipe["training"] |= {"bf16": False}
        file = folder / "recipe.yaml"
        file.write_text(json.dumps(recipe), encoding="utf-8")  # JSON is YAML too
        return file


def adjusted(model: Path, folder: Path, *, dropout: bool) -> Path:
    """The same weights with a config of fewer layers, and without dropout where none is wanted."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for file in model.iterdir():
        (folder / file.name).symlink_to(file)
    config: dict[str, Any] = json.loads((model / "config.json").read_text(encoding="utf-8"))
    config["num_hidden_layers"] = LAYERS.get(model.name, config["num_hidden_layers"])
    if not dropout:
        config |= {name: 0.0 for name, value in config.items() if "dropout" in name and value}
    (folder / "config.json").unlink()
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


def main() -> None:
    options = parse_arguments()
    if unknown := sorted(set(options.only) - set(LEVERS)):
        sys.exit(f"no lever {', '.join(unknown)}; there are {', '.join(LEVERS)}")
    console.set_quiet(True)
    trainings = Trainings(options.shared.resolve(), options.output.resolve(), options.steps)
    lines = [
        "| lever | recipe | compared | tolerance | largest | mean | with | without | holds |",
        "|---|---|---|---:|---:|---:|---:|---:|---|",
    ]
    print("\n".join(lines))
    for name in options.only or LEVERS:
        lines.append(line_of(name, LEVERS[name], trainings))
        print(lines[-1], flush=True)
    if not options.only and options.steps == 200:
        write_results(lines)
    if any("| no |" in line for line in lines):
        sys.exit("a lever changed the losses by more than its tolerance")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, default=Path("../shared"), help="the folder of real data and models")
    parser.add_argument("--output", type=Path, default=Path("runs/curves"), help="where models and runs go")
    parser.add_argument("--only", nargs="+", default=[], metavar="LEVER", help="these alone; RESULTS.md stays as it is")
    parser.add_argument("--steps", type=int, default=200, help="of each training; RESULTS.md is written with 200 only")
    return parser.parse_args()


def line_of(name: str, lever: Lever, trainings: Trainings) -> str:
    """A line of the table."""
    on, off = trainings.get(lever.base, lever.on), trainings.get(lever.base, lever.off)
    ours, own = lever.compare(on), lever.compare(off)
    apart = [abs(one - other) for one, other in zip(ours, own, strict=True)]
    cells = [
        name, lever.base, lever.compare.__doc__, f"{lever.tolerance:.0e}", f"{max(apart):.1e}", f"{fmean(apart):.1e}",
        f"{ours[-1]:.6f}", f"{own[-1]:.6f}", "yes" if max(apart) <= lever.tolerance else "no",
    ]  # fmt: skip
    return f"| {' | '.join(map(str, cells))} |"


def write_results(lines: list[str]) -> None:
    head = [
        "## The losses of 200 steps, with each lever and without it", "",
        f"`python benchmarks/curves.py`, {time.strftime('%Y-%m-%d')}, torch {torch.__version__}, transformers "
        f"{transformers.__version__}. The first two layers of MiniLM on rt-polarity and a Llama of 0.26 million parameters "
        "on instruction pairs, float32 but for the lever, same seed and rows.", "",
        "Compared are the training losses of each step, or their means over 20 steps where the precision differs, or the "
        "loss on the eval rows where dropout is drawn otherwise: the largest and the mean difference, and the last figure "
        "with the lever and without it, in nats. Packing: every step takes all of 16 rows, so that blocks and rows hold the "
        "same.", "",
    ]  # fmt: skip
    write_section("curves.py", [*head, *lines])


if __name__ == "__main__":
    main()
