"""What the frozen blocks give can be put back, in whatever architecture, and which of its positions the head reads."""

import pytest
import torch
from transformers import AutoConfig, AutoModelForSequenceClassification

from ftkit.models.frozen import FROZEN, FrozenBlocks, Reading, Unkeepable, find_reading, positions_read, replayed
from ftkit.models.strategies.transfer import TransferStrategy
from ftkit.recipe.schema import Transfer

READ = {
    "bert": Reading.FIRST,
    "distilbert": Reading.FIRST,
    "roberta": Reading.FIRST,
    "electra": Reading.FIRST,
    "albert": Reading.FIRST,
    "mpnet": Reading.FIRST,
    "deberta-v2": Reading.FIRST,
    "modernbert": Reading.FIRST,
    "llama": Reading.LAST,
    "qwen3": Reading.LAST,
    "gpt2": Reading.LAST,
}


def frozen_model(kind: str, *, learning: int = 0, head: tuple[str, ...] = (), **values: object) -> FrozenBlocks:
    sizes = {"hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4, "vocab_size": 100, "num_labels": 3}
    config = AutoConfig.for_model(kind, **{**sizes, **values})
    if kind in ("llama", "qwen3"):
        config.num_key_value_heads = 4
    config.pad_token_id, config.eos_token_id, config.problem_type = 0, 1, "single_label_classification"
    config.use_cache = False
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_config(config)
    transferred = TransferStrategy().apply(model, Transfer(name="transfer", unfreeze_last=learning), head)
    for name, parameter in transferred.named_parameters():
        parameter.requires_grad_(
            parameter.requires_grad or name.startswith(("classifier", "score", "head", "pre_classifier"))
        )
    return FrozenBlocks(transferred, learning, None)


def a_batch() -> dict[str, torch.Tensor]:
    lengths = torch.tensor([9, 4, 7, 2])
    mask = (torch.arange(9)[None] < lengths[:, None]).long()
    ids = torch.randint(2, 100, (4, 9), generator=torch.Generator().manual_seed(1)) * mask
    return {"input_ids": ids, "attention_mask": mask, "labels": torch.tensor([0, 1, 2, 0])}


@pytest.mark.parametrize("kind", READ)
def test_the_model_says_the_same_with_what_its_blocks_gave(kind: str) -> None:
    frozen, batch = frozen_model(kind), a_batch()
    reading, hidden = find_reading(frozen, batch)
    assert reading is READ[kind]
    expected = frozen.forward(batch).logits
    brought = replayed(batch, hidden, reading)
    assert brought[FROZEN].shape == (4, 1, 64)
    assert torch.allclose(frozen.forward(brought).logits, expected, atol=1e-5)
    brought[FROZEN] = brought[FROZEN] + torch.randn_like(brought[FROZEN])
    assert not torch.allclose(frozen.forward(brought).logits, expected, atol=1e-3)  # it is what decides
    assert torch.equal(frozen.forward(batch).logits, expected)  # and it is not remembered


def test_a_head_that_reads_the_mean_keeps_all_tokens() -> None:
    reading, _ = find_reading(frozen_model("modernbert", classifier_pooling="mean"), a_batch())
    assert reading is Reading.ALL


def test_blocks_that_learn_read_all_tokens() -> None:
    reading, hidden = find_reading(frozen_model("distilbert", learning=1), a_batch())
    assert reading is Reading.ALL
    assert hidden.shape == (4, 9, 64)


def test_a_head_that_starts_at_zero_reads_nevertheless() -> None:
    frozen, batch = frozen_model("distilbert"), a_batch()
    with torch.no_grad():
        frozen.model.classifier.weight.zero_()
    _, hidden = frozen.compute(batch)
    assert positions_read(frozen, batch, hidden) is Reading.FIRST
    assert not frozen.model.classifier.weight.any()  # as it was


def test_a_model_that_draws_in_its_frozen_blocks_is_refused() -> None:
    frozen = frozen_model("distilbert")
    frozen.blocks[0].register_forward_hook(lambda _module, _inputs, output: torch.nn.functional.dropout(output, 0.3))
    with pytest.raises(Unkeepable, match="there is dropout in it"):
        find_reading(frozen, a_batch())


# Each gives something else than one vector a token that hangs on its row alone: refused with the reason, never an error.
REFUSED = {
    "longformer": ({"attention_window": [4, 4, 4]}, r"a block gives \(4, 12, 64\) for \(4, 9\) tokens"),
    "canine": ({"local_transformer_stride": 8, "downsampling_rate": 2}, "a block gives"),
    "squeezebert": ({"embedding_size": 64}, "do not run as modules of their own"),
    "convbert": ({"embedding_size": 64}, "how far the row is padded"),
    "nystromformer": ({}, "how far the row is padded"),
    "yoso": ({}, "how far the row is padded"),
    "fnet": ({}, "how far the row is padded"),
    "xlnet": ({"d_model": 64, "n_layer": 3, "n_head": 4}, r"a block gives \(9, 4, 64\)"),
    "lilt": ({"channel_shrink_ratio": 2, "hidden_size": 96}, "TypeError: "),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_kept_is_refused_with_the_reason(kind: str) -> None:
    values, reason = REFUSED[kind]
    frozen = frozen_model(kind, learning=1 if kind == "lilt" else 0, **values)
    with pytest.raises(Unkeepable, match=reason):
        find_reading(frozen, a_batch())
    assert torch.isfinite(frozen.forward(a_batch()).loss)  # and the model is as it was


def test_blocks_that_give_a_list_and_attention_that_is_exchanged() -> None:
    gpt = frozen_model("openai-gpt", n_embd=64, n_layer=3, n_head=4)
    assert find_reading(gpt, a_batch())[0] is Reading.LAST
    bird = frozen_model("big_bird", block_size=4, num_random_blocks=1)
    assert find_reading(bird, a_batch())[0] is Reading.FIRST
