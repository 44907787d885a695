"""How fast ftkit trains beside what users have today: the same model, data, order, seed and settings, one after the other.

    python benchmarks/speed.py                         every case; writes its part of benchmarks/RESULTS.md
    python benchmarks/speed.py --only lora-gpt2 --rounds 3
    python benchmarks/speed.py --scale 0.2             a fifth of the steps, to see that it runs

Beside ftkit: `plain`, the Trainer script of the official tutorials (float32, dynamic padding); `sft`, TRL's SFTTrainer
(no checkpointing) and `loop`, a torch loop by hand, both in bf16 where the processor has it; `lora`, ftkit's own beside its
QLoRA; and the machine's limit: the operations of the real tokens over the rate of a large product measured in the same run.
Each training is a process of its own, forked from one that has imported all; the ways take turns, round by round, as long as
there is time; the table has medians, and ratios of each round. Random weights of the named shapes: speed does not depend on
the weights. Needs ../shared (tokenizers, sentences, pairs).
"""

import argparse
import json
import os
import random
import statistics
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from forks import Server
from loss_curve import Curve, common_level, seconds_to
from results_page import write_section

HERE = Path(__file__).parent
QUERY_VALUE = {"name": "lora", "r": 8, "lora_alpha": 16, "target_modules": ["q_proj", "v_proj"]}
PROMPT = (
    "You are given a task, and sometimes an input that it is about. Do what the task says, and answer with nothing else.\n\n"
    "### Task\n{instruction}\n\n### Input\n{input}\n\n### Answer\n"
)
ALL_LINEAR = {"r": 8, "lora_alpha": 16, "target_modules": "all-linear"}
BERT_WORDS = "tokenizer-bert-uncased"
SHAPES: dict[str, tuple[str, dict[str, Any], str]] = {
    "distilbert": ("distilbert", {}, BERT_WORDS),
    "gpt2": ("gpt2", {}, "tokenizer-gpt2"),
    "distilbert-3m": ("distilbert", {"dim": 256, "hidden_dim": 1024, "n_layers": 4, "n_heads": 4}, BERT_WORDS),
    "distilbert-13m": ("distilbert", {"dim": 512, "hidden_dim": 2048, "n_layers": 4, "n_heads": 8}, BERT_WORDS),
    "gpt2-3m": ("gpt2", {"n_embd": 256, "n_layer": 4, "n_head": 4}, "tokenizer-gpt2"),
    "gpt2-13m": ("gpt2", {"n_embd": 512, "n_layer": 4, "n_head": 8}, "tokenizer-gpt2"),
    "llama-135m": (
        "llama",
        {
            "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30, "num_attention_heads": 9,
            "num_key_value_heads": 3, "vocab_size": 50257, "tie_word_embeddings": True, "max_position_embeddings": 2048,
            "bos_token_id": 50256, "eos_token_id": 50256,
        },
        "tokenizer-gpt2",
    ),
    "llama-160m": (
        "llama",
        {
            "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12,
            "vocab_size": 50257, "tie_word_embeddings": True, "max_position_embeddings": 2048,
            "bos_token_id": 50256, "eos_token_id": 50256,
        },
        "tokenizer-gpt2",
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Case:
    """One training, and what it is set beside.

    Attributes:
        model: a shape, or a folder of real weights under ../shared/models.
        factor: operations to each parameter and token that training needs: 6 of a full backward, 4 of a frozen base.
        joined: so many rows are put together into one, to be longer.
        prompt: of instruction pairs.
    """

    task: str
    model: str
    strategy: dict[str, Any]
    beside: tuple[str, ...]
    steps: int = 12
    batch: int = 32
    learning_rate: float = 1e-3
    max_length: int = 256
    factor: int = 4
    joined: int = 1
    prompt: str = "{instruction}\n{input}\n\n"


def cases() -> dict[str, Case]:
    sentences, pairs = "text-classification", "instruction"
    lora_query = {"name": "lora", "r": 8, "lora_alpha": 16}
    full = {"name": "full"}
    asked = {"batch": 4, "prompt": PROMPT}
    return {
        "full-minilm": Case(sentences, "minilm-l6", full, ("plain", "loop"), learning_rate=1e-4, factor=6),
        "lora-minilm": Case(
            sentences, "minilm-l6", lora_query | {"target_modules": ["query", "value"]}, ("plain",), learning_rate=2e-3
        ),
        "full-distilbert": Case(sentences, "distilbert", full, ("plain",), 6, learning_rate=5e-5, factor=6),
        "lora-distilbert": Case(sentences, "distilbert", lora_query | {"target_modules": ["q_lin", "v_lin"]}, ("plain",), 6),
        "full-gpt2": Case(pairs, "gpt2", full, ("plain",), 6, learning_rate=5e-5, factor=6, **asked),
        "lora-gpt2": Case(pairs, "gpt2", lora_query | {"target_modules": ["c_attn"]}, ("plain",), 6, **asked),
        "lora-llama-135m": Case(pairs, "llama-135m", QUERY_VALUE, ("sft",), 6, **asked),
        "qlora-llama-160m": Case(pairs, "llama-160m", {"name": "qlora", **ALL_LINEAR}, ("plain", "lora"), 6, **asked),
    }


@dataclass
class Found:
    """What the rounds of a case gave, by way: seconds of training, bytes above the loaded model and in all, loss on the eval
    rows, and the losses of the steps with the seconds at which they were there.
    """

    tokens: int
    parameters: int
    seconds: dict[str, list[float]] = field(default_factory=dict)
    above: dict[str, list[float]] = field(default_factory=dict)
    peak: dict[str, list[float]] = field(default_factory=dict)
    loss: dict[str, list[float]] = field(default_factory=dict)
    curve: dict[str, list[Curve]] = field(default_factory=dict)

    def add(self, way: str, result: dict[str, Any]) -> None:
        for name in ("seconds", "above", "peak", "loss", "curve"):
            vars(self)[name].setdefault(way, []).append(result[name])

    def seconds_to_loss(self) -> dict[str, float]:
        """Of each way, until it was first at the loss that all ways of its round reached; medians of the rounds."""
        levels = [common_level(curves) for curves in zip(*self.curve.values(), strict=True)]
        return {way: statistics.median(map(seconds_to, levels, curves)) for way, curves in self.curve.items()}


def main() -> None:
    options = parse_arguments()
    wanted = options.only or list(cases())
    if unknown := sorted(set(wanted) - set(cases())):
        sys.exit(f"no case {', '.join(unknown)}; there are {', '.join(cases())}")
    import machine  # here, so that --help need not wait for torch

    rate = machine.matrix_rate()
    chosen = {name: cases()[name] for name in wanted}
    found = measure(chosen, options)
    lines = [line for name, case in chosen.items() for line in lines_of(name, case, found[name], rate)]
    print("\n".join(lines), flush=True)
    if not options.only and options.scale == 1.0:
        write_results(lines, rate, machine.PRECISION, found)


def measure(cases: dict[str, Case], options: argparse.Namespace) -> dict[str, Found]:
    """All cases once; then again in as many rounds as are wanted and as there is time for."""
    servers = {"ftkit": Server(HERE / "speed_ftkit.py"), "others": Server(HERE / "others.py")}
    begun, took = time.monotonic(), dict.fromkeys(cases, 0.0)
    found: dict[str, Found] = {}
    for number in range(options.rounds):
        for name, case in cases.items():
            started = time.monotonic()
            if number and started - begun + took[name] > 60 * options.minutes:
                continue
            folder = options.output.resolve() / name.replace(" ", "-")
            folder.mkdir(parents=True, exist_ok=True)
            found.setdefault(name, prepare(case, folder, options))
            for way in ("ftkit", *case.beside):
                print(f"{name}, round {number + 1}: {way}", file=sys.stderr, flush=True)
                found[name].add(way, run_way(way, folder, servers))
            took[name] = time.monotonic() - started
    for server in servers.values():
        server.close()
    return found


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, default=Path("../shared"), help="the folder of real data and models")
    parser.add_argument("--output", type=Path, default=Path("runs/speed"), help="where models and runs go")
    parser.add_argument("--only", nargs="+", default=[], metavar="CASE", help="these alone; RESULTS.md stays as it is")
    parser.add_argument("--rounds", type=int, default=2, help="how often each way trains at the most (default 2)")
    parser.add_argument("--minutes", type=float, default=13, help="after which no case trains again (default 13)")
    parser.add_argument("--scale", type=float, default=1.0, help="of the steps, so many")
    return parser.parse_args()


def prepare(case: Case, folder: Path, options: argparse.Namespace) -> Found:
    """Write model, rows, and what the ways are given; the tokens and parameters that are trained."""
    steps = max(2, round(case.steps * options.scale))
    model = make_model(case, folder, options.shared)
    train, held_out = rows_of(case, options.shared, steps)
    for name, rows in (("train", train), ("eval", held_out)):
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"{name}.jsonl").write_text(text, encoding="utf-8")
    values = {
        "task": case.task, "model": str(model), "train": str(folder / "train.jsonl"), "eval": str(folder / "eval.jsonl"),
        "strategy": case.strategy, "steps": steps, "batch": case.batch, "learning_rate": case.learning_rate,
        "max_length": case.max_length, "prompt": case.prompt,
    }  # fmt: skip
    (folder / "case.json").write_text(json.dumps(values), encoding="utf-8")
    return Found(*count(case, model, train))


