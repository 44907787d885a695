"""Where the body ends and the head begins, read off the model."""

import pytest
from transformers import AutoConfig, AutoModelForSequenceClassification

from ftkit.models.heads import find_head

HEADS = {
    "bert": {"bert.pooler", "classifier"},
    "distilbert": {"pre_classifier", "classifier"},
    "roberta": {"classifier"},
    "electra": {"classifier"},
    "albert": {"albert.pooler", "classifier"},
    "modernbert": {"model.final_norm", "head", "classifier"},
    "mpnet": {"classifier"},
    "llama": {"model.norm", "score"},
    "qwen3": {"model.norm", "score"},
    "gpt2": {"transformer.ln_f", "score"},
    "deberta-v2": {"pooler", "classifier"},
    "bart": {"classification_head"},
}


@pytest.mark.parametrize("kind", HEADS)
def test_the_head_is_what_runs_after_the_last_block(kind: str) -> None:
    sizes = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 100, "num_labels": 3}
    config = AutoConfig.for_model(kind, **sizes)
    if kind in ("llama", "qwen3"):
        config.num_key_value_heads = 4
    config.pad_token_id = 0
    if config.eos_token_id is not None and kind != "bart":
        config.eos_token_id = 1
    assert set(find_head(AutoModelForSequenceClassification, config)) == HEADS[kind]
