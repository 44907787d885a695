"""Faults of the libraries that give wrong results without a word, and what ftkit does about each.

One function a fault: what goes wrong, where that is said upstream, and when the function can go. Each has a test in
tests/test_compat.py that fails when its function does nothing. Versions are those of constraints.txt.
"""

import copy
import logging
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import datasets
import torch
import transformers
from torch import nn
from torch.utils.data import DataLoader
from transformers.integrations import moe
from transformers.trainer_pt_utils import LengthGroupedSampler

from ftkit.errors import UserError

T = TypeVar("T")


def divide_loss_by_accumulation(model: nn.Module) -> None:
    """Losses and gradients multiplied by the accumulation steps, for every head but causal LM's.

    The Trainer takes any forward that accepts **kwargs for one that divides its loss by `num_items_in_batch`, and then
    leaves out the division by `gradient_accumulation_steps`. Clipping bites too early, SGD steps too far.
    Upstream: https://github.com/huggingface/transformers/issues/47688. Goes when that is fixed in all supported versions.
    """
    model.accepts_loss_kwargs = False  # type: ignore[assignment]


def keep_4bit_weights(model: nn.Module) -> None:
    """LoRA gradients lost, and merges ruined, after the first evaluation of a 4-bit model on a CPU with AVX512-BF16.

    In eval mode `Linear4bit.forward` repacks its weight in place for a kernel that has no backward, and train() does not
    undo it: from then on no gradient passes the layer, and dequantizing it gives noise.
    Upstream: https://github.com/bitsandbytes-foundation/bitsandbytes/blob/0.50.2/bitsandbytes/nn/modules.py, class
    Linear4bit. Goes when evaluating no longer changes the weights there.
    """
    for module in model.modules():
        if type(module).__name__ == "Linear4bit":
            module.support_avx512bf16_for_cpu = False  # type: ignore[assignment]


def answer_in_autocast(model: nn.Module) -> None:
    """Float32 from 4-bit layers under autocast, where any other linear layer gives the precision of autocast.

    What a model derives from the type of such an answer is wrong for the products that it makes next: DeBERTa fills its
    bfloat16 scores with the least float32, which torch refuses. The values were computed in the lesser precision already.
    Upstream: https://github.com/bitsandbytes-foundation/bitsandbytes/blob/0.50.2/bitsandbytes/nn/modules.py,
    `Linear4bit.forward`, its last line. Goes when that casts to the type of autocast where there is one.
    """
    for module in model.modules():
        if type(module).__name__ == "Linear4bit":
            module.register_forward_hook(_cast_answer)


