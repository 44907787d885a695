"""The Trainer with ftkit's ways of doing the same steps in less time and memory."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate.utils.memory import clear_device_cache
from datasets import Dataset
from torch import nn
from transformers import EvalPrediction

from ftkit import compat
from ftkit.data.encode import longest_first
from ftkit.data.packing import is_flash
from ftkit.models.label_scale import OWN, LabelScale
from ftkit.models.load import lacks_memory
from ftkit.models.resting import RestingBase
from ftkit.training.checkpoints import make_place, require_whole, sparing
from ftkit.training.divergence import Watch
from ftkit.training.dropout import drop, dropping
from ftkit.training.embedding_gradient import adding_rows, leaves_gradients
from ftkit.training.fused_adapters import fusing_adapters
from ftkit.training.fused_gelu import fusing_gelu
from ftkit.training.kernels import Names, attending, borrowed_names
from ftkit.training.micro_batches import Part, count_rows, cut_by_length, cut_rows, part_cost, weight_of
from ftkit.training.out_of_memory import Step, halved
from ftkit.training.supervised_loss import Head
from ftkit.training.unpadded import UnpaddedModel
from ftkit.training.ways import Settled


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
        targets: whether a row has a target beside its source, with tokens of its own.
        adds_rows: whether embeddings add the rows of a batch to their gradient, see `embedding_gradient.py`.
        fuses: whether adapters are computed with their layers, see `fused_adapters.py`.
        resting: the frozen base, where it rests in bfloat16 while the model trains.
        retries: whether a step in which memory runs out is done again in smaller parts.
        most_rows: of a part, once memory ran out.
        tell: is told of it.
        attention: of training, where it is not that of the loaded model.
        liger: where Liger's kernels are in the model's layers, the names that belong to them.
        padding_matters: what a row gets depends on the padding of its batch, so that rows are measured one by one.
        part_cost: what a part of a batch costs beside its tokens, in tokens; None for what the model's size comes to.
        label_scale: in which units the labels are learnt; None where they are what they are.
        off: why levers are off, by their keys under `speed`.
        watch: looks at each loss and gradient norm, and ends the training where it diverges.
        count: is told of the batches of a step, and of the weight of each, before it is made.
    """

    head: Head | None = None
    cuts: bool = False
    unpadded: UnpaddedModel | None = None
    drops: bool = False
    gelu: bool = False
    decoder: bool = False
    targets: bool = False
    adds_rows: bool = False
    fuses: bool = False
    resting: RestingBase | None = None
    retries: bool = False
    most_rows: int | None = None
    tell: Callable[[dict[str, int]], None] | None = None
    attention: str | None = None
    liger: Names | None = None
    padding_matters: bool = False
    part_cost: float | None = None
    label_scale: LabelScale | None = None
    off: dict[str, str]
    watch: Watch | None = None
    count: Callable[[list[dict[str, Any]], list[int]], None] | None = None
    _step: Step | None = None
    _rows = 0  # of the present micro-batch
    _back: np.ndarray | None = None  # of the rows that are evaluated, where each stands
    _share = 1.0  # of the step's loss, times its batches, that the present micro-batch has

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.off = {}
        score: Callable[[EvalPrediction], dict[str, float]] | None = named.get("compute_metrics")
        if score is not None:
            self.compute_metrics = lambda prediction: score(self._in_order(prediction))

    def train(self, *arguments: Any, **named: Any) -> Any:
        """As the Trainer's, with the model as it trains."""
        self.current_flos = 0  # those of a training that diverged would count in the next
        with self.stepping(), borrowed_names(self.model):  # the Trainer puts Liger's in for good, where the recipe asks it
            return super().train(*arguments, **named)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        """As the Trainer's, whose older checkpoints go once this one is sealed; none where the disk takes no more."""
        checkpoint = Path(self._get_output_dir(trial)) / f"checkpoint-{self.state.global_step}"
        if self.args.should_save:
            make_place(checkpoint)
        limit, self.args.save_total_limit = self.args.save_total_limit, None
        try:
            with sparing(checkpoint, ends=self.control.should_training_stop):
                super()._save_checkpoint(model, trial)
        finally:
            self.args.save_total_limit = limit

    def _load_best_model(self) -> None:
        """As the Trainer's.

        Raises:
            Damaged: it is not as it was sealed.
        """
        require_whole(Path(self.state.best_model_checkpoint or ""))
        super()._load_best_model()

    @contextmanager
    def stepping(self) -> Iterator[None]:
        """The model as its steps find it: the frozen base at rest, and all that is done for speed."""
        with self.resting.at_rest() if self.resting else nullcontext(), self.scaling_labels(), self.computing():
            yield

    @contextmanager
    def scaling_labels(self) -> Iterator[None]:
        """Labels and outputs in the units that are learnt, as in every checkpoint."""
        with self.label_scale.in_steps() if self.label_scale else nullcontext():
            yield

    @contextmanager
    def computing(self) -> Iterator[None]:
        """The ways of a step over the base as it lies: the attention of training, no padding, products in fewer passes."""
        with ExitStack() as stack:
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
        """As the Trainer's, of labels as they are learnt; without outputs where the head runs on supervised positions."""
        if self.label_scale is not None and (scale := self.label_scale.of_labels) != OWN:
            inputs = inputs | {"labels": scale.standard(inputs["labels"])}
        if self.head is not None and not return_outputs:
            with self.accelerator.autocast():
                loss = self.head.loss(model, inputs, num_items_in_batch if self.model_accepts_loss_kwargs else None)
        else:
            loss = super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        return loss if self._share == 1.0 else loss * self._share

    def training_step(self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Any = None) -> torch.Tensor:
        """As the Trainer's, a micro-batch at a time; where memory runs out, the same step in smaller ones.

        Raises:
            UserError: memory ran out with one row at a time.
            Divergence: the loss is not a finite number.
        """
        loss = self._step_in_memory(model, inputs, num_items_in_batch)
        if self.watch is not None:
            self.watch.saw(inputs, loss)
        return loss

    def _get_grad_norm(self, model: nn.Module, grad_norm: Any = None) -> Any:
        """As the Trainer's, looked at before the optimizer takes the gradients up."""
        norm = super()._get_grad_norm(model, grad_norm)
        if self.watch is not None:
            self.watch.saw_norm(norm)
        return norm

    def _step_in_memory(self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Any) -> torch.Tensor:
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
        found: tuple[list[Any], Any] = super().get_batch_samples(*arguments, **named)
        weights = [weight_of(batch, shifted=self.decoder) for batch in found[0]]
        self._step = Step(sum(weights), len(weights))
        if self.count is not None:
            self.count(found[0], weights)
        return found

    def compute_batch(self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Any = None) -> torch.Tensor:
        """The loss of a batch; its gradients are added to those that are there.

        A mean loss counts for as much as what it is a mean of has in the whole step: so a step in three batches is the step
        in one, however rows and tokens fall to them.
        """
        losses = []
        try:
            for part in self.parts(inputs):
                self._rows = count_rows(part.inputs)
                self._share = 1.0 if self.divides_by_items(num_items_in_batch) else part.share * self._share_of(inputs)
                losses.append(super().training_step(model, part.inputs, num_items_in_batch))
        finally:
            self._share = 1.0
        return torch.stack(losses).sum()

    def divides_by_items(self, items: Any) -> bool:
        """Whether a loss is a sum that was divided by the items of the whole step, and no mean."""
        return bool(self.model_accepts_loss_kwargs and items is not None)

    def _share_of(self, batch: dict[str, Any]) -> float:
        """What a batch has of its step, times the step's batches, by which the Trainer divides."""
        if self._step is None or self._step.weight == 0:
            return 1.0
        return weight_of(batch, shifted=self.decoder) * self._step.count / self._step.weight

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
        """The loss, what is kept of the logits, and the labels of a batch.

        Logits are taken by their name: the Trainer takes outputs by their place, where a mixture of experts has the loss of
        its router. Where the head runs on supervised positions, each row's loss stands in place of its logits.

        Raises:
            Divergence: the loss is not a finite number, while a run is watched.
        """
        if "labels" not in inputs:
            return super().prediction_step(model, inputs, prediction_loss_only, ignore_keys)
        inputs = self._prepare_inputs(inputs)
        labels = inputs["labels"]
        with torch.no_grad(), compat.without_router_loss(self.model):
            if self.head is not None:
                with self.accelerator.autocast():
                    kept = self.head.row_sums(model, inputs)
                loss = kept[:, 0].sum() / kept[:, 1].sum()
            else:
                items = self._get_num_items_in_batch([inputs], self.args.device)
                loss, outputs = self.compute_loss(model, inputs, return_outputs=True, num_items_in_batch=items)
                kept = outputs["logits"] if isinstance(outputs, dict) else outputs[1]
        if self.watch is not None:
            self.watch.saw_measured(inputs, loss)
        return loss.detach().mean(), None if prediction_loss_only else kept.detach(), labels

    def evaluate(self, eval_dataset: Any = None, *arguments: Any, **named: Any) -> dict[str, float]:
        """As the Trainer's, in the batches in which the rows are measured before training and after: in half precision a
        row's figures hang on those beside it, and the curve would end elsewhere than the table.
        """
        rows = self.eval_dataset if eval_dataset is None else eval_dataset
        if not isinstance(rows, Dataset):  # with outputs of the frozen body they are measured in their order
            return super().evaluate(eval_dataset, *arguments, **named)
        order = longest_first(rows)
        self._back = np.argsort(order, kind="stable")
        try:
            return super().evaluate(rows.select(order), *arguments, **named)
        finally:
            self._back = None

    def _in_order(self, prediction: EvalPrediction) -> EvalPrediction:
        """A prediction of the rows as they stand in their split."""
        back = self._back
        if back is None or len(back) != len(prediction.label_ids):
            return prediction
        return EvalPrediction(predictions=prediction.predictions[back], label_ids=prediction.label_ids[back])

    def parts(self, inputs: dict[str, Any]) -> list[Part]:
        """A batch as it is computed: whole, or in parts of rows of like length or of as many rows as memory holds."""
        parts = [Part(inputs, 1.0)]
        if self.cuts:
            cost = self._part_cost if self.part_cost is None else self.part_cost
            parts = cut_by_length(inputs, cost, shifted=self.decoder, targets=self.targets)
        if self.most_rows is None:
            return parts
        return [small for part in parts for small in cut_rows(part, self.most_rows, shifted=self.decoder)] or parts

    @property
    def settled(self) -> Settled:
        """For the plan."""
        return Settled(
            rests=self.resting is not None,
            fuses=self.fuses,
            liger=has_liger(self),
            unpads=self.unpadded is not None,
            supervised=self.head is not None,
            cuts=self.cuts,
        )

    @cached_property
    def _part_cost(self) -> float:
        parameters = sum(parameter.numel() for parameter in self.model.parameters())
        return part_cost(parameters, quantized=any(type(layer).__name__ == "Linear4bit" for layer in self.model.modules()))


def is_alone(trainer: Trainer) -> bool:
    """Whether one process trains on one device."""
    return trainer.accelerator.num_processes == 1 and trainer.args.n_gpu <= 1


def attends_in_flash(trainer: Trainer) -> bool:
    """Whether training steps take a flash kernel, by ftkit's choice or by the recipe's."""
    return is_flash(trainer.attention or trainer.model.config._attn_implementation)


def has_liger(trainer: Trainer) -> bool:
    """Whether training steps take Liger's kernels, by ftkit's choice or by the recipe's."""
    return trainer.liger is not None or bool(trainer.args.use_liger_kernel)


def has_fused(trainer: Trainer) -> bool:
    """Whether the optimizer updates all weights in one kernel; it is what transformers takes unless told otherwise."""
    return bool(trainer.args.optim.endswith("fused"))
