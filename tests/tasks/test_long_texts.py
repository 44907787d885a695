"""Texts longer than a block: under packing, without it and in streams, no token is lost, and each has the loss that it is due.

The kind: language modeling on texts that do not fit `max_length`, in every command that reads them.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, CanineTokenizer

from ftkit import Recipe, UserError, check, evaluate, plan, preview, train
from ftkit.data.encode import Encoded
from ftkit.data.packing import cut_list
from ftkit.models.load import load_config, load_tokenizer
from ftkit.recipe.load import load_values
from ftkit.recipe.schema import Data, Model, Source
from ftkit.run import write_jsonl
from ftkit.tasks.language_modeling import LanguageModeling
from ftkit.tasks.masked_language_modeling import MaskedLanguageModeling
from ftkit.training.dispatcher import build
from ftkit.training.prepare import encode_rows

RecipeMaker = Callable[..., Recipe]
WORDS = ["the", "chef", "cooked", "a", "good", "meal", "in", "town", "and", "everyone", "liked", "it", "very", "much", "now"]
SAMPLE = {"train": "sample:text"}  # until a test's own take their place
LENGTHS = (1, 2, 7, 8, 9, 15, 16, 17, 300)  # words, about as many tokens


def text_of(words: int, start: int = 0) -> str:
    return " ".join(WORDS[(start + place * place) % len(WORDS)] for place in range(words))


def encoded(folder: Path, texts: list[str], max_length: int, *, packing: bool) -> Encoded:
    """The entries that are trained and measured on."""
    block = Model(name=str(folder))
    task = LanguageModeling(Data(train=[Source(path="sample:text")], packing=packing))
    rows = Dataset.from_dict({"text": texts})
    made = encode_rows(task, rows, load_tokenizer(block), load_config(block, {}), max_length, "train")
    return task.arrange(made, max_length)


def whole_texts(folder: Path, texts: list[str]) -> list[list[int]]:
    tokenizer = load_tokenizer(Model(name=str(folder)))
    return [[*tokenizer(text)["input_ids"], tokenizer.eos_token_id] for text in texts]


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
@pytest.mark.parametrize("max_length", [8, 9, 64])
def test_cut_texts_are_whole_and_know_their_rows(kind: str, max_length: int, stand_in: Callable[[str], Path]) -> None:
    texts = [text_of(words, words) for words in LENGTHS]
    found = encoded(stand_in(kind), texts, max_length, packing=True)
    examples = found.dataset["input_ids"]
    assert examples == found.dataset["labels"]
    assert all(2 <= len(ids) <= max_length for ids in examples)
    for row, ids in enumerate(whole_texts(stand_in(kind), texts)):
        own = [example for example, of in zip(examples, found.rows, strict=True) if of == row]
        assert [token for example in own for token in example] == ids
        assert len(own) == -(-len(ids) // max_length)
    assert found.rows == sorted(found.rows)
    assert found.notes["tokens"] == sum(map(len, examples))


@pytest.mark.parametrize("length", range(2, 40))
def test_no_stretch_is_a_single_token(length: int) -> None:
    parts = cut_list(list(range(length)), 8)
    assert [value for part in parts for value in part] == list(range(length))
    assert all(2 <= len(part) <= 8 for part in parts)
    assert len(parts) == -(-length // 8)


def test_short_texts_stay_as_they_are_in_the_cache(stand_in: Callable[[str], Path]) -> None:
    texts = [text_of(3), text_of(5, 2)]
    found = encoded(stand_in("gpt2"), texts, 64, packing=True)
    assert found.dataset["input_ids"] == whole_texts(stand_in("gpt2"), texts)
    assert found.notes.keys() == {"tokens"}


def test_blocks_without_packing_hold_every_token(stand_in: Callable[[str], Path]) -> None:
    for texts in ([text_of(words) for words in LENGTHS], [text_of(2)], [text_of(900)]):
        found = encoded(stand_in("gpt2"), texts, 8, packing=False)
        stream = [token for ids in whole_texts(stand_in("gpt2"), texts) for token in ids]
        kept = [token for ids in found.dataset["input_ids"] for token in ids]
        assert kept == stream[: len(kept)]
        assert len(stream) - len(kept) <= 1  # one alone foretells nothing
        assert len(found.rows) == len(found.dataset)


def on_two_files(made: Recipe, folder: Path, texts: dict[str, list[str]], **data: Any) -> Recipe:
    """The recipe with these training and eval texts."""
    values = made.model_dump(exclude_unset=True)
    for name, rows in texts.items():
        write_jsonl(folder / f"{name}.jsonl", [{"text": text} for text in rows])
    values["data"] = (
        {name: str(folder / f"{name}.jsonl") for name in texts} | {"packing": True, "gate": {"overlap": 1}} | data
    )
    return load_values(values)


def summed(model: Any, batches: list[dict[str, Any]]) -> float:
    total = 0.0
    with torch.no_grad():
        for batch in batches:
            labels = batch.pop("labels")
            logits = model(**batch).logits[:, :-1].flatten(0, 1)
            total += float(torch.nn.functional.cross_entropy(logits, labels[:, 1:].flatten(), reduction="sum"))
    return total


@pytest.mark.parametrize("kind", ["gpt2", "llama", "mistral", "qwen2", "qwen3", "phi", "gpt_neox", "stablelm"])
def test_the_loss_of_packed_long_texts_is_that_of_their_parts_alone(
    kind: str, recipe: RecipeMaker, stand_in: Callable[[str], Path], tmp_path: Path
) -> None:
    model_block, training = {"max_length": 32, "attn_implementation": "eager"}, {"bf16": False}
    made = recipe(task="language-modeling", kind=kind, data=SAMPLE, model=model_block, training=training)
    texts = [text_of(words, words) for words in LENGTHS]
    parts = build(on_two_files(made, tmp_path, {"train": texts, "eval": texts}), tmp_path / "out", [])
    blocks = parts.data.encoded["train"].dataset
    model = AutoModelForCausalLM.from_pretrained(stand_in(kind), attn_implementation="eager").eval()
    packed = summed(model, [parts.trainer.train_collator([block]) for block in blocks])
    alone = [{name: torch.tensor([entry[name]]) for name in ("input_ids", "labels")} for entry in parts.trainer.eval_dataset]
    assert packed == pytest.approx(summed(model, alone), rel=1e-5)
    assert len(blocks) < len(alone)


@pytest.mark.slow
def test_every_command_takes_packed_long_texts(recipe: RecipeMaker, tmp_path: Path) -> None:
    texts = {name: [text_of(words, seed) for words in LENGTHS] for name, seed in (("train", 0), ("eval", 5))}
    made = on_two_files(recipe("lora", task="language-modeling", data=SAMPLE, model={"max_length": 16}), tmp_path, texts)
    assert "16 in the longest" in check(made).facts["train rows"]
    assert "16 in the longest" in check(made).facts["eval rows"]
    assert plan(made, measure=False).batch["length"] == 16
    for split in ("train", "eval"):
        shown = preview(made, split=split, rows=1000)
        assert shown.tokens == sum(row.length for row in shown.rows)
        assert max(row.length for row in shown.rows) == 16
    result = train(made, output_dir=tmp_path / "run")
    report = json.loads((result.folder / "data_report.json").read_text())
    assert report["splits"]["eval"]["tokens"] == shown.tokens
    rows = [json.loads(line) for line in (result.folder / "predictions.jsonl").read_text().splitlines()]
    assert {row["row"] for row in rows} == set(range(len(LENGTHS)))
    last = [row["text"] for row in rows if row["row"] == len(LENGTHS) - 1]
    assert "".join(last) == text_of(300, 5)  # each entry shows its own part
    assert evaluate(result.folder).metrics == result.metrics["tuned"]
    assert evaluate(result.folder, split="train").metrics["loss"] > 0  # measured one by one, not in blocks


@pytest.mark.slow
def test_instruction_rows_too_long_are_dropped_and_packed_runs_measured_on_train(
    recipe: RecipeMaker, instructions: Path, tmp_path: Path
) -> None:
    long = [{"instruction": f"Say much {n}.", "output": text_of(300, n)} for n in range(2)]
    rows = [json.loads(line) for line in instructions.read_text().splitlines()] + long
    write_jsonl(tmp_path / "rows.jsonl", rows)
    data = {"train": str(tmp_path / "rows.jsonl"), "packing": True}
    made = recipe(
        "full",
        task="instruction",
        data=data,
        model={"max_length": 128},
        evaluation={"generation": {"rows": 1, "max_new_tokens": 4}},
    )
    result = train(made, output_dir=tmp_path / "run")
    fates = json.loads((result.folder / "data_report.json").read_text())["fates"]
    assert sum(count for fate, count in fates.items() if "too long" in fate) == 2
    assert evaluate(result.folder, split="train").metrics["loss"] > 0


def test_a_text_of_an_end_token_alone_is_refused_or_counted(recipe: RecipeMaker, tmp_path: Path) -> None:
    texts = [*(text_of(20, n) for n in range(30)), "<|endoftext|>"]
    made, files = recipe(task="language-modeling", data=SAMPLE, model={"max_length": 32}), {"train": texts, "eval": texts}
    with pytest.raises(UserError, match=r"1/31 rows have no supervised token \(train.jsonl row 31\)"):
        train(on_two_files(made, tmp_path, files), output_dir=tmp_path / "run")
    allowed = on_two_files(made, tmp_path, files, gate={"overlap": 1, "unsupervised": 0.1})
    result = train(allowed, output_dir=tmp_path / "run")
    fates = json.loads((result.folder / "data_report.json").read_text())["fates"]
    assert fates["train: dropped, no supervised token"] == fates["eval: dropped, no supervised token"] == 1
    logged = [json.loads(line) for line in (result.folder / "log.jsonl").read_text().splitlines()]
    assert all(entry["eval_loss"] > 0 for entry in logged if "eval_loss" in entry)  # not NaN


def test_a_slow_tokenizer_tells_that_a_masked_text_was_cut() -> None:
    task = MaskedLanguageModeling(Data(train=[Source(path="sample:text")]))
    encode = task.encoder(Dataset.from_dict({"text": ["a"]}).features, CanineTokenizer(), None, 12)  # type: ignore[arg-type]
    assert encode({"text": ["short", "much too long for it", "0123456789"]}, [0, 1, 2])["outcome"] == [0, 1, 0]
