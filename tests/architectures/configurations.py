"""Small models of many types, made from configurations: what a config needs beyond one generic shrinking, a line a type.

Nothing is trained and nothing is fetched. Weights are drawn wide, biases and norms are moved off their zeros and ones, and
what real models have of caps, scales, windows and router losses is on, so that whoever loses it is seen.
"""

import random
from functools import cache
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    CONFIG_MAPPING,
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSeq2SeqLM,
    PretrainedConfig,
    PreTrainedTokenizerFast,
)
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
)

from ftkit.models.standins import bert_tokenizer, word_pieces

WIDTH, INNER, LAYERS, HEADS, POSITIONS, WINDOW = 64, 96, 2, 4, 64, 16
SPARE = 13  # entries of an embedding beyond the tokenizer's: some types' tokenizers add tokens when they are read


Trained = tuple[Tokenizer, dict[str, str]]  # a tokenizer and its special tokens by name


def _each(value: Any, names: str) -> dict[str, Any]:
    return dict.fromkeys(names.split(), value)


# One value under each name that configs have for it; only those that a config has are set.
GENERIC: dict[str, Any] = {
    **_each(WIDTH, "hidden_size d_model n_embd dim emb_dim embedding_size word_embed_proj_dim"),
    **_each(INNER, "intermediate_size hidden_dim d_ff encoder_ffn_dim decoder_ffn_dim ffn_dim n_inner d_inner"),
    **_each(INNER, "moe_intermediate_size shared_expert_intermediate_size shared_intermediate_size expert_ffn_hidden_size"),
    **_each(LAYERS, "num_hidden_layers num_layers num_decoder_layers encoder_layers decoder_layers n_layer n_layers"),
    **_each(LAYERS, "num_encoder_layers"),
    **_each(HEADS, "num_attention_heads num_heads encoder_attention_heads decoder_attention_heads n_head n_heads"),
    **_each(HEADS, "num_encoder_attention_heads num_decoder_attention_heads"),
    **_each(2, "num_key_value_heads num_kv_heads"),
    **_each(WIDTH // HEADS, "head_dim d_kv d_head"),
    **_each(POSITIONS, "max_position_embeddings n_positions max_seq_len n_ctx"),
    **_each(4, "num_experts num_local_experts n_routed_experts moe_num_experts"),
    **_each(2, "num_experts_per_tok num_experts_per_token moe_k"),
    **_each(WINDOW, "sliding_window attention_window_size"),
    **_each(0.2, "initializer_range init_std"),
    **_each(True, "output_router_logits"),
    **_each(0.005, "router_aux_loss_coef router_z_loss_coef aux_loss_alpha"),
}

# Plain, caps and windows, router loss, alibi, state space, multimodal; typed, positions behind padding, disentangled, blocks
# of a window, pooling between blocks, convolutions; encoder-decoders with a head of their own and without.
SELECTED = [
    "llama", "gemma2", "mixtral", "bloom", "mamba", "gemma3", "bert", "roberta", "deberta-v2", "longformer", "funnel", "convbert",
    "bart", "t5",
]  # fmt: skip

LATENT = {
    "q_lora_rank": 32, "kv_lora_rank": 32, "qk_rope_head_dim": 8, "qk_nope_head_dim": 16, "v_head_dim": 16, "head_dim": 8,
    "num_key_value_heads": 4, "n_group": 1, "topk_group": 1, "first_k_dense_replace": 1, "num_experts_per_tok": 2,
}  # fmt: skip
BEHIND_PADDING = {"max_position_embeddings": POSITIONS + 2}  # positions begin behind the padding index

# The types that are swept: first those for which the generic values are enough, then what each other one needs.
DECODERS: dict[str, dict[str, Any]] = {
    **_each(
        {},
        "apertus arcee aria_text biogpt bitnet bloom cwm diffllama doge ernie4_5 exaone4 falcon flex_olmo gemma gemma3 glm glm4 "
        "gpt2 gpt_bigcode gpt_neox gpt_neox_japanese gpt_oss helium llama minimax mistral mixtral mpt olmo2 olmo3 olmoe openai-gpt "
        "opt persimmon phi phi3 phimoe qwen2_moe qwen3 seed_oss smollm3 stablelm starcoder2 xlnet",
    ),
    "bamba": {"attn_layer_indices": [1], "mamba_n_heads": 4, "mamba_d_head": 32, "mamba_d_state": 16, "mamba_n_groups": 1},
    "codegen": {"rotary_dim": 8},
    "cohere": {"logit_scale": 0.25},
    "cohere2": {"logit_scale": 0.25},
    "ctrl": {"dff": INNER},
    "deepseek_v2": LATENT,
    "deepseek_v3": LATENT,
    "dots1": {"n_routed_experts": 4, "n_shared_experts": 1, "num_experts_per_tok": 2, "num_key_value_heads": 4},
    "ernie4_5_moe": {"moe_k": 2},
    "falcon_h1": {
        "mamba_d_ssm": 128, "mamba_n_heads": 4, "mamba_d_head": 32, "mamba_d_state": 16, "lm_head_multiplier": 0.5,
        "embedding_multiplier": 2.0,
    },
    "falcon_mamba": {"state_size": 8},
    "gemma2": {"final_logit_softcapping": 5.0, "attn_logit_softcapping": 8.0, "query_pre_attn_scalar": 16},
    "gemma3_text": {"query_pre_attn_scalar": 16, "final_logit_softcapping": 5.0},
    "glm4_moe": {"n_group": 1, "topk_group": 1, "first_k_dense_replace": 1},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]], "window_size": WINDOW},
    "gptj": {"rotary_dim": 8},
    "granite": {
        "logits_scaling": 4.0, "embedding_multiplier": 2.0, "residual_multiplier": 0.5, "attention_multiplier": 0.25,
    },
    "granitemoe": {"logits_scaling": 4.0, "residual_multiplier": 0.5},
    "granitemoehybrid": {
        "layer_types": ["mamba", "attention"], "mamba_n_heads": 4, "mamba_d_head": 32, "mamba_d_state": 16,
        "logits_scaling": 4.0,
    },
    "granitemoeshared": {"logits_scaling": 4.0},
    "hunyuan_v1_dense": {"head_dim": 16},
    "hunyuan_v1_moe": {"head_dim": 16},
    "jamba": {
        "attn_layer_period": 2, "attn_layer_offset": 1, "expert_layer_period": 2, "expert_layer_offset": 1,
        "use_mamba_kernels": False, "mamba_d_state": 8, "mamba_dt_rank": 8,
    },
    "jetmoe": {"kv_channels": 16},
    "lfm2": {"layer_types": ["conv", "full_attention"]},
    "mamba": {"state_size": 8},
    "mamba2": {"num_heads": 4, "head_dim": 32, "state_size": 16, "n_groups": 1, "chunk_size": 16},
    "minicpm3": LATENT | {"dim_model_base": 16},
    "ministral": {"head_dim": 16},
    "modernbert-decoder": {"local_attention": WINDOW},
    "nemotron": {"num_key_value_heads": 2},
    "olmo": {"clip_qkv": 4.0},
    "qwen2": {"use_sliding_window": True, "max_window_layers": 1},
    "qwen3_moe": {"decoder_sparse_step": 1},
    "qwen3_next": {
        "layer_types": ["linear_attention", "full_attention"], "linear_num_key_heads": 2, "linear_num_value_heads": 4,
        "linear_key_head_dim": 16, "linear_value_head_dim": 16,
    },
    "recurrent_gemma": {
        "block_types": ["recurrent", "attention"], "lru_width": WIDTH, "logits_soft_cap": 5.0, "attention_window_size": WINDOW,
    },
    "rwkv": {"attention_hidden_size": WIDTH, "context_length": 512},
    "xglm": {"attention_heads": HEADS},
    "zamba2": {
        "hybrid_layer_ids": [1], "layers_block_type": ["mamba", "hybrid"], "num_mem_blocks": 1, "mamba_d_state": 16,
        "n_mamba_heads": 4, "mamba_ngroups": 1, "mamba_expand": 2, "attention_hidden_size": 128, "attention_head_dim": 32,
    },
}  # fmt: skip
ENCODERS: dict[str, dict[str, Any]] = {
    **_each(
        {},
        "bert big_bird canine convbert deberta distilbert ernie eurobert flaubert fnet gte layoutlm megatron-bert nomic_bert "
        "nystromformer roformer squeezebert xlm",
    ),
    **_each(
        BEHIND_PADDING, "camembert data2vec-text ibert mpnet roberta roberta-prelayernorm xlm-roberta xlm-roberta-xl"
    ),
    "albert": {"embedding_size": 32},
    "deberta-v2": {
        "relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_buckets": 16, "share_att_key": True,
        "conv_kernel_size": 3,
    },
    "electra": {"embedding_size": 32},
    "esm": {"token_dropout": False},
    "funnel": {"block_sizes": [1, 1], "num_decoder_layers": 1},
    "longformer": BEHIND_PADDING | {"attention_window": [WINDOW, WINDOW]},
    "luke": BEHIND_PADDING | {"entity_vocab_size": 16, "entity_emb_size": 16},
    "mobilebert": {"intra_bottleneck_size": 32, "initializer_range": 0.05},
    "modernbert": {"local_attention": WINDOW, "global_attn_every_n_layers": 2},
    "mra": BEHIND_PADDING | {"block_per_row": 2},
    "rembert": {"input_embedding_size": 32, "output_embedding_size": 48},
    "roc_bert": {"pronunciation_vocab_size": 16, "shape_vocab_size": 16},
    "xmod": BEHIND_PADDING | {"default_language": "en_XX", "adapter_reduction_factor": 2},
    "yoso": BEHIND_PADDING | {"use_expectation": True},
}  # fmt: skip
PAIRS: dict[str, dict[str, Any]] = {
    **_each({}, "bart bigbird_pegasus blenderbot blenderbot-small fsmt m2m_100 marian mbart mt5 mvp pegasus plbart prophetnet"),
    **_each({}, "t5 t5gemma umt5"),
    "led": {
        "max_encoder_position_embeddings": POSITIONS, "max_decoder_position_embeddings": POSITIONS, "attention_window": WINDOW,
    },
    "longt5": {"local_radius": 8},
    # room for all tokens at each expert: else which are passed over hangs on how many a batch has, in plain transformers too
    "nllb-moe": {"encoder_sparse_step": 2, "decoder_sparse_step": 2, "expert_capacity": 4096},
    "pegasus_x": {"block_size": 16, "num_global_tokens": 4},
    "switch_transformers": {
        "num_sparse_encoder_layers": 1, "num_sparse_decoder_layers": 1, "encoder_sparse_step": 2, "decoder_sparse_step": 2,
    },
}  # fmt: skip
TYPES = sorted(DECODERS | ENCODERS | PAIRS)
ROLES = {"encoder": ENCODERS, "decoder": DECODERS, "encoder-decoder": PAIRS}
# A decoder's tokenizer that has one token for start and end, and none for padding, as GPT-2's; other decoders have Llama's.
LIKE_GPT2 = {
    "bloom", "codegen", "ctrl", "falcon", "gpt2", "gpt_bigcode", "gpt_neo", "gpt_neox", "gptj", "mpt", "phi", "rwkv", "stablelm",
    "starcoder2",
}  # fmt: skip
# Tokenizers that tell a pair's texts apart by token_type_ids.
TYPED = {
    "albert", "bert", "electra", "ernie", "fnet", "funnel", "megatron-bert", "mobilebert", "rembert", "squeezebert", "xlnet",
}  # fmt: skip


