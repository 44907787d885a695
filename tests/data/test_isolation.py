"""Every decoder that is let through keeps packed examples apart, and every one that does not is refused in one line.

The kind: architectures whose attention, positions, convolutions or states reach across the borders of a block.
"""

import math
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from huggingface_hub.errors import StrictDataclassError
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from ftkit.data.packing import PackedCollator, lengths_to_try, measure_block, pack, require_isolation
from ftkit.errors import UserError
from ftkit.models.standins import byte_level, tiny_config

CANNOT_BE_BUILT = (
    AssertionError, AttributeError, ImportError, LookupError, RuntimeError, StrictDataclassError, TypeError, ValueError,
)  # fmt: skip
LENGTHS = (20, 13, 9, 5, 30, 2, 17, 8)
SMALL = 5_000_000  # parameters; what stays larger has sizes that the stand-ins do not know
# Carry a state or a convolution along, count positions from the block's start, or see the whole block.
LEAKY = {
    "bart",
    "bloom",
    "falcon_mamba",
    "jamba",
    "lfm3",
    "mamba",
    "mpt",
    "openai-gpt",
    "opt",
    "qwen3_5_text",
    "rwkv",
    "rembert",
}
APART = {"cohere2", "gemma2", "gpt2", "gpt_neo", "gpt_neox", "granite", "llama", "mistral", "mixtral", "olmo3", "phi", "phi3",
         "qwen2", "qwen3", "smollm3", "stablelm", "starcoder2"}  # fmt: skip


def examples() -> Dataset:
    draw = np.random.default_rng(0)
    rows = [draw.integers(60, 200, length).tolist() for length in LENGTHS]
    return Dataset.from_dict({"input_ids": rows, "labels": rows})


def small_model(kind: str, **values: Any) -> Any:
    """A small model of the kind, with a window that the examples go beyond where the kind has one; None where there is none."""
    tokenizer = byte_level(["the chef cooked a meal"] * 3, ["<|endoftext|>"], end="<|endoftext|>")
    try:
        config = tiny_config(kind, tokenizer, 64)
        config.vocab_size = 300
        for name, value in ({"sliding_window": 6} | values).items():
            if getattr(config, name, None) is not None:
                setattr(config, name, value)
        with torch.device("meta"):
            size = sum(weight.numel() for weight in AutoModelForCausalLM.from_config(config).parameters())
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config).eval() if size < SMALL else None
        if model is not None:
            model(input_ids=torch.full((1, 12), 7), use_cache=False)
        return model
    except CANNOT_BE_BUILT:
        return None


def loss_and_gradient(model: Any, batches: list[dict[str, Any]]) -> tuple[float, torch.Tensor]:
    model.zero_grad()
    total = 0.0
    for batch in batches:
        labels = batch["labels"]
        logits = model(**{name: value for name, value in batch.items() if name != "labels"}).logits.float()[:, :-1]
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten(), reduction="sum")
        loss.backward()
        total += loss.item()
    return total, torch.cat([weight.grad.flatten() for weight in model.parameters() if weight.grad is not None])


def is_apart(model: Any) -> bool:
    """Whether packed examples have the loss and the gradients of the examples alone."""
    rows = examples()
    alone = [{name: torch.tensor([value]) for name, value in row.items()} | {"use_cache": False} for row in rows]
    try:
        own, wanted = loss_and_gradient(model, alone)
        found, gradient = loss_and_gradient(model, [PackedCollator(0)(list(pack(rows, 64)[0]))])
    except (TypeError, ValueError, RuntimeError):
        return False
    return math.isclose(own, found, rel_tol=1e-5) and bool((gradient - wanted).abs().max() < 1e-4 * wanted.abs().max())


def is_let_through(model: Any) -> bool:
    try:
        require_isolation(model, lengths_to_try(pack(examples(), 64)[0]))
    except UserError as error:
        return error.key != "data.packing" or "\n" in str(error)
    return True


def compare(kinds: list[str]) -> tuple[set[str], set[str], list[str]]:
    """Kinds that are let through and rightly so, kinds that are rightly refused, and what is wrong."""
    good, refused, wrong = set(), set(), list[str]()
    for kind in kinds:
        if (model := small_model(kind)) is not None:
            apart, passes = is_apart(model), is_let_through(model)
            if apart != passes:
                wrong.append(f"{kind}: {'refused' if apart else 'let through'}")
            (good if passes else refused).add(kind)
    return good, refused, wrong


def test_a_few_kinds_are_judged_rightly() -> None:
    good, refused, wrong = compare(["gpt2", "mistral", "gemma2", "bloom", "mamba", "opt"])
    assert wrong == []
    assert (good, refused) == ({"gpt2", "mistral", "gemma2"}, {"bloom", "mamba", "opt"})


@pytest.mark.slow
def test_every_kind_is_judged_rightly() -> None:
    good, refused, wrong = compare(list(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES))
    assert wrong == []
    assert good >= APART
    assert refused >= LEAKY
    assert len(good) + len(refused) >= 85


def test_what_begins_at_some_length_is_found_at_the_length_of_the_data() -> None:
    rope = {
        "rope_type": "longrope", "rope_theta": 10000.0, "short_factor": [1.0] * 8, "long_factor": [4.0] * 8,
        "original_max_position_embeddings": 16, "partial_rotary_factor": 1.0,
    }  # fmt: skip
    config = AutoConfig.for_model(
        "phi3", vocab_size=300, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=256, original_max_position_embeddings=16, rope_parameters=rope,
        initializer_range=0.1, pad_token_id=0, bos_token_id=1, eos_token_id=1,
    )  # fmt: skip
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config)
    require_isolation(model)  # the examples that it tries are too short
    with pytest.raises(UserError, match="in blocks as long as these an example's logits differ by"):
        require_isolation(model, (20, 30, 7))


def test_the_block_that_is_tried_has_the_longest_example_that_shares_one() -> None:
    blocks, members = pack(examples(), 32)
    found = lengths_to_try(blocks)
    shared = [[LENGTHS[number] for number in block] for block in members if len(block) > 1]
    assert found in shared
    assert max(found) == max(max(block) for block in shared)
    assert lengths_to_try(pack(examples().select([4]), 30)[0]) == []


def test_only_the_ends_are_computed_to_logits() -> None:
    model, sizes = small_model("llama"), list[int]()
    model.lm_head.register_forward_hook(lambda _, inputs, output: sizes.append(output.shape[1]))
    with torch.no_grad():
        assert measure_block(model, PackedCollator(0), (20, 30, 7), exact=True) < 1e-5
    assert sizes
    assert max(sizes) <= 16


def test_a_model_that_fails_on_blocks_is_refused() -> None:
    model = small_model("llama")
    forward = model.forward

    def wants_a_mask(**inputs: Any) -> Any:
        if "position_ids" in inputs:
            raise ValueError("give a mask,\nplease")
        return forward(**inputs)

    model.forward = wants_a_mask
    with pytest.raises(UserError, match="does not keep packed examples apart: give a mask, please"):
        require_isolation(model)
