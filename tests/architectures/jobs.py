"""One job of the sweep: a type, a task and a strategy, trained with all levers, with none, and by the plain Trainer.

What is compared: the losses of all steps, the gradients of the first, what was learnt; what ftkit measures against plain
transformers on the saved folder; the saved folder against the model in memory; batches of one row and of nine.
"""

import gc
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
import transformers
from configurations import role_of
from datasets import Dataset
from peft import PeftModel
from plain_script import (
    logits_of,
    mean_loss,
    plain_base,
    plain_collator,
    plain_model,
    plain_tokenizer,
    plain_trainer,
    reloaded,
    summed_loss,
)
from traces import Tensors, Trace, drawn_gaps, gap, learning, trace_gaps, traced, worst
from transformers.models.auto import modeling_auto

from ftkit.errors import UserError
from ftkit.evaluation.measure import predict_by_length
from ftkit.models.label_scale import Scale
from ftkit.models.save import save_model
from ftkit.recipe.load import load_values
from ftkit.recipe.schema import Recipe, Speed
from ftkit.training.dispatcher import Parts, build, take_kept_rows
from ftkit.training.levers import speed_facts

ROWS, WHOLE, DRAWS, SEED = 6, 64, 24, 7
TRAINING = {
    "per_device_train_batch_size": ROWS, "num_train_epochs": 1, "learning_rate": 0.05, "optim": "sgd", "seed": SEED,
    "lr_scheduler_type": "constant", "logging_steps": 1, "save_strategy": "no", "report_to": "none", "use_cpu": True,
}  # fmt: skip
OFF = dict.fromkeys(Speed.model_fields, False)
OPT_IN = {"micro_batches": True}  # a lever that a recipe has to ask for, in place of leaving padding out
QUANTIZED = ("llama", "gpt2", "bert", "deberta-v2", "t5", "mixtral", "gemma2", "roberta", "falcon", "qwen3")
# Relative gaps, absolute of losses below 1, that still count as equal.
LIMITS = {"losses": 1e-5, "gradients": 1e-4, "weights": 1e-3, "measured": 1e-4, "reload": 1e-5, "batch": 1e-4, "start": 0.0}
BFLOAT16_LIMITS = LIMITS | {
    "losses": 2e-2, "gradients": 3.5e-1, "weights": math.inf, "measured": 2e-2, "reload": 2e-2, "batch": 2e-2
}  # fmt: skip
DRAWN_LIMITS = {"losses": 5.0, "gradients": 3.0, "spread": 3.0}  # standard errors, and a ratio
OWN_TASK = {"encoder": "masked-language-modeling", "decoder": "instruction", "encoder-decoder": "summarization"}
CLASSES = {
    "text-classification": modeling_auto.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES,
    "pairs": modeling_auto.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES,
    "text-regression": modeling_auto.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES,
    "token-classification": modeling_auto.MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES,
    "masked-language-modeling": modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    "instruction": modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    "language-modeling": modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    "summarization": modeling_auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
}
BRIEF = [("text-classification", "transfer"), ("pairs", "full"), ("token-classification", "full")]
ALL = [
    *BRIEF, ("text-classification", "lora"), ("text-regression", "full"), ("token-classification", "transfer"),
    ("language-modeling", "full"),
]  # fmt: skip
ROLE_OF_TASK = {
    "masked-language-modeling": "encoder", "instruction": "decoder", "language-modeling": "decoder",
    "summarization": "encoder-decoder",
}  # fmt: skip


class Job(NamedTuple):
    """What is trained and compared.

    Attributes:
        task: as a recipe calls it, or `pairs` for text-classification of two texts.
        variant: `steps` against the plain Trainer; `accumulation` of 3 x 2 rows against 1 x 6; `packed` against rows alone;
            `refusal` of what the type has no class for.
    """

    kind: str
    task: str
    strategy: str
    variant: str = "steps"


class Place(NamedTuple):
    """Where a job finds the small models and the rows, where it may write, and how it computes.

    Attributes:
        models: with `model`, and `plain` that is the same without a router's loss, which follows from how rows are batched.
        dropout: the models have the dropout of their types' defaults.
    """

    models: Path
    rows: Path
    out: Path
    bf16: bool = False
    dropout: bool = False


@dataclass
class Outcome:
    """A line of the table.

    Attributes:
        verdict: equal, wrong, refused, crash, or `padding` where plain transformers gives another answer in another batch.
        own: how far the plain Trainer in bfloat16 is from itself in float32, which ftkit may be as well.
    """

    job: Job
    verdict: str = ""
    detail: str = ""
    gaps: dict[str, float] = field(default_factory=dict)
    own: dict[str, float] = field(default_factory=dict)
    levers: str = ""
    seconds: float = 0.0