def role_of(kind: str) -> str:
    """encoder, decoder or encoder-decoder."""
    return next(role for role, table in ROLES.items() if kind in table)


def small_config(kind: str, tokenizer: PreTrainedTokenizerFast, *, dropout: bool, router: bool) -> PretrainedConfig:
    """The type's config with small sizes, and token ids of the tokenizer where the type has such.

    Args:
        dropout: as the type has it by default; else none.
        router: mixtures of experts add the loss of their routers.
    """
    default = CONFIG_MAPPING[kind]().to_dict()
    special = ROLES[role_of(kind)][kind] | ({} if router else {"output_router_logits": False})
    special |= {} if dropout else {"classifier_dropout": 0.0}  # heads of tokens have a tenth where a config says nothing
    nested = [name for name in ("text_config", "encoder", "decoder", "vision_config") if isinstance(default.get(name), dict)]
    values = {name: _shrunk(default[name], tokenizer, dropout) for name in nested}
    for name in nested:
        values[name] |= {"model_type": default[name]["model_type"]} | ({} if name == "vision_config" else special)
    values |= _shrunk({name: value for name, value in default.items() if name not in nested}, tokenizer, dropout)
    config = AutoConfig.for_model(kind, **(values | ({} if nested else special)))
    config.tie_word_embeddings = default.get("tie_word_embeddings", False)
    return config


