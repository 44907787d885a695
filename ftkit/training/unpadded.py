"""Batches without their padding: from a model's first block to its last, the tokens of all rows lie behind one another.

Products of matrices, norms and activations take a token at a time and need not know where rows begin; only attention does.
It gets the rows back side by side, in groups of like length, and gives what it found behind one another again. So padding
is computed in attention alone, and weights are read and gradients added once a batch. Loss and gradients are those of the
padded batch, up to rounding and to the draws of dropout.

oneDNN compiles a product for each new size, so that sizes are rounded up a little: a few of them come back again and again.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from ftkit.models.heads import block_lists, last_blocks
from ftkit.training.kernels import attending, base_of
from ftkit.training.trial import Trial
from ftkit.training.varlen_attention import UNKNOWN

Drop = Callable[..., torch.Tensor]
UNPADDED = "unpadded"
MOST_GROUPS, ROWS_OF_GROUP = 4, 4  # rows of a group at least
SHORT = 128  # tokens from which torch's fused attention takes less time than products and softmax one by one


def rounded_up(count: int) -> int:
    """A count of tokens, longer by a sixteenth at most where it is not below 128, so that the same come back."""
    step = max(8, 2 ** (count.bit_length() - 5))
    return -(-count // step) * step


class Moved(torch.autograd.Function):
    """Rows of a tensor in other places."""

    @staticmethod
    def forward(
        ctx: Any, inputs: torch.Tensor, taken: torch.Tensor, back: torch.Tensor | None, moved: torch.Tensor | None
    ) -> torch.Tensor:
        """The rows `taken` of the inputs, shape (places, ...).

        Args:
            back: where each row that moved stands; None where they are the first, in their order. What stands elsewhere
                fills up, and has no gradient.
            moved: the rows that moved; None for all.
        """
        ctx.save_for_backward(back, moved)
        ctx.shape = inputs.shape
        return inputs.index_select(0, taken)

    @staticmethod
    def backward(ctx: Any, *given: torch.Tensor) -> tuple[torch.Tensor, None, None, None]:
        back, moved = ctx.saved_tensors
        found = given[0] if back is None else given[0].index_select(0, back)
        if moved is not None:
            found = given[0].new_zeros(ctx.shape).index_copy_(0, moved, found[: len(moved)])
        return found, None, None, None


def move(inputs: torch.Tensor, taken: torch.Tensor, back: torch.Tensor | None, moved: torch.Tensor | None) -> torch.Tensor:
    found: torch.Tensor = Moved.apply(inputs, taken, back, moved)  # type: ignore[no-untyped-call]
    return found


class Group:
    """Rows of like length, which attention sees side by side.

    Args:
        lengths: tokens of each row, longest first.
        start: where the first of them begins.
    """

    def __init__(self, lengths: torch.Tensor, start: int) -> None:
        self.rows, self.longest = len(lengths), rounded_up(int(lengths[0]))
        kept = torch.arange(self.longest, device=lengths.device) < lengths[:, None]
        self.tokens = slice(start, start + int(lengths.sum()))
        self.places = kept.flatten().nonzero()[:, 0]
        self.taken = torch.where(kept.flatten(), kept.flatten().cumsum(0) - 1, 0)
        self.kept = kept[:, None, None, :]

    def side_by_side(self, flat: torch.Tensor) -> torch.Tensor:
        """From (tokens, heads, width) to (rows, heads, longest, width)."""
        found = move(flat[self.tokens], self.taken, self.places, None)
        return found.view(self.rows, self.longest, *flat.shape[1:]).transpose(1, 2)

    def behind_one_another(self, found: torch.Tensor) -> torch.Tensor:
        """From (rows, heads, longest, width) to (tokens, heads, width)."""
        return move(found.transpose(1, 2).flatten(0, 1), self.places, None, self.places)

    def seen(self, *, causal: bool, window: int | None) -> torch.Tensor | None:
        """Which keys a query sees, to be broadcast to (rows, heads, queries, keys); None for all before it.

        Padding stands behind a row: where a query sees what comes before it, no token sees padding.
        """
        if window is None or window >= self.longest:
            return None if causal else self.kept
        places = torch.arange(self.longest, device=self.kept.device)
        distance = places[:, None] - places
        near = (distance < window) & (distance >= 0 if causal else distance > -window)
        return near & self.kept


class Layout:
    """How the tokens of a padded batch lie behind one another: longer rows first, and a few that fill up.

    Args:
        mask: shape (rows, tokens), true where a token is none of padding.
    """

    def __init__(self, mask: torch.Tensor) -> None:
        self.rows, self.width = mask.shape
        lengths, order = mask.sum(1).sort(descending=True, stable=True)
        columns = torch.arange(self.width, device=mask.device)
        self.places = (order[:, None] * self.width + columns)[mask[order]]
        tokens = rounded_up(len(self.places))
        if tokens == self.width:  # else nothing would tell what is flat already from what is not
            tokens = rounded_up(tokens + 1)
        self.filling = tokens - len(self.places)
        self.taken = torch.cat([self.places, self.places[:1].expand(self.filling)])
        count = min(MOST_GROUPS, max(1, self.rows // ROWS_OF_GROUP))
        bounds = [round(self.rows * number / count) for number in range(count + 1)]
        starts = [0, *lengths.cumsum(0).tolist()]
        self.groups = [Group(lengths[start:end], starts[start]) for start, end in pairwise(bounds)]
        self._shared: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}  # what each block is given anew, as rotary positions

    def flat(self, value: Any, *, shared: bool = False) -> Any:
        """From (rows, width, ...) to (1, tokens, ...), where a value is of that shape; one row stands for all.

        Args:
            shared: other blocks get the value too.
        """
        if isinstance(value, tuple):
            return tuple(self.flat(one, shared=shared) for one in value)
        if not isinstance(value, torch.Tensor) or value.dim() not in (2, 3):
            return value
        if value.shape[1] != self.width or len(value) not in (1, self.rows):
            return value
        if id(value) in self._shared:
            return self._shared[id(value)][1]
        whole = value.expand(self.rows, *value.shape[1:]).flatten(0, 1)
        found = move(whole, self.taken, None, self.places).unsqueeze(0)
        if shared and not value.requires_grad:
            self._shared[id(value)] = value, found
        return found

    def padded(self, flat: torch.Tensor) -> torch.Tensor:
        """From (1, tokens, ...) to (rows, width, ...), with zeros for padding."""
        whole = flat.new_zeros((self.rows * self.width, *flat.shape[2:]))
        return whole.index_copy(0, self.places, flat[0, : len(self.places)]).view(self.rows, self.width, *flat.shape[2:])


class UnpaddedModel:
    """A model whose blocks see no padding.

    Attributes:
        layout: of the batch under way; None where it is computed as it is.
        drop: dropout in attention, called as torch's own.
        windows: the sliding windows that attention was called with.

    Args:
        always: the layout of every batch, learnt from or not, in place of what its mask says.
    """

    active: "UnpaddedModel | None" = None  # transformers knows an attention by its name alone

    def __init__(self, model: Any, always: Layout | None = None) -> None:
        self.model, self.always = base_of(model), always
        self.blocks = list(last_blocks(self.model)[1])
        self.layout: Layout | None = None
        self.drop: Drop = nn.functional.dropout
        self.windows: set[int | None] = set()

    @contextmanager
    def in_place(self, *, drop: Drop = nn.functional.dropout) -> Iterator[None]:
        """Inside the block the model computes so; batches that nothing is learnt from as they are."""
        AttentionInterface.register(UNPADDED, attend)
        AttentionMaskInterface.register(UNPADDED, mask_of)
        handles = [self.model.register_forward_pre_hook(self._look, with_kwargs=True)]
        handles += [block.register_forward_pre_hook(self._flatten, with_kwargs=True) for block in self.blocks]
        handles.append(self.blocks[-1].register_forward_hook(self._pad))
        self.drop, before = drop, UnpaddedModel.active
        try:
            with attending(self.model, UNPADDED):
                UnpaddedModel.active = self
                yield
        finally:
            UnpaddedModel.active, self.layout = before, None
            for handle in handles:
                handle.remove()

    @classmethod
    def of_batch(cls) -> "UnpaddedModel | None":
        """The model whose batch under way has no padding; None where none has."""
        return cls.active if cls.active is not None and cls.active.layout is not None else None

    def _look(self, module: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
        mask, self.layout = kwargs.get("attention_mask"), self.always
        learns = module.training and torch.is_grad_enabled()
        if self.always is None and learns and isinstance(mask, torch.Tensor) and mask.dim() == 2:
            self.layout = Layout(mask.bool())

    def _flatten(self, module: nn.Module, args: Any, kwargs: dict[str, Any]) -> Any:
        if self.layout is None:
            return None
        shared = {name: self.layout.flat(value, shared=name != "hidden_states") for name, value in kwargs.items()}
        return self.layout.flat(args), shared

    def _pad(self, module: nn.Module, args: Any, output: Any) -> Any:
        hidden = output[0] if isinstance(output, tuple) else output
        if self.layout is None or hidden.shape[:2] != (1, len(self.layout.taken)):  # frozen blocks may give what is kept
            return None
        padded = self.layout.padded(hidden)
        return (padded, *output[1:]) if isinstance(output, tuple) else padded


def mask_of(*arguments: Any, **named: Any) -> torch.Tensor | None:
    """What transformers asks for as the mask."""
    return None if UnpaddedModel.of_batch() else sdpa_mask(*arguments, **named)


def attend(
    module: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, attention_mask: torch.Tensor | None,
    dropout: float = 0.0, scaling: float | None = None, is_causal: bool | None = None, sliding_window: int | None = None,
    **named: Any,
) -> tuple[torch.Tensor, None]:  # fmt: skip
    """Attention as transformers calls it: https://huggingface.co/docs/transformers/attention_interface.

    Args:
        query: shape (1, heads, tokens, width) of rows behind one another; key and value may have fewer heads.

    Returns:
        Shape (1, tokens, heads, width).
    """
    model = UnpaddedModel.of_batch()
    cap = named.pop("softcap", None)
    repeats = query.shape[1] // key.shape[1]
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    if model is None or (layout := model.layout) is None:
        if cap is None:
            return sdpa_attention_forward(
                module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, is_causal=is_causal, **named
            )  # type: ignore[return-value]
        drop = partial(nn.functional.dropout, p=dropout) if dropout else None
        keys, values = repeat_kv(key, repeats), repeat_kv(value, repeats)
        return attend_in_steps(query, keys, values, attention_mask, scale, drop, cap).transpose(1, 2), None
    if lacking := [name for name in UNKNOWN if named.get(name) is not None]:
        raise NotImplementedError(", ".join(lacking))
    model.windows.add(sliding_window)
    causal = bool(getattr(module, "is_causal", True) if is_causal is None else is_causal)
    flat = [part[0].transpose(0, 1) for part in (query, repeat_kv(key, repeats), repeat_kv(value, repeats))]
    found = []
    for group in layout.groups:
        seen = group.seen(causal=causal, window=sliding_window)
        queries, keys, values = (group.side_by_side(part) for part in flat)
        if dropout or cap is not None or group.longest < SHORT:
            drop = partial(model.drop, p=dropout) if dropout else None
            found.append(group.behind_one_another(attend_in_steps(queries, keys, values, seen, scale, drop, cap)))
        else:
            fused = nn.functional.scaled_dot_product_attention(
                queries, keys, values, attn_mask=seen, is_causal=seen is None, scale=scale
            )
            found.append(group.behind_one_another(fused))
    if layout.filling:
        found.append(found[0].new_zeros((layout.filling, *found[0].shape[1:])))
    return torch.cat(found).unsqueeze(0), None


def attend_in_steps(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, seen: torch.Tensor | None, scale: float,
    drop: Callable[[torch.Tensor], torch.Tensor] | None, cap: float | None = None,
) -> torch.Tensor:  # fmt: skip
    """Attention as products and a softmax one by one, in shapes (rows, heads, tokens, width).

    On a CPU torch has no fused kernel with dropout, and one without it whose way back takes three times as long on short
    rows.

    Args:
        seen: as of `Group.seen`.
        cap: of the scores, which are then cap * tanh(score / cap).
    """
    scores = query @ key.transpose(-1, -2) * scale
    if cap is not None:
        scores = cap * torch.tanh(scores / cap)
    if seen is None:
        seen = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
    weights = scores.masked_fill(~seen, torch.finfo(scores.dtype).min).softmax(-1, dtype=torch.float32).to(value.dtype)
    return (weights if drop is None else drop(weights)) @ value


def lacks_unpadding(model: Any) -> str:
    """Why a model's blocks cannot do without padding, so far as that can be told without a step; empty where they can."""
    base = base_of(model)
    values = base.config.to_dict()
    if values.get("is_encoder_decoder"):
        return "the model is an encoder-decoder"
    if base.config.sub_configs:
        return "parts of the model choose an attention of their own"
    own = "sdpa" if base._supports_sdpa else "eager"  # another was asked for, and stands
    if not base._can_set_attn_implementation() or base.config._attn_implementation != own:
        return "the model's attention cannot be given from outside, or another was asked for"
    if values.get("attention_chunk_size"):
        return "the model attends in chunks"
    if any(value for name, value in values.items() if "layerdrop" in name or "layer_drop" in name):
        return "the model leaves out blocks while it learns"
    return "" if block_lists(base) else "the model has no list of blocks"


def may_unpad(model: Any) -> bool:
    """Whether a model is of a kind whose blocks may see no padding, so far as that can be told without a step."""
    return not lacks_unpadding(model)


def try_unpadded(model: Any, trial: Trial, mask: torch.Tensor) -> str:
    """Why a model is not left without padding in its blocks; empty where all is the same without it.

    Args:
        trial: of the model by itself on some padded rows.
        mask: theirs, shape (rows, tokens).
    """
    tried = UnpaddedModel(model, Layout(mask.bool()))
    if reason := trial.differs(tried.in_place()):
        return reason
    if not tried.windows:
        return "the model's attention does not come from outside"
    # a window of which attention is told by the mask alone, which is left out, shows in rows that are longer only
    return "its window is said by the mask alone" if tried.windows == {None} and has_window(tried.model.config) else ""


def has_window(config: Any) -> bool:
    """Whether some layers see the last tokens only."""
    values = config.to_dict()
    named = [value for name, value in values.items() if ("window" in name or "local_attention" in name) and value]
    return values.get("use_sliding_window", True) and any(isinstance(value, int) and value > 1 for value in named)
