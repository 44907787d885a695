"""Where a model's body ends and its head begins.

The head is everything that runs after the last transformer block (BERT: pooler and classifier; DistilBERT: pre_classifier
and classifier; Llama with a classification head: the final norm and score). It is read off the model itself: a forward
pass of its shape on the meta device, without weights, shows which modules run after the last block.
"""

import copy
from typing import Any

import torch
from torch import nn

from ftkit.errors import UserError


def meta_model(auto_class: Any, config: Any, attention: str | None = "eager") -> nn.Module:
    """The model of `config` on the meta device: shapes without weights. None leaves the attention to transformers."""
    with torch.device("meta"):  # a copy, since the choice of attention would be written into the config
        model: nn.Module = auto_class.from_config(copy.deepcopy(config), attn_implementation=attention)
    return model.eval()


def block_lists(model: nn.Module) -> dict[str, nn.ModuleList]:
    """The lists of transformer blocks by name, outermost only (an encoder-decoder has two)."""
    lists: dict[str, nn.ModuleList] = {}
    for name, module in model.named_modules():
        inside = any(name.startswith(outer + ".") for outer in lists)
        if isinstance(module, nn.ModuleList) and len(module) and not inside and _has_parameters(module[0]):
            lists[name] = module
    return lists


def last_blocks(model: nn.Module) -> tuple[str, nn.ModuleList]:
    """The list that holds the last transformer block.

    Raises:
        UserError: the model has no list of blocks.
    """
    lists = block_lists(model)
    if not lists:
        raise UserError(f"{type(model).__name__} has no list of transformer blocks", "use strategy full", key="strategy")
    name = max(lists, key=lambda key: sum(p.numel() for p in lists[key].parameters()))
    return name, lists[name]


def find_head(auto_class: Any, config: Any) -> tuple[str, ...]:
    """Names of the modules that make up the head of `config`'s model, the outermost whose parameters all belong to it.

    Raises:
        UserError: the model has no list of transformer blocks.
    """
    try:
        return trace_head(meta_model(auto_class, config))
    except (RuntimeError, NotImplementedError):  # a forward pass that looks at values cannot run without weights
        small = copy.deepcopy(config)
        small.num_hidden_layers = 2
        return trace_head(auto_class.from_config(small).eval())


def trace_head(model: nn.Module) -> tuple[str, ...]:
    """The head of a model on the meta device or with weights; its forward pass runs once, on four tokens."""
    _, blocks = last_blocks(model)
    after_body: list[nn.Module] = []

    def restart(*_: Any) -> None:
        after_body.clear()

    def note(module: nn.Module, *_: Any) -> None:
        after_body.append(module)

    inside = set(blocks.modules())
    leaves = [m for m in model.modules() if m not in inside and any(True for _ in m.parameters(recurse=False))]
    hooks = [blocks[-1].register_forward_hook(restart)] + [leaf.register_forward_pre_hook(note) for leaf in leaves]
    device = next(model.parameters()).device
    try:
        with torch.no_grad():
            model(input_ids=_four_tokens(model).to(device))
    finally:
        for hook in hooks:
            hook.remove()
    return _outermost(model, {id(p) for module in after_body for p in module.parameters(recurse=False)})


def _four_tokens(model: nn.Module) -> torch.Tensor:
    """Token ids of shape (1, 4) that end with the end token, where BART's head reads its vector."""
    end = model.config.eos_token_id
    end = end[0] if isinstance(end, list) else end
    return torch.tensor([[0, 0, 0, end if isinstance(end, int) else 0]])


def _has_parameters(module: nn.Module) -> bool:
    return next(module.parameters(), None) is not None


def _outermost(model: nn.Module, parameters: set[int]) -> tuple[str, ...]:
    names: list[str] = []
    for name, module in model.named_modules():
        own = [id(p) for p in module.parameters()]
        if name and own and parameters.issuperset(own) and not any(name.startswith(outer + ".") for outer in names):
            names.append(name)
    return tuple(names)
