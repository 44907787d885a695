"""The arithmetic of memory and disk: pure functions of shapes, none of which allocates a tensor.

All sizes are bytes. What a step holds beside this, activations and logits, is not a formula: see rehearsal.py.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch

FLOAT = 4
BLOCK = 64  # weights of a 4-bit layer that share a scale
SCALES = 256  # scales that share one of their own
STATE_BLOCK = 256  # entries of an 8-bit optimizer state that share a scale
SMALLEST_8BIT = 4096  # a tensor with fewer entries keeps its states in 32 bits
CODEBOOK = 256
STATE_COUNTS = {  # entries of state to each entry that learns
    "adamw": 2, "adam": 2, "nadam": 2, "lamb": 2, "ademamix": 3, "lion": 1, "rmsprop": 1, "adagrad": 1, "sgd": 0,
}  # fmt: skip
TORCH_COUNTED = ("adamw_torch", "adamw_torch_fused", "adagrad", "rmsprop")  # these count their steps in a tensor each


@dataclass(frozen=True)
class Learning:
    """A tensor that learns: its shape, and whether it is an embedding, whose states bitsandbytes keeps in 32 bits."""

    shape: tuple[int, ...]
    embedding: bool = False

    @property
    def count(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True)
class Peak:
    """Where a training step holds most.

    Attributes:
        step: bytes beside weights and optimizer while the model goes forward and backward, with what there is of gradients.
    """

    weights: int
    optimizer: int
    gradients: int
    step: int

    @property
    def bytes(self) -> int:
        """Weights and optimizer are held throughout; gradients are whole only when the activations are gone."""
        return self.weights + self.optimizer + max(self.step, self.gradients)


def resting_bytes(tensors: Iterable[torch.Tensor]) -> int:
    """What tensors take, shared storage once: tied embeddings are one."""
    return sum({storage._cdata: storage.nbytes() for storage in (t.untyped_storage() for t in tensors)}.values())


def four_bit_bytes(count: int) -> int:
    """A layer of `count` weights in NF4 with double quantization: half a byte each, a byte a scale, scales of scales.

    Dettmers et al. 2023, https://arxiv.org/abs/2305.14314, section 3: blocks of 64 weights, and of 256 scales. The two
    codebooks (16 and 256 float32 entries) and the scales' common mean belong to each layer.
    """
    scales = math.ceil(count / BLOCK)
    return math.ceil(count / 2) + scales + FLOAT * math.ceil(scales / SCALES) + FLOAT * (16 + CODEBOOK + 1)


def gradient_bytes(learning: Iterable[Learning]) -> int:
    """A gradient has its weight's shape, and weights that learn are float32."""
    return FLOAT * sum(tensor.count for tensor in learning)


def knows_optimizer(optim: str) -> bool:
    """Whether the states of the optimizer are known; of another they are taken to be AdamW's."""
    return optim == "adafactor" or _family(optim) in STATE_COUNTS


def optimizer_bytes(optim: str, learning: Iterable[Learning]) -> int:
    """The states of an optimizer of `TrainingArguments.optim` after its first step.

    AdamW: two moments an entry, Kingma and Ba 2015, https://arxiv.org/abs/1412.6980, algorithm 1. Eight bits: the same in a
    byte with a float32 scale to every 256 and two codebooks, Dettmers et al. 2022, https://arxiv.org/abs/2110.02861,
    section 2. Adafactor: a row and a column in place of a matrix, Shazeer and Stern 2018,
    https://arxiv.org/abs/1804.04235, algorithm 4. PyTorch's own count steps in one float32 for each tensor.
    """
    if optim == "adafactor":
        return sum(_adafactor_bytes(tensor) for tensor in learning)
    states = STATE_COUNTS.get(_family(optim), 2)
    in_bytes = "8bit" in optim
    counter = FLOAT if optim in TORCH_COUNTED else 0
    return sum(states * _state_bytes(tensor, in_bytes) + counter for tensor in learning)


def _family(optim: str) -> str:
    plain = optim.removeprefix("paged_")
    return plain.partition("_")[0]


def _state_bytes(tensor: Learning, in_bytes: bool) -> int:
    if not in_bytes or tensor.embedding or tensor.count < SMALLEST_8BIT:
        return FLOAT * tensor.count
    return tensor.count + FLOAT * (math.ceil(tensor.count / STATE_BLOCK) + CODEBOOK)


def _adafactor_bytes(tensor: Learning) -> int:
    if len(tensor.shape) < 2:
        return FLOAT * (tensor.count + 1)
    *outer, rows, columns = tensor.shape
    return FLOAT * (math.prod(outer) * (rows + columns) + 1)


def steps_of(entries: int, batch: int, accumulation: int, epochs: float, max_steps: int) -> int:
    """Optimizer steps of a run, as the Trainer counts them: the last batch of an epoch may be smaller."""
    if max_steps > 0:
        return max_steps
    return math.ceil(epochs * max(1, math.ceil(math.ceil(entries / batch) / accumulation)))


def kept_checkpoints(strategy: str, steps: int, save_steps: float, epochs: float, limit: int | None) -> int:
    """Checkpoints that lie on disk at the fullest moment; one more than the limit while the newest is written."""
    if strategy == "no":
        return 0
    interval = save_steps if save_steps >= 1 else max(1, math.ceil(save_steps * steps))
    made = math.ceil(epochs) if strategy == "epoch" else 1 if strategy == "best" else math.ceil(steps / interval)
    return min(made, limit + 1) if limit else made