def make_model(case: Case, folder: Path, shared: Path) -> Path:
    """The folder of the model: real weights, or random ones of a shape with a real tokenizer."""
    if case.model not in SHAPES:
        return (shared / "models" / case.model).resolve()
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForMaskedLM, AutoTokenizer, set_seed

    kind, values, tokenizer = SHAPES[case.model]
    made = folder.parent / "models" / case.model
    if not (made / "config.json").is_file():
        set_seed(0)
        auto_class = AutoModelForMaskedLM if kind == "distilbert" else AutoModelForCausalLM
        loaded = AutoTokenizer.from_pretrained(shared / "models" / tokenizer)
        loaded.save_pretrained(made)
        auto_class.from_config(AutoConfig.for_model(kind, **values)).save_pretrained(made)
    return made


def rows_of(case: Case, shared: Path, steps: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """As many training rows as the steps take (all pairs at most, in several epochs), and some eval rows."""
    draw = random.Random(0)
    if case.task == "text-classification":
        rows: list[dict[str, Any]] = []
        for label, name in enumerate(("rt-polarity.neg", "rt-polarity.pos")):
            text = (shared / "data/rt-polarity" / name).read_text(encoding="latin-1")
            rows += [{"text": line.strip(), "label": label} for line in text.splitlines() if line.strip()]
        rows = list({row["text"].lower(): row for row in rows}.values())
        draw.shuffle(rows)
        rows = [join(rows[start : start + case.joined]) for start in range(0, len(rows), case.joined)]
        return rows[: steps * case.batch], rows[-160:]
    rows = json.loads((shared / "data/rasbt-instruct/instruction-data.json").read_text(encoding="utf-8"))
    rows = [{name: row[name] for name in ("instruction", "input", "output")} for row in rows if row["output"]]
    draw.shuffle(rows)
    rows = [join(rows[start : start + case.joined]) for start in range(0, len(rows), case.joined)]
    return rows[:-32][: steps * case.batch], rows[-32:]


def join(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Rows put together into one: texts one after the other, the label of the first."""
    return {
        name: " ".join(row[name] for row in rows) if isinstance(value, str) else value for name, value in rows[0].items()
    }


def count(case: Case, model: Path, train: list[dict[str, Any]]) -> tuple[int, int]:
    """Real tokens of all steps, and parameters without the embeddings that are looked up."""
    from transformers import AutoConfig, AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    texts = [row["text"] if "text" in row else case.prompt.format(**row) + row["output"] for row in train]
    tokens = sum(len(ids) for ids in tokenizer(texts, truncation=True, max_length=case.max_length)["input_ids"])
    import torch

    with torch.device("meta"):
        body = AutoModel.from_config(AutoConfig.from_pretrained(model))
    looked_up = sum(m.weight.numel() for m in body.modules() if isinstance(m, torch.nn.Embedding))
    return tokens, sum(parameter.numel() for parameter in body.parameters()) - looked_up


def run_way(way: str, folder: Path, servers: dict[str, Server]) -> dict[str, Any]:
    """Train in a process of its own."""
    case, log = str(folder / "case.json"), folder / f"{way}.log"
    if way in ("ftkit", "lora"):
        return servers["ftkit"].ask(log, case, *(["lora"] if way == "lora" else []))
    return servers["others"].ask(log, way, case)


def lines_of(name: str, case: Case, found: Found, rate: float) -> list[str]:
    """Lines of the table: a way each, and the machine's limit."""
    lines = []
    to_loss = found.seconds_to_loss()
    floor = case.factor * found.parameters * found.tokens / rate
    for way, seconds in found.seconds.items():
        speeds = [other / own for other, own in zip(seconds, found.seconds["ftkit"], strict=True)]
        memory = statistics.median(found.above["ftkit"]) / statistics.median(found.above[way])
        ratio = "" if way == "ftkit" else f"{statistics.median(speeds):.2f} ({min(speeds):.2f}-{max(speeds):.2f})"
        share = "" if way == "ftkit" else f"{memory:.2f}"
        middle = statistics.median(seconds)
        lines.append(
            f"| {name} | {way} | {middle:.1f} | {to_loss[way]:.1f} | {found.tokens / middle:,.0f} | {ratio} | "
            f"{statistics.median(found.above[way]) / 2**20:,.0f} | {share} | "
            f"{statistics.median(found.peak[way]) / 2**20:,.0f} | {statistics.median(found.loss[way]):.4f} |"
        )
    return [*lines, f"| {name} | limit | {floor:.1f} | | {found.tokens / floor:,.0f} | | | | | |"]


def words_on_rounds(found: dict[str, Found]) -> str:
    """How many each case had."""
    counts = {name: len(one.seconds["ftkit"]) for name, one in found.items()}
    most = max(counts.values())
    fewer = [f"{count} of {name}" for name, count in counts.items() if count < most]
    return ", ".join([str(most), *fewer])


def write_results(lines: list[str], rate: float, precision: str, found: dict[str, Found]) -> None:
    import torch
    import transformers

    head = [
        f"## Speed, on a processor that multiplies in {precision}", "",
        f"`python benchmarks/speed.py`, {time.strftime('%Y-%m-%d')}, torch {torch.__version__}, transformers "
        f"{transformers.__version__}, {os.cpu_count()} processors, {torch.get_num_threads()} threads; large {precision} "
        f"product: {rate / 1e9:,.0f} GFLOP/s; rounds in turns, {words_on_rounds(found)}; medians.", "",
        "Seconds of training; seconds until the training loss (the mean of five steps) was first as low as every way got "
        "it; real (unpadded) tokens a second; how many times as long as ftkit took (least-most of the rounds); peak memory "
        "of the process above what it held with the model loaded, in MiB; ftkit's as a share of it; that peak in all, the "
        "libraries in it; loss on the same eval rows afterwards.", "",
        "| case | way | s | s to loss | tokens/s | times ftkit | MiB | share | in all | loss |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    write_section(f"speed.py {precision}", [*head, *lines])


if __name__ == "__main__":
    main()
