"""What is read off a model, over all types that the library has classes for: no field of a config need be there.

Guards the kind "read off a name or a config field": end tokens, positions, blocks that are called by their `forward`, texts
inside configs of several kinds of input, types without the class that a task needs.
"""

import contextlib
import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedTokenizerFast,
)
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES,
    MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES,
)

from ftkit import Recipe, UserError, check, evaluate, plan, preview, train, verify
from ftkit.models.architecture import meta_model, named_positions, usable_positions, word_embedding
from ftkit.models.heads import find_head, last_blocks
from ftkit.models.load import fit_tokenizer, load_config, load_tokenizer
from ftkit.models.strategies.lora import TASK_TYPES, LoraStrategy
from ftkit.models.strategies.transfer import TransferStrategy
from ftkit.recipe.schema import Data, Lora, Model, Transfer
from ftkit.tasks.table import TASKS
from ftkit.tasks.texts import text_encoder

RecipeMaker = Callable[..., Recipe]
WIDTH, HEADS, POSITIONS, PAD = 64, 4, 66, 1
NAMES: dict[int, str] = {
    WIDTH: "pooler_hidden_size cross_attention_hidden_size hidden_size d_model n_embd emb_dim dim embedding_size word_embed_proj_dim",
    2: "num_hidden_layers num_layers num_decoder_layers encoder_layers decoder_layers n_layer n_layers num_key_value_heads "
    "num_experts_per_tok num_experts_per_token num_blocks",
    HEADS: "num_attention_heads num_heads encoder_attention_heads decoder_attention_heads n_head n_heads",
    96: "intermediate_size hidden_dim d_ff encoder_ffn_dim decoder_ffn_dim ffn_dim moe_intermediate_size",
    16: "head_dim d_kv",
    8: "num_experts num_local_experts n_routed_experts",
    256: "vocab_size",
    POSITIONS: "max_position_embeddings n_positions",
}
SIZES = {name: size for size, names in NAMES.items() for name in names.split()}
# What a type needs beside: sizes that follow from others, and what its default config leaves open.
LATENT = {
    "q_lora_rank": 32, "kv_lora_rank": 32, "qk_rope_head_dim": 16, "qk_nope_head_dim": 16, "v_head_dim": 16,
    "num_key_value_heads": 4, "num_experts_per_tok": 2, "n_group": 1, "topk_group": 1,
}  # fmt: skip
EIGHT = {"num_hidden_layers": 8}  # of which one at least is attention
BESIDE: dict[str, dict[str, Any]] = {
    **dict.fromkeys(("axk1", "axk2", "deepseek_v2", "deepseek_v3", "minicpm3"), LATENT),
    **dict.fromkeys(("jamba", "qwen3_next", "qwen3_5", "qwen3_5_text"), EIGHT),
    "esm": {"position_embedding_type": "absolute", "mask_token_id": 2, "pad_token_id": PAD, "vocab_size": 256},
    "funnel": {"block_sizes": [1, 1]},
    "gptj": {"rotary_dim": 8},
    # it fills rows up to a multiple of 64
    "reformer": {"axial_pos_shape": (8, 16), "axial_pos_embds_dim": (16, 48), "max_position_embeddings": 128},
    "t5": {"decoder_start_token_id": 0},
    "xmod": {"default_language": "en_XX"},
}
WHOLE = {"esmc", "layoutlmv3", "lilt", "mistral4", "zamba", "zamba2"}  # left as they are: their sizes hang on each other
# What cannot be made or asked with token ids alone, and says so in one line: needs boxes, another package, or fields of
# which the type's own default is no model.
REFUSED = {"bros", "cohere_compass_text", "layoutlmv2"}
CLASSES = {
    **dict.fromkeys(MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES, AutoModelForTokenClassification),
    **dict.fromkeys(MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES, AutoModelForSequenceClassification),
}


def small_config(kind: str) -> PretrainedConfig:
    """The type's config with small sizes, and token ids that such a vocabulary has."""
    config = AutoConfig.for_model(kind)
    if kind not in WHOLE:
        shrink(config, BESIDE.get(kind, {}))
    return config


def shrink(config: PretrainedConfig, beside: dict[str, Any]) -> None:
    values = config.to_dict() | {name: getattr(config, name, None) for name in config.attribute_map}
    for name, size in SIZES.items():
        if isinstance(values.get(name), int) or (name in ("head_dim", "num_key_value_heads") and name in values):
            with contextlib.suppress(AttributeError, ValueError):  # some types make one size of others
                setattr(config, name, size)
    for name, value in values.items():
        if name == "pad_token_id" or (name.endswith("_token_id") and isinstance(value, int)):
            setattr(config, name, PAD if name == "pad_token_id" else 2)
    for name, value in beside.items():
        setattr(config, name, value)
    for name in config.sub_configs:
        if isinstance(part := vars(config).get(name), PretrainedConfig):
            shrink(part, beside)


