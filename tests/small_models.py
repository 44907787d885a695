"""Small models of many architectures, made from their configs with a tokenizer that fits, for sweeps over them."""

from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, PretrainedConfig, PreTrainedTokenizerFast

from ftkit.models.standins import word_piece
from ftkit.training.smoke import tokenizer_texts

SIZES = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64,
    "max_position_embeddings": 128,
}  # fmt: skip
GPT = {"n_embd": 32, "n_layer": 2, "n_head": 4}
GROUPED = {"num_key_value_heads": 2, "head_dim": 8}
BART = {
    "d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4, "decoder_attention_heads": 4,
    "encoder_ffn_dim": 64, "decoder_ffn_dim": 64,
}  # fmt: skip
T5 = {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4}
ONE_SIZE = {"embedding_size": 32}

# What each needs beside the common sizes.
ENCODERS: dict[str, dict[str, Any]] = {
    "albert": {"embedding_size": 16}, "bert": {}, "big_bird": {"block_size": 4, "num_random_blocks": 1}, "camembert": {},
    "convbert": ONE_SIZE, "data2vec-text": {}, "deberta": {"relative_attention": True, "pos_att_type": ["p2c", "c2p"]},
    "deberta-v2": {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_buckets": 8},
    "distilbert": {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64}, "electra": ONE_SIZE, "ernie": {},
    "esm": {"position_embedding_type": "rotary", "mask_token_id": 4}, "eurobert": {"num_key_value_heads": 4}, "fnet": {},
    "ibert": {}, "layoutlm": {}, "longformer": {"attention_window": [4, 4]}, "luke": {"entity_vocab_size": 10},
    "megatron-bert": {}, "modernbert": {"local_attention": 8}, "mpnet": {}, "mra": {}, "nystromformer": {},
    "rembert": {"input_embedding_size": 16, "output_embedding_size": 16}, "roberta": {}, "roberta-prelayernorm": {},
    "roformer": ONE_SIZE, "squeezebert": ONE_SIZE, "xlm-roberta": {}, "xmod": {"languages": ["en_XX"], "default_language": "en_XX"}, "yoso": {},
}  # fmt: skip
DECODERS: dict[str, dict[str, Any]] = {
    "biogpt": {}, "bloom": {"n_layer": 2, "n_head": 4}, "ctrl": {**GPT, "dff": 64}, "falcon": {}, "gemma": GROUPED,
    "gemma2": {**GROUPED, "sliding_window": 4}, "glm": GROUPED, "gpt2": GPT, "gpt_bigcode": GPT, "gpt_neox": {},
    "gpt_neo": {"num_layers": 2, "num_heads": 4, "attention_types": [[["global", "local"], 1]], "window_size": 4},
    "gpt_oss": {**GROUPED, "num_local_experts": 4, "sliding_window": 4}, "gptj": {**GPT, "rotary_dim": 4}, "llama": GROUPED,
    "mistral": {"num_key_value_heads": 2, "sliding_window": 4}, "mixtral": {"num_key_value_heads": 2, "num_local_experts": 4},
    "mpt": {"d_model": 32, "n_layers": 2, "n_heads": 4}, "nemotron": GROUPED, "olmo2": GROUPED, "openai-gpt": GPT,
    "opt": {"ffn_dim": 64, "word_embed_proj_dim": 32}, "persimmon": {}, "phi": {}, "qwen2": {"num_key_value_heads": 2},
    "qwen3": GROUPED, "smollm3": GROUPED, "stablelm": GROUPED, "starcoder2": GROUPED,
}  # fmt: skip
PAIRS: dict[str, dict[str, Any]] = {
    "bart": BART,
    "mbart": BART,
    "mvp": BART,
    "plbart": BART,
    "t5": T5,
    "mt5": T5,
    "umt5": T5,
}
OTHERS: dict[str, dict[str, Any]] = {
    "funnel": {"block_sizes": [1, 1], "d_model": 32, "n_head": 4, "d_head": 8, "d_inner": 64, "num_hidden_layers": None},
    "mobilebert": {**ONE_SIZE, "intra_bottleneck_size": 32, "true_hidden_size": 32}, "mamba": {"state_size": 4},
    "xlnet": {"d_model": 32, "n_layer": 2, "n_head": 4, "d_inner": 64, "max_position_embeddings": None},
}  # fmt: skip
KINDS = ENCODERS | DECODERS | PAIRS | OTHERS


def tokenizer() -> PreTrainedTokenizerFast:
    return word_piece(tokenizer_texts())


def small_config(kind: str, words: PreTrainedTokenizerFast, **values: Any) -> PretrainedConfig:
    """No dropout: what draws otherwise would hide whether two ways are the same."""
    sizes = {**SIZES, "vocab_size": len(words) + 8, **KINDS[kind], **values}
    config = AutoConfig.for_model(kind, **{name: value for name, value in sizes.items() if value is not None})
    for name, value in config.to_dict().items():
        if isinstance(value, float) and ("drop" in name):
            setattr(config, name, 0.0)
    config.pad_token_id, config.bos_token_id = words.pad_token_id, words.cls_token_id
    config.eos_token_id = config.sep_token_id = words.sep_token_id
    if config.is_encoder_decoder:
        config.decoder_start_token_id = words.cls_token_id
    return config


def save_small(kind: str, auto_class: Any, folder: Path, **values: Any) -> Path:
    """A model with random weights and its tokenizer in a folder; where `auto_class` has none, its ValueError passes."""
    words = tokenizer()
    torch.manual_seed(0)
    auto_class.from_config(small_config(kind, words, **values)).save_pretrained(folder)
    words.save_pretrained(folder)
    return folder
