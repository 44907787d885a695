"""Which of ftkit's own ways of a step are wanted on a device; the Trainer takes them, and the plan reckons with them."""

from typing import Any, NamedTuple

from ftkit.recipe.schema import Speed


class Ways(NamedTuple):
    """Whether each is wanted; what only the model itself can tell, as whether its head is plain, is not in it.

    Attributes:
        supervised_logits: a decoder's logits are made where they are supervised only, see `supervised_loss.py`.
        micro_batches: batches are cut into parts of rows of like length, see `micro_batches.py`.
        unpadded: a model's blocks see no padding, see `unpadded.py`; batches are not cut then.
        fast_dropout: masks of dropout are drawn four at a time, see `dropout.py`.
        fused_gelu: GELU is one operation, see `fused_gelu.py`.
        embedding_rows: embeddings add the rows of a batch to their gradient, see `embedding_gradient.py`.
        fused_adapters: an adapter is computed with its layer, see `fused_adapters.py`.
        repeated: a step in which memory runs out is done again in smaller parts, see `out_of_memory.py`.
    """

    supervised_logits: bool
    micro_batches: bool
    unpadded: bool
    fast_dropout: bool
    fused_gelu: bool
    embedding_rows: bool
    fused_adapters: bool
    repeated: bool


class Settled(NamedTuple):
    """What only a loaded model can tell: whether its frozen base rests in bfloat16 while it trains, whether adapters are
    computed with their layers, whether the layers have Liger's kernels, and whether its blocks see no padding.
    """

    rests: bool
    fuses: bool
    liger: bool
    unpads: bool


def wanted_ways(block: Speed, training: Any, device: str, *, alone: bool = True) -> Ways:
    """What a recipe and its device come to.

    Args:
        training: the recipe's block, or the TrainingArguments made of it.
        device: its type, as "cpu".
        alone: one process trains on one device: wrappers of several must see every step.
    """
    whole = alone and "layerwise" not in str(training.optim)  # such an optimizer takes a step in each backward pass
    on_cpu = device == "cpu"
    # naming a backend or a mode compiles as well; TrainingArguments then say so, a recipe does not yet
    compiled = bool(training.torch_compile or training.torch_compile_backend or training.torch_compile_mode)
    return Ways(
        supervised_logits=bool(whole and block.supervised_logits and not training.label_smoothing_factor),
        micro_batches=bool(whole and (on_cpu if block.micro_batches is None else block.micro_batches)),
        unpadded=bool(whole and on_cpu and block.unpadded and not block.micro_batches and not compiled),
        fast_dropout=bool(whole and on_cpu and block.fast_dropout and not compiled),
        fused_gelu=bool(whole and block.fused_gelu and not compiled),
        embedding_rows=bool(whole and on_cpu and block.embedding_rows and not compiled),
        fused_adapters=bool(whole and block.fused_adapters and not compiled),
        repeated=whole,
    )