def jobs_of(kind: str, *, brief: bool = False) -> list[Job]:
    """The sensible jobs of a type, and for each task that it cannot do one that is to be refused.

    Args:
        brief: without refusals, and of tasks, strategies and variants those that differ most.
    """
    role, own = role_of(kind), OWN_TASK[role_of(kind)]
    jobs = [Job(kind, *pair) for pair in (BRIEF if brief else ALL) + [(own, "full"), (own, "lora")]]
    if role == "decoder":
        jobs += [Job(kind, "instruction", "full", "packed"), Job(kind, "language-modeling", "full", "packed")]
    if kind in QUANTIZED:
        jobs += [Job(kind, own, "qlora"), Job(kind, "text-classification", "qlora")]
    if brief:
        return [job for job in jobs if can(kind, job.task) and job.strategy != "qlora"]
    jobs += [Job(kind, task, "full", "accumulation") for task in (own, "pairs", "token-classification")]
    refused = [task for task in CLASSES if not can(kind, task) and (task, role) != ("summarization", "decoder")]
    return [job for job in jobs if can(kind, job.task)] + [Job(kind, task, "full", "refusal") for task in refused]


def can(kind: str, task: str) -> bool:
    """Whether transformers has a class for it and the type reads as the task needs."""
    return kind in CLASSES[task] and ROLE_OF_TASK.get(task, role_of(kind)) == role_of(kind)


def run_job(job: Job, place: Place) -> Outcome:
    """Do the job; whatever goes wrong is its verdict."""
    outcome, started = Outcome(job), time.monotonic()
    try:
        VARIANTS["drawn" if place.dropout else job.variant](job, place, outcome)
        limits = limits_of(job, place)
        judge(outcome, limits | {name: max(limits[name], own) for name, own in outcome.own.items()})
    except UserError as error:
        outcome.verdict, outcome.detail = "refused", str(error).split("\n")[0].replace(str(place.models), "…")
    except Exception as error:  # a sweep goes on; the line says what it was and where
        outcome.verdict, outcome.detail = "crash", f"{type(error).__name__}: {first_words(error)} [{place_of(error)}]"
    outcome.seconds = time.monotonic() - started
    gc.collect()
    return outcome


def limits_of(job: Job, place: Place) -> dict[str, float]:
    if place.dropout:
        return DRAWN_LIMITS
    return BFLOAT16_LIMITS if place.bf16 or job.strategy == "qlora" else LIMITS


def judge(outcome: Outcome, limits: dict[str, float]) -> None:
    beyond = [
        f"{name} {found:.1e}" for name, found in outcome.gaps.items() if not found <= limits[name.removesuffix(" off")]
    ]
    outcome.verdict = outcome.verdict or ("wrong" if beyond else "equal")
    outcome.detail = "; ".join(filter(None, [*beyond, outcome.detail]))


def first_words(error: BaseException) -> str:
    return " ".join(str(error).split("\n")[0].split())[:160]


def place_of(error: BaseException) -> str:
    """The last place in ftkit, and the last of all, that an exception went through."""
    frames, trace = [], error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        frames.append((code.co_filename, f"{Path(code.co_filename).name}:{trace.tb_lineno} {code.co_name}"))
        trace = trace.tb_next
    own = [words for file, words in frames if "/ftkit/" in file]
    return " > ".join(dict.fromkeys([*own[-1:], frames[-1][1]]))


def recipe_of(job: Job, place: Place, speed: dict[str, Any], **training: Any) -> Recipe:
    """The recipe of a job with these levers."""
    strategy: dict[str, Any] = {"name": job.strategy}
    if job.strategy in ("lora", "qlora"):
        strategy |= {"r": 4, "target_modules": "all-linear", "init_lora_weights": False}
    if job.strategy == "transfer" and speed is OFF:
        strategy["cache_frozen"] = False
    data: dict[str, Any] = {part: str(place.rows / f"{job.task}-{part}.jsonl") for part in ("train", "eval")}
    data |= {"gate": {"overlap": 1.0, "similarity": 1.0}, **({"packing": True} if job.variant == "packed" else {})}
    own = {"eval_strategy": "no", "per_device_eval_batch_size": 9, "bf16": place.bf16}
    values = {
        "task": "text-classification" if job.task == "pairs" else job.task,
        "model": {"name": str(folder_of(job, place))}, "strategy": strategy, "data": data, "speed": speed,
        "training": TRAINING | own | training, "evaluation": {"verify": False, "general_text": False},
    }  # fmt: skip
    return load_values(values)


def folder_of(job: Job, place: Place) -> Path:
    return place.models / ("model" if job.variant == "steps" else "plain")


