"""Tiny stand-ins: models of a given architecture with a real tokenizer trained on sample text, for smoke runs and tests."""

import difflib
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSeq2SeqLM,
    PretrainedConfig,
    PreTrainedTokenizerFast,
)
from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, MODEL_FOR_MASKED_LM_MAPPING_NAMES

from ftkit.errors import UserError

VOCABULARY = 2048
POSITIONS = 256
BLOCKS = 2
WIDTHS = {"encoder": 256, "decoder": 128, "encoder-decoder": 128}  # multiples of 64, since 4-bit kernels need them
# One size under each name that configs use for it; only those that a config has are set.
WIDTH_NAMES = ("hidden_size", "embedding_size", "word_embed_proj_dim", "d_model", "pooler_hidden_size")
INNER_NAMES = ("intermediate_size", "hidden_dim", "d_ff", "encoder_ffn_dim", "decoder_ffn_dim", "ffn_dim")
LAYER_NAMES = ("num_hidden_layers", "num_layers", "num_decoder_layers", "encoder_layers", "decoder_layers")
HEAD_NAMES = ("num_attention_heads", "num_heads", "encoder_attention_heads", "decoder_attention_heads")
ROLES = {AutoModelForCausalLM: "decoder", AutoModelForMaskedLM: "encoder", AutoModelForSeq2SeqLM: "encoder-decoder"}


def architecture_of(name: str) -> str:
    """The model type of a local folder or of a hub id in the cache; else the longest type that the name contains.

    Reading the type off a name is what transformers itself did for checkpoints without one.

    Raises:
        UserError: the name tells no type.
    """
    try:
        return str(AutoConfig.from_pretrained(name, local_files_only=True).model_type)
    except (OSError, ValueError):
        plain = re.sub(r"[^a-z0-9]", "", name.rpartition("/")[2].lower())
        found = [kind for kind in CONFIG_MAPPING_NAMES if re.sub(r"[^a-z0-9]", "", kind) in plain]
    if not found:
        message = f"'{name}' does not tell its architecture, so that no stand-in can take its place offline"
        raise UserError(message, "name a local model folder, or its type, as model.stand_in: llama", key="model.name")
    return max(found, key=len)


def require_type(kind: str) -> str:
    """Raises UserError where transformers has no model of that type."""
    if kind in CONFIG_MAPPING_NAMES:
        return kind
    near = difflib.get_close_matches(kind, CONFIG_MAPPING_NAMES, n=1)
    hint = f"did you mean {near[0]}?" if near else "the type is model_type in the model's config.json"
    raise UserError(f"transformers has no model of type '{kind}'", hint, key="model.stand_in")


def make_stand_in(kind: str, texts: Iterable[str], folder: Path, seed: int = 0) -> str:
    """Write a tiny model with random weights and its tokenizer.

    Args:
        kind: the model type, as `llama`.
        texts: what the tokenizer is trained on.

    Returns:
        Its role: encoder, decoder or encoder-decoder.
    """
    tokenizer, auto_class = make_tokenizer(kind, AutoConfig.for_model(kind), texts)
    role = ROLES[auto_class]
    torch.manual_seed(seed)
    model = auto_class.from_config(tiny_config(kind, tokenizer, WIDTHS[role]))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return role


def tiny_config(kind: str, tokenizer: PreTrainedTokenizerFast, width: int) -> PretrainedConfig:
    """The architecture's config with small sizes, no dropout, and weights drawn as wide as so small a model needs."""
    config = AutoConfig.for_model(kind)
    shorten_lists(config)
    sizes = dict.fromkeys(WIDTH_NAMES, width) | dict.fromkeys(INNER_NAMES, 2 * width)
    sizes |= dict.fromkeys(LAYER_NAMES, BLOCKS) | dict.fromkeys(HEAD_NAMES, 4)
    sizes |= {
        "num_key_value_heads": 2,
        "head_dim": width // 4,
        "d_kv": width // 4,
        "max_position_embeddings": POSITIONS,
    }
    for name, value in sizes.items():
        if hasattr(config, name):  # configs differ in which sizes they have
            setattr(config, name, value)
    if kinds := vars(config).get("layer_types"):  # one a block
        config.layer_types = kinds[:BLOCKS]
    for name, value in list(config.to_dict().items()):
        if isinstance(value, float) and ("dropout" in name or "pdrop" in name):
            setattr(config, name, 0.0)
        if name.endswith("_token_id"):
            setattr(config, name, None)
        if name == "initializer_range":
            config.initializer_range = width**-0.5  # the usual 0.02 is for widths of 768 and more, and slow here
    config.vocab_size = len(tokenizer)
    config.pad_token_id, config.bos_token_id = tokenizer.pad_token_id, tokenizer.bos_token_id
    config.eos_token_id = tokenizer.eos_token_id
    if config.is_encoder_decoder:
        config.decoder_start_token_id = tokenizer.pad_token_id
    return config


