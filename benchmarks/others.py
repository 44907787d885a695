"""The same training by what users have today, one way a process: the tutorial's script, TRL, and a loop by hand.

    python benchmarks/others.py plain|sft|loop CASE.json      prints one JSON object; with --serve it is asked by speed.py

Nothing here comes from ftkit. CASE.json: task, model (a folder), train and eval (files of JSON lines), strategy and its
values, steps, batch, learning_rate, max_length; for gpu.py also dtype, quantized and further arguments of the Trainer.
"""

import json
import os
import sys
import time
from itertools import chain, islice, repeat
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from datasets import Dataset, load_dataset
from forks import serve
from instrument import measured, watched
from machine import HALF
from peft import LoraConfig, get_peft_model
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BitsAndBytesConfig,
    DataCollatorForSeq2Seq,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
    set_seed,
)

Case = dict[str, Any]
IGNORED = -100


def train_case(way: str, path: str) -> dict[str, Any]:
    """Train the case in the file that way."""
    case = json.loads(Path(path).read_text(encoding="utf-8"))
    return {"plain": plain, "bf16": plain_bf16, "sft": sft, "loop": loop}[way](case, Path(path).parent / way)


def rows_of(case: Case) -> tuple[Dataset, Dataset]:
    found = load_dataset("json", data_files={"train": case["train"], "eval": case["eval"]})
    return found["train"], found["eval"]


def encoded(case: Case, tokenizer: Any, rows: Dataset) -> Dataset:
    """A batched map, as tutorials have it."""

    def classify(batch: dict[str, list[Any]]) -> dict[str, Any]:
        return {**tokenizer(batch["text"], truncation=True, max_length=case["max_length"]), "labels": batch["label"]}

    def answer(row: dict[str, Any]) -> dict[str, Any]:
        prompt = tokenizer(case["prompt"].format(**row), add_special_tokens=False)["input_ids"]
        output = tokenizer(row["output"], add_special_tokens=False)["input_ids"] + [tokenizer.eos_token_id]
        return {
            "input_ids": (prompt + output)[: case["max_length"]],
            "labels": ([IGNORED] * len(prompt) + output)[: case["max_length"]],
        }

    if case["task"] == "text-classification":
        return rows.map(classify, batched=True, remove_columns=rows.column_names)
    return rows.map(answer, remove_columns=rows.column_names)


def load(case: Case) -> tuple[Any, Any, Any]:
    """Tokenizer, model with its adapter, and collator."""
    tokenizer = AutoTokenizer.from_pretrained(case["model"])
    set_seed(42)
    classifies = case["task"] == "text-classification"
    auto_class = AutoModelForSequenceClassification if classifies else AutoModelForCausalLM
    options: dict[str, Any] = {"num_labels": 2} if classifies else {}
    dtype = torch.bfloat16 if case.get("dtype") == "bfloat16" else torch.float32
    if case.get("quantized", case["strategy"]["name"] == "qlora"):
        options["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=dtype
        )
    model = auto_class.from_pretrained(case["model"], dtype=dtype, **options)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    model.config.pad_token_id = tokenizer.pad_token_id
    if case["strategy"]["name"] == "transfer":
        for parameter in model.base_model.parameters():
            parameter.requires_grad = False
    if case["strategy"]["name"] in ("lora", "qlora"):
        values = {name: value for name, value in case["strategy"].items() if name != "name"}
        model = get_peft_model(model, LoraConfig(task_type="SEQ_CLS" if classifies else "CAUSAL_LM", **values))
    collator = DataCollatorWithPadding(tokenizer) if classifies else DataCollatorForSeq2Seq(tokenizer)
    return tokenizer, model, collator


