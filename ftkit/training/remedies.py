"""What may make a run fit into memory: changes of the recipe, the least harmful first."""

from collections.abc import Callable, Iterator
from dataclasses import replace

from ftkit.recipe.schema import Lora, QLora, Recipe
from ftkit.training.setup import DataFigures, Setup

ADAPTER = {"r": 16, "target_modules": "all-linear"}
Rung = Callable[[Setup, Recipe, DataFigures | None], Iterator[tuple[str, Setup]]]


def with_fewer_rows_measured(setup: Setup, recipe: Recipe, figures: DataFigures | None) -> Iterator[tuple[str, Setup]]:
    """The same scores, up to rounding, in more and smaller parts."""
    rows, answers = setup.measuring.rows, setup.measuring.answers
    while rows > 1:
        rows = rows // 2
        beams = recipe.evaluation.generation.num_beams
        fewer = (min(answers[0], rows * beams), answers[1]) if answers else None
        change = f"training.per_device_eval_batch_size={rows}"
        yield change, replace(setup, measuring=replace(setup.measuring, rows=rows, answers=fewer))


def without_general_text(setup: Setup, recipe: Recipe, figures: DataFigures | None) -> Iterator[tuple[str, Setup]]:
    """The same training; what the model forgets is not known."""
    if setup.measuring.texts:
        yield "evaluation.general_text=false", replace(setup, measuring=replace(setup.measuring, texts=None))


def with_checkpointing(setup: Setup, recipe: Recipe, figures: DataFigures | None) -> Iterator[tuple[str, Setup]]:
    """The same losses; a second forward pass in every step."""
    if setup.checkpointing is None:
        yield "training.activation_checkpointing=true", replace(setup, checkpointing={})


def with_smaller_batches(setup: Setup, recipe: Recipe, figures: DataFigures | None) -> Iterator[tuple[str, Setup]]:
    """The same effective batch in more, smaller parts."""
    rows, accumulation = setup.rows, setup.accumulation
    while rows > 1 and rows % 2 == 0:
        rows, accumulation = rows // 2, accumulation * 2
        change = f"training.per_device_train_batch_size={rows} training.gradient_accumulation_steps={accumulation}"
        yield change, replace(setup, rows=rows, accumulation=accumulation)
    if rows > 1:
        rows, accumulation = 1, accumulation * rows
        change = f"training.per_device_train_batch_size=1 training.gradient_accumulation_steps={accumulation}"
        yield change, replace(setup, rows=rows, accumulation=accumulation)


def with_bf16_base(setup: Setup, recipe: Recipe, figures: DataFigures | None) -> Iterator[tuple[str, Setup]]:
    """Frozen weights rest in half the bytes; what learns stays in float32."""
    if setup.strategy.name != "full" and setup.dtype == "float32":
        yield "model.dtype=bfloat16", replace(setup, dtype="bfloat16")


def with_shorter_rows(setup: Setup, recipe: Recipe, figures: DataFigures | None) -> Iterator[tuple[str, Setup]]:
    """No shorter than 99 % of the rows; without the data nobody knows what it would cut."""
    if figures and figures.p99 < setup.length and not recipe.data.packing:
        measuring = replace(setup.measuring, length=min(setup.measuring.length, figures.p99))
        change = f"model.max_length={figures.p99} (99 % of the rows are no longer)"
        yield change, replace(setup, length=figures.p99, measuring=measuring)


def with_lora(setup: Setup, recipe: Recipe, figures: DataFigures | None) -> Iterator[tuple[str, Setup]]:
    """Another method: adapters on all linear layers in place of all weights."""
    if setup.strategy.name == "full" and "lora" in recipe.spec.strategies:
        block = Lora(name="lora", **ADAPTER)
        change = "strategy {name: lora, r: 16, target_modules: all-linear}"
        yield change, replace(setup, strategy=block)
        yield f"{change} with model.dtype=bfloat16", replace(setup, strategy=block, dtype="bfloat16")


def with_qlora(setup: Setup, recipe: Recipe, figures: DataFigures | None) -> Iterator[tuple[str, Setup]]:
    """The same adapters over a base in 4 bits."""
    if setup.strategy.name == "lora" and "qlora" in recipe.spec.strategies:
        values = {name: getattr(setup.strategy, name) for name in setup.strategy.model_fields_set - {"name"}}
        yield "strategy.name=qlora", replace(setup, strategy=QLora(name="qlora", **values))


LADDER: tuple[Rung, ...] = (
    with_fewer_rows_measured, with_checkpointing, with_smaller_batches, with_bf16_base, without_general_text,
    with_shorter_rows, with_lora, with_qlora,
)  # fmt: skip
