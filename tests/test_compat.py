"""Each fault of the libraries, shown with its workaround taken out and gone with it in place.

The test of a workaround fails when the workaround does nothing: the second half of each test asks for the right result. The
first half asks for the fault; when it fails, the library has mended it, and the workaround can go.
"""

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import skip_first_batches
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    DataCollatorForLanguageModeling,
    DataCollatorForSeq2Seq,
    DistilBertModel,
    Trainer,
    TrainingArguments,
)

from ftkit import compat, plan
from ftkit.errors import UserError
from ftkit.models.load import load_tokenizer
from ftkit.recipe.schema import Model, Recipe
from ftkit.training.dispatcher import Parts, build

RecipeMaker = Callable[..., Recipe]


def parts_of(recipe: Recipe, tmp_path: Path) -> Parts:
    return build(recipe, tmp_path / "out", [])


def without(monkeypatch: pytest.MonkeyPatch, name: str, *modules: str) -> None:
    """Take a workaround out wherever it was imported to."""
    for module in modules:
        monkeypatch.setattr(f"{module}.{name}", lambda *_: None)


def first_gradient_norm(recipe: Recipe, tmp_path: Path) -> float:
    trainer = parts_of(recipe, tmp_path).trainer
    trainer.train()
    return float(trainer.state.log_history[0]["grad_norm"])


def test_a_router_says_nothing_while_a_model_generates_or_is_measured() -> None:
    config = AutoConfig.for_model(
        "mixtral", vocab_size=61, hidden_size=32, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, num_local_experts=4, num_experts_per_tok=2, output_router_logits=True,
        router_aux_loss_coef=0.1, pad_token_id=0,
    )  # fmt: skip
    model = AutoModelForCausalLM.from_config(config).eval()
    ids = torch.tensor([[0, 3, 4, 5], [6, 7, 8, 9]])
    asked = {
        "input_ids": ids,
        "attention_mask": (ids > 0).long(),
        "max_new_tokens": 3,
        "do_sample": False,
        "use_cache": True,
    }
    with pytest.raises(RuntimeError, match="must match the size"):
        model.generate(**asked)
    own = float(model(input_ids=ids, labels=ids).loss)
    with compat.without_router_loss(model):
        assert model.generate(**asked).shape == (2, 7)
        tokens = float(model(input_ids=ids, labels=ids).loss)
        assert model.config.output_router_logits is False
    assert model.config.output_router_logits is True
    logits = model(input_ids=ids).logits[:, :-1].flatten(0, 1)
    assert tokens == pytest.approx(float(torch.nn.functional.cross_entropy(logits, ids[:, 1:].flatten())), rel=1e-5)
    assert own > tokens + 0.05


@pytest.mark.parametrize(("task", "kind"), [("text-classification", "distilbert"), ("summarization", "t5")])
@pytest.mark.slow
def test_loss_is_divided_by_accumulation(
    recipe: RecipeMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dialogues: Path, task: str, kind: str
) -> None:
    data = {"train": str(dialogues), "columns": {"document": "dialogue"}} if task == "summarization" else {}

    def norm(steps: int) -> float:
        training = {
            "max_steps": 1,
            "gradient_accumulation_steps": steps,
            "per_device_train_batch_size": 8 // steps,
            "bf16": False,
        }
        return first_gradient_norm(recipe(task=task, kind=kind, training=training, data=data), tmp_path)

    assert norm(4) == pytest.approx(norm(1), rel=1e-3)
    without(monkeypatch, "divide_loss_by_accumulation", "ftkit.training.dispatcher")
    assert norm(4) > 2.5 * norm(1)


def test_loss_of_causal_models_does_not_depend_on_accumulation(recipe: RecipeMaker, tmp_path: Path) -> None:
    def norm(steps: int) -> float:
        training = {
            "max_steps": 1,
            "gradient_accumulation_steps": steps,
            "per_device_train_batch_size": 8 // steps,
            "bf16": False,
        }
        return first_gradient_norm(recipe(task="instruction", training=training), tmp_path)

    assert norm(4) == pytest.approx(norm(1), rel=1e-3)