def text_parameters(model: Any) -> set[str]:
    return {name for name, _ in model.named_parameters()}


@pytest.fixture(scope="module")
def heads() -> dict[str, Any]:
    """Of every type the head, or what was said in its place."""

    def found(kind: str) -> Any:
        try:
            return find_head(CLASSES[kind], small_config(kind))
        except UserError as error:
            return error

    return {kind: found(kind) for kind in sorted(CLASSES)}


@pytest.mark.slow
def test_a_head_is_found_of_every_type_or_it_is_said(heads: dict[str, Any]) -> None:
    said = {kind: str(head) for kind, head in heads.items() if isinstance(head, UserError)}
    assert {kind: words for kind, words in said.items() if kind not in REFUSED} == {}
    assert all("\n" not in words for words in said.values())
    assert [kind for kind, head in heads.items() if not head] == []


@pytest.mark.slow
def test_all_that_a_checkpoint_of_the_body_lacks_is_in_the_head(heads: dict[str, Any]) -> None:
    """New weights that did not learn would stay as they were drawn; and no block or word is in a head."""
    wrong: dict[str, Any] = {}
    for kind, head in heads.items():
        if isinstance(head, UserError):
            continue
        config = small_config(kind)
        model = meta_model(CLASSES[kind], config)
        blocks, embedding = last_blocks(model)[0], word_embedding(model)
        inside = {name for name in text_parameters(model) if any(name.startswith(part + ".") for part in head)}
        body = {id(p) for p in model.base_model.parameters()} if model.base_model is not model else set()
        new = {name for name, parameter in model.named_parameters() if body and id(parameter) not in body}
        misplaced = {name for name in inside if name.startswith(blocks + ".")}
        misplaced |= {
            name
            for name, parameter in model.named_parameters()
            if embedding is not None and parameter is embedding.weight and name in inside
        }
        if new - inside or misplaced:
            wrong[kind] = (head, sorted(new - inside)[:3], sorted(misplaced)[:3])
    assert wrong == {}


@pytest.mark.slow
def test_rows_of_the_usable_length_are_taken() -> None:
    """With weights: a table of positions that begins behind the entry of padding has fewer places than entries."""
    faults: dict[str, str] = {}
    shorter: set[str] = set()
    for kind in sorted(CLASSES.keys() - REFUSED - WHOLE):
        config = small_config(kind)
        length = usable_positions(CLASSES[kind], config, POSITIONS)
        length = POSITIONS if math.isinf(length) else int(length)
        model = CLASSES[kind].from_config(config).eval()
        try:
            answers(model, length)
        except Exception as error:  # whatever a model says
            faults[kind] = f"{length} tokens: {type(error).__name__}: {str(error)[:100]}"
            continue
        if length < POSITIONS:
            shorter.add(kind)
            with pytest.raises((IndexError, RuntimeError)):  # no more than that
                answers(model, length + 1)
    assert faults == {}
    assert {"roberta", "xlm-roberta", "mpnet", "longformer", "camembert", "ibert", "esm"} <= shorter


def answers(model: Any, length: int) -> None:
    ids = torch.full((2, length), 5)
    ids[:, -1] = 2  # where BART's head reads
    with torch.no_grad():
        model(input_ids=ids, attention_mask=torch.ones_like(ids))


@pytest.mark.parametrize(
    ("kind", "values", "expected"),
    [
        ("xlnet", {}, None),
        ("bloom", {}, None),
        ("t5", {}, None),  # its n_positions is no limit
        ("gpt2", {"n_positions": 40}, 40),
        ("led", {"max_encoder_position_embeddings": 60, "max_decoder_position_embeddings": 30}, 30),
        ("gemma3", {}, 131072),  # of its text
        ("t5gemma", {}, 8192),
        ("roberta", {"max_position_embeddings": 514}, 514),
    ],
)
def test_positions_are_read_whatever_they_are_called(kind: str, values: dict[str, int], expected: int | None) -> None:
    assert named_positions(AutoConfig.for_model(kind, **values)) == expected


