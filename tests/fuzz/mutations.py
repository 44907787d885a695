"""Recipes with something wrong in them: small sound ones of each task and strategy, and what a slip or a fiend makes of them."""

import copy
import json
import random
import string
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from ftkit.data.samples.table import generate
from ftkit.models.standins import make_stand_in
from ftkit.recipe.blocks import BLOCKS, INNER_BLOCKS, STRATEGY_CLASSES
from ftkit.recipe.fields import OWNED_LORA, OWNED_TRAINING, library_fields
from ftkit.recipe.schema import Recipe
from ftkit.recipe.tasks import TASK_SPECS
from ftkit.run import write_jsonl
from ftkit.training.smoke import tokenizer_texts

Values = dict[str, Any]
Where = tuple[str | int, ...]

ROWS = 24
FILES = {"sentiment": "reviews", "ratings": "ratings", "entities": "entities", "dialogues": "dialogues",
         "instructions": "instructions", "text": "text"}  # fmt: skip
# task, type of the model, file, layers that get adapters
BASES = (
    ("text-classification", "distilbert", "reviews", "q_lin"), ("text-classification", "gpt2", "reviews", "c_attn"),
    ("text-regression", "bert", "ratings", "query"), ("token-classification", "distilbert", "entities", "q_lin"),
    ("summarization", "llama", "dialogues", "q_proj"), ("summarization", "t5", "dialogues", "q"),
    ("instruction", "gpt2", "instructions", "c_attn"), ("instruction", "llama", "chats", "q_proj"),
    ("language-modeling", "gpt2", "text", "c_attn"), ("masked-language-modeling", "bert", "text", "query"),
)  # fmt: skip

BIG = (2**31, 2**63, 2**64 + 1, 10**30, -(2**31), 1e300, -1e300)
NUMBERS = (0, 1, 2, 3, 8, -1, 0.5, 1e-9, -0.0, 1.5, 1000, 65537)
NO_NUMBERS = (float("inf"), float("-inf"), float("nan"))
WORDS = (
    "", " ", "\t", "\n", "x", "auto", "none", "None", "null", "true", "no", "False", "1", "-1", "1e400", "0x10", "[]", "{}", "a b",
    "a.b", "a,b", "a=b", "a|b", "..", ".", "~", "/", "*", "**", "(", "[", "a{2", "(?P<label>", "(?P<label>.*)", "{", "{text}", "}{",
    "{0}", "{text.__class__}", "%s", "%(x)s", "${HOME}", "$(id)", "{{ x }}", "{% for", "{% raise %}", "café", "日本", "\u202eabc", "\ud83d\ude00", "\x00", "\x1b[31m",
    "\ufeff", "a" * 300, "a/b/c/d", "owner/name", "sample:text", "sample:nothing", "http://127.0.0.1:1/x", "file:///etc/hostname",
    "s3://bucket/key", "hf://datasets/x/y", "rows.zip/a.csv", "no.such.module", "os:system", "utf-16", "latin-1", "rot13", "idna", "base64",
    "text", "label", "reviews.jsonl", "reviews.jsonl/x", "broken.json", "steps", "epoch", "no", "best", "accuracy", "eval_loss", "eval_accuracy",
    "all-linear", "q_lin", "c_attn", "classifier", "lm_head", "gaussian", "orthogonal", "pissa", "pissa_niter_2", "olora", "loftq", "eva", "cosine", "adamw_torch",
    "adamw_bnb_8bit", "galore_adamw", "bfloat16", "float16", "int8", "cuda", "cuda:9", "meta", "nccl", "chatml", "alpaca",
)  # fmt: skip
# Keys inside the mappings that the libraries take whole.
INNER_KEYS = {
    "accelerator_config": ("split_batches", "dispatch_batches", "even_batches", "use_seedable_sampler", "gradient_accumulation_kwargs", "non_blocking", "use_configured_state"),
    "lr_scheduler_kwargs": ("num_cycles", "min_lr", "power", "lr_end", "num_decay_steps", "num_stable_steps", "mode", "factor", "patience", "timescale"),
    "optim_args": ("rank", "eps", "betas", "foreach", "fused", "lr"), "activation_checkpointing_kwargs": ("use_reentrant", "every_n_layers", "offload"),
    "fsdp_config": ("min_num_params", "xla", "activation_checkpointing", "version", "backward_prefetch", "transformer_layer_cls_to_wrap"),
    "deepspeed": ("zero_optimization", "train_batch_size", "bf16"), "liger_kernel_config": ("rope", "swiglu", "cross_entropy"),
    "loftq_config": ("loftq_bits", "loftq_iter"), "runtime_config": ("ephemeral_gpu_offload",), "megatron_config": ("tensor_model_parallel_size",),
    "rank_pattern": ("q_lin", "c_attn", "attention", "("), "alpha_pattern": ("q_lin", "c_attn", "("), "trainable_token_indices": ("embed_tokens", "wte", "word_embeddings"),
    "aconda_config": ("rank",), "parallelism_config": ("tp_size", "dp_replicate_size"), "layer_replication": (), "columns": ("text", "label", "labels", "document", "messages", "tokens"),
    "label_map": ("positive", "negative"), "values": ("text", "label"), "template_arguments": ("enable_thinking", "messages", "bos_token"), "tools": ("type", "function"),
}  # fmt: skip


