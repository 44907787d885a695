"""What the processes of gpu.py do: a training, or the making of the model and the measuring of the machine."""

import json
import shutil
from pathlib import Path
from typing import Any

import ftkit  # isort: skip  # first, so that it prepares the process for torch
import others
import torch
import transformers
from gpu_clock import clock_trainer, matrix_rate
from speed_ftkit import recipe_values
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast, set_seed

from ftkit.recipe.load import load_values

Case = dict[str, Any]
SPECIAL = ("<s>", "</s>", "<unk>")


def work(what: str, path: Path) -> dict[str, Any]:
    """One of the ways to train, or `make`, on the case in the file."""
    case = json.loads(path.read_text(encoding="utf-8"))
    return make(case) if what == "make" else train(what, path.parent / what, case)


def train(way: str, folder: Path, case: Case) -> dict[str, float]:
    """One way's training, timed."""
    shutil.rmtree(folder, ignore_errors=True)
    found: dict[str, float] = {}
    clock_trainer(found)
    if way == "ftkit":
        ftkit.train(load_values(recipe(case), "the case"), output_dir=folder)
    else:
        {"bf16": others.plain_bf16, "sft": others.sft}[way](case, folder)
    return found


def recipe(case: Case) -> dict[str, Any]:
    """As speed.py's, and what a user would say of a large model: rows packed, a base in bfloat16."""
    values = recipe_values(case)
    values["model"] |= {"dtype": case["dtype"]}
    values["data"] |= {"packing": True}
    values["training"] |= {"bf16": True, "activation_checkpointing": case["checkpointing"]}
    return values


def make(case: Case) -> dict[str, Any]:
    """Random weights of the shape, drawn on the GPU in bfloat16, and a tokenizer of as many words; what the machine is.

    Returns the parameters that a token is multiplied with, all but the input embedding, and the rate of large products.
    """
    folder, shape = Path(case["model"]), case["shape"]
    gpu = torch.cuda.is_available()
    config = AutoConfig.for_model("llama", bos_token_id=0, eos_token_id=1, **shape)
    if not (folder / "config.json").is_file():
        set_seed(0)
        with torch.device("cuda" if gpu else "cpu"):
            model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
        make_tokenizer(shape["vocab_size"], config.max_position_embeddings).save_pretrained(folder)
        model.save_pretrained(folder)
        del model
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    parameters = sum(parameter.numel() for parameter in model.parameters()) - model.get_input_embeddings().weight.numel()
    return {
        "parameters": parameters, "gpu": gpu, "device": torch.cuda.get_device_name() if gpu else "CPU",
        "rate": matrix_rate(8192 if gpu else 256), "torch": torch.__version__, "transformers": transformers.__version__,
        "memory": torch.cuda.get_device_properties(0).total_memory if gpu else 0,
    }  # fmt: skip


def make_tokenizer(size: int, positions: int) -> PreTrainedTokenizerFast:
    """A word is a token: the rows' lengths are known without it, and no time goes into it."""
    words = [*SPECIAL, *(f"w{number}" for number in range(size - len(SPECIAL)))]
    made = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token="<s>", eos_token="</s>", unk_token="<unk>", model_max_length=positions
    )
