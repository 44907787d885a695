"""A step in several batches is the step in one, for every task: the same losses, the same weights, however rows fall to them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from numpy.testing import assert_allclose
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

from ftkit import Recipe, train
from ftkit.errors import UserError
from ftkit.run import write_jsonl
from ftkit.training.dispatcher import build

RecipeMaker = Callable[..., Recipe]
WORDS = ["the", "quick", "brown", "fox", "jumps", "over", "a", "lazy", "dog", "and", "runs", "far", "away", "from", "here"]
SIX = 20  # rows of training: the last step of an epoch has two of six


def rows_of(task: str) -> list[dict[str, Any]]:
    """Rows of very unlike lengths, so that tokens are unevenly dealt out."""
    sentences = [WORDS[: 1 + 5 * index % 13] for index in range(SIX + 6)]
    if task == "token-classification":
        return [{"tokens": words, "tags": ["O" if len(word) < 4 else "B-x" for word in words]} for words in sentences]
    if task == "text-classification":
        return [{"text": f"{index} " + " ".join(words), "label": "ab"[index % 2]} for index, words in enumerate(sentences)]
    if task == "text-regression":
        return [{"text": f"{index} " + " ".join(words), "label": float(len(words))} for index, words in enumerate(sentences)]
    if task == "summarization":
        return [
            {"document": f"{index} " + " ".join(words), "summary": " ".join(words)} for index, words in enumerate(sentences)
        ]
    if task == "instruction":
        return [{"instruction": f"{index}", "output": " ".join(words)} for index, words in enumerate(sentences)]
    return [{"text": f"{index} " + " ".join(words)} for index, words in enumerate(sentences)]


GENERATE = ("summarization", "instruction")
CASES = [
    ("text-classification", "distilbert", {}),
    ("text-regression", "distilbert", {}),
    ("token-classification", "bert", {}),
    ("masked-language-modeling", "bert", {}),
    ("summarization", "t5", {}),
    ("summarization", "t5", {"label_smoothing_factor": 0.1}),
    ("instruction", "llama", {}),
    ("instruction", "llama", {"label_smoothing_factor": 0.1}),
    ("language-modeling", "gpt2", {}),
]


@pytest.mark.parametrize("speed", [True, pytest.param(False, marks=pytest.mark.slow)], ids=["levers", "plain"])
@pytest.mark.parametrize(("task", "kind", "more"), CASES)
@pytest.mark.slow
def test_a_step_in_three_batches_is_the_step_in_one(
    recipe: RecipeMaker,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    task: str,
    kind: str,
    more: dict[str, Any],
    speed: bool,
) -> None:
    """Three batches of two against one of six, over an epoch whose last step is uneven."""
    monkeypatch.setattr("torch.nn.functional.dropout", lambda tensor, *rest, **named: tensor)
    write_jsonl(tmp_path / "rows.jsonl", rows_of(task))
    keys = ("supervised_logits", "unpadded", "fast_dropout", "fused_gelu", "embedding_rows")
    found = []
    for size, accumulation in ((2, 3), (6, 1)):
        made = recipe(
            "full", task=task, kind=kind, speed={**dict.fromkeys(keys, speed), "micro_batches": None if speed else False},
            data={"train": str(tmp_path / "rows.jsonl"), "eval_size": 6, "gate": {"overlap": 1.0}},
            training={
                "max_steps": 5, "per_device_train_batch_size": size, "gradient_accumulation_steps": accumulation,
                "bf16": False, "eval_strategy": "no", "save_strategy": "no", "learning_rate": 1e-2, "optim": "sgd",
                "max_grad_norm": 1.0, **more,
            },
            evaluation={"baseline": False, "general_text": False, **({"generation": {"rows": 0}} if task in GENERATE else {})},
        )  # fmt: skip
        result = train(made, output_dir=tmp_path / str(size))
        lines = [json.loads(line) for line in (result.folder / "log.jsonl").read_text().splitlines()]
        found.append([(line["loss"], line["grad_norm"]) for line in lines if "loss" in line])
    assert len(found[0]) == 5
    assert_allclose(*found, rtol=1e-4, err_msg=f"loss and gradient norm of each step: {found}")


def xlnet(folder: Path, stand_in: Callable[[str], Path]) -> Path:
    tokenizer = AutoTokenizer.from_pretrained(stand_in("gpt2"))
    sizes = {"d_model": 32, "n_layer": 2, "n_head": 2, "d_inner": 48, "vocab_size": len(tokenizer)}
    AutoModelForCausalLM.from_config(AutoConfig.for_model("xlnet", **sizes)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_a_model_that_compares_each_token_with_itself_is_no_decoder(
    recipe: RecipeMaker, stand_in: Callable[[str], Path], tmp_path: Path
) -> None:
    """XLNet has a class for language modeling whose labels are not those of the next token."""
    made = recipe("full", task="instruction", kind="gpt2", model={"name": str(xlnet(tmp_path / "xlnet", stand_in))})
    with pytest.raises(UserError, match="xlnet compares each token with itself"):
        build(made, tmp_path / "out", [])


def test_a_loss_that_is_not_divided_by_items_is_divided_by_batches(
    recipe: RecipeMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A decoder that takes the number of items and has no use for it, as some with a loss of their own."""
    own = LlamaForCausalLM.forward

    def forward(self: Any, *given: Any, num_items_in_batch: Any = None, **named: Any) -> Any:
        return own(self, *given, **named)

    assert build(recipe("full", task="instruction", kind="llama"), tmp_path / "own", []).trainer.model_accepts_loss_kwargs
    monkeypatch.setattr(LlamaForCausalLM, "forward", forward)
    trainer = build(recipe("full", task="instruction", kind="llama"), tmp_path / "other", []).trainer
    assert not trainer.model_accepts_loss_kwargs
    assert trainer.head is not None
