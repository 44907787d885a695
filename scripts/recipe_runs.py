"""Make what recipes/README.md is written of: for each packaged recipe a smoke run and a plan for a GPU, one after another.

    python scripts/recipe_runs.py runs
    python scripts/recipe_runs.py runs --only qlora_distilbert

What the folder has is kept. Neither asks the hub: SHAPES has of the models' configs what weights and memory follow from,
LABELS how many classes the data sets have, which a plan would else read off the rows.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoModelForMaskedLM, AutoModelForSeq2SeqLM

from ftkit.models.architecture import meta_model
from ftkit.recipe.load import load_recipe
from ftkit.recipe.packaged import packaged_recipes
from ftkit.recipe.schema import Recipe


class Shape(NamedTuple):
    """A model's type, what its config.json says otherwise than the library's default of that type, and its published size.

    Attributes:
        auto_class: the class of the published number of parameters.
    """

    kind: str
    values: dict[str, Any]
    auto_class: Any
    parameters: int


SHAPES = {
    "distilbert/distilbert-base-uncased": Shape("distilbert", {}, AutoModelForMaskedLM, 66_985_530),
    "distilbert/distilbert-base-cased": Shape("distilbert", {"vocab_size": 28996}, AutoModelForMaskedLM, 65_812_036),
    "openai-community/gpt2": Shape("gpt2", {}, AutoModelForCausalLM, 124_439_808),
    "meta-llama/Llama-2-7b-hf": Shape(
        "llama",
        {"max_position_embeddings": 4096, "rms_norm_eps": 1e-5, "dtype": "float16"},
        AutoModelForCausalLM,
        6_738_415_616,
    ),
    "microsoft/deberta-v3-small": Shape(
        "deberta-v2",
        {
            "hidden_size": 768, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 3072,
            "vocab_size": 128100, "type_vocab_size": 0, "relative_attention": True, "position_buckets": 256,
            "norm_rel_ebd": "layer_norm", "share_att_key": True, "pos_att_type": ["p2c", "c2p"],
            "position_biased_input": False, "layer_norm_eps": 1e-7,
        },
        AutoModel,
        141_304_320,
    ),
    # Its output embedding is a weight of its own. transformers 5.23 makes it the input's until it sees the weights.
    "google/flan-t5-small": Shape(
        "t5",
        {
            "d_ff": 1024, "num_layers": 8, "num_decoder_layers": 8, "num_heads": 6, "feed_forward_proj": "gated-gelu",
            "tie_word_embeddings": False, "decoder_start_token_id": 0,
        },
        AutoModelForSeq2SeqLM,
        76_961_152,
    ),
    "answerdotai/ModernBERT-base": Shape(
        "modernbert", {"classifier_pooling": "mean", "dtype": "float32"}, AutoModelForMaskedLM, 149_655_232
    ),
    "FacebookAI/xlm-roberta-base": Shape(
        "xlm-roberta",
        {"vocab_size": 250002, "max_position_embeddings": 514, "type_vocab_size": 1, "layer_norm_eps": 1e-5},
        AutoModelForMaskedLM,
        278_295_186,
    ),
    "HuggingFaceTB/SmolLM2-135M-Instruct": Shape(
        "llama",
        {
            "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30, "num_attention_heads": 9,
            "num_key_value_heads": 3, "vocab_size": 49152, "max_position_embeddings": 8192, "rms_norm_eps": 1e-5,
            "tie_word_embeddings": True, "dtype": "bfloat16",
        },
        AutoModelForCausalLM,
        134_515_008,
    ),
    "Qwen/Qwen3-0.6B": Shape(
        "qwen3",
        {
            "hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 28, "num_attention_heads": 16,
            "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 151936, "max_position_embeddings": 40960,
            "tie_word_embeddings": True, "dtype": "bfloat16",
        },
        AutoModelForCausalLM,
        596_049_920,
    ),
}  # fmt: skip
LABELS = {"nyu-mll/glue": 2, "stanfordnlp/imdb": 2, "leondz/wnut_17": 13, "fancyzhx/ag_news": 4, "facebook/xnli": 3}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", nargs="+", default=list(packaged_recipes()))
    asked = parser.parse_args()
    asked.folder.mkdir(parents=True, exist_ok=True)
    failed = [name for name in asked.only if not (plan(name, asked.folder) and smoke(name, asked.folder))]
    print(f"{len(asked.only)} recipes, not made: {', '.join(failed) or 'none'}", file=sys.stderr)
    return int(bool(failed))


def smoke(name: str, folder: Path) -> bool:
    """`ftkit train recipes/NAME.yaml --smoke`, unless a finished one is there."""
    run = folder / f"{name}_smoke"
    if (run / "metrics.json").is_file():
        return True
    return ftkit("train", packaged_recipes()[name], "--smoke", "--quiet", "--overwrite", "-o", run).returncode == 0


def plan(name: str, folder: Path) -> bool:
    """`ftkit plan recipes/NAME.yaml --device cuda --no-measure --json`, of a folder with the config alone.

    None is made where the config alone does not make a model of the published size: it would be another's.
    """
    recipe, file = load_recipe(packaged_recipes()[name]), folder / f"{name}_plan.json"
    shape = SHAPES[recipe.model.name]
    if file.is_file() or made_of(shape) != shape.parameters:
        return True
    words = [f"model.name={write_config(shape, folder / 'configs' / recipe.model.name)}", *labels_of(recipe)]
    done = ftkit("plan", packaged_recipes()[name], *words, "--device", "cuda", "--no-measure", "--json")
    if done.returncode == 0:
        file.write_text(done.stdout, encoding="utf-8")
    return done.returncode == 0


def made_of(shape: Shape) -> int:
    """How many parameters a model has that is made of the config alone."""
    config = AutoConfig.for_model(shape.kind, **shape.values)
    return sum(weight.numel() for weight in meta_model(shape.auto_class, config).parameters())


def write_config(shape: Shape, folder: Path) -> Path:
    """The folder of a model of which there is the config.json alone."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"model_type": shape.kind, **shape.values}), encoding="utf-8")
    return folder


def labels_of(recipe: Recipe) -> list[str]:
    """What tells a plan how many classes there are, of tasks that learn some."""
    if recipe.task not in ("text-classification", "token-classification"):
        return []
    classes = LABELS[recipe.data.train[0].path]
    return [f"data.labels={json.dumps([f'class {number}' for number in range(classes)])}"]


def ftkit(*words: str | Path) -> subprocess.CompletedProcess[str]:
    """Run one command; what it says of itself goes to the screen."""
    print("ftkit", *words, file=sys.stderr, flush=True)
    return subprocess.run([sys.executable, "-m", "ftkit", *map(str, words)], stdout=subprocess.PIPE, text=True)


if __name__ == "__main__":
    raise SystemExit(main())