def compare_steps(job: Job, place: Place, outcome: Outcome) -> None:
    """All levers, none, and the plain Trainer; then what was measured and saved."""
    parts = build(recipe_of(job, place, OPT_IN if job.task == "token-classification" else {}), place.out / "on", [])
    start = learnt_weights(parts)
    ours = trained(parts, outcome)
    off = build(recipe_of(job, place, OFF), place.out / "off", [])
    with off.trainer.scaling_labels():
        outcome.gaps["start"] = worst(apart(weight, start[name]) for name, weight in learning(off.model))
    rows = learnt_rows(parts)
    none, theirs = traced(off.trainer), traced(plain_of(job, place, parts, start, rows))
    if place.bf16:
        outcome.own = trace_gaps(theirs, traced(plain_of(job, place, parts, start, rows, bf16=False)))
    outcome.gaps |= trace_gaps(ours, theirs)
    outcome.gaps |= {f"{name} off": found for name, found in trace_gaps(none, theirs).items()}
    judge_measured(job, place, parts, outcome)


def compare_accumulation(job: Job, place: Place, outcome: Outcome) -> None:
    """Three batches of two rows a step against one of six; the last step has three rows."""
    cut = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 3}
    parts = build(recipe_of(job, place, {}, **cut), place.out / "cut", [])
    start = weights_of(parts.model)
    ours = trained(parts, outcome)
    plain = plain_of(job, place, parts, start, parts.data.encoded["train"].dataset)
    outcome.gaps |= trace_gaps(ours, traced(plain))
    if padding_changes(job, plain.model, parts):
        outcome.verdict, outcome.detail = "padding", "rows of another batch are others to plain transformers"


def compare_packed(job: Job, place: Place, outcome: Outcome) -> None:
    """All blocks in one step, against their examples as rows of the plain Trainer; and rows that are measured."""
    parts = build(recipe_of(job, place, {}, per_device_train_batch_size=WHOLE), place.out / "packed", [])
    start = weights_of(parts.model)
    ours = trained(parts, outcome)
    rows = Dataset.from_list([row for block in parts.data.encoded["train"].dataset for row in examples_of(block)])
    plain = plain_of(job, place, parts, start, rows, per_device_train_batch_size=len(rows))
    outcome.gaps |= trace_gaps(ours, traced(plain))
    judge_measured(job, place, parts, outcome)


def expect_refusal(job: Job, place: Place, outcome: Outcome) -> None:
    """A task that the type cannot do."""
    build(recipe_of(job, place, {}), place.out / "refused", [])
    outcome.verdict, outcome.detail = "wrong", "it is not refused"


def compare_draws(job: Job, place: Place, outcome: Outcome) -> None:
    """All rows in each step, without learning: many draws of dropout, with all levers and in the plain Trainer.

    Under `transfer` a body draws nothing, which a plain script would have to say: there ftkit without levers is compared.
    """
    still = {"per_device_train_batch_size": WHOLE, "max_steps": DRAWS, "learning_rate": 0.0}
    parts = build(recipe_of(job, place, {}, **still), place.out / "on", [])
    start = weights_of(parts.model)
    ours = trained(parts, outcome, draws=True)
    if job.strategy == "transfer":
        other = build(recipe_of(job, place, OFF, **still), place.out / "off", []).trainer
    else:
        other = plain_of(job, place, parts, start, parts.data.encoded["train"].dataset, **still)
    outcome.gaps |= drawn_gaps(ours, traced(other, draws=True))


VARIANTS: dict[str, Callable[[Job, Place, Outcome], None]] = {
    "steps": compare_steps,
    "accumulation": compare_accumulation,
    "packed": compare_packed,
    "refusal": expect_refusal,
    "drawn": compare_draws,
}


def learnt_weights(parts: Parts) -> Tensors:
    """The weights as steps find them: of a head that gives numbers, in standard units."""
    with parts.trainer.scaling_labels():
        return weights_of(parts.model)


def learnt_rows(parts: Parts) -> Any:
    """The training rows for a plain script, which is told to learn numbers in the same units."""
    rows, found = parts.data.encoded["train"].dataset, parts.trainer.label_scale
    return rows if found is None else rows.map(lambda row: {"labels": standard(found.scale, row["labels"])})


def standard(scale: Scale, label: float) -> float:
    return float(scale.standard(torch.tensor(label)))


def weights_of(model: Any) -> Tensors:
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def trained(parts: Parts, outcome: Outcome, *, draws: bool = False) -> Trace:
    """ftkit's own training, and which levers were on."""
    encoded = parts.data.encoded["train"].dataset
    take_kept_rows(parts)
    kept = ["kept"] if parts.trainer.train_dataset is not encoded else []
    outcome.levers = " ".join([name for name, on in speed_facts(parts.trainer).items() if on is True] + kept)
    return traced(parts.trainer, draws=draws)


