"""The Trainer with ftkit's ways of doing the same steps in less time and memory."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cached_property
from typing import Any

import torch
from accelerate.utils.memory import clear_device_cache
from torch import nn

from ftkit import compat
from ftkit.data.packing import is_flash
from ftkit.models.load import lacks_memory
from ftkit.models.resting import RestingBase
from ftkit.recipe.schema import Speed
from ftkit.training.arguments import autocast_dtype, precision_words
from ftkit.training.dropout import drop, dropout_layers, dropping
from ftkit.training.embedding_gradient import adding_rows, learning_embeddings, leaves_gradients
from ftkit.training.fused_adapters import fusing_adapters, plain_adapters
from ftkit.training.fused_gelu import fusing_gelu, written_out
from ftkit.training.kernels import Names, attending, borrowed_names
from ftkit.training.micro_batches import Part, count_rows, cut_by_length, cut_rows, part_cost
from ftkit.training.out_of_memory import Step, halved
from ftkit.training.supervised_loss import Head, plain_head
from ftkit.training.unpadded import UnpaddedModel
from ftkit.training.ways import Settled, Ways, wanted_ways


class Trainer(compat.Trainer):
    """A step's loss and gradients are those of the plain Trainer, up to rounding and to the draws of dropout.

    Attributes:
        head: of a decoder whose logits are made where they are supervised only; then predictions are each row's summed loss
            and number of tokens, in place of logits.
        cuts: whether batches are cut into micro-batches of rows of like length.
        unpadded: the model whose blocks see no padding while it learns; batches are not cut then.
        drops: whether dropout draws as in `dropout.py`.
        gelu: whether GELU that is written out is one operation, see `fused_gelu.py`.
        decoder: whether a row's first label does not count.
        adds_rows: whether embeddings add the rows of a batch to their gradient, see `embedding_gradient.py`.
        fuses: whether adapters are computed with their layers, see `fused_adapters.py`.
        resting: the frozen base, where it rests in bfloat16 while the model trains.
        retries: whether a step in which memory runs out is done again in smaller parts.
        most_rows: of a part, once memory ran out.
        tell: is told of it.
        attention: of training, where it is not that of the loaded model.
        liger: where Liger's kernels are in the model's layers, the names that belong to them.
    """

    head: Head | None = None
    cuts: bool = False
    unpadded: UnpaddedModel | None = None
    drops: bool = False
    gelu: bool = False
    decoder: bool = False
    adds_rows: bool = False
    fuses: bool = False
    resting: RestingBase | None = None
    retries: bool = False
    most_rows: int | None = None
    tell: Callable[[dict[str, int]], None] | None = None
    attention: str | None = None
    liger: Names | None = None
    _step: Step | None = None
    _rows = 0  # of the present micro-batch
    _share = 1.0  # of its batch's loss that the present micro-batch has

    def train(self, *arguments: Any, **named: Any) -> Any:
        """As the Trainer's, with the model as it trains."""
        with self.stepping(), borrowed_names(self.model):  # the Trainer puts Liger's in for good, where the recipe asks it
            return super().train(*arguments, **named)

    @contextmanager
    def stepping(self) -> Iterator[None]:
        """The model as its steps find it: the frozen base at rest, the attention of training, products in fewer passes."""
        with ExitStack() as stack:
            if self.resting:
                stack.enter_context(self.resting.at_rest())
            stack.enter_context(attending(self.model, self.attention))
            if self.liger is not None:
                stack.enter_context(self.liger.in_place())
            if self.unpadded is not None:
                stack.enter_context(self.unpadded.in_place(drop=drop if self.drops else nn.functional.dropout))
            if self.drops:
                stack.enter_context(dropping(self.model))
            if self.gelu:
                stack.enter_context(fusing_gelu(self.model))
            if self.adds_rows:
                stack.enter_context(adding_rows(self.model, keep=leaves_gradients(self.args.optim)))
            if self.fuses:
                stack.enter_context(fusing_adapters(self.model))
            yield

    def compute_loss(
        self, model: nn.Module, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """As the Trainer's; without outputs where the head runs on supervised positions."""
        if self.head is not None and not return_outputs:
            with self.accelerator.autocast():
                loss = self.head.loss(model, inputs, num_items_in_batch)
        else:
            loss = super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        return loss if self._share == 1.0 else loss * self._share

    def training_step(self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Any = None) -> torch.Tensor:
        """As the Trainer's, a micro-batch at a time; where memory runs out, the same step in smaller ones.

        Raises:
            UserError: memory ran out with one row at a time.
        """
        if not self.retries or self._step is None:
            return self.compute_batch(model, inputs, num_items_in_batch)
        self._step.add(inputs)
        try:
            return self.compute_batch(model, inputs, num_items_in_batch)
        except RuntimeError as error:
            if not lacks_memory(error):
                raise
        return self._do_again(model, self._step, num_items_in_batch)  # here the error no longer holds what was computed

    def get_batch_samples(self, *arguments: Any, **named: Any) -> tuple[list[Any], Any]:
        """As the Trainer's: the batches of one step."""
        self._step = Step()
        found: tuple[list[Any], Any] = super().get_batch_samples(*arguments, **named)
        return found

    def compute_batch(self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Any = None) -> torch.Tensor:
        """The loss of a batch; its gradients are added to those that are there."""
        losses = []
        for part in self._parts(inputs):
            self._rows = count_rows(part.inputs)
            # what is divided by the items of the whole step needs no share
            self._share = 1.0 if self.model_accepts_loss_kwargs and num_items_in_batch is not None else part.share
            losses.append(super().training_step(model, part.inputs, num_items_in_batch))
        self._share = 1.0
        return torch.stack(losses).sum()

    def _do_again(self, model: nn.Module, step: Step, items: Any) -> torch.Tensor:
        """All batches of the step once more: what the one that failed has added to the gradients cannot be told apart."""
        while True:
            self.most_rows = halved(self._rows, self.state.global_step + 1)
            if self.tell is not None:
                self.tell({"step": self.state.global_step + 1, "rows": self.most_rows})
            model.zero_grad()
            clear_device_cache()
            step.restore_draws()
            try:
                return [self.compute_batch(model, batch, items) for batch in step.batches][-1]
            except RuntimeError as error:
                if not lacks_memory(error):
                    raise

    def prediction_step(
        self, model: nn.Module, inputs: dict[str, Any], prediction_loss_only: bool, ignore_keys: list[str] | None = None
    ) -> tuple[torch.Tensor | None, torch.Tensor | None, torch.Tensor | None]:
        """As the Trainer's; with each row's loss in place of its logits where the head runs on supervised positions."""
        if self.head is None or "labels" not in inputs:
            return super().prediction_step(model, inputs, prediction_loss_only, ignore_keys)
        inputs = self._prepare_inputs(inputs)
        with self.accelerator.autocast():
            sums = self.head.row_sums(model, inputs)
        loss = sums[:, 0].sum() / sums[:, 1].sum()
        return loss, None if prediction_loss_only else sums, inputs["labels"]

    def _parts(self, inputs: dict[str, Any]) -> list[Part]:
        parts = [Part(inputs, 1.0)]
        if self.cuts:
            pairs = bool(self.model.config.is_encoder_decoder)
            parts = cut_by_length(inputs, self._part_cost, shifted=self.decoder, decoder_inputs=pairs)
        if self.most_rows is None:
            return parts
        return [small for part in parts for small in cut_rows(part, self.most_rows, shifted=self.decoder)] or parts

    @property
    def settled(self) -> Settled:
        """For the plan."""
        return Settled(self.resting is not None, self.fuses, has_liger(self), self.unpadded is not None)

    @cached_property
    def _part_cost(self) -> float:
        parameters = sum(parameter.numel() for parameter in self.model.parameters())
        return part_cost(parameters, quantized=any(type(layer).__name__ == "Linear4bit" for layer in self.model.modules()))


def speed_up(trainer: Trainer, block: Speed, row: dict[str, Any], *, decoder: bool) -> Ways:
    """Switch on what is right here, and wanted; what is wanted is given back.

    Args:
        row: an encoded row with labels as a batch of one, on which a decoder's head is tried.
        decoder: the model is a decoder that foretells the next token.
    """
    ways = wanted_ways(block, trainer.args, trainer.args.device.type, alone=is_alone(trainer))
    if decoder and ways.supervised_logits:
        with trainer.accelerator.autocast():
            trainer.head = plain_head(trainer.model, trainer._prepare_inputs(row))
        if trainer.head is not None:
            trainer.preprocess_logits_for_metrics = None  # predictions are reduced already
    trainer.decoder, trainer.retries = decoder, ways.repeated
    trainer.cuts = ways.micro_batches and (trainer.head is not None or not decoder)
    trainer.drops = ways.fast_dropout and bool(dropout_layers(trainer.model))
    trainer.gelu = ways.fused_gelu and bool(written_out(trainer.model))
    trainer.adds_rows = ways.embedding_rows and bool(learning_embeddings(trainer.model))
    trainer.fuses = ways.fused_adapters and bool(plain_adapters(trainer.model))  # to be tried on its base at rest
    return ways


def is_alone(trainer: Trainer) -> bool:
    """Whether one process trains on one device."""
    return trainer.accelerator.num_processes == 1 and trainer.args.n_gpu <= 1


def speed_facts(trainer: Trainer) -> dict[str, bool]:
    """What is on, for run.json."""
    return {
        "supervised_logits": trainer.head is not None, "micro_batches": trainer.cuts,
        "unpadded": trainer.unpadded is not None, "fast_dropout": trainer.drops, "fused_gelu": trainer.gelu,
        "embedding_rows": trainer.adds_rows, "fused_adapters": trainer.fuses,
        "frozen_bfloat16": trainer.resting is not None, "flash_attention": attends_in_flash(trainer),
        "liger_kernel": has_liger(trainer), "fused_optimizer": has_fused(trainer),
    }  # fmt: skip


def attends_in_flash(trainer: Trainer) -> bool:
    """Whether training steps take a flash kernel, by ftkit's choice or by the recipe's."""
    return is_flash(trainer.attention or trainer.model.config._attn_implementation)


def has_liger(trainer: Trainer) -> bool:
    """Whether training steps take Liger's kernels, by ftkit's choice or by the recipe's."""
    return trainer.liger is not None or bool(trainer.args.use_liger_kernel)


def has_fused(trainer: Trainer) -> bool:
    """Whether the optimizer updates all weights in one kernel; it is what transformers takes unless told otherwise."""
    return bool(trainer.args.optim.endswith("fused"))


def speed_words(trainer: Trainer) -> str:
    """What is on, in one line."""
    arguments = trainer.args
    found = [precision_words(autocast_dtype(arguments))]
    found += ["frozen base in bfloat16"] if trainer.resting else []
    found += ["logits where supervised"] if trainer.head is not None else []
    found += ["padding left out"] if trainer.unpadded is not None else []
    found += ["batches in parts of like length"] if trainer.cuts else []
    found += ["dropout drawn by fours"] if trainer.drops else []
    found += ["GELU in one operation"] if trainer.gelu else []
    found += ["embedding gradients by row"] if trainer.adds_rows else []
    found += ["adapters fused with their layers"] if trainer.fuses else []
    found += ["flash attention"] if attends_in_flash(trainer) else []
    found += ["Liger kernels"] if has_liger(trainer) else []
    found += ["fused optimizer"] if has_fused(trainer) else []
    return f"computed on {arguments.device}: {', '.join(found)}"
