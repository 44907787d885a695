"""Whether `ftkit plan` says beforehand what `ftkit train` then takes: peak memory within 10 %, training time within 25 %.

    python benchmarks/plan_against_measured.py                         every case, about a quarter of an hour on 2 cores
    python benchmarks/plan_against_measured.py --only full-encoder     one case, or several: --only A B

Needs real data and models (`--shared`, default ../shared); no network. Models of 67 and 124 million parameters get
random weights, on which neither memory nor time depends. Each case is planned and then trained, each in a process of its
own, so that the peak of one is not that of another. Planning measures a few steps itself: a machine that is busy with
other things for one of the two shows as a ratio far from 1. Rows are evaluated so many at a time as are trained on, so that
it is training whose peak is compared. Exit status 1 where a figure is not within its bounds.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # before the libraries are imported

import yaml
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForMaskedLM, set_seed

MIB = 2**20
MEMORY, TIME = 0.10, 0.25
STEPS = 12
AS_THEY_LIE = {"overlap": 1.0, "dropped": 1.0, "cut_answer": 1.0}  # faults of the rows do not matter here
ADAPTERS = {"distilbert": ["q_lin", "v_lin"], "gpt2": ["c_attn"], "minilm-l6": ["query", "value"]}


@dataclass(frozen=True)
class Case:
    """A model under a strategy on rows up to a length, so many at a time."""

    model: str
    strategy: str
    length: int
    rows: int


CASES = {
    "full-encoder": Case("distilbert", "full", 64, 16),
    "full-encoder-long": Case("distilbert", "full", 256, 8),
    "transfer-encoder-long": Case("distilbert", "transfer", 256, 8),
    "lora-encoder": Case("minilm-l6", "lora", 64, 32),
    "qlora-encoder-long": Case("minilm-l6", "qlora", 256, 16),
    "full-decoder": Case("gpt2", "full", 128, 4),
    "lora-decoder-long": Case("gpt2", "lora", 384, 2),
    "qlora-decoder": Case("gpt2", "qlora", 128, 4),
}


@dataclass(frozen=True)
class Row:
    """Bytes and seconds, as planned and as taken."""

    case: str
    planned_memory: int
    memory: int
    planned_seconds: float
    seconds: float

    @property
    def memory_ratio(self) -> float:
        return self.planned_memory / self.memory

    @property
    def time_ratio(self) -> float:
        return self.planned_seconds / self.seconds

    @property
    def reached(self) -> bool:
        return abs(self.memory_ratio - 1) <= MEMORY and abs(self.time_ratio - 1) <= TIME


def main() -> int:
    options = parse_arguments()
    if unknown := sorted(set(options.only) - set(CASES)):
        sys.exit(f"no case {', '.join(unknown)}; there are {', '.join(CASES)}")
    options.output.mkdir(parents=True, exist_ok=True)
    rows = [run_case(name, CASES[name], options.shared.resolve(), options.output) for name in options.only or CASES]
    print(table(rows))
    return 0 if all(row.reached for row in rows) else 1


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, default=Path("../shared"), help="the folder of real data and models")
    parser.add_argument("--output", type=Path, default=Path("runs/plan_against_measured"), help="where all of it goes")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="these cases alone")
    return parser.parse_args()


def run_case(name: str, case: Case, shared: Path, folder: Path) -> Row:
    """Plan and train a case."""
    file = folder / f"{name}.yaml"
    file.write_text(yaml.safe_dump(recipe_of(case, shared, folder)), encoding="utf-8")
    plan = json.loads(ftkit("plan", str(file), "--device", "cpu", "--json"))
    run = folder / name
    ftkit("train", str(file), "--output-dir", str(run), "--overwrite", "--quiet")
    record = json.loads((run / "run.json").read_text(encoding="utf-8"))
    row = Row(
        name, plan["needed"], record["peak_memory_bytes"]["process"], plan["seconds"]["training"],
        record["seconds"]["training"],
    )  # fmt: skip
    shutil.rmtree(run / "checkpoints", ignore_errors=True)
    print(table([row]), flush=True)
    return row


def ftkit(*words: str) -> str:
    """What a command prints."""
    command = [sys.executable, "-m", "ftkit", *words]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def recipe_of(case: Case, shared: Path, folder: Path) -> dict[str, Any]:
    """The case as a recipe: real rows, a few steps."""
    decoder = case.model == "gpt2"
    strategy: dict[str, Any] = {"name": case.strategy}
    if case.strategy in ("lora", "qlora"):
        strategy |= {"r": 8, "target_modules": ADAPTERS[case.model]}
    rows = rows_for_decoder(shared, folder) if decoder else rows_for_encoder(case, shared, folder)
    return {
        "task": "language-modeling" if decoder else "text-classification",
        "model": {"name": str(model_folder(case.model, shared, folder)), "max_length": case.length},
        "strategy": strategy,
        "data": {"train": rows, "eval_size": 16, "gate": AS_THEY_LIE},
        "training": {
            "per_device_train_batch_size": case.rows, "per_device_eval_batch_size": case.rows,
            "max_steps": STEPS, "save_strategy": "no", "eval_strategy": "no",
        },
        "evaluation": {"general_text": False, "verify": False, "rows": 16},
    }  # fmt: skip


def rows_for_decoder(shared: Path, folder: Path) -> list[dict[str, Any]]:
    """Texts of twenty sentences, which the task puts into blocks of the length."""
    path = folder / "texts.jsonl"
    sentences = (shared / "data/rt-polarity/rt-polarity.pos").read_text(encoding="latin-1").splitlines()
    texts = [" ".join(sentences[start : start + 20]) for start in range(0, len(sentences), 20)]
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
    return [{"path": str(path)}]


def rows_for_encoder(case: Case, shared: Path, folder: Path) -> list[dict[str, Any]]:
    """Film reviews of a sentence, or for long rows of several together, of varying length."""
    path = folder / f"reviews-{case.length}.jsonl"
    with path.open("w", encoding="utf-8") as file:
        for label, name in (("positive", "rt-polarity.pos"), ("negative", "rt-polarity.neg")):
            sentences = (shared / "data/rt-polarity" / name).read_text(encoding="latin-1").splitlines()
            most = max(1, case.length // 28)
            while len(sentences) > most:
                count = len(sentences) % most + 1
                text, sentences = " ".join(sentences[:count]), sentences[count:]
                file.write(json.dumps({"text": text, "label": label}) + "\n")
    return [{"path": str(path)}]


def model_folder(name: str, shared: Path, folder: Path) -> Path:
    """A model that is there, or one of a shape that transformers has as its default, with random weights."""
    if (shared / "models" / name).is_dir():
        return shared / "models" / name
    made, tokenizer = folder / name, "gpt2" if name == "gpt2" else "bert-uncased"
    if not (made / "model.safetensors").is_file():
        shutil.copytree(shared / f"models/tokenizer-{tokenizer}", made, dirs_exist_ok=True)
        set_seed(0)
        auto_class = AutoModelForCausalLM if name == "gpt2" else AutoModelForMaskedLM
        auto_class.from_config(AutoConfig.for_model(name)).save_pretrained(made)
    return made


def table(rows: list[Row]) -> str:
    head = "| case | planned MiB | measured | ratio | planned s | measured | ratio | within |"
    lines = [head, "| --- | ---: | ---: | ---: | ---: | ---: | ---: | --- |"]
    for row in rows:
        lines.append(
            f"| {row.case} | {row.planned_memory / MIB:,.0f} | {row.memory / MIB:,.0f} | {row.memory_ratio:.2f} | "
            f"{row.planned_seconds:.1f} | {row.seconds:.1f} | {row.time_ratio:.2f} | {'yes' if row.reached else 'no'} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