def plain_of(job: Job, place: Place, parts: Parts, start: Tensors, rows: Any, **training: Any) -> Any:
    """The plain Trainer on the same encoded rows, from the same weights."""
    model, adapted = parts.model, isinstance(parts.model, PeftModel)
    base = plain_base(parts.task.auto_class(parts.config), folder_of(job, place), parts.config, quantization_of(parts))
    tokenizer = plain_tokenizer(folder_of(job, place))
    base.config.pad_token_id = tokenizer.pad_token_id  # after loading: an embedding's padding entry learns nothing
    adapter = model.peft_config["default"] if adapted else None
    plain = plain_model(base, adapter, start, [name for name, _ in learning(model)])
    return plain_trainer(plain, job.task, rows, tokenizer, place.out / "plain", TRAINING | {"bf16": place.bf16} | training)


def quantization_of(parts: Parts) -> Any:
    base = parts.model.get_base_model() if isinstance(parts.model, PeftModel) else parts.model
    return getattr(base.config, "quantization_config", None)  # of 4-bit models only


def examples_of(block: dict[str, list[int]]) -> list[dict[str, list[int]]]:
    """The examples of a packed block, which begin where positions do."""
    begins = [index for index, position in enumerate(block["position_ids"]) if position == 0]
    cuts = [slice(begin, end) for begin, end in zip(begins, [*begins[1:], None], strict=True)]
    return [{name: block[name][cut] for name in ("input_ids", "labels")} for cut in cuts]


def apart(first: torch.Tensor, second: torch.Tensor) -> float:
    """The largest difference; none where there is nothing, as in MobileBERT's head over an embedding as wide as its body."""
    return float((first - second).abs().max()) if first.numel() else 0.0


def judge_measured(job: Job, place: Place, parts: Parts, outcome: Outcome) -> None:
    """What was measured, and the saved folder, against plain transformers."""
    folder, encoded, rows = place.out / "model", parts.data.encoded["eval"].dataset, eval_rows(parts)
    measured = measured_loss(parts, encoded)
    parts.trainer.args.per_device_eval_batch_size = 1
    alone = measured_loss(parts, encoded)
    save_model(parts.model, parts.tokenizer, folder)
    auto_class = parts.task.auto_class(parts.config)
    model = reloaded(auto_class, folder, folder_of(job, place), quantization_of(parts))
    collate = plain_collator(job.task, plain_tokenizer(folder), model)
    batch = collate(rows)
    with torch.autocast("cpu", torch.bfloat16, enabled=place.bf16):
        theirs, ours = logits_of(model, batch), logits_of(parts.model.eval(), batch)
        padded = mean_loss([summed_loss(job.task, theirs, batch["labels"])])
        plain = mean_loss(alone_losses(job, model, collate, rows))
    outcome.gaps |= {
        "reload": float((theirs - ours).abs().max() / theirs.abs().max().clamp(min=1)),
        "measured": gap(measured, plain),
        "batch": gap(alone, measured),
    }
    if (own := gap(plain, padded)) > limits_of(job, place)["batch"]:
        outcome.detail = f"padding changes what plain transformers gives by {own:.0e}"


def eval_rows(parts: Parts) -> list[dict[str, Any]]:
    """The eval rows, with labels in the units that the saved model gives."""
    dataset, found = parts.data.encoded["eval"].dataset, parts.trainer.label_scale
    rows = [dataset[index] for index in range(len(dataset))]
    if found is None or found.in_head:
        return rows
    return [row | {"labels": standard(found.scale, row["labels"])} for row in rows]


def measured_loss(parts: Parts, encoded: Any) -> float:
    output = predict_by_length(parts.trainer, encoded)
    prediction = parts.task.as_saved(transformers.EvalPrediction(output.predictions, output.label_ids))
    return parts.task.resamplers(prediction)[parts.task.own_loss].value()


def alone_losses(job: Job, model: Any, collate: Any, rows: list[dict[str, Any]]) -> list[tuple[float, int]]:
    batches = [collate([row]) for row in rows]
    return [summed_loss(job.task, logits_of(model, batch), batch["labels"]) for batch in batches]


def padding_changes(job: Job, model: Any, parts: Parts) -> bool:
    """Whether plain transformers has another loss for rows alone than for a batch of them."""
    rows, collate = eval_rows(parts), plain_collator(job.task, parts.tokenizer, model)
    batch = collate(rows)
    together = mean_loss([summed_loss(job.task, logits_of(model.eval(), batch), batch["labels"])])
    return gap(mean_loss(alone_losses(job, model, collate, rows)), together) > LIMITS["losses"]