def _cast_answer(module: nn.Module, inputs: tuple[Any, ...], answer: torch.Tensor) -> torch.Tensor:
    kind = answer.device.type
    return answer.to(torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else answer


def leave_as_loading_does(model: transformers.PreTrainedModel) -> None:
    """Weights that a saved file has and whoever loads it does not: Funnel's padding row, which a tied head trains.

    `from_pretrained` has the model draw what its file lacks, and skips tensors that are marked as loaded; of a row of a
    tensor, as `_init_weights` of Funnel zeroes one, it cannot know. The trained model gets it before it is saved and
    measured, so that the scores are those of the model that its users get. Whatever else drawing would change is put back,
    and code of a model's own is not asked.
    Upstream: https://github.com/huggingface/transformers/blob/v5.23.0/src/transformers/models/funnel/modeling_funnel.py,
    `_init_weights`. Goes when loading leaves every row that a file has.
    """
    if not type(model).__module__.startswith("transformers."):
        return
    with torch.random.fork_rng(), torch.no_grad():
        for module in model.modules():
            tensors = [tensor for part in (module, *module.children()) for tensor in own_tensors(part)]
            before = [tensor.detach().clone() for tensor in tensors]
            for tensor in tensors:
                tensor._is_hf_initialized = True  # type: ignore[attr-defined]
            model._init_weights(module)
            for tensor, own in zip(tensors, before, strict=True):
                if not _has_a_row_of_zeros_more(tensor, own):
                    tensor.copy_(own)


def own_tensors(module: nn.Module) -> list[torch.Tensor]:
    """A module's own parameters and buffers."""
    return [*module.parameters(recurse=False), *module.buffers(recurse=False)]


def _has_a_row_of_zeros_more(tensor: torch.Tensor, before: torch.Tensor) -> bool:
    """Whether one row of a matrix became zero, and nothing else changed."""
    if tensor.dim() != 2:
        return False
    changed = (tensor != before).any(1)
    return int(changed.sum()) == 1 and not bool(tensor[changed].any())


def hold_in_float32(model: nn.Module) -> None:
    """Weights trained in the checkpoint's bfloat16 or float16, in which most small updates vanish.

    `from_pretrained` takes the checkpoint's own precision unless told otherwise, and the Trainer trains what it gets.
    Upstream: https://huggingface.co/docs/transformers/main_classes/model, `dtype="auto"` as the default of version 5. Goes
    when the Trainer keeps float32 copies of the weights that learn.
    """
    for parameter in model.parameters():
        if parameter.requires_grad and parameter.dtype != torch.float32:
            parameter.data = parameter.data.float()


def pad_by_position(tokenizer: Any, model: Any = None) -> Any:
    """End tokens masked as padding where the pad token is the end token, so that a model never learns to stop.

    DataCollatorForLanguageModeling builds labels anew from the input and masks every pad token's id. The collator for
    sequence to sequence pads the labels it is given with -100, and the attention mask follows from the lengths. Some models
    (FSMT) write into the labels of which they make the decoder's input, so that padding is learnt: they get a copy.
    Upstream: https://github.com/huggingface/transformers/blob/v5.23.0/src/transformers/data/data_collator.py,
    `torch_call`. Goes when labels that are given are kept there, and `shift_tokens_right` changes none.

    Args:
        model: an encoder-decoder makes its decoder's input of the labels, which label smoothing takes away before forward.
    """
    makes = model is not None and hasattr(model, "prepare_decoder_input_ids_from_labels")  # as the collator itself asks
    return transformers.DataCollatorForSeq2Seq(tokenizer, ShiftsCopies(model) if makes else None)


class ShiftsCopies:
    """What the collator asks of a model: a decoder's input, made of a copy of the labels."""

    def __init__(self, model: Any) -> None:
        self.model = model

    def prepare_decoder_input_ids_from_labels(self, labels: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.model.prepare_decoder_input_ids_from_labels(labels=labels.clone())
        return found


def modules_not_quantized(head: tuple[str, ...]) -> list[str] | None:
    """Heads quantized to 4 bits, which then cannot learn, where they are not called score or lm_head.

    Upstream: https://github.com/huggingface/transformers/blob/v5.23.0/src/transformers/quantizers/base.py,
    `get_modules_to_not_convert`. Goes when new heads are left out by themselves.

    Returns:
        The value of `llm_int8_skip_modules` (4-bit loading reads it too), or None for the library's own choice.
    """
    return list(head) or None


def own_copy(value: T) -> T:
    """A list of modules changed under your hands: LoraConfig adds the names of heads to the very list it is given.

    Upstream: https://github.com/huggingface/peft/blob/v0.21.2/src/peft/peft_model.py,
    `PeftModelForSequenceClassification`. Goes when peft copies the list.
    """
    return copy.deepcopy(value)


def require_targets(model: nn.Module, targets: list[str] | str | None) -> None:
    """One mistyped target among several ignored: peft only complains when none of them matches.

    Upstream: https://github.com/huggingface/peft/blob/v0.21.2/src/peft/tuners/tuners_utils.py, `inject_adapter`. Goes when
    each name is checked there.

    Raises:
        UserError: a target matches no layer; the layers there are, are listed.
    """
    if targets is None or targets == "all-linear":
        return
    layers = [name for name, module in model.named_modules() if is_adaptable(module)]
    for target in [targets] if isinstance(targets, str) else targets:
        if isinstance(targets, str) and not _compiles(target):
            raise UserError(f"target_modules: '{target}' is no regular expression", "mend it", key="strategy.target_modules")
        if isinstance(targets, str):
            found = any(re.fullmatch(target, name) for name in layers)
        else:
            found = any(name == target or name.endswith(f".{target}") for name in layers)
        if not found:
            names = ", ".join(dict.fromkeys(name.rpartition(".")[2] for name in layers if "embed" not in name))
            raise UserError(
                f"target_modules: '{target}' matches no layer", f"this model has {names}", key="strategy.target_modules"
            )


def _compiles(pattern: str) -> bool:
    try:
        re.compile(pattern)
    except re.error:
        return False
    return True


def is_adaptable(module: nn.Module) -> bool:
    """Whether a LoRA adapter can be put on the module."""
    return isinstance(module, nn.Linear | nn.Embedding | nn.Conv1d | nn.Conv2d) or type(module).__name__ == "Conv1D"


@contextmanager
def without_router_loss(model: Any) -> Iterator[None]:
    """Generation that fails, and losses of eval rows that hang on the other rows of a batch, under `output_router_logits`.

    A mixture of experts then adds the loss of its router to its own, which is one of a whole batch. While it generates, the
    masks that this loss is computed with are longer than what the router saw. Inside the block the router says nothing.
    Upstream: https://github.com/huggingface/transformers/blob/v5.23.0/src/transformers/models/mixtral/modeling_mixtral.py,
    `load_balancing_loss_func`. Goes when that loss stands apart from the model's, and generating leaves it out.
    """
    was_on = switch_router_loss(model, on=False)
    try:
        yield
    finally:
        if was_on:
            switch_router_loss(model, on=True)


def switch_router_loss(model: Any, *, on: bool) -> bool:
    """Let a mixture of experts add its router's loss to its own, or not; whether it did so before."""
    config = model.config.get_text_config()
    before = bool(config.to_dict().get("output_router_logits"))
    if before or on:
        config.output_router_logits = on
    return before


class RepeatableLengthGroups(LengthGroupedSampler):
    """Rows grouped by length in an order that follows from the seed and the epoch alone."""

    def __init__(self, groups: LengthGroupedSampler, seed: int) -> None:
        super().__init__(groups.batch_size, lengths=groups.lengths)
        self.seed, self.epoch = seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Called by accelerate's data loader when an epoch begins."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        self.generator = torch.Generator().manual_seed(self.seed + self.epoch)
        return iter(super().__iter__())


class Trainer(transformers.Trainer):
    """transformers' Trainer, but for two faults.

    Rows measured in another order than they have, or fewer of them: grouping by length and dropping the last batch are
    meant for training, and the Trainer does both when it evaluates and predicts too. And an epoch grouped by length that
    is resumed midway goes on in another order, since the order is drawn from whatever state the process is in.
    Upstream: https://github.com/huggingface/transformers/blob/v5.23.0/src/transformers/trainer.py, `_get_eval_sampler`,
    `get_test_dataloader`, `_get_train_sampler`. Goes when evaluation keeps the order of the rows, and LengthGroupedSampler
    is seeded by epoch.
    """

    data_collator: Any
    train_collator: Any = None  # of training batches, where they are made otherwise than those of evaluation

    def get_train_dataloader(self) -> DataLoader[Any]:
        before, self.data_collator = self.data_collator, self.train_collator or self.data_collator
        try:
            return super().get_train_dataloader()
        finally:
            self.data_collator = before

    def get_eval_dataloader(self, eval_dataset: Any = None) -> DataLoader[Any]:
        with rows_in_order(self.args):
            return super().get_eval_dataloader(eval_dataset)

    def get_test_dataloader(self, test_dataset: Any) -> DataLoader[Any]:
        with rows_in_order(self.args):
            return super().get_test_dataloader(test_dataset)

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        sampler = super()._get_train_sampler(train_dataset)
        seed = self.args.seed if self.args.data_seed is None else self.args.data_seed
        return RepeatableLengthGroups(sampler, seed) if type(sampler) is LengthGroupedSampler else sampler


@contextmanager
def rows_in_order(arguments: transformers.TrainingArguments) -> Iterator[None]:
    """Inside the block the arguments say that every row is taken, in its order."""
    before = {name: getattr(arguments, name) for name in ("train_sampling_strategy", "dataloader_drop_last")}
    arguments.train_sampling_strategy, arguments.dataloader_drop_last = "sequential", False
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(arguments, name, value)


def refuse_idle_fp16(fp16: bool) -> None:
    """fp16 on a CPU that is silently float32: the Trainer takes the flag and changes nothing.

    Upstream: https://github.com/huggingface/transformers/blob/v5.23.0/src/transformers/training_args.py. Goes when the
    Trainer refuses it, as it does bf16 where there is none.

    Raises:
        UserError: fp16 is asked for and there is no GPU.
    """
    if fp16 and not torch.cuda.is_available():
        raise UserError(
            "fp16 has no effect without a GPU",
            "remove it; bf16 is used where the processor has it",
            key="training.fp16",
        )


@contextmanager
def grouped_products_on_shapes() -> Iterator[None]:
    """No plan for a mixture of experts in float32: on shapes torch refuses the product that its CPU kernel computes.

    Inside the block transformers takes its own product in groups, which knows its shapes in every precision, and holds the
    same forward and backward.
    Upstream: https://github.com/pytorch/pytorch/blob/v2.13.0/torch/_meta_registrations.py, `_meta_grouped_mm_common`. Goes
    when float32 is taken there.
    """
    known, moe._can_use_grouped_mm = moe._can_use_grouped_mm, lambda *_: False
    try:
        yield
    finally:
        moe._can_use_grouped_mm = known


def hush_libraries() -> None:
    """Messages of a normal run that tell its user nothing."""
    warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*")  # peft 0.21 against transformers 5.23
    warnings.filterwarnings("ignore", message=".*find_unused_parameters.*")
    # peft at each checkpoint: whether the embedding grew, which no strategy makes it, it may not ask the hub
    warnings.filterwarnings("ignore", message="Could not find a config file in .* vocabulary was not modified")
    warnings.filterwarnings("ignore", message=".*Paged optimizers are not supported on CPU.*")
    # a traceback for each operation that shapes alone do not answer; who asks tells it in one line
    logging.getLogger("torch._subclasses.fake_tensor").setLevel(logging.CRITICAL)
    datasets.disable_progress_bars()
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