def test_a_longer_table_than_rows_want_is_not_looked_at() -> None:
    config = AutoConfig.for_model("roberta", max_position_embeddings=514)
    assert usable_positions(AutoModelForSequenceClassification, config, 500) == 514
    assert usable_positions(AutoModelForSequenceClassification, config, 512) >= 512
    assert usable_positions(AutoModelForSequenceClassification, config, 513) == 512


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["squeezebert", "funnel", "mobilebert", "gemma3", "xlm", "bart", "t5", "mixtral"])
def test_strategies_let_the_whole_new_head_learn(kind: str) -> None:
    config, auto_class = small_config(kind), CLASSES[kind]
    head = find_head(auto_class, config)
    layers = r".*\.(query|key)" if kind == "squeezebert" else "all-linear"  # its layers are convolutions
    for strategy, block in (
        (TransferStrategy(), Transfer(name="transfer")),
        (LoraStrategy(), Lora(name="lora", r=4, target_modules=layers)),
    ):
        model = auto_class.from_config(config)
        body = {id(parameter) for parameter in model.base_model.parameters()}
        new = [parameter for parameter in model.parameters() if id(parameter) not in body]
        shapes = sorted(tuple(parameter.shape) for parameter in new)
        made = strategy.apply(model, block, head, auto_class)  # type: ignore[arg-type]
        ids = torch.full((2, 16), 5)
        ids[:, -1] = 2
        made(input_ids=ids, labels=torch.tensor([0, 1])).loss.backward()
        learnt = [tuple(p.shape) for p in made.parameters() if p.requires_grad and p.grad is not None]
        assert new
        assert all(shape in learnt for shape in shapes)


def test_a_decoder_named_for_generation_on_condition_gets_the_adapter_of_a_decoder() -> None:
    """Gemma 3's own class ends with ForConditionalGeneration, as those of encoder-decoders do."""
    model = AutoModelForCausalLM.from_config(small_config("gemma3"))
    assert type(model).__name__.endswith("ForConditionalGeneration")
    block = Lora(name="lora", r=2, target_modules=["q_proj"])
    assert LoraStrategy().apply(model, block, (), AutoModelForCausalLM).peft_config["default"].task_type == "CAUSAL_LM"
    assert TASK_TYPES[AutoModelForSeq2SeqLM] == "SEQ_2_SEQ_LM"


# A type without the class, by task. A speech model has an encoder and a decoder, but reads no text.
LACKING = {
    "text-classification": "codegen",
    "text-regression": "mamba",
    "token-classification": "codegen",
    "instruction": "vit",
    "summarization": "whisper",
    "language-modeling": "vit",
    "masked-language-modeling": "gpt2",
}


@pytest.mark.parametrize("task", LACKING)
def test_a_type_without_the_class_is_refused_in_one_line(task: str) -> None:
    with pytest.raises(UserError) as refused:
        TASKS[task](Data(train="rows.jsonl")).auto_class(AutoConfig.for_model(LACKING[task]))
    words = str(refused.value)
    assert LACKING[task] in words
    assert task in words
    assert "\n" not in words
    assert len(words) < 250


@pytest.mark.parametrize("command", [check, plan, preview, train])
def test_it_is_refused_before_data_are_read(
    recipe: RecipeMaker, stand_in: Callable[[str], Path], command: Callable[..., Any]
) -> None:
    model = {"name": str(stand_in("codegen"))}
    with pytest.raises(UserError, match="codegen has no ModelForSequenceClassification, which text-classification needs"):
        command(recipe("full", model=model, data={"train": "nothing.jsonl"}))
    assert not Path("runs").exists()


def test_it_is_refused_by_eval(recipe: RecipeMaker, stand_in: Callable[[str], Path], reviews: Path) -> None:
    with pytest.raises(UserError, match="codegen has no ModelForSequenceClassification"):
        evaluate(stand_in("codegen"), task="text-classification", data=str(reviews))


@pytest.mark.parametrize("special", [{}, {"mask_token": "<mask>"}, {"unk_token": "<unk>"}, {"eos_token": "</s>"}])
def test_a_tokenizer_without_some_special_tokens_pads(stand_in: Callable[[str], Path], special: dict[str, str]) -> None:
    """Any token does for padding; a decoder's head for classes reads the last that is another."""
    folder = Path("model")
    plain = AutoTokenizer.from_pretrained(stand_in("llama"))
    fast = PreTrainedTokenizerFast(tokenizer_object=plain._tokenizer, **special)
    fast.save_pretrained(folder)
    config = small_config("llama")
    config.vocab_size = len(fast)
    config.save_pretrained(folder)
    tokenizer = load_tokenizer(Model(name=str(folder)))
    assert tokenizer.pad_token == next(iter(special.values()), plain.convert_ids_to_tokens(len(tokenizer) - 1))
    model = AutoModelForSequenceClassification.from_config(small_config("llama"))
    model.resize_token_embeddings(len(tokenizer))
    fit_tokenizer(model, tokenizer)
    texts = ["a fine day", "a day that was long and of no use to anybody"]
    together = model.eval()(**tokenizer(texts, padding=True, return_tensors="pt")).logits
    alone = [model(**tokenizer([text], return_tensors="pt")).logits for text in texts]
    assert torch.allclose(together, torch.cat(alone), atol=1e-6)


