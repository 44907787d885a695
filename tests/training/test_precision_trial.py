"""A model that does not compute in the precision of its recipe is refused in one line before anything is written; others work.

The kind: models that fill, multiply or normalise in another type than autocast or 4-bit layers give them.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import bitsandbytes
import pytest
import torch
from transformers import AutoConfig, AutoModelForMaskedLM, AutoTokenizer

from ftkit import Recipe, UserError, check, evaluate, predict, train, verify
from ftkit.compat import answer_in_autocast
from ftkit.evaluation.scoring import precision_of, score_rows
from ftkit.recipe.load import load_values
from ftkit.training.dispatcher import Parts, build
from ftkit.training.precision_trial import fault, short_rows

RecipeMaker = Callable[..., Recipe]
ADAPTED = {"r": 4, "target_modules": "all-linear"}
QLORA, LORA, FULL = {"name": "qlora", **ADAPTED}, {"name": "lora", **ADAPTED}, {"name": "full"}
# Encoders of all makes that a stand-in can be made of; three of them did not get through a step in 4 bits.
ENCODERS = ["albert", "bert", "camembert", "convbert", "deberta-v2", "distilbert", "electra", "ernie", "megatron-bert",
            "modernbert", "mpnet", "mra", "nystromformer", "rembert", "roformer", "xlm-roberta", "yoso"]  # fmt: skip
DECODERS = ["bloom", "gemma2", "gpt2", "gpt_neox", "llama", "mistral", "mixtral", "opt", "phi", "qwen2", "stablelm"]


@pytest.fixture(scope="session")
def folders(stand_in: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Stand-ins; of DeBERTa with the attention by distance that its checkpoints have."""

    def folder(kind: str) -> Path:
        if not kind.startswith("deberta"):
            return stand_in(kind)
        made = tmp_path_factory.mktemp(kind)
        config = AutoConfig.from_pretrained(stand_in(kind))
        config.relative_attention, config.pos_att_type = True, ["p2c", "c2p"]
        torch.manual_seed(0)
        AutoModelForMaskedLM.from_config(config).save_pretrained(made)
        AutoTokenizer.from_pretrained(stand_in(kind)).save_pretrained(made)
        return made

    return folder


@pytest.fixture
def on(recipe: RecipeMaker, folders: Callable[[str], Path]) -> RecipeMaker:
    """A recipe on a kind of model: `on("deberta", QLORA, bf16=True)`."""

    def make(kind: str, strategy: dict[str, Any], *, bf16: bool, dtype: str = "float32", **blocks: Any) -> Recipe:
        values = recipe(training={"bf16": bf16, "max_steps": 2}, **blocks).model_dump(exclude_unset=True)
        values["model"] |= {"name": str(folders(kind)), "dtype": dtype, "max_length": 64}
        return load_values(values | {"strategy": strategy})

    return make


def steps_and_scores(made: Recipe, folder: Path) -> Parts:
    """Two steps, an evaluation and the scores of a verification."""
    parts = build(made, folder / "out", [])
    parts.trainer.train()
    assert parts.trainer.evaluate()["eval_loss"] > 0
    row = {name: torch.tensor(value) for name, value in parts.data.encoded["eval"].dataset[0].items()}
    scores = score_rows(parts.model, [row], shift=parts.trainer.decoder)
    assert all(score.isfinite().all() for score in scores)
    return parts


