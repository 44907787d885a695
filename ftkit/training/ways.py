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
    computed with their layers, whether the layers have Liger's kernels, whether its blocks see no padding, whether its
    head runs on supervised positions, and whether batches are cut into parts.
    """

    rests: bool
    fuses: bool
    liger: bool
    unpads: bool
    supervised: bool
    cuts: bool


def wanted_ways(block: Speed, training: Any, device: str, *, alone: bool = True) -> Ways:
    """What a recipe and its device come to; the arguments are those of `reasons_against`."""
    against = reasons_against(block, training, device, alone=alone)
    return Ways(**{name: not against[name] for name in Ways._fields})


def reasons_against(block: Speed, training: Any, device: str, *, alone: bool = True) -> dict[str, str]:
    """Of each way why it is not wanted, in words; empty where it is.

    Args:
        training: the recipe's block, or the TrainingArguments made of it.
        device: its type, as "cpu".
        alone: one process trains on one device: wrappers of several must see every step.
    """
    apart = "" if alone else "several processes or devices train"
    if "layerwise" in str(training.optim):
        apart = apart or "the optimizer takes a step in each backward pass"
    # naming a backend or a mode compiles as well; TrainingArguments then say so, a recipe does not yet
    compiled = training.torch_compile or training.torch_compile_backend or training.torch_compile_mode
    compiles = "training.torch_compile" if compiled else ""
    elsewhere = "" if device == "cpu" else "it gains on a CPU only"
    smooth = "training.label_smoothing_factor takes all logits" if training.label_smoothing_factor else ""
    cuts = "speed.micro_batches is true" if block.micro_batches else ""
    said = {name: "" if value is not False else f"speed.{name} is false" for name, value in block}
    return {
        "supervised_logits": apart or said["supervised_logits"] or smooth,
        "micro_batches": apart or said["micro_batches"] or ("" if block.micro_batches else elsewhere),
        "unpadded": apart or said["unpadded"] or elsewhere or cuts or compiles,
        "fast_dropout": apart or said["fast_dropout"] or elsewhere or compiles,
        "fused_gelu": apart or said["fused_gelu"] or compiles,
        "embedding_rows": apart or said["embedding_rows"] or elsewhere or compiles,
        "fused_adapters": apart or said["fused_adapters"] or compiles,
        "repeated": apart,
    }