def plain(case: Case, folder: Path, **more: Any) -> dict[str, Any]:
    """The tutorial's script: Trainer with its defaults, float32, padded to each batch's longest."""
    tokenizer, model, collator = load(case)
    train, held_out = (encoded(case, tokenizer, rows) for rows in rows_of(case))
    arguments = TrainingArguments(
        str(folder), max_steps=case["steps"], per_device_train_batch_size=case["batch"], learning_rate=case["learning_rate"],
        report_to="none", save_strategy="no", disable_tqdm=True, use_cpu=not torch.cuda.is_available(), logging_steps=1,
        per_device_eval_batch_size=case["batch"], prediction_loss_only=True,
        **case.get("arguments", {}), **more,
    )  # fmt: skip
    trainer = Trainer(model=model, args=arguments, train_dataset=train, eval_dataset=held_out, data_collator=collator)
    with watched(trainer) as found:
        trainer.train()
    return {**found, "loss": trainer.evaluate()["eval_loss"]}


def plain_bf16(case: Case, folder: Path) -> dict[str, Any]:
    """The same with bf16 autocast, for those who know."""
    return plain(case, folder, bf16=True)


def sft(case: Case, folder: Path) -> dict[str, Any]:
    """TRL's SFTTrainer on prompt and completion, in bf16 where the processor has it, activation checkpointing off."""
    from trl import SFTConfig, SFTTrainer

    tokenizer, model, _ = load(case | {"strategy": {"name": "full"}})
    values = {name: value for name, value in case["strategy"].items() if name != "name"}

    def pair(row: dict[str, Any]) -> dict[str, str]:
        return {"prompt": case["prompt"].format(**row), "completion": row["output"]}

    train, held_out = (rows.map(pair, remove_columns=rows.column_names) for rows in rows_of(case))
    arguments = SFTConfig(
        str(folder), max_steps=case["steps"], per_device_train_batch_size=case["batch"], learning_rate=case["learning_rate"],
        report_to="none", save_strategy="no", disable_tqdm=True, use_cpu=not torch.cuda.is_available(), logging_steps=1,
        per_device_eval_batch_size=case["batch"], bf16=HALF or torch.cuda.is_available(), max_length=case["max_length"],
        **{"gradient_checkpointing": False, **case.get("arguments", {})},
    )  # fmt: skip
    adapter = LoraConfig(task_type="CAUSAL_LM", **values) if values else None
    trainer = SFTTrainer(
        model, arguments, train_dataset=train, eval_dataset=held_out, processing_class=tokenizer, peft_config=adapter
    )
    with watched(trainer) as found:
        trainer.train()
    return {**found, "loss": trainer.evaluate()["eval_loss"]}


def loop(case: Case, folder: Path) -> dict[str, Any]:
    """A loop by hand: AdamW, linear decay, clipping, bf16 autocast where the processor has it."""
    tokenizer, model, collator = load(case)
    train, held_out = (encoded(case, tokenizer, rows) for rows in rows_of(case))
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(learning, lr=case["learning_rate"], weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / case["steps"])
    order = torch.utils.data.RandomSampler(train, generator=torch.Generator().manual_seed(42))
    batches = torch.utils.data.DataLoader(train, case["batch"], sampler=order, collate_fn=collator)
    model.train()
    curve = []
    with measured() as found:
        start = time.perf_counter()
        for batch in islice(chain.from_iterable(repeat(batches)), case["steps"]):
            with torch.autocast("cpu", torch.bfloat16, enabled=HALF):
                loss = model(**batch).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(learning, 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            curve.append([time.perf_counter() - start, float(loss)])
    model.eval()
    with torch.no_grad():
        losses = [
            (float(model(**batch).loss), int((batch["labels"] != IGNORED).sum()))
            for batch in torch.utils.data.DataLoader(held_out, case["batch"], collate_fn=collator)
        ]
    items = sum(count for _, count in losses)
    return {**found, "curve": curve, "loss": sum(loss * count for loss, count in losses) / items}


if __name__ == "__main__":
    if sys.argv[1:] == ["--serve"]:
        serve(train_case)
    else:
        print(json.dumps(train_case(*sys.argv[1:])))