def _shrunk(default: dict[str, Any], tokenizer: PreTrainedTokenizerFast, dropout: bool) -> dict[str, Any]:
    """Of a config's values those that are set for every type that has them."""
    values = {name: value for name, value in GENERIC.items() if default.get(name) is not None}
    sizes = [name for name in default if name.endswith("vocab_size") and name != "type_vocab_size"]
    values |= dict.fromkeys(sizes, len(tokenizer) + SPARE)
    noise = [name for name, value in default.items() if isinstance(value, float) and ("drop" in name or "jitter" in name)]
    values |= {} if dropout else dict.fromkeys(noise, 0.0)
    names = [name for name in ("pad", "bos", "eos", "cls", "sep", "mask") if f"{name}_token_id" in default]
    values |= {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in names}
    if default.get("is_encoder_decoder"):
        values["decoder_start_token_id"] = tokenizer.pad_token_id
        values |= {"forced_eos_token_id": tokenizer.eos_token_id} if "forced_eos_token_id" in default else {}
    return values


WORDS = (  # noqa: SIM905
    "the a old new red blue small large quick slow man woman child dog cat house garden river road city saw found lost made "
    "took gave met left and or but with without under over near far today then never often always good bad fine poor warm "
    "cold bright dark early late one two three many few all some none Anna Berlin Acme Oslo Peter Rome Zeta Maria"
).split()