def shorten_lists(config: PretrainedConfig) -> None:
    """Lists with an entry a block, as the kinds of attention, get as many as there will be blocks, of different kinds."""
    layers = getattr(config, "num_hidden_layers", None)  # some configs count them by another name, and have no such list
    for name, value in config.to_dict().items():
        if isinstance(value, list) and len(value) == layers:
            kinds = [entry for index, entry in enumerate(value) if entry not in value[:index]]
            setattr(config, name, (kinds * BLOCKS)[:BLOCKS])


def make_tokenizer(kind: str, default: PretrainedConfig, texts: Iterable[str]) -> tuple[PreTrainedTokenizerFast, Any]:
    """The tokenizer that fits the kind of model, and the Auto class that builds it."""
    if default.is_encoder_decoder:
        return byte_level(texts, ["<pad>", "</s>"], end="</s>", pad="<pad>", form="$A </s>"), AutoModelForSeq2SeqLM
    if kind in MODEL_FOR_MASKED_LM_MAPPING_NAMES and kind not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        return word_piece(texts), AutoModelForMaskedLM
    if kind in MODEL_FOR_MASKED_LM_MAPPING_NAMES and getattr(default, "is_decoder", None) is False:
        return word_piece(texts), AutoModelForMaskedLM
    if kind not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        raise UserError(f"there is no stand-in for a model of type {kind}", "run without --smoke", key="model.name")
    if default.bos_token_id == default.eos_token_id:  # GPT-2 has one token for both and starts with none
        return byte_level(texts, ["<|endoftext|>"], end="<|endoftext|>"), AutoModelForCausalLM
    return byte_level(texts, ["<unk>", "<s>", "</s>"], end="</s>", start="<s>", form="<s> $A"), AutoModelForCausalLM


def word_piece(texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """A lower-casing WordPiece tokenizer in BERT's form."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer = bert_tokenizer(word_pieces(list(texts), special))
    tokenizer.add_special_tokens(special)
    ids = [(token, tokenizer.token_to_id(token)) for token in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=ids
    )
    names = {
        "pad_token": "[PAD]",
        "unk_token": "[UNK]",
        "cls_token": "[CLS]",
        "sep_token": "[SEP]",
        "mask_token": "[MASK]",
    }
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=POSITIONS, **names)


def bert_tokenizer(vocabulary: dict[str, int] | None = None, unknown: str = "[UNK]") -> Tokenizer:
    """BERT's steps around a vocabulary; without one, to be trained."""
    tokenizer = Tokenizer(models.WordPiece(vocabulary or {}, unk_token=unknown))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    return tokenizer


def word_pieces(texts: list[str], special: list[str], size: int = VOCABULARY) -> dict[str, int]:
    """The vocabulary of the texts, the same in each process.

    The trainer numbers the letters within words as a hash orders them, and breaks ties by these numbers; named
    beforehand, as special tokens are, they have theirs.
    """
    tokenizer = bert_tokenizer()
    plain = [tokenizer.normalizer.normalize_str(text) for text in texts]
    words = {word for text in plain for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(text)}
    within = sorted({f"##{letter}" for word in words for letter in word[1:]})
    trainer = trainers.WordPieceTrainer(vocab_size=size, special_tokens=special + within, show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    return dict(tokenizer.get_vocab())


def byte_level(
    texts: Iterable[str],
    special: list[str],
    *,
    end: str,
    start: str | None = None,
    pad: str | None = None,
    form: str = "",
) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer in GPT-2's form; `form` says which special tokens surround a text."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    if form:
        ids = [(token, tokenizer.token_to_id(token)) for token in special]
        tokenizer.post_processor = processors.TemplateProcessing(single=form, special_tokens=ids)
    names = {"eos_token": end, "bos_token": start or (None if form else end), "pad_token": pad}
    given = {name: token for name, token in names.items() if token}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=POSITIONS, **given)
