"""A GPU's kernels are chosen by facts, tried before they are used, and change neither losses nor what is saved."""

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AttentionInterface, AutoConfig, AutoModelForCausalLM, TrainerCallback
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.llama import modeling_llama

from ftkit import Recipe, train
from ftkit.errors import RecipeError, UserError
from ftkit.training import dispatcher, kernels
from ftkit.training.dispatcher import build
from ftkit.training.kernels import (
    FLASH,
    Machine,
    Names,
    attending,
    borrowed_names,
    choose_attention,
    choose_liger,
    refuses_attention,
    this_machine,
    use_liger,
)
from ftkit.training.levers import speed_facts, speed_words
from ftkit.training.plan import ground_of
from ftkit.training.smoke import smoke_recipe
from ftkit.training.trial import Trial
from ftkit.training.varlen_attention import VARLEN

RecipeMaker = Callable[..., Recipe]
KNOWN = frozenset({"llama"})
HOPPER, AMPERE, TURING = (9, 0), (8, 0), (7, 5)
PLAIN = {"bf16": False, "eval_strategy": "no", "save_strategy": "no", "logging_steps": 1}


@pytest.fixture
def unmasked() -> Iterator[str]:
    """An attention that sees everything, whatever the mask says."""

    def attend(module: Any, query: Any, key: Any, value: Any, attention_mask: Any, **named: Any) -> tuple[Any, None]:
        groups = query.shape[1] // key.shape[1]
        key, value = (part.repeat_interleave(groups, 1) for part in (key, value))
        return torch.nn.functional.scaled_dot_product_attention(query, key, value).transpose(1, 2), None

    AttentionInterface.register("unmasked", attend)
    yield "unmasked"
    del ALL_ATTENTION_FUNCTIONS._global_mapping["unmasked"]


def llama() -> Any:
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        "llama", hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=2,
        vocab_size=61, pad_token_id=0,
    )  # fmt: skip
    return AutoModelForCausalLM.from_config(config)


def row() -> dict[str, torch.Tensor]:
    ids = torch.arange(2, 14)[None]
    return {"input_ids": ids, "labels": ids}


@pytest.mark.parametrize(
    ("machine", "said", "half", "chosen"),
    [
        (Machine(HOPPER, flash=True), None, True, (FLASH,)),
        (Machine(AMPERE, varlen=True), None, True, (VARLEN,)),
        (Machine(HOPPER, flash=True, varlen=True), None, True, (VARLEN, FLASH)),
        (Machine(TURING, flash=True, varlen=True), None, True, ()),
        (Machine(HOPPER), None, True, ()),
        (Machine(HOPPER, flash=True, varlen=True), None, False, ()),
        (Machine(HOPPER, flash=True, varlen=True), "sdpa", True, ()),
        (Machine(None, flash=True, varlen=True), None, True, ()),
    ],
)
def test_flash_attention_is_chosen_where_it_runs(
    machine: Machine, said: str | None, half: bool, chosen: tuple[str, ...]
) -> None:
    assert choose_attention(machine, said, half=half) == chosen


@pytest.mark.parametrize(
    ("machine", "wanted", "model_type", "chosen"),
    [
        (Machine(HOPPER, liger_types=KNOWN), None, "llama", True),
        (Machine(TURING, liger_types=KNOWN), None, "llama", True),
        (Machine(HOPPER, liger_types=KNOWN), True, "llama", True),
        (Machine(HOPPER, liger_types=KNOWN), False, "llama", False),
        (Machine(HOPPER, liger_types=KNOWN), None, "gpt2", False),
        (Machine(HOPPER), None, "llama", False),
        (Machine(None, liger_types=KNOWN), None, "llama", False),
    ],
)
def test_liger_is_chosen_where_it_runs(machine: Machine, wanted: bool | None, model_type: str, chosen: bool) -> None:
    assert choose_liger(machine, wanted, model_type) is chosen


