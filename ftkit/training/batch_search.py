"""The batch of a run where the recipe says `auto`: tried on a GPU, estimated on a CPU.

Where memory runs out on a GPU there is an error to catch. On a CPU the kernel ends the process, so that nothing is tried
there: what a step holds comes from the plan, and the room from what the machine and its container have left.
"""

import torch

from ftkit import console
from ftkit.errors import UserError
from ftkit.models.load import first_line, lacks_memory
from ftkit.recipe.schema import Recipe
from ftkit.training.batch_size import BatchSize, batch_sizes, effective_batch, largest_fitting, row_by_row
from ftkit.training.dispatcher import Parts
from ftkit.training.footprint import optimizer_bytes
from ftkit.training.memory import room_bytes
from ftkit.training.planner import Planner
from ftkit.training.probe import longest_batch
from ftkit.training.rehearsal import enable_checkpointing, learning_tensors
from ftkit.training.setup import figures_of
from ftkit.units import size_words


def find_batch(recipe: Recipe, parts: Parts, limit: int | None = None) -> BatchSize:
    """The largest batch that fits, and the trainer set to it.

    Args:
        parts: as built row by row.
        limit: bytes that the run may take, where there are more.

    Raises:
        UserError: not even one row fits, or there are several processes, which would each find another batch.
    """
    arguments = parts.trainer.args
    if arguments.world_size > 1:
        message = f"auto finds the batch of one process, and there are {arguments.world_size}"
        raise UserError(message, "set a number", key="training.per_device_train_batch_size")
    sizes = batch_sizes(effective_batch(recipe), max(1, arguments.n_gpu))
    with console.status("looking for the largest batch that fits"):
        if arguments.device.type != "cuda":
            room = room_bytes()
            found = estimated(recipe, parts, sizes, "cpu", min(room, limit or room))
        else:
            most = estimated(recipe, parts, sizes, "cuda", limit) if limit else sizes[0]
            found = tried(parts, sizes[sizes.index(most) :])
    console.say(f"batch: {found.rows} rows at a time, {found.accumulation} to a step of {found.effective}")
    arguments.per_device_train_batch_size, arguments.gradient_accumulation_steps = found.rows, found.accumulation
    parts.trainer._train_batch_size = arguments.train_batch_size
    return found


def estimated(recipe: Recipe, parts: Parts, sizes: list[BatchSize], device: str, room: int) -> BatchSize:
    """By the plan; of a stream nobody knows the longest row, so that it is taken to be as long as may be."""
    figures = None if parts.data.stream else figures_of(parts.data)
    task, config = parts.task, parts.config
    planner = Planner(row_by_row(recipe), task.auto_class(config), config, device, new_head=task.new_head)
    planner.settle(parts.trainer.settled)
    try:
        found = largest_fitting(sizes, lambda size: planner.needed_with(size.applied(recipe), figures) <= room)
    except UserError:
        raise
    except Exception as error:  # whatever a model does on shapes alone
        message = f"what a step takes cannot be estimated: {first_line(error)}"
        raise UserError(message, "set a number", key="training.per_device_train_batch_size") from error
    console.say(f"a step is estimated to fit into the {size_words(room)} that there are")
    return found


def tried(parts: Parts, sizes: list[BatchSize]) -> BatchSize:
    """By steps on the longest rows; the model is afterwards as it was."""
    trainer, arguments = parts.trainer, parts.trainer.args
    states = optimizer_bytes(str(arguments.optim), learning_tensors(parts.model))
    forward = parts.model.forward
    model = trainer.accelerator.prepare_model(parts.model, evaluation_mode=True)  # as training wraps it, but alone
    if arguments.activation_checkpointing:
        enable_checkpointing(parts.model, arguments.activation_checkpointing_kwargs)
    try:
        with trainer.stepping():
            return largest_fitting(sizes, lambda size: survives(parts, model, size, states))
    finally:
        if arguments.activation_checkpointing:
            parts.model.activation_checkpointing_disable()
        trainer.accelerator.free_memory()
        parts.model.forward = forward  # accelerate's own way back takes the model's decorators off too
        parts.model.eval()


def survives(parts: Parts, model: torch.nn.Module, size: BatchSize, states: int) -> bool:
    """Whether the batch of the longest rows goes forward and backward beside the states of the optimizer."""
    trainer = parts.trainer
    batch = longest_batch(parts, size.rows)
    trainer.current_gradient_accumulation_steps = size.accumulation
    held = torch.empty(0, dtype=torch.uint8)
    try:
        held = torch.empty(states, dtype=torch.uint8, device=trainer.args.device)
        for _ in range(min(size.accumulation, 2)):  # the second beside the gradients of the first
            items = trainer._get_num_items_in_batch([batch], trainer.args.device)
            trainer.compute_batch(model.train(), batch, items)
    except RuntimeError as error:
        if not lacks_memory(error):
            raise
        fits = False
    else:
        fits = True
    del held
    parts.model.zero_grad()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return fits