def texts(count: int, seed: int, longest: int = 28) -> list[str]:
    """Texts of unlike lengths made of a few words."""
    draw = random.Random(seed)
    return [" ".join(draw.choices(WORDS, k=draw.randint(2, longest))) for _ in range(count)]


def small_tokenizer(kind: str) -> PreTrainedTokenizerFast:
    """The type's tokenizer: one of a few forms, all trained on the same few words."""
    tokenizer, names = _trained(form_of(kind))
    inputs = ["input_ids", *(["token_type_ids"] if kind in TYPED else []), "attention_mask"]
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_input_names=inputs, **names)


@cache
def _trained(form: str) -> Trained:
    """A tokenizer of a form and its special tokens by name."""
    return FORMS[form]()


def form_of(kind: str) -> str:
    """Which tokenizer a type gets; a decoder's has a token for padding where the type's config names one."""
    default = text_values(CONFIG_MAPPING[kind]().to_dict())
    if kind in PAIRS:
        return "t5" if default.get("bos_token_id") is None else "bart"
    if kind in ENCODERS:
        return "roberta" if ENCODERS[kind].get("max_position_embeddings") == POSITIONS + 2 else "bert"
    if kind in ("modernbert-decoder", "xlnet"):
        return "roberta"
    return "gpt2" if kind in LIKE_GPT2 else "llama" if default.get("pad_token_id") is None else "gemma"