@pytest.mark.parametrize(("bf16", "dtype"), [(True, "float32"), (False, "float32"), (True, "bfloat16")])
def test_deberta_of_4_bits_trains(on: RecipeMaker, tmp_path: Path, bf16: bool, dtype: str) -> None:
    steps_and_scores(on("deberta-v2", QLORA, bf16=bf16, dtype=dtype), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("bf16", [True, False])
def test_a_run_of_deberta_of_4_bits_is_verified_and_used(on: RecipeMaker, tmp_path: Path, bf16: bool) -> None:
    result = train(on("deberta-v2", QLORA, bf16=bf16, evaluation={"verify": True}), output_dir=tmp_path / "run")
    assert result.record["verified"]["good"]
    assert "scores" in verify(result.folder).facts
    assert evaluate(result.folder).metrics == result.metrics["tuned"]
    assert len(list(predict(result.folder, [{"text": "a good film"}]))) == 1


@pytest.mark.parametrize("strategy", [FULL, LORA, QLORA], ids=lambda block: block["name"])
def test_what_does_not_compute_in_bfloat16_is_refused_with_what_helps(
    on: RecipeMaker, tmp_path: Path, strategy: dict[str, Any]
) -> None:
    made = on("deberta", strategy, bf16=True)
    line = (
        r"deberta does not get through a step in bfloat16 autocast: value cannot be converted .*; set training.bf16: false"
    )
    with pytest.raises(UserError, match=line) as caught:
        train(made, output_dir=tmp_path / "run")
    assert "\n" not in str(caught.value)
    assert caught.value.key == "training.bf16"
    assert not (tmp_path / "run").exists()
    with pytest.raises(UserError, match=r"set training\.bf16: false"):
        check(made)
    steps_and_scores(on("deberta", strategy, bf16=False, speed={"fused_adapters": False}), tmp_path)


def test_weights_in_a_precision_that_the_model_does_not_take(on: RecipeMaker, tmp_path: Path) -> None:
    line = "fnet does not get through a step in bfloat16 autocast with weights in bfloat16: .*; set model.dtype: float32"
    with pytest.raises(UserError, match=line) as caught:
        build(on("fnet", LORA, bf16=True, dtype="bfloat16"), tmp_path / "out", [])
    assert caught.value.key == "model.dtype"
    steps_and_scores(on("fnet", LORA, bf16=True), tmp_path)


@pytest.mark.slow
def test_a_base_that_does_not_compute_is_not_measured_with_a_traceback(on: RecipeMaker, tmp_path: Path) -> None:
    result = train(on("deberta", FULL, bf16=False), output_dir=tmp_path / "run")
    recipe_file = result.folder / "recipe.yaml"
    recipe_file.write_text(recipe_file.read_text().replace("bf16: false", "bf16: true"))
    assert "bf16: true" in recipe_file.read_text()
    with pytest.raises(UserError, match=r"set training\.bf16: false"):
        evaluate(result.folder)


def test_4_bit_layers_answer_as_other_layers_do(on: RecipeMaker, tmp_path: Path) -> None:
    parts = build(on("bert", QLORA, bf16=True), tmp_path / "out", [])
    layers = [layer for layer in parts.model.modules() if isinstance(layer, bitsandbytes.nn.Linear4bit)]
    inputs = torch.randn(3, layers[0].in_features)
    with torch.autocast("cpu", torch.bfloat16):
        assert {layer(inputs[:, : layer.in_features]).dtype for layer in layers[:3]} == {torch.bfloat16}
    assert layers[0](inputs).dtype == torch.float32
    layers[0]._forward_hooks.clear()
    with torch.autocast("cpu", torch.bfloat16):
        assert layers[0](inputs).dtype == torch.float32  # when this fails, bitsandbytes has mended it
    answer_in_autocast(layers[0])
    with torch.autocast("cpu", torch.bfloat16):
        assert layers[0](inputs).dtype == torch.bfloat16


def test_scores_are_computed_in_autocast_where_weights_have_16_bits_alone(on: RecipeMaker, tmp_path: Path) -> None:
    for dtype, wanted in (("float32", False), ("bfloat16", True)):
        model = build(on("bert", QLORA, bf16=True, dtype=dtype), tmp_path / "out", []).model
        with precision_of(model):
            assert torch.is_autocast_enabled("cpu") == wanted
            model(input_ids=torch.tensor([[5, 6]]))  # brings the biases of 4-bit layers to bfloat16
        with precision_of(model):
            assert torch.is_autocast_enabled("cpu") == wanted


@pytest.mark.parametrize("strategy", [FULL, LORA, QLORA], ids=lambda block: block["name"])
def test_the_trial_leaves_the_model_as_it_was(on: RecipeMaker, tmp_path: Path, strategy: dict[str, Any]) -> None:
    parts = build(on("distilbert", strategy, bf16=True), tmp_path / "out", [])
    model, rows = parts.model.train(), short_rows(parts.trainer, parts.data)
    lengths = rows["attention_mask"].sum(1).tolist()
    assert lengths[0] < lengths[1]  # one is padded
    before, state = {name: tensor.clone() for name, tensor in model.state_dict().items()}, torch.get_rng_state()
    assert fault(model, rows, parts.trainer.accelerator.autocast(), learning=True) is None
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
    assert model.training
    assert all(weight.grad is None for weight in model.parameters())


@pytest.mark.slow
def test_layers_that_adapters_cannot_follow_are_refused_in_one_line(on: RecipeMaker, tmp_path: Path) -> None:
    made = on("mobilebert", QLORA, bf16=False, task="masked-language-modeling", data={"train": "sample:text"})
    with pytest.raises(UserError, match=r"mobilebert does not get through a step in float32: .*; name other layers in"):
        build(made, tmp_path / "out", [])


@pytest.mark.slow
@pytest.mark.swept
@pytest.mark.parametrize(("bf16", "dtype"), [(True, "float32"), (False, "float32"), (True, "bfloat16")])
@pytest.mark.parametrize("kind", ENCODERS)
def test_encoders_of_4_bits_train_and_are_scored(on: RecipeMaker, tmp_path: Path, kind: str, bf16: bool, dtype: str) -> None:
    steps_and_scores(on(kind, QLORA, bf16=bf16, dtype=dtype), tmp_path)


@pytest.mark.slow
@pytest.mark.swept
@pytest.mark.parametrize("strategy", [LORA, QLORA], ids=lambda block: block["name"])
@pytest.mark.parametrize(("bf16", "dtype"), [(True, "float32"), (True, "bfloat16"), (False, "bfloat16")])
@pytest.mark.parametrize("kind", DECODERS)
def test_decoders_train_and_are_scored(
    on: RecipeMaker, tmp_path: Path, kind: str, bf16: bool, dtype: str, strategy: dict[str, Any]
) -> None:
    made = on(kind, strategy, bf16=bf16, dtype=dtype, task="language-modeling", data={"train": "sample:text"})
    steps_and_scores(made, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["bert", "deberta-v2", "modernbert"])
@pytest.mark.parametrize("task", ["masked-language-modeling", "token-classification"])
def test_other_heads_of_4_bits_train_and_are_scored(on: RecipeMaker, tmp_path: Path, kind: str, task: str) -> None:
    sample = {"masked-language-modeling": "sample:text", "token-classification": "sample:entities"}[task]
    steps_and_scores(on(kind, QLORA, bf16=True, task=task, data={"train": sample}), tmp_path)
