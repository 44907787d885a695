"""Torch's own FlashAttention over rows of any length: no package to install, no mask to make, packed examples apart.

The kernel takes the tokens of all rows behind one another, and the places where each row begins
(https://docs.pytorch.org/docs/stable/nn.attention.varlen.html). For a packed block the collator says them, in the words in
which transformers takes them for flash attention; for padded rows they follow from the mask: padding counts as a row of its
own, which nothing else sees. It has neither dropout nor caps; where a model needs one it says so and is not taken.
"""

import functools
import inspect
from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface

VARLEN = "torch_varlen"
UNKNOWN = ("softcap", "s_aux", "position_bias")  # of the arguments that models give their attention


def has_varlen() -> bool:
    """Whether this torch has the kernel; since 2.10."""
    try:
        import torch.nn.attention.varlen  # noqa: F401
    except ImportError:
        return False
    return True


def register_varlen() -> None:
    """Let transformers know the attention by its name."""
    AttentionInterface.register(VARLEN, attend)
    AttentionMaskInterface.register(VARLEN, row_begins)


def row_begins(
    *, q_length: int, kv_length: int, attention_mask: torch.Tensor | None = None, **_: Any
) -> torch.Tensor | None:
    """What transformers asks for as the mask: where rows begin, and the end of the last, shape (rows + 1,), int32.

    Args:
        attention_mask: shape (rows, tokens), true where a token is none of padding.
    """
    if attention_mask is None:
        return None
    if q_length != kv_length:
        raise NotImplementedError("a cache of keys and values")
    begins = torch.ones_like(attention_mask, dtype=torch.bool)
    begins[:, 1:] = attention_mask[:, 1:] != attention_mask[:, :-1]
    places = begins.flatten().nonzero()[:, 0]
    return torch.nn.functional.pad(places, (0, 1), value=attention_mask.numel()).to(torch.int32)


def attend(
    module: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, attention_mask: torch.Tensor | None,
    dropout: float = 0.0, scaling: float | None = None, sliding_window: int | None = None, is_causal: bool | None = None,
    cu_seq_lens_q: torch.Tensor | None = None, max_length_q: int | None = None, **named: Any,
) -> tuple[torch.Tensor, None]:  # fmt: skip
    """Attention as transformers calls it: https://huggingface.co/docs/transformers/attention_interface.

    Args:
        query: shape (rows, heads, tokens, width); key and value may have fewer heads.
        attention_mask: as `row_begins` gives it.
        cu_seq_lens_q: the same of packed rows, and their longest.

    Returns:
        Shape (rows, tokens, heads, width), in the precision of autocast.

    Raises:
        NotImplementedError: the model asks for something that the kernel does not do.
    """
    rows, heads, tokens, _ = query.shape
    lacking = [name for name in UNKNOWN if named.get(name) is not None]
    if dropout or lacking or key.shape[2] != tokens:
        raise NotImplementedError(", ".join(lacking) or "dropout, or keys from elsewhere")
    kind = query.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else query.dtype
    flat = [part.transpose(1, 2).flatten(0, 1).to(dtype) for part in (query, key, value)]
    begins = cu_seq_lens_q if cu_seq_lens_q is not None else attention_mask
    if begins is None:
        begins = torch.arange(0, (rows + 1) * tokens, tokens, dtype=torch.int32, device=query.device)
    longest = max_length_q if cu_seq_lens_q is not None and max_length_q else tokens
    causal = module.is_causal if is_causal is None else is_causal
    options = kernel_options(causal=causal, window=sliding_window, grouped=heads != key.shape[1])
    from torch.nn.attention.varlen import varlen_attn

    found = varlen_attn(*flat, begins, begins, longest, longest, scale=scaling, **options)
    return found.view(rows, tokens, heads, -1), None


@functools.cache
def kernel_options(*, causal: bool, window: int | None, grouped: bool) -> dict[str, Any]:
    """In the words of this torch: 2.10 takes is_causal, later ones a window to the left and right of each token."""
    from torch.nn.attention.varlen import varlen_attn

    known = inspect.signature(varlen_attn).parameters
    options: dict[str, Any] = {"enable_gqa": True} if grouped and "enable_gqa" in known else {}
    if "window_size" in known:
        left = -1 if window is None else window - 1
        return options | {"window_size": (left, 0 if causal else left)}
    if window is not None:
        raise NotImplementedError("a window, which this version of torch does not take")
    return options | {"is_causal": causal}