def text_values(default: dict[str, Any]) -> dict[str, Any]:
    """Of a config's values those of its text model."""
    return next((default[part] for part in ("text_config", "encoder") if isinstance(default.get(part), dict)), default)


def _like_bert() -> Trained:
    names = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}
    return _word_piece(list(names.values()), names, "[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1")


def _like_roberta() -> Trained:
    names = {"cls": "<s>", "pad": "<pad>", "sep": "</s>", "unk": "<unk>", "mask": "<mask>"}
    marks = names | {"bos": "<s>", "eos": "</s>"}
    return _word_piece(list(names.values()), marks, "<s> $A </s>", "<s> $A </s> </s> $B </s>")


def _word_piece(special: list[str], names: dict[str, str], single: str, pair: str) -> Trained:
    tokenizer = bert_tokenizer(word_pieces(list(texts(200, 9)), special, 400), names["unk"])
    tokenizer.add_special_tokens(special)
    return _surrounded(tokenizer, special, names, single, pair)


def _like_gpt2() -> Trained:
    return _byte_level(["<|endoftext|>"], {"bos": "<|endoftext|>", "eos": "<|endoftext|>"}, "", "")


def _like_llama() -> Trained:
    names = {"unk": "<unk>", "bos": "<s>", "eos": "</s>"}
    return _byte_level(list(names.values()), names, "<s> $A", "<s> $A <s> $B")


def _like_gemma() -> Trained:
    names = {"pad": "<pad>", "eos": "</s>", "bos": "<s>", "unk": "<unk>"}
    return _byte_level(list(names.values()), names, "<s> $A", "<s> $A <s> $B")


def _like_t5() -> Trained:
    names = {"pad": "<pad>", "eos": "</s>", "unk": "<unk>"}
    return _byte_level(list(names.values()), names, "$A </s>", "$A </s> $B </s>")


def _like_bart() -> Trained:
    names = {"bos": "<s>", "pad": "<pad>", "eos": "</s>", "unk": "<unk>"}
    return _byte_level(list(names.values()), names, "<s> $A </s>", "<s> $A </s> </s> $B </s>")


def _byte_level(special: list[str], names: dict[str, str], single: str, pair: str) -> Trained:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=500, special_tokens=special, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(texts(200, 9), trainer)
    return _surrounded(tokenizer, special, names, single, pair)


def _surrounded(tokenizer: Tokenizer, special: list[str], names: dict[str, str], single: str, pair: str) -> Trained:
    if single:
        ids = [(token, tokenizer.token_to_id(token)) for token in special]
        tokenizer.post_processor = processors.TemplateProcessing(single=single, pair=pair, special_tokens=ids)
    return tokenizer, {f"{name}_token": token for name, token in names.items()}


FORMS = {
    "bert": _like_bert, "roberta": _like_roberta, "gpt2": _like_gpt2, "llama": _like_llama, "gemma": _like_gemma, "t5": _like_t5,
    "bart": _like_bart,
}  # fmt: skip


def pretraining_class(kind: str) -> Any:
    """The Auto class of what a checkpoint of the type holds."""
    if kind in PAIRS:
        return AutoModelForSeq2SeqLM
    if kind in ENCODERS:
        return AutoModelForMaskedLM if kind in MODEL_FOR_MASKED_LM_MAPPING_NAMES else AutoModel
    return AutoModelForCausalLM


def save_small_model(kind: str, folder: Path, *, dropout: bool = False, router: bool = True, seed: int = 0) -> None:
    """Write a small model of the type, with random weights, and its tokenizer."""
    tokenizer = small_tokenizer(kind)
    tokenizer.save_pretrained(folder)
    config = small_config(kind, tokenizer, dropout=dropout, router=router)
    torch.manual_seed(seed)
    model = pretraining_class(kind).from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter += 0.05 * torch.randn_like(parameter)
    model.save_pretrained(folder)