def make_files(folder: Path) -> None:
    """Rows and tiny models of all bases."""
    folder.mkdir(parents=True)
    for sample, name in FILES.items():
        write_jsonl(folder / f"{name}.jsonl", generate(sample, rows=ROWS, split="train", seed=1))
    rows = [json.loads(line) for line in (folder / "instructions.jsonl").read_text().splitlines()]
    pairs = [
        [("user", f"{row['instruction']} {row.get('input', '')}".strip()), ("assistant", row["output"])] for row in rows
    ]
    chats = [{"messages": [{"role": role, "content": text} for role, text in pair]} for pair in pairs]
    write_jsonl(folder / "chats.jsonl", chats)
    (folder / "broken.json").write_text('{"text": ["a", {"b": ')
    (folder / "chats.txt").write_text("\n\n".join(text for pair in pairs for _, text in pair))
    for kind in {kind for _, kind, _, _ in BASES}:
        make_stand_in(kind, tokenizer_texts(), folder / kind)


def sound_recipes(folder: Path) -> list[Values]:
    """A sound recipe of each base and strategy, of the files that are made in the folder."""
    return [sound_recipe(folder, base, name) for base in BASES for name in TASK_SPECS[base[0]].strategies]


def sound_recipe(folder: Path, base: tuple[str, str, str, str], strategy: str) -> Values:
    task, kind, rows, target = base
    block: Values = {"name": strategy}
    if strategy in ("lora", "qlora"):
        block |= {"r": 2, "target_modules": [target]}
    return {
        "task": task,
        "model": {"name": str(folder / kind), "max_length": 192},
        "strategy": block,
        "data": {"train": f"{folder}/{rows}.jsonl", "eval_size": 6, "gate": {"dropped": 1.0, "overlap": 1.0}},
        "training": {"max_steps": 2, "per_device_train_batch_size": 2, "learning_rate": 1e-3},
        "evaluation": {"verify": False, "general_text": False} | generation(task),
    }


def generation(task: str) -> Values:
    return {"generation": {"rows": 2, "max_new_tokens": 4}} if "evaluation.generation" in TASK_SPECS[task].keys else {}


def keys_of(recipe: Values) -> list[Where]:
    """All keys that such a recipe may have, those that ftkit sets itself too."""
    found: list[Where] = [(name,) for name in Recipe.model_fields]
    found += [(name, key) for name, block in BLOCKS.items() for key in block.model_fields]
    found += [(*path, key) for path, block in INNER_BLOCKS.items() for key in block.model_fields]
    strategy = recipe["strategy"].get("name") if isinstance(recipe.get("strategy"), dict) else "lora"
    found += [("strategy", key) for key in STRATEGY_CLASSES.get(str(strategy), STRATEGY_CLASSES["lora"]).model_fields]
    found += [("training", key) for key in OWNED_TRAINING] + [("strategy", key) for key in OWNED_LORA]
    return found