def test_a_nested_text_config_learns_of_padding() -> None:
    model = AutoModelForSequenceClassification.from_config(small_config("gemma3"))
    model.config.pad_token_id = model.config.text_config.pad_token_id = None
    tokenizer = type("Tokenizer", (), {"pad_token_id": 3, "__len__": lambda self: 10, "get_vocab": lambda self: {}})()
    fit_tokenizer(model, tokenizer)
    ids = torch.full((2, 8), 5)
    assert model(input_ids=ids).logits.shape == (2, 2)


def test_text_that_says_the_end_token_has_none(stand_in: Callable[[str], Path]) -> None:
    """BART's and T5's head read the end token, of which all rows must have as many, also those that are cut."""
    tokenizer = load_tokenizer(Model(name=str(stand_in("t5"))))
    encode = text_encoder(tokenizer, AutoConfig.for_model("bart"), 24)
    texts = ["short", "the tag </s> ends a line", "a text that goes on for more tokens than it may have " * 3]
    rows = encode({"text": texts}, [0, 1, 2]).columns["input_ids"]
    assert [row.count(tokenizer.eos_token_id) for row in rows] == [1, 1, 1]
    assert [row[-1] for row in rows] == [tokenizer.eos_token_id] * 3
    assert tokenizer.decode(rows[1], skip_special_tokens=True).strip() == texts[1]


@pytest.mark.slow
@pytest.mark.parametrize("task", ["text-classification", "text-regression"])
def test_check_says_of_an_encoder_decoder_what_training_does(recipe: RecipeMaker, tmp_path: Path, task: str) -> None:
    """The checked batches go the way of a training step: uneven rows, and what `speed` has on this machine."""
    rows = tmp_path / "rows.csv"
    lines = [f"{'word ' * (1 if i % 32 else 110)}{i} {'good' if i % 2 else 'bad'},{i % 2}" for i in range(140)]
    rows.write_text("\n".join(["text,label", *lines]))
    values = {
        "task": task,
        "kind": "bart",
        "data": {"train": str(rows), "eval_size": 8, "gate": {"overlap": 1.0}},
    }
    training = {"max_steps": 1, "per_device_train_batch_size": 64}  # enough to be saved by cutting a batch
    evaluation = {"baseline": False, "general_text": False}
    made = recipe("full", **values, model={"max_length": 256}, training=training, evaluation=evaluation)
    said = [outcome(lambda: check(made)), outcome(lambda: train(made, output_dir=tmp_path / "run"))]
    assert said[0] == said[1]


def outcome(command: Callable[[], Any]) -> bool:
    """Whether a command succeeds."""
    try:
        command()
    except (UserError, RuntimeError, ValueError, IndexError):
        return False
    return True


def test_a_config_that_does_not_hold_is_refused_in_one_line(stand_in: Callable[[str], Path]) -> None:
    folder = Path("model")
    shutil.copytree(stand_in("qwen3"), folder)
    values = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(values | {"layer_types": ["full_attention"] * 9}))
    with pytest.raises(UserError, match="must be equal to the number of `layer_types`") as refused:
        load_config(Model(name=str(folder)), {})
    assert "\n" not in str(refused.value)


@pytest.mark.slow
@pytest.mark.parametrize(
    "strategy", [{"name": "full"}, {"name": "lora", "target_modules": ["q_proj"]}], ids=["full", "lora"]
)
@pytest.mark.parametrize("task", ["instruction", "text-classification"])
def test_a_model_of_text_and_images_is_verified(
    verified_recipe: RecipeMaker, stand_in: Callable[[str], Path], tmp_path: Path, task: str, strategy: dict[str, Any]
) -> None:
    """Its config has what belongs to text one level down, its decoder's class is named as an encoder-decoder's, and what
    sees images learns nothing from text."""
    folder, tokenizer = tmp_path / "gemma3", AutoTokenizer.from_pretrained(stand_in("llama"))
    config = small_config("gemma3")
    text = config.text_config
    text.vocab_size, text.max_position_embeddings, text.layer_types = len(tokenizer) + 8, 256, text.layer_types[:2]
    text.eos_token_id, text.bos_token_id = tokenizer.eos_token_id, tokenizer.bos_token_id
    config.image_token_id = config.image_token_index = len(tokenizer) + 1
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    training = {"max_steps": 2, "per_device_train_batch_size": 4, "bf16": False}
    made = verified_recipe(strategy, task=task, kind="llama", model={"name": str(folder)}, training=training)
    found = train(made, output_dir=tmp_path / "run").folder
    assert verify(found).facts["recipe"] == "as it was when the run began"
