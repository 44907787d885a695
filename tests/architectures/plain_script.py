"""What a script without ftkit does: transformers and peft as their documentation has it."""

import copy
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
import transformers
from peft import LoraConfig, PeftModel, get_peft_model
from torch.nn.functional import cross_entropy, mse_loss
from traces import Tensors
from transformers import (
    AutoConfig,
    AutoTokenizer,
    DataCollatorForSeq2Seq,
    DataCollatorForTokenClassification,
    DataCollatorWithPadding,
    PreTrainedModel,
    TrainingArguments,
)

from ftkit.compat import keep_4bit_weights

IGNORED = -100


def plain_tokenizer(folder: Path) -> Any:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.padding_side = "right"
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token or tokenizer.unk_token
    return tokenizer


def plain_base(auto_class: Any, folder: Path, config: Any, quantization: Any = None) -> PreTrainedModel:
    """The model of a folder with a config of the task's, in float32 or 4 bits."""
    own, options = copy.deepcopy(config), {"quantization_config": quantization} if quantization else {}
    base = auto_class.from_pretrained(folder, config=own, dtype=torch.float32, ignore_mismatched_sizes=True, **options)
    keep_4bit_weights(base)  # without it bitsandbytes spoils them in the first evaluation
    return base


def plain_model(base: Any, adapter: LoraConfig | None, start: Tensors, learning: Iterable[str]) -> Any:
    """The model that is trained: with the adapter, from the same weights, and with the same ones learning."""
    model = base if adapter is None else get_peft_model(base, copy.deepcopy(adapter))
    own, names = model.state_dict(), set(learning)
    assert own.keys() == start.keys(), f"the plain model has other weights: {sorted(own.keys() ^ start.keys())[:3]}"
    with torch.no_grad():
        for name, tensor in start.items():
            if own[name].shape == tensor.shape and own[name].dtype == tensor.dtype:  # else of 4 bits
                own[name].copy_(tensor)
    for name, parameter in model.named_parameters():
        parameter.requires_grad = name in names
    return model


def plain_trainer(model: Any, task: str, rows: Any, tokenizer: Any, out: Path, training: dict[str, Any]) -> Any:
    arguments = TrainingArguments(str(out), disable_tqdm=True, **training)
    collator = plain_collator(task, tokenizer, model)
    trainer = transformers.Trainer(
        model=model, args=arguments, train_dataset=rows, processing_class=tokenizer, data_collator=collator
    )
    trainer.remove_callback(transformers.PrinterCallback)
    return trainer


def plain_collator(task: str, tokenizer: Any, model: Any) -> Any:
    if task in ("token-classification", "masked-language-modeling"):
        return DataCollatorForTokenClassification(tokenizer)
    if task in ("instruction", "language-modeling", "summarization"):
        return DataCollatorForSeq2Seq(tokenizer, WithCopies(model) if makes_inputs(model) else None)
    return DataCollatorWithPadding(tokenizer)


def makes_inputs(model: Any) -> bool:
    """Whether the decoder's input is made of the labels."""
    return hasattr(model, "prepare_decoder_input_ids_from_labels")


class WithCopies:
    """FSMT writes into the labels that it is given, so that a plain script would learn padding; here it gets a copy."""

    def __init__(self, model: Any) -> None:
        self.model = model

    def prepare_decoder_input_ids_from_labels(self, labels: torch.Tensor) -> torch.Tensor:
        return self.model.prepare_decoder_input_ids_from_labels(labels=labels.clone())


def reloaded(auto_class: Any, folder: Path, base_folder: Path, quantization: Any = None) -> Any:
    """A saved folder, or a saved adapter over the model that it was trained on, ready to predict."""
    if (folder / "adapter_config.json").is_file():
        base = plain_base(auto_class, base_folder, AutoConfig.from_pretrained(folder), quantization)
        return PeftModel.from_pretrained(base, folder).eval()
    return auto_class.from_pretrained(folder, dtype=torch.float32).eval()


def logits_of(model: Any, batch: dict[str, Any]) -> torch.Tensor:
    with torch.no_grad():
        logits: torch.Tensor = model(**batch).logits
    return logits.float()


def summed_loss(task: str, logits: torch.Tensor, labels: torch.Tensor) -> tuple[float, int]:
    """The summed loss of a batch, and of how many labels or tokens it is the sum."""
    if task == "text-regression":
        return float(mse_loss(logits[:, 0], labels.float(), reduction="sum")), len(labels)
    if task in ("instruction", "language-modeling"):
        logits, labels = logits[:, :-1], labels[:, 1:]
    total = cross_entropy(logits.flatten(0, -2), labels.flatten(), ignore_index=IGNORED, reduction="sum")
    return float(total), int((labels != IGNORED).sum())


def mean_loss(sums: Iterable[tuple[float, int]]) -> float:
    found = list(sums)
    return sum(total for total, _ in found) / sum(count for _, count in found)