@pytest.mark.parametrize(
    ("machine", "model_type", "message"),
    [
        (Machine(None, liger_types=KNOWN), "llama", "no NVIDIA GPU"),
        (Machine(HOPPER), "llama", "liger-kernel is not installed"),
        (Machine(HOPPER, liger_types=KNOWN), "gpt2", "type gpt2"),
    ],
)
def test_liger_that_is_wanted_and_cannot_be_is_refused(machine: Machine, model_type: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        choose_liger(machine, True, model_type)
    assert caught.value.hint
    assert caught.value.key == "speed.liger_kernel"


@pytest.mark.skipif(torch.cuda.is_available(), reason="of a machine without a GPU")
def test_kernels_that_cannot_run_here_are_left_out_in_silence_and_refused_where_wanted(
    recipe: RecipeMaker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = llama()
    machine = Machine(HOPPER, flash=True, liger_types=KNOWN)  # of another machine
    trial = Trial.on_rows(model, row(), shift=True)
    assert "Triton does not work here" in str(use_liger(model, machine, None, trial))
    assert "Triton does not work here" in capsys.readouterr().err
    with pytest.raises(UserError, match="Triton does not work here"):
        use_liger(model, machine, True, trial)
    assert refuses_attention(model, FLASH, row())  # transformers' own check
    assert this_machine(torch.device("cpu")) == Machine(None)
    with pytest.raises(UserError, match="no NVIDIA GPU"):
        build(recipe("full", speed={"liger_kernel": True}), tmp_path / "out", [])


def test_a_recipe_for_a_gpu_can_be_tried_without_one(recipe: RecipeMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ftkit.training.smoke.stand_in", lambda *_: Path("standin"))
    for named in ({"speed": {"liger_kernel": True}}, {"training": {"use_liger_kernel": True}}):
        tried = smoke_recipe(recipe("full", **named), train)
        assert tried.speed.liger_kernel is None
        assert tried.training.use_liger_kernel is False


def test_two_keys_for_one_thing_are_a_mistake(recipe: RecipeMaker) -> None:
    with pytest.raises(RecipeError, match=r"has no effect beside training\.use_liger_kernel"):
        recipe("full", speed={"liger_kernel": False}, training={"use_liger_kernel": True})


@pytest.mark.parametrize("adapted", [False, True])
def test_attention_is_changed_inside_the_block_only(adapted: bool) -> None:
    base = llama()
    model = get_peft_model(base, LoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj"])) if adapted else base
    assert base.config._attn_implementation == "sdpa"
    with attending(model, None):
        assert base.config._attn_implementation == "sdpa"
    with attending(model, "eager"):
        assert base.config._attn_implementation == "eager"
        assert base.model.layers[0].self_attn.config._attn_implementation == "eager"
    assert base.config._attn_implementation == "sdpa"
    with pytest.raises(KeyError), attending(model, "eager"):
        raise KeyError
    assert base.config._attn_implementation == "sdpa"


def test_an_attention_is_accepted_where_it_gives_the_same_loss(unmasked: str) -> None:
    model = llama()
    for parameter in model.parameters():
        parameter.data.mul_(6)  # so that it counts what is seen
    assert not refuses_attention(model, "eager", row())
    assert "differs" in refuses_attention(model, unmasked, row())
    assert model.config._attn_implementation == "sdpa"


class Fault(torch.autograd.Function):
    """Values a twentieth larger, which shows beside the rounding of the half precision of such kernels; or a row's gradient lost."""

    @staticmethod
    def forward(ctx: Any, values: torch.Tensor, kind: str) -> torch.Tensor:
        ctx.kind = kind
        return values * 1.05 if kind == "scale" else values.clone()

    @staticmethod
    def backward(ctx: Any, *given: torch.Tensor) -> tuple[torch.Tensor, None]:
        gradient = given[0].clone()
        if ctx.kind == "drop":
            gradient[0] = 0
        return gradient, None


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("kind", ["right", "scale", "drop"])
def test_an_attention_that_is_wrong_in_the_slightest_is_refused(kind: str, half: bool) -> None:
    def attend(*given: Any, **named: Any) -> tuple[Any, None]:
        output, _ = ALL_ATTENTION_FUNCTIONS["sdpa"](*given, **named)
        return Fault.apply(output, kind), None

    AttentionInterface.register("faulty", attend)
    model, ids = llama(), torch.arange(2, 50).view(4, 12)
    for parameter in model.parameters():
        parameter.data.mul_(6)  # so that it counts what is seen
    try:
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            found = refuses_attention(model, "faulty", {"input_ids": ids, "labels": ids})
    finally:
        del ALL_ATTENTION_FUNCTIONS._global_mapping["faulty"]
    assert ("differs" in found) == (kind != "right"), found


@pytest.mark.slow
def test_the_loss_curve_is_that_of_the_models_own_attention(
    recipe: RecipeMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In float32, each loss of six steps within 1e-4; measured and generated with the model's own."""
    curves = []
    for chosen in (("eager",), ()):
        monkeypatch.setattr(dispatcher, "choose_attention", lambda *_, chosen=chosen, **__: chosen)
        made = recipe(
            "lora", task="instruction", kind="llama", training={**PLAIN, "max_steps": 6},
            evaluation={"general_text": False, "generation": {"rows": 2, "max_new_tokens": 4}},
        )  # fmt: skip
        result = train(made, output_dir=tmp_path / str(len(chosen)))
        lines = [json.loads(line) for line in (result.folder / "log.jsonl").read_text().splitlines()]
        curves.append([line["loss"] for line in lines if "loss" in line])
    assert len(curves[0]) == 6
    assert curves[0] == pytest.approx(curves[1], rel=1e-4)


class Watch(TrainerCallback):
    def __init__(self) -> None:
        self.seen: set[str] = set()

    def on_substep_end(self, *_: Any, model: Any, **__: Any) -> None:
        self.seen.add(model.config._attn_implementation)

    on_step_end = on_substep_end


def test_steps_take_the_chosen_attention_and_the_run_says_so(
    recipe: RecipeMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatcher, "choose_attention", lambda *_, **__: ("eager",))
    watch = Watch()
    parts = build(recipe("lora", task="instruction", kind="llama", training=PLAIN), tmp_path / "out", [watch])
    assert parts.trainer.attention == "eager"
    parts.trainer.train()
    assert watch.seen == {"eager"}
    assert parts.model.config._attn_implementation == "sdpa"
    assert speed_facts(parts.trainer)["flash_attention"] is speed_facts(parts.trainer)["liger_kernel"] is False
    parts.trainer.attention = FLASH
    assert speed_facts(parts.trainer)["flash_attention"] is True
    assert "flash attention" in speed_words(parts.trainer)
    assert ("fused optimizer" in speed_words(parts.trainer)) is speed_facts(parts.trainer)["fused_optimizer"]
    assert build(
        recipe("lora", task="instruction", kind="llama", speed={"flash_attention": False}), tmp_path / "off", []
    ).trainer.attention is None  # fmt: skip


def test_packed_rows_stay_apart_or_the_attention_is_left_out(
    recipe: RecipeMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unmasked: str
) -> None:
    monkeypatch.setattr(dispatcher, "refuses_attention", lambda *_: "")
    for chosen, kept in (("eager", "eager"), (unmasked, None)):
        monkeypatch.setattr(dispatcher, "choose_attention", lambda *_, chosen=chosen, **__: (chosen,))
        made = recipe("lora", task="instruction", kind="llama", data={"packing": True}, training=PLAIN)
        trainer = build(made, tmp_path / chosen, []).trainer
        assert trainer.attention == kept
        assert trainer.train_collator is not None


def test_the_optimizer_is_fused_unless_the_recipe_says_otherwise(recipe: RecipeMaker, tmp_path: Path) -> None:
    for named, fused in (({}, True), ({"optim": "adamw_torch"}, False)):
        trainer = build(recipe("full", training={**PLAIN, **named}), tmp_path / str(fused), []).trainer
        trainer.create_optimizer()
        assert speed_facts(trainer)["fused_optimizer"] is fused
        assert bool(trainer.optimizer.param_groups[0]["fused"]) is fused


def test_names_that_are_replaced_for_good_are_put_back() -> None:
    """As Liger replaces them: a model that is made later has the library's own layers."""
    model, home = llama(), modeling_llama
    rotate, norm = home.apply_rotary_pos_emb, home.LlamaRMSNorm

    def other(*arguments: Any, **named: Any) -> Any:
        return rotate(*arguments, **named)

    with borrowed_names(model) as names:
        home.apply_rotary_pos_emb = other
    assert home.apply_rotary_pos_emb is rotate
    assert home.LlamaRMSNorm is norm
    assert list(names.replaced) == [(home.__name__, "apply_rotary_pos_emb")]
    with names.in_place():
        assert home.apply_rotary_pos_emb is other
    assert home.apply_rotary_pos_emb is rotate


@pytest.mark.parametrize("strategy", ["full", "lora"])
def test_a_step_with_ligers_layers_is_planned_to_hold_less(recipe: RecipeMaker, tmp_path: Path, strategy: str) -> None:
    made = recipe(strategy, task="instruction", kind="llama", training=PLAIN)
    ground = ground_of(made)
    found = {}
    for liger in (False, True):
        planner = ground.planner(made, "cuda")
        planner.liger = liger
        found[liger] = planner.estimate(planner.setup(ground.figures))
    assert found[True].rehearsal.weights == found[False].rehearsal.weights
    assert found[True].rehearsal.gradients == found[False].rehearsal.gradients
    assert 0.3 < found[True].rehearsal.activations / found[False].rehearsal.activations < 0.95
    assert modeling_llama.apply_rotary_pos_emb.__module__ == modeling_llama.__name__


@pytest.mark.skipif(this_machine(torch.device("cuda" if torch.cuda.is_available() else "cpu")).liger_types is None,
                    reason="there is no GPU, or no liger-kernel")  # fmt: skip
def test_ligers_kernels_train_as_the_models_own_layers(recipe: RecipeMaker, tmp_path: Path) -> None:
    """Twice with and once without, so that a model that is made later meets what an earlier one left."""
    curves = []
    for number, wanted in enumerate((True, False, True)):
        made = recipe(
            "lora", task="instruction", kind="llama", speed={"liger_kernel": wanted}, data={"packing": True},
            training={**PLAIN, "bf16": True, "max_steps": 6},
            evaluation={"general_text": False, "generation": {"rows": 2, "max_new_tokens": 4}},
        )  # fmt: skip
        result = train(made, output_dir=tmp_path / str(number))
        assert result.record["speed"]["liger_kernel"] is wanted
        assert result.record["plan"]["training_peak_bytes"]["gpu"] > 0
        lines = [json.loads(line) for line in (result.folder / "log.jsonl").read_text().splitlines()]
        curves.append([line["loss"] for line in lines if "loss" in line])
    assert curves[0] == pytest.approx(curves[1], rel=1e-2)
    assert curves[0] == pytest.approx(curves[2], rel=1e-3)


@pytest.mark.parametrize("factor", [1.0, 1.001])
def test_layers_of_liger_that_change_the_loss_are_put_back(monkeypatch: pytest.MonkeyPatch, factor: float) -> None:
    """Liger changes layers where they stand; those that give something else are as they were, names of modules too."""
    model = llama()
    home = sys.modules[type(model).__module__]
    own = home.apply_rotary_pos_emb

    def patch(given: Any, config: dict[str, Any]) -> None:
        for layer in given.model.layers:
            norm, compute = layer.input_layernorm, layer.input_layernorm.forward
            norm.forward = lambda hidden, compute=compute: compute(hidden) * factor
        home.apply_rotary_pos_emb = lambda *arguments, **named: own(*arguments, **named)

    monkeypatch.setattr(kernels, "apply_liger_kernel", patch)
    before = model(**row()).loss
    trial = Trial.on_rows(model, row(), shift=True)
    with trial.prepared():
        found = kernels.put_liger(model, trial)
    assert home.apply_rotary_pos_emb is own
    patched = "forward" in vars(model.model.layers[0].input_layernorm)
    if factor == 1.0:
        assert isinstance(found, Names)
        assert patched
    else:
        assert "differs by" in str(found)
        assert not patched
        torch.testing.assert_close(model(**row()).loss, before, rtol=0, atol=0)
