"""What ftkit is measured against: fine-tuning by hand with `transformers.Trainer` and `peft`, as the official tutorials do.

Nothing here comes from ftkit: the rows are given, prompts, masks, padding, training and measuring are written out.
against_plain_trainer.py calls `classify` and `answer`.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from torch.nn.functional import cross_entropy
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    EvalPrediction,
    Trainer,
    TrainingArguments,
    set_seed,
)

Row = dict[str, Any]
Splits = dict[str, list[Row]]
ALPACA = "Below is an instruction that describes a task{context}. Write a response that appropriately completes the request."
IGNORED = -100


@dataclass(frozen=True)
class Outcome:
    """What a plain script reached.

    Attributes:
        before: accuracy or loss on the eval rows before training.
        after: split → accuracy or loss after training.
        seconds: how long `trainer.train()` took.
        encoded: split → rows as token ids and labels, to compare with ftkit's.
    """

    before: float
    after: dict[str, float]
    seconds: float
    encoded: dict[str, Dataset]


def classify(
    model_name: str, splits: Splits, settings: dict[str, Any], lora: dict[str, Any] | None, max_length: int, folder: Path
) -> Outcome:
    """A text classifier with every weight, or with LoRA; measured by accuracy."""
    labels = sorted({row["label"] for row in splits["train"]})
    tokenizer = AutoTokenizer.from_pretrained(model_name)

    def encode(row: Row) -> Row:
        ids = tokenizer(row["text"], truncation=True, max_length=max_length)
        return {**ids, "labels": labels.index(row["label"])}

    encoded = {name: Dataset.from_list([encode(row) for row in rows]) for name, rows in splits.items()}
    arguments = training_arguments(settings, folder)
    set_seed(arguments.seed)
    model = AutoModelForSequenceClassification.from_pretrained(model_name, num_labels=len(labels), dtype=torch.float32)
    if lora is not None:
        model = get_peft_model(model, LoraConfig(task_type="SEQ_CLS", **lora))
    trainer = Trainer(
        model=model,
        args=arguments,
        train_dataset=encoded["train"],
        eval_dataset=encoded["eval"],
        data_collator=DataCollatorWithPadding(tokenizer),
        processing_class=tokenizer,
        compute_metrics=accuracy,
    )

    def measure(name: str) -> float:
        return float(trainer.evaluate(encoded[name])["eval_accuracy"])

    return train_and_measure(trainer, encoded, measure)


def answer(
    model_name: str,
    splits: Splits,
    encode: Callable[[Any, Row, int], Row | None],
    settings: dict[str, Any],
    lora: dict[str, Any],
    max_length: int,
    folder: Path,
) -> Outcome:
    """A causal language model with LoRA that learns answers only; measured by the loss of an answer token, in nats.

    Args:
        encode: `encode_instruction` or `encode_summary`; a row for which it gives None is left out.
    """
    tokenizer = AutoTokenizer.from_pretrained(model_name)
    encoded = {
        name: Dataset.from_list([ids for row in rows if (ids := encode(tokenizer, row, max_length)) is not None])
        for name, rows in splits.items()
    }
    arguments = training_arguments(settings, folder)
    set_seed(arguments.seed)
    model = AutoModelForCausalLM.from_pretrained(model_name, dtype=torch.float32)
    model = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **lora))

    def collate(rows: list[Row]) -> dict[str, torch.Tensor]:
        return pad(rows, tokenizer.pad_token_id)

    def measure(name: str) -> float:
        return answer_loss(model, encoded[name], collate, arguments)

    trainer = Trainer(model=model, args=arguments, train_dataset=encoded["train"], data_collator=collate)
    return train_and_measure(trainer, encoded, measure)


def train_and_measure(trainer: Trainer, encoded: dict[str, Dataset], measure: Callable[[str], float]) -> Outcome:
    """Measure the eval rows, train, and measure every split but the training rows."""
    before = measure("eval")
    set_seed(trainer.args.seed)  # measuring may have drawn random numbers
    started = time.monotonic()
    trainer.train()
    seconds = time.monotonic() - started
    return Outcome(before, {name: measure(name) for name in encoded if name != "train"}, seconds, encoded)


def training_arguments(settings: dict[str, Any], folder: Path) -> TrainingArguments:
    return TrainingArguments(
        output_dir=str(folder), use_cpu=not torch.cuda.is_available(), disable_tqdm=True, report_to="none", **settings
    )


def accuracy(prediction: EvalPrediction) -> dict[str, float]:
    return {"accuracy": float(np.mean(prediction.predictions.argmax(-1) == prediction.label_ids))}


def encode_instruction(tokenizer: Any, row: Row, max_length: int) -> Row | None:
    """The Alpaca prompt and its answer; None where they do not fit."""
    if row["input"]:
        opening = ALPACA.format(context=", paired with an input that provides further context")
        prompt = f"{opening}\n\n### Instruction:\n{row['instruction']}\n\n### Input:\n{row['input']}\n\n### Response:\n"
    else:
        prompt = f"{ALPACA.format(context='')}\n\n### Instruction:\n{row['instruction']}\n\n### Response:\n"
    return supervise_answer(tokenizer(prompt)["input_ids"], answer_ids(tokenizer, row["output"]), max_length)


def encode_summary(tokenizer: Any, row: Row, max_length: int) -> Row | None:
    """A prompt around the document, whose end is cut until the summary fits behind it; None where it cannot."""
    answered = answer_ids(tokenizer, row["summary"])
    document = row["document"]
    offsets = tokenizer(document, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    for _, end in [(0, len(document)), *reversed(offsets)]:
        prompt = f"Summarize the following text.\n\n{document[:end]}\n\nSummary:\n"
        example = supervise_answer(tokenizer(prompt)["input_ids"], answered, max_length)
        if example is not None:
            return example
    return None


def answer_ids(tokenizer: Any, text: str) -> list[int]:
    return [*tokenizer(text, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]


def supervise_answer(prompt: list[int], answered: list[int], max_length: int) -> Row | None:
    if len(prompt) + len(answered) > max_length:
        return None
    return {"input_ids": prompt + answered, "labels": [IGNORED] * len(prompt) + answered}


def pad(rows: list[Row], pad_token_id: int) -> dict[str, torch.Tensor]:
    """Rows as tensors of shape (rows, longest row)."""
    width = max(len(row["input_ids"]) for row in rows)
    missing = [width - len(row["input_ids"]) for row in rows]
    return {
        "input_ids": torch.tensor([row["input_ids"] + [pad_token_id] * n for row, n in zip(rows, missing, strict=True)]),
        "attention_mask": torch.tensor([[1] * (width - n) + [0] * n for n in missing]),
        "labels": torch.tensor([row["labels"] + [IGNORED] * n for row, n in zip(rows, missing, strict=True)]),
    }


@torch.no_grad()
def answer_loss(model: Any, rows: Dataset, collate: Callable[[list[Row]], Any], arguments: TrainingArguments) -> float:
    """The mean loss of all answer tokens of the rows, in nats."""
    model.eval()
    size, total, count = arguments.per_device_eval_batch_size, 0.0, 0
    for first in range(0, len(rows), size):
        batch = {
            name: value.to(model.device) for name, value in collate(rows.select(_span(first, size, rows)).to_list()).items()
        }
        labels = batch.pop("labels")[:, 1:]
        with torch.autocast(model.device.type, torch.bfloat16, enabled=arguments.bf16):
            logits = model(**batch).logits[:, :-1]
        counted = labels != IGNORED
        total += cross_entropy(logits[counted].float(), labels[counted], reduction="sum").item()
        count += int(counted.sum())
    return total / count


def _span(first: int, size: int, rows: Dataset) -> range:
    return range(first, min(first + size, len(rows)))
