"""Packing: every example whole and once, and trained on as if it were alone."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    DataCollatorForSeq2Seq,
    TrainingArguments,
)

from ftkit.compat import Trainer
from ftkit.data.encode import IGNORED
from ftkit.data.packing import (
    PackedCollator,
    fill_blocks,
    measure_isolation,
    pack,
    packed_collator,
    require_isolation,
)
from ftkit.errors import UserError

hypothesis = pytest.importorskip("hypothesis")
strategies = hypothesis.strategies

KINDS = [("llama", "sdpa"), ("llama", "eager"), ("gpt2", "sdpa"), ("gpt2", "eager")]
MAX_LENGTH = 48
SMALL: dict[str, dict[str, Any]] = {
    "bloom": {"n_layer": 2, "n_head": 4},
    "mamba": {"num_hidden_layers": 2, "state_size": 8},
    "rwkv": {"num_hidden_layers": 2, "attention_hidden_size": 64, "context_length": 64},
    "opt": {"num_hidden_layers": 2, "num_attention_heads": 4, "ffn_dim": 128, "word_embed_proj_dim": 64, "max_position_embeddings": 64},
    "gpt_neox": {"num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128},
    "mixtral": {"num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 128, "head_dim": 16},
}  # fmt: skip


def make_examples(seed: int = 0, count: int = 12, vocabulary: int = 300) -> Dataset:
    """Examples of 1 to 30 tokens: one third raw text, the others with a prompt that is not supervised."""
    draw = np.random.default_rng(seed)
    rows = []
    for number, length in enumerate([*draw.integers(2, 30, count).tolist(), 1, 30]):
        ids = draw.integers(5, vocabulary, length).tolist()
        prompt = 0 if number % 3 == 0 else length // 2
        rows.append({"input_ids": ids, "labels": [IGNORED] * prompt + ids[prompt:]})
    return Dataset.from_list(rows)


def load_model(folder: Path, attention: str, **options: Any) -> Any:
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_pretrained(folder, attn_implementation=attention, **options)


def make_model(kind: str, **options: Any) -> Any:
    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, vocab_size=300, hidden_size=64, initializer_range=0.1, **SMALL[kind], **options)
    return AutoModelForCausalLM.from_config(config).eval()


def summed_loss(model: Any, batches: list[dict[str, Any]]) -> float:
    """The loss of all supervised tokens, whose gradients are in the model afterwards."""
    model.zero_grad()
    total = 0.0
    for batch in batches:
        loss = model(**batch, num_items_in_batch=torch.tensor(1)).loss
        loss.backward()
        total += loss.item()
    return total


def loss_alone(model: Any, examples: Dataset) -> float:
    rows = ({name: torch.tensor([value]) for name, value in row.items()} for row in examples)
    # a single token foretells nothing, and has no loss
    return summed_loss(model, [row | {"use_cache": False} for row in rows if (row["labels"][:, 1:] != IGNORED).any()])


def loss_packed(model: Any, blocks: Dataset, collate: Callable[..., Any], batch_size: int, **extra: Any) -> float:
    rows = list(blocks)
    batches = [collate(rows[start : start + batch_size]) for start in range(0, len(rows), batch_size)]
    return summed_loss(model, [batch | extra for batch in batches])


def gradients(model: Any) -> torch.Tensor:
    return torch.cat([weight.grad.flatten() for weight in model.parameters()])


def relative(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    return float((ours - theirs).abs().max() / theirs.abs().max())


# --- blocks ---


@hypothesis.settings(
    max_examples=60, suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture, hypothesis.HealthCheck.too_slow]
)
@hypothesis.given(
    lengths=strategies.lists(strategies.integers(1, 20), min_size=1, max_size=40),
    spare=strategies.integers(0, 30),
    batch_size=strategies.integers(1, 50),
)
def test_every_example_stands_whole_and_once_in_a_block(lengths: list[int], spare: int, batch_size: int) -> None:
    max_length = max(lengths) + spare
    starts = np.cumsum([0, *lengths])
    texts = [list(range(start, start + length)) for start, length in zip(starts.tolist(), lengths, strict=False)]
    rows = Dataset.from_dict({"input_ids": texts, "labels": [[-token for token in text] for text in texts]})
    blocks, members = pack(rows, max_length, batch_size=batch_size)
    assert len(blocks) == len(members)
    assert sorted(number for block in members for number in block) == list(range(len(lengths)))
    assert [block[0] for block in members] == sorted(block[0] for block in members)
    for block, numbers in zip(blocks, members, strict=True):
        assert len(block["input_ids"]) <= max_length
        assert numbers == sorted(numbers)
        assert block["input_ids"] == [token for number in numbers for token in texts[number]]
        assert block["position_ids"] == [position for number in numbers for position in range(lengths[number])]
        assert block["labels"] == [
            label for number in numbers for label in [IGNORED, *(-token for token in texts[number][1:])]
        ]


def test_blocks_are_nearly_full_and_the_same_each_time() -> None:
    lengths = np.clip(np.random.default_rng(0).lognormal(5, 0.9, 5000).astype(np.int64), 1, 1024)
    blocks = fill_blocks(lengths, 1024)
    assert lengths.sum() / (1024 * len(blocks)) > 0.99
    assert len(blocks) <= math.ceil(lengths.sum() / 1024) * 1.01
    assert blocks == fill_blocks(lengths, 1024)


def test_a_selection_of_rows_is_packed_not_the_table_behind_it() -> None:
    rows = make_examples().select([3, 1, 7])
    blocks, members = pack(rows, 100)
    assert members == [[0, 1, 2]]
    assert blocks[0]["input_ids"] == [token for row in rows for token in row["input_ids"]]


def test_blocks_in_a_file_are_those_in_memory(tmp_path: Path) -> None:
    rows = make_examples()
    blocks, members = pack(rows, MAX_LENGTH, batch_size=2)
    written, same = pack(rows, MAX_LENGTH, batch_size=2, file=tmp_path / "blocks.arrow")
    assert written.to_dict() == blocks.to_dict()
    assert same == members
    assert [entry.name for entry in tmp_path.iterdir()] == ["blocks.arrow"]
    assert written.cache_files


def test_other_columns_and_integer_types() -> None:
    rows = make_examples().add_column("text", ["x"] * 14)
    rows = rows.cast_column(
        "input_ids", rows.features["input_ids"].__class__(rows.features["input_ids"].feature.__class__("int32"))
    )
    blocks, _ = pack(rows, MAX_LENGTH)
    assert blocks.column_names == ["input_ids", "labels", "position_ids"]
    assert blocks.features["input_ids"].feature.dtype == "int32"


def test_an_example_longer_than_a_block_is_an_error() -> None:
    with pytest.raises(ValueError, match="example 13 has 30 tokens, more than a block's 29"):
        pack(make_examples(), 29)


def test_an_example_whose_labels_do_not_fit_is_an_error() -> None:
    rows = Dataset.from_dict({"input_ids": [[1, 2], [3, 4]], "labels": [[1, 2], [3]]})
    with pytest.raises(ValueError, match="example 1 has not as many labels as tokens"):
        pack(rows, 8, batch_size=1)


def test_no_example_is_an_error() -> None:
    with pytest.raises(ValueError, match="no example"):
        pack(make_examples().select([]), 8)


def test_an_example_without_tokens_takes_no_room() -> None:
    rows = Dataset.from_dict({"input_ids": [[1, 2], [], [3]], "labels": [[1, 2], [], [3]]})
    blocks, members = pack(rows, 3)
    assert members == [[0, 1, 2]]
    assert blocks[0] == {"input_ids": [1, 2, 3], "labels": [IGNORED, 2, IGNORED], "position_ids": [0, 1, 0]}


def test_padding_and_flattening() -> None:
    blocks = [
        {"input_ids": [5, 6, 7], "labels": [IGNORED, 6, IGNORED], "position_ids": [0, 1, 0]},
        {"input_ids": [8], "labels": [IGNORED], "position_ids": [0]},
    ]
    padded, flat = PackedCollator(2)(blocks), PackedCollator(2, flatten=True)(blocks)
    assert padded["input_ids"].tolist() == [[5, 6, 7], [8, 2, 2]]
    assert padded["labels"].tolist() == [[IGNORED, 6, IGNORED], [IGNORED] * 3]
    assert padded["position_ids"].tolist() == [[0, 1, 0], [0, 0, 0]]
    assert flat["input_ids"].tolist() == [[5, 6, 7, 8]]
    assert flat["position_ids"].tolist() == [[0, 1, 0, 0]]
    assert padded["use_cache"] is flat["use_cache"] is False
    assert flat["cu_seq_lens_q"].tolist() == flat["cu_seq_lens_k"].tolist() == [0, 2, 3, 4]
    assert flat["cu_seq_lens_q"].dtype == torch.int32
    assert flat["max_length_q"] == flat["max_length_k"] == 2
    assert not {"cu_seq_lens_q", "max_length_q"} & (
        padded.keys() | PackedCollator(2, flatten=True, borders=False)(blocks).keys()
    )


# --- the proof: packed and alone are the same ---


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("cached", [False, True], ids=["", "config.use_cache"])
@pytest.mark.parametrize("batch_size", [1, 3])
@pytest.mark.parametrize("flatten", [False, True], ids=["padded", "flat"])
@pytest.mark.parametrize(("kind", "attention"), KINDS)
def test_packed_losses_and_gradients_are_those_of_the_examples_alone(
    kind: str, attention: str, flatten: bool, batch_size: int, cached: bool, training: bool, stand_in: Callable[[str], Path]
) -> None:
    model, examples = load_model(stand_in(kind), attention).train(training), make_examples()
    model.config.use_cache = cached
    expected, wanted = loss_alone(model, examples), gradients(model)
    blocks, members = pack(examples, MAX_LENGTH)
    assert max(map(len, members)) > 1
    assert len({len(ids) for ids in blocks["input_ids"]}) > 1  # some are padded
    found = loss_packed(model, blocks, PackedCollator(0, flatten=flatten), batch_size)
    assert found == pytest.approx(expected, rel=1e-5)
    assert relative(gradients(model), wanted) < 1e-5


@pytest.mark.parametrize(("kind", "attention"), KINDS)
@pytest.mark.parametrize("leak", ["plain collator", "cache", "mask"])
def test_the_proof_fails_where_examples_leak(leak: str, kind: str, attention: str, stand_in: Callable[[str], Path]) -> None:
    model, examples = load_model(stand_in(kind), attention), make_examples()
    expected = loss_alone(model, examples)
    wanted = gradients(model)
    blocks, _ = pack(examples, MAX_LENGTH)
    collate: Callable[..., Any] = PackedCollator(0)
    extra: dict[str, Any] = {}
    if leak == "plain collator":
        tokenizer = AutoTokenizer.from_pretrained(stand_in(kind))
        tokenizer.pad_token = tokenizer.eos_token
        collate = DataCollatorForSeq2Seq(tokenizer)
        blocks = blocks.remove_columns("position_ids")
    elif leak == "cache":
        extra["use_cache"] = True
    else:
        collate = with_mask(collate)
    found = loss_packed(model, blocks, collate, 3, **extra)
    assert abs(found - expected) > 1e-4 * expected  # ten times what the proof allows
    assert relative(gradients(model), wanted) > 1e-2


def with_mask(collate: Callable[..., Any]) -> Callable[..., Any]:
    def masked(rows: list[dict[str, Any]]) -> dict[str, Any]:
        batch = collate(rows)
        return batch | {"attention_mask": torch.ones_like(batch["input_ids"])}

    return masked


def test_padding_reaches_no_token(stand_in: Callable[[str], Path]) -> None:
    model = load_model(stand_in("llama"), "sdpa").eval()
    blocks, _ = pack(make_examples(), MAX_LENGTH)
    batches = [PackedCollator(pad)(list(blocks)) for pad in (0, 7)]
    real = batches[0]["input_ids"] == batches[1]["input_ids"]
    assert not real.all()
    with torch.no_grad():
        one, other = (model(**batch).logits[real] for batch in batches)
    assert torch.equal(one, other)


def test_a_sliding_window_stays_as_wide_as_it_is() -> None:
    config = AutoConfig.for_model(
        "mistral", vocab_size=300, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=16, sliding_window=6, initializer_range=0.1,
    )  # fmt: skip
    torch.manual_seed(0)
    model, examples = AutoModelForCausalLM.from_config(config), make_examples()
    expected = loss_alone(model, examples)
    blocks, _ = pack(examples, MAX_LENGTH)
    assert loss_packed(model, blocks, PackedCollator(0), 3) == pytest.approx(expected, rel=1e-5)
    model.config.sliding_window = None
    assert abs(loss_packed(model, blocks, PackedCollator(0), 3) - expected) > 1e-3 * expected


def test_checkpointed_activations_leak_nothing(stand_in: Callable[[str], Path]) -> None:
    model, examples = load_model(stand_in("llama"), "sdpa").train(), make_examples()
    expected, wanted = loss_alone(model, examples), gradients(model)
    model.activation_checkpointing_enable()
    blocks, _ = pack(examples, MAX_LENGTH)
    assert loss_packed(model, blocks, PackedCollator(0), 3) == pytest.approx(expected, rel=1e-5)
    assert relative(gradients(model), wanted) < 1e-5


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_the_trainer_takes_the_same_step_packed_as_unpacked(
    kind: str, stand_in: Callable[[str], Path], tmp_path: Path
) -> None:
    examples, tokenizer = make_examples(), AutoTokenizer.from_pretrained(stand_in(kind))
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    blocks, _ = pack(examples, MAX_LENGTH)
    steps = []
    for rows, packed in ((examples, False), (blocks, True)):
        model = load_model(stand_in(kind), "sdpa")
        before = torch.cat([weight.detach().flatten().clone() for weight in model.parameters()])
        arguments = TrainingArguments(
            str(tmp_path), max_steps=1, per_device_train_batch_size=len(rows), learning_rate=1.0, optim="sgd",
            report_to="none", save_strategy="no", use_cpu=True, disable_tqdm=True,
        )  # fmt: skip
        collate = packed_collator(tokenizer, model) if packed else DataCollatorForSeq2Seq(tokenizer)
        Trainer(model, arguments, data_collator=collate, train_dataset=rows, eval_dataset=rows).train()
        steps.append(torch.cat([weight.detach().flatten() for weight in model.parameters()]) - before)
    assert steps[0].abs().max() > 1e-3
    assert relative(steps[1], steps[0]) < 1e-4


# --- what cannot be packed is refused ---


@pytest.mark.parametrize(("kind", "attention"), KINDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def test_models_that_keep_examples_apart_pass(
    kind: str, attention: str, dtype: torch.dtype, stand_in: Callable[[str], Path]
) -> None:
    model = load_model(stand_in(kind), attention, dtype=dtype).train()
    require_isolation(model)
    assert model.training


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("kind", ["gpt_neox", "mixtral"])
def test_other_architectures_pass_by_proof(kind: str, dtype: torch.dtype) -> None:
    require_isolation(make_model(kind).to(dtype))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("kind", ["bloom", "mamba", "rwkv", "opt"])
def test_models_that_cannot_keep_examples_apart_are_refused(kind: str, dtype: torch.dtype) -> None:
    model = make_model(kind).to(dtype)
    with pytest.raises(
        UserError, match=f"{kind} with .* attention does not keep packed examples apart: an example's logits change"
    ) as caught:
        require_isolation(model)
    assert caught.value.key == "data.packing"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("kind", ["bloom", "mamba", "rwkv", "opt"])
def test_a_leak_smaller_than_rounding_is_found(kind: str, dtype: torch.dtype) -> None:
    model = make_model(kind)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim == 2 and "embed" not in name:
                weight.normal_(0, 0.02)
    with pytest.raises(UserError):
        require_isolation(model.to(dtype))


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("name", ["babyllama-361", "stories260K"])
def test_trained_models_pass_and_their_leaks_are_found(name: str, dtype: torch.dtype, attention: str, shared: Path) -> None:
    model = load_model(shared / "models" / name, attention, dtype=dtype)
    require_isolation(model)
    forward = model.forward
    model.forward = lambda position_ids=None, **inputs: forward(**inputs)
    with pytest.raises(UserError, match="change by"):
        require_isolation(model)


def test_wrong_positions_are_found_where_nothing_leaks(stand_in: Callable[[str], Path]) -> None:
    model = load_model(stand_in("gpt2"), "sdpa").eval()
    model.transformer.wpe.register_forward_pre_hook(lambda _, inputs: torch.arange(inputs[0].shape[1]).expand_as(inputs[0]))
    with pytest.raises(UserError, match="from those that it has alone"):
        require_isolation(model)


def test_a_model_that_takes_no_positions_is_refused(stand_in: Callable[[str], Path]) -> None:
    model = load_model(stand_in("llama"), "sdpa")
    forward = model.forward
    model.forward = lambda input_ids, use_cache=None: forward(input_ids, use_cache=use_cache)
    with pytest.raises(UserError, match="position_ids"):
        require_isolation(model)


def test_the_check_leaves_random_numbers_as_they_were(stand_in: Callable[[str], Path]) -> None:
    model = load_model(stand_in("gpt2"), "sdpa")
    before = torch.get_rng_state()
    require_isolation(model)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_4bit_model_passes_and_its_weights_stay(stand_in: Callable[[str], Path]) -> None:
    pytest.importorskip("bitsandbytes")
    quantization = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16)
    model = load_model(stand_in("llama"), "sdpa", quantization_config=quantization)
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    require_isolation(model)
    assert all(torch.equal(weight, before[name]) for name, weight in model.named_parameters())


def test_what_is_measured(stand_in: Callable[[str], Path]) -> None:
    with torch.no_grad():
        good = measure_isolation(load_model(stand_in("llama"), "sdpa").eval(), PackedCollator(0))
        bad = measure_isolation(make_model("bloom"), PackedCollator(0))
    assert good.leak == good.rounding == bad.rounding == 0
    assert good.apart < 1e-5
    assert min(bad.leak, bad.apart) > 0.1
