"""What the packaged recipes name, tiny: models with random weights and sample rows under the names that the hub has them by."""

from pathlib import Path
from typing import Any

from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, AutoModelForSeq2SeqLM, AutoTokenizer

from tests.data.chat_manners import LATEST_THOUGHT, WHOLE
from tests.hub.packaged_rows import data_sets, tagged
from tests.hub.repositories import files_of
from tests.hub.server import Hub
from tests.small_models import save_small

# Type, class and positions as the recipes take them.
MODELS: dict[str, tuple[str, Any, int]] = {
    "distilbert/distilbert-base-uncased": ("distilbert", AutoModelForMaskedLM, 512),
    "distilbert/distilbert-base-cased": ("distilbert", AutoModelForMaskedLM, 512),
    "openai-community/gpt2": ("gpt2", AutoModelForCausalLM, 512),
    "meta-llama/Llama-2-7b-hf": ("llama", AutoModelForCausalLM, 1024),
    "microsoft/deberta-v3-small": ("deberta-v2", AutoModelForMaskedLM, 512),
    "google/flan-t5-small": ("t5", AutoModelForSeq2SeqLM, 512),
    "answerdotai/ModernBERT-base": ("modernbert", AutoModelForMaskedLM, 512),
    "FacebookAI/xlm-roberta-base": ("xlm-roberta", AutoModelForMaskedLM, 512),
    "HuggingFaceTB/SmolLM2-135M-Instruct": ("llama", AutoModelForCausalLM, 1024),
    "Qwen/Qwen3-0.6B": ("qwen3", AutoModelForCausalLM, 1024),
}
# Qwen's puts an empty thought before the last answer, and opens with one where thinking is off.
TEMPLATES = {"HuggingFaceTB/SmolLM2-135M-Instruct": WHOLE, "Qwen/Qwen3-0.6B": LATEST_THOUGHT}
TURNS = ["<|system|>", "<|user|>", "<|assistant|>", "<think>", "</think>"]  # a small model has room for eight more tokens


def publish_packaged(hub: Hub, folder: Path, rows: int = 48) -> None:
    """Every repository that a packaged recipe names.

    Args:
        folder: an empty one, where models are made.
        rows: of each split of each data set.
    """
    for name in MODELS:
        hub.publish("models", name, files_of(save_model(name, folder / name)))
    for name, files in data_sets(rows).items():
        hub.publish("datasets", name, files)
    hub.publish("datasets", "leondz/wnut_17", {"wnut_17.py": b"import datasets"})
    hub.publish("datasets", "leondz/wnut_17", tagged(rows), "refs/convert/parquet")


def save_model(name: str, folder: Path) -> Path:
    """A model and its tokenizer in a folder."""
    kind, auto_class, positions = MODELS[name]
    save_small(kind, auto_class, folder, max_position_embeddings=positions)
    words = AutoTokenizer.from_pretrained(folder)
    words.eos_token, words.model_max_length = words.sep_token, positions
    if name in TEMPLATES:
        words.add_special_tokens({"additional_special_tokens": TURNS})
        words.chat_template = TEMPLATES[name]
    words.save_pretrained(folder)
    return folder