def lora_gradients(parts: Parts) -> int:
    batch = parts.trainer.data_collator([parts.data.encoded["train"].dataset[row] for row in range(4)])
    parts.model.train()
    parts.model(**batch).loss.backward()
    names = [
        name
        for name, p in parts.model.named_parameters()
        if "lora_B" in name and p.grad is not None and p.grad.abs().sum() > 0
    ]
    parts.model.zero_grad()
    return len(names)


def test_adapters_of_a_4bit_model_learn_after_it_was_evaluated(
    recipe: RecipeMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not torch.cpu._is_avx512_bf16_supported():
        pytest.skip("the fault needs a processor with AVX512-BF16")
    qlora = recipe({"name": "qlora", "target_modules": "all-linear"}, task="instruction", kind="llama")

    def gradients_before_and_after() -> tuple[int, int]:
        parts = parts_of(qlora, tmp_path)
        before = lora_gradients(parts)
        parts.trainer.predict(parts.data.encoded["eval"].dataset)
        return before, lora_gradients(parts)

    before, after = gradients_before_and_after()
    assert before == after == 14
    without(monkeypatch, "keep_4bit_weights", "ftkit.models.load")
    _, after = gradients_before_and_after()
    assert after < 14


@pytest.mark.parametrize("strategy", ["full", "transfer", "lora"])
def test_weights_that_learn_are_float32_whatever_the_checkpoint_is(
    recipe: RecipeMaker, tmp_path: Path, half_precision: Path, strategy: str
) -> None:
    parts = parts_of(recipe(strategy, model={"name": str(half_precision)}), tmp_path)
    assert {p.dtype for p in parts.model.parameters() if p.requires_grad} == {torch.float32}


def test_a_frozen_base_in_bfloat16_has_learning_weights_in_float32(
    recipe: RecipeMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def kinds() -> tuple[set[torch.dtype], set[torch.dtype]]:
        model = parts_of(recipe("transfer", model={"dtype": "bfloat16"}, training={"bf16": True}), tmp_path).model
        learning = {p.dtype for p in model.parameters() if p.requires_grad}
        return learning, {p.dtype for p in model.parameters() if not p.requires_grad}

    assert kinds() == ({torch.float32}, {torch.bfloat16})
    without(monkeypatch, "hold_in_float32", "ftkit.models.strategies.transfer")
    assert kinds() == ({torch.bfloat16}, {torch.bfloat16})


@pytest.mark.parametrize("strategy", ["transfer", "lora", "qlora"])
def test_a_head_on_such_a_base_without_autocast_is_refused_in_one_line(
    recipe: RecipeMaker, tmp_path: Path, strategy: str
) -> None:
    made = recipe(strategy, model={"dtype": "bfloat16"}, training={"bf16": False})
    with pytest.raises(UserError, match=r"model\.dtype bfloat16: the new head is in float32") as caught:
        parts_of(made, tmp_path)
    assert caught.value.hint == "set model.dtype: float32"
    parts_of(recipe("full", model={"dtype": "bfloat16"}, training={"bf16": False}), tmp_path)  # all of it learns in float32
    answers = recipe("lora", task="instruction", kind="llama", model={"dtype": "bfloat16"}, training={"bf16": False})
    parts_of(answers, tmp_path)  # no new head


def test_end_tokens_are_not_masked_as_padding(stand_in: Callable[[str], Path]) -> None:
    tokenizer = load_tokenizer(Model(name=str(stand_in("gpt2"))))
    assert tokenizer.pad_token_id == tokenizer.eos_token_id
    end = tokenizer.eos_token_id
    rows: list[dict[str, Any]] = [
        {"input_ids": [5, 6, end], "labels": [-100, 6, end]},
        {"input_ids": [5, end], "labels": [-100, end]},
    ]
    batch = compat.pad_by_position(tokenizer)(rows)
    assert batch["labels"].tolist() == [[-100, 6, end], [-100, end, -100]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 1, 0]]
    plain = DataCollatorForLanguageModeling(tokenizer, mlm=False)([{"input_ids": [5, 6, end]}])
    assert plain["labels"].tolist() == [[5, 6, -100]]


def test_heads_are_not_quantized(recipe: RecipeMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def packed_heads() -> list[str]:
        modules = parts_of(recipe("qlora"), tmp_path).model.named_modules()
        packed = [name for name, module in modules if type(module).__name__ == "Linear4bit"]
        assert any("q_lin" in name for name in packed)
        return [name for name in packed if "classifier" in name]

    assert packed_heads() == []
    monkeypatch.setattr("ftkit.models.strategies.qlora.modules_not_quantized", lambda head: None)
    with pytest.raises(UserError, match="distilbert does not get through a step"):
        packed_heads()


def test_the_recipes_lists_are_not_changed_under_its_hands(
    recipe: RecipeMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {"name": "lora", "modules_to_save": ["sa_layer_norm"]}
    made = recipe(given, kind="distilbert")
    parts_of(made, tmp_path)
    assert made.strategy.modules_to_save == ["sa_layer_norm"]
    from peft import LoraConfig, get_peft_model

    parts = parts_of(recipe("full"), tmp_path)
    names = ["sa_layer_norm"]
    get_peft_model(
        parts.model, LoraConfig(task_type="SEQ_CLS", target_modules=["q_lin"], modules_to_save=compat.own_copy(names))
    )
    assert names == ["sa_layer_norm"]
    parts = parts_of(recipe("full"), tmp_path)
    get_peft_model(parts.model, LoraConfig(task_type="SEQ_CLS", target_modules=["q_lin"], modules_to_save=names))
    assert names != ["sa_layer_norm"]


@pytest.mark.parametrize("targets", [["q_lin", "v_linn"], ["nothing"], "nothing.*"])
def test_a_target_that_matches_no_layer_is_named(recipe: RecipeMaker, tmp_path: Path, targets: Any) -> None:
    bad = targets if isinstance(targets, str) else targets[-1]
    with pytest.raises(
        UserError, match=f"'{bad.replace('.*', '')}.*matches no layer; this model has q_lin, k_lin, v_lin, out_lin"
    ):
        parts_of(recipe({"name": "lora", "target_modules": targets}), tmp_path)


def test_peft_ignores_one_mistyped_target_among_several(
    recipe: RecipeMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without(monkeypatch, "require_targets", "ftkit.models.strategies.lora")
    parts_of(recipe({"name": "lora", "target_modules": ["q_lin", "v_linn"]}), tmp_path)


def test_fp16_without_a_gpu_is_refused(recipe: RecipeMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(UserError, match="fp16 has no effect without a GPU"):
        parts_of(recipe(training={"fp16": True}), tmp_path)
    without(monkeypatch, "refuse_idle_fp16", "ftkit.training.arguments")
    parts_of(recipe(training={"fp16": True}), tmp_path)


@pytest.mark.parametrize("training", [{"train_sampling_strategy": "group_by_length"}, {"dataloader_drop_last": True}])
def test_predictions_are_in_the_order_of_the_rows(recipe: RecipeMaker, tmp_path: Path, training: dict[str, Any]) -> None:
    parts = parts_of(recipe(training=training | {"per_device_eval_batch_size": 8}), tmp_path)
    dataset = parts.data.encoded["eval"].dataset
    assert parts.trainer.predict(dataset).label_ids.tolist() == list(dataset["labels"])
    assert sum(len(batch["labels"]) for batch in parts.trainer.get_eval_dataloader()) == len(dataset)
    parts.trainer.__class__ = Trainer
    parts.trainer.compute_metrics = None  # what it is asks for ftkit's own Trainer
    assert parts.trainer.predict(dataset).label_ids.tolist() != list(dataset["labels"])
    assert getattr(parts.trainer.args, next(iter(training))) == next(iter(training.values()))


def test_rows_grouped_by_length_resume_in_the_same_order(recipe: RecipeMaker, tmp_path: Path) -> None:
    parts = parts_of(recipe(training={"train_sampling_strategy": "group_by_length"}), tmp_path)
    loader = parts.trainer.get_train_dataloader()

    def order(epoch: int, skipped: int = 0) -> list[list[int]]:
        rest = skip_first_batches(loader, skipped)
        rest.set_epoch(epoch)
        return [batch["input_ids"].tolist() for batch in rest]

    whole = order(1)
    assert order(1, skipped=2) == whole[2:]
    assert order(0) != whole
    parts.trainer.__class__ = Trainer
    loader = parts.trainer.get_train_dataloader()
    assert order(1) != order(1)


def test_the_trainer_itself_takes_what_ftkit_gives(recipe: RecipeMaker, tmp_path: Path) -> None:
    parts = parts_of(recipe(), tmp_path)
    assert isinstance(parts.trainer, Trainer)
    assert type(parts.trainer.args) is TrainingArguments


def test_labels_of_padding_are_not_written_over(stand_in: Callable[[str], Path]) -> None:
    """FSMT fills the labels from which it makes the decoder's input; of all encoder-decoders padding stays unlearnt."""
    config = AutoConfig.for_model(
        "fsmt", langs=["en", "de"], src_vocab_size=61, tgt_vocab_size=61, d_model=32, encoder_layers=1, decoder_layers=1,
        encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=32, decoder_ffn_dim=32,
    )  # fmt: skip
    model = AutoModelForSeq2SeqLM.from_config(config)
    tokenizer = AutoTokenizer.from_pretrained(stand_in("t5"))
    rows = [{"input_ids": [5, 6, 7], "labels": [8, 9, 10]}, {"input_ids": [5], "labels": [8]}]
    assert DataCollatorForSeq2Seq(tokenizer, model)(rows)["labels"][1].tolist() != [8, -100, -100]
    batch = compat.pad_by_position(tokenizer, model)(rows)
    assert batch["labels"].tolist() == [[8, 9, 10], [8, -100, -100]]
    assert batch["decoder_input_ids"].shape == (2, 3)


def test_products_in_groups_are_known_on_shapes_in_every_precision(
    recipe: RecipeMaker, stand_in: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    data = {"train": "sample:text", "eval_size": 5}
    model, training = {"name": str(stand_in("mixtral"))}, {"bf16": False, "max_steps": 1}
    made = recipe("full", task="language-modeling", model=model, data=data, training=training)
    assert plan(made, measure=False).memory["peak"] > 0
    monkeypatch.setattr("ftkit.training.planner.grouped_products_on_shapes", nullcontext)
    with pytest.raises(UserError, match="cannot be gone through without weights: Expected inputs of BF16"):
        plan(made, measure=False)
    assert "Traceback" not in capfd.readouterr().err


def test_nothing_but_such_a_row_is_drawn_anew() -> None:
    """Models that draw by writing into their weights, marked as loaded or not, are saved as they were trained."""

    class Draws(DistilBertModel):
        def _init_weights(self, module: torch.nn.Module) -> None:
            for parameter in module.parameters(recurse=False):
                parameter.data.normal_()

    Draws.__module__ = DistilBertModel.__module__
    model = Draws(AutoConfig.for_model("distilbert", dim=32, hidden_dim=32, n_layers=1, n_heads=2, vocab_size=61))
    before = {name: tensor.clone() for name, tensor in model.named_parameters()}
    compat.leave_as_loading_does(model)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.named_parameters())


def test_a_row_that_loading_would_zero_is_zero_before_it_is_saved(tmp_path: Path) -> None:
    sizes = {"block_sizes": [1, 1], "d_model": 32, "n_head": 4, "d_head": 8, "d_inner": 64, "vocab_size": 50}
    config = AutoConfig.for_model("funnel", **sizes, pad_token_id=0)
    model = AutoModelForMaskedLM.from_config(config)
    embedding = model.funnel.embeddings.word_embeddings.weight
    with torch.no_grad():
        embedding.add_(1.0)
    others = {name: tensor.clone() for name, tensor in model.named_parameters()}
    model.save_pretrained(tmp_path / "spoilt")
    spoilt = AutoModelForMaskedLM.from_pretrained(tmp_path / "spoilt").funnel.embeddings.word_embeddings.weight
    assert not torch.equal(spoilt, embedding)  # the fault
    compat.leave_as_loading_does(model)
    assert torch.equal(spoilt, embedding)
    assert [name for name, tensor in model.named_parameters() if not torch.equal(tensor, others[name])] == [
        "funnel.embeddings.word_embeddings.weight"
    ]