class Fiend:
    """Draws what is done to a recipe; the same seed does the same."""

    def __init__(self, seed: int, folder: Path) -> None:
        self.random, self.folder = random.Random(seed), folder

    def word(self) -> str:
        draw = self.random.random()
        if draw < 0.75:
            return self.random.choice(WORDS)
        if draw < 0.85:
            return str(self.folder / self.random.choice(("reviews.jsonl", "gpt2", "broken.json", "none", "chats.txt", "")))
        return "".join(self.random.choices(string.printable + "é日\u2028\x85", k=self.random.randint(1, 12)))

    def number(self) -> int | float:
        return self.random.choice(self.random.choice((NUMBERS, NUMBERS, NUMBERS, BIG, NO_NUMBERS)))

    def plain(self) -> Any:
        return self.random.choice((self.word, self.word, self.number, self.number, self.truth, lambda: None))()

    def truth(self) -> bool:
        return self.random.random() < 0.5

    def value(self, depth: int = 0) -> Any:
        """Anything that YAML can say."""
        draw = self.random.random()
        if depth > 3 or draw < 0.6:
            return self.plain()
        if draw < 0.8:
            return [self.value(depth + 1) for _ in range(self.random.randint(0, 3))]
        return {self.key(): self.value(depth + 1) for _ in range(self.random.randint(0, 3))}

    def key(self) -> Any:
        return self.word() if self.random.random() < 0.9 else self.plain()

    def fitting(self, where: Where) -> Any:
        """A value of the type that the key takes, though rarely one that makes sense; what gets past the loader."""
        table = library_fields()["training" if where[0] == "training" else "lora"] if len(where) == 2 else {}
        entry = table.get(str(where[-1])) if where[0] in ("training", "strategy") else None
        if entry is None:
            return self.alike(where)
        if entry.get("choices") and self.random.random() < 0.9:
            return self.random.choice(entry["choices"])
        makers: dict[str, Callable[[], Any]] = {
            "bool": self.truth, "int": lambda: self.random.choice((0, 1, 2, 3, 8, -1, 1000)), "float": self.number, "str": self.word,
            "null": lambda: None, "list": lambda: [self.plain() for _ in range(self.random.randint(0, 3))],
            "dict": lambda: self.mapping(where),
        }  # fmt: skip
        return makers[self.random.choice(entry["type"].split(" | "))]()

    def mapping(self, where: Where) -> Values:
        known = INNER_KEYS.get(str(where[-1]), ())
        names = [
            self.random.choice(known) if known and self.random.random() < 0.8 else self.word()
            for _ in range(self.random.randint(0, 3))
        ]
        return {name: self.value(2) for name in names}

    def alike(self, where: Where) -> Any:
        """A value by what stands in the schema for the key."""
        block: Any = INNER_BLOCKS.get(where[:2]) if len(where) == 3 else BLOCKS.get(str(where[0]))
        field = block.model_fields.get(str(where[-1])) if block else None
        kind = str(field.annotation) if field else ""
        if "Literal" in kind and self.random.random() < 0.9:
            return self.random.choice(
                [word.strip(" '") for word in kind.partition("Literal[")[2].partition("]")[0].split(",")]
            )
        if "dict" in kind:
            return self.mapping(where)
        if "list" in kind or "Names" in kind:
            return [self.word() for _ in range(self.random.randint(1, 3))]
        if "str" in kind:
            return self.word()
        if "bool" in kind:
            return self.truth()
        return abs(self.random.choice(NUMBERS)) if "int" in kind or "float" in kind else self.value()

    def mutate(self, recipe: Values, turn: int) -> Values:
        """One to three things done to it; every other turn one key alone, each key in its turn."""
        changed = copy.deepcopy(recipe)
        if turn % 2:
            keys = keys_of(recipe)
            where = keys[turn // 2 % len(keys)]
            put(changed, where, self.fitting(where) if self.random.random() < 0.7 else self.value())
            return changed
        for _ in range(self.random.choice((1, 1, 2, 3))):
            self.random.choice((self.set, self.set, self.set, self.set_wildly, self.slip))(changed)
        return changed

    def set(self, recipe: Values) -> None:
        where = self.random.choice(self.aimed(keys_of(recipe)))
        put(recipe, where, self.fitting(where))

    def set_wildly(self, recipe: Values) -> None:
        put(recipe, self.random.choice(keys_of(recipe)), self.value())

    def aimed(self, keys: list[Where]) -> list[Where]:
        """The keys of one block: those of `training` are as many as all the others."""
        block = self.random.choice(sorted({where[0] for where in keys}, key=str))
        return [where for where in keys if where[0] == block]

    def slip(self, recipe: Values) -> None:
        """A key is gone, misspelt, one block too high, or what it holds is in a list."""
        places = [where for where in walk(recipe) if where]  # not the whole
        if not places:
            return
        where = self.random.choice(places)
        block = recipe
        for part in where[:-1]:
            block = block[part]
        value = block.pop(where[-1])
        if isinstance(block, dict) and (draw := self.random.random()) > 0.3:
            name = str(where[-1])
            if draw < 0.6:
                at = self.random.randrange(len(name) + 1)
                block[name[:at] + self.random.choice(string.ascii_lowercase) + name[at + 1 :]] = value
            elif draw < 0.8:
                recipe[name] = value
            else:
                block[where[-1]] = [value]

    def text(self, recipe: Values) -> bytes:
        """The recipe as the bytes of a file, of which some are not what YAML is."""
        text = yaml.safe_dump(recipe, allow_unicode=True, sort_keys=False)
        draw = self.random.random()
        if draw < 0.9:
            return text.encode("utf-8", "surrogatepass")
        return self.random.choice((self.garbled, self.garbled, self.torn))(text)

    def garbled(self, text: str) -> bytes:
        lines = text.splitlines()
        at = self.random.randrange(len(lines) + 1)
        extra = self.random.choice(
            (lines[at - 1], "\t", "---", "...", "%YAML 9.9", "&a [*a]", "a: *b", "!!python/object/apply:os.system [id]", "? [a]", "? {a: b}\n: c",
             "<<: {task: x}", "task: x", "[" * 3000, "a: " * 500, "- - - x", "|", ">", "'", '"', "@x", "`x", "1: 2", "null: 1", "key: !!binary x", "d: 2020-13-45",
             "d: !!timestamp x", "d: !!int x", "f: !!float x", "s: !!set {a}", "o: !!omap [a: 1]", "\x00", "\x07", "\x85", "\ufeff", "data: {", "data: }")
        )  # fmt: skip
        return "\n".join([*lines[:at], extra, *lines[at:]]).encode("utf-8", "surrogatepass")

    def torn(self, text: str) -> bytes:
        data = text.encode("utf-8", "surrogatepass")
        at = self.random.randrange(len(data))
        return self.random.choice(
            (data[:at], data[:at] + bytes([self.random.randrange(256)]) + data[at + 1 :], b"\xef\xbb\xbf" + data,
             text.encode("utf-16", "surrogatepass"), text.encode("latin-1", "replace"), data.replace(b"\n", b"\r\n"), data.replace(b"  ", b"\t"), data + b"\x00")
        )  # fmt: skip


def walk(value: Any, above: Where = ()) -> list[Where]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [above, *(where for key, part in inner for where in walk(part, (*above, key)))]


def put(recipe: Values, where: Where, value: Any) -> None:
    """Set a key; what stands on the way and holds no keys is written out or goes."""
    block = recipe
    for depth, part in enumerate(where[:-1]):
        inner = block.get(part) if isinstance(block, dict) else None
        if isinstance(inner, str) and depth and part in ("train", "eval", "test"):
            inner = block[part] = {"path": inner}
        if not isinstance(inner, dict):
            inner = block[part] = {}
        block = inner
    block[where[-1]] = value
