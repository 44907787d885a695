"""Where a model's body ends and its head begins.

The head is everything that is computed after the last transformer block (BERT: pooler and classifier; DistilBERT:
pre_classifier and classifier; Llama with a classification head: the final norm and score). It is read off the model itself:
a forward pass of its shape on the meta device, without weights, shows which weights are read after the last block.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only
from transformers import PretrainedConfig, PreTrainedModel

from ftkit.errors import UserError
from ftkit.models.architecture import meta_model, text_field
from ftkit.models.load import first_line

TOKENS = 16  # Funnel halves them three times
META = torch.device("meta")


class Reads(TorchDispatchMode):
    """Notes which parameters operations read, however they come by them.

    What does not hang on weights keeps its values though the model is on the meta device, as places and masks that are made
    of token ids: some models look at them to see what to do.
    """

    def __init__(self) -> None:
        super().__init__()
        self.parameters: set[int] = set()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        self.parameters.update(id(tensor) for tensor in tensors if isinstance(tensor, nn.Parameter))
        shapes = any(tensor.device == META for tensor in tensors)
        if shapes:
            args, kwargs = tree_map_only(torch.Tensor, _without_values, (indexed(function, args), kwargs))
        if "device" in kwargs:
            kwargs["device"] = META if shapes else torch.device("cpu")
        return function(*args, **kwargs)


def indexed(function: Any, args: Any) -> Any:
    """The arguments of an operation, with the places that a mask chooses in its stead: of shapes alone it has none."""
    if function not in (torch.ops.aten.index.Tensor, torch.ops.aten.index_put_.default):
        return args
    places: list[torch.Tensor | None] = []
    for index in args[1]:
        masks = index is not None and index.dtype == torch.bool and index.device != META
        places += index.nonzero().unbind(1) if masks else [index]
    return (args[0], places, *args[2:])


def _without_values(tensor: torch.Tensor) -> torch.Tensor:
    return tensor if tensor.device == META else tensor.to(META)


def block_lists(model: nn.Module) -> dict[str, nn.ModuleList]:
    """The lists of transformer blocks by name, outermost only (an encoder-decoder has two)."""
    lists: dict[str, nn.ModuleList] = {}
    for name, module in model.named_modules():
        inside = any(name.startswith(outer + ".") for outer in lists)
        if isinstance(module, nn.ModuleList) and len(module) and not inside and _has_parameters(module[0]):
            lists[name] = module
    return lists


def last_blocks(model: nn.Module) -> tuple[str, nn.ModuleList]:
    """The list that holds the last transformer block: the largest, of a model with a decoder the decoder's.

    Raises:
        UserError: the model has no list of blocks.
    """
    lists = block_lists(model)
    if not lists:
        raise UserError(f"{type(model).__name__} has no list of transformer blocks", "use strategy full", key="strategy")
    decoder = set(model.get_decoder().modules()) if isinstance(model, PreTrainedModel) else set()
    last = {name: blocks for name, blocks in lists.items() if blocks in decoder} or lists
    name = max(last, key=lambda key: sum(p.numel() for p in last[key].parameters()))
    return name, last[name]


def beside_text(model: PreTrainedModel) -> tuple[str, ...]:
    """Names of the modules through which no text goes: those for images and sound of a model that takes them too."""
    if model.config.is_encoder_decoder or model.config.get_text_config() is model.config:
        return ()
    names = {module: name for name, module in model.named_modules()}
    return tuple(names[module] for module in _apart(model.base_model, model.get_decoder()))


def _apart(module: nn.Module, decoder: nn.Module) -> Iterator[nn.Module]:
    """The outermost modules with parameters beneath a module that neither are the decoder nor hold it."""
    for child in module.children() if module is not decoder else ():
        if decoder in child.modules():
            yield from _apart(child, decoder)
        elif _has_parameters(child):
            yield child


def find_head(auto_class: Any, config: PretrainedConfig) -> tuple[str, ...]:
    """Names of the modules that make up the head of `config`'s model, the outermost whose parameters all belong to it.

    Raises:
        UserError: the model has no list of transformer blocks, or its forward pass does not go through them.
    """
    try:
        return trace_head(meta_model(auto_class, config))
    except (RuntimeError, NotImplementedError):
        pass  # a forward pass that looks at what comes of weights cannot run without them
    except (ImportError, ValueError, TypeError, AttributeError, KeyError, IndexError, AssertionError) as error:
        raise not_gone_through(config, error) from error
    try:
        return trace_head(with_zeros(meta_model(auto_class, config)))
    except Exception as error:  # whatever a model does with zeros
        if isinstance(error, UserError):
            raise
        raise not_gone_through(config, error) from error


def not_gone_through(config: PretrainedConfig, error: Exception) -> UserError:
    """What is said where no head can be found."""
    message = f"a model of type {config.model_type} cannot be gone through to find its head: {first_line(error)}"
    return UserError(message, "mend its config.json, or use strategy full", key="model.name")


def trace_head(model: nn.Module) -> tuple[str, ...]:
    """The head of a model on the meta device or with weights; its forward pass runs once, on a few tokens.

    Raises:
        UserError: the forward pass does not go through the last block, so that it is not known what follows.
    """
    name, blocks = last_blocks(model)
    with torch.no_grad(), Reads() as reads, forgetting(reads, innermost(blocks[-1])) as ran:
        model(input_ids=few_tokens(model))
    if not ran:
        message = f"the forward pass of {type(model).__name__} does not run {name}, so that its head is not known"
        raise UserError(message, "use strategy full", key="strategy")
    return _outermost(model, reads.parameters)


@contextmanager
def forgetting(reads: Reads, block: nn.Module) -> Iterator[list[bool]]:
    """Inside the block what was read before a transformer block ended is forgotten; the list tells that it ran.

    Hooks would not do: some models call their blocks' `forward` by name.
    """
    compute, ran = block.forward, list[bool]()

    def forward(*args: Any, **kwargs: Any) -> Any:
        found = compute(*args, **kwargs)
        reads.parameters.clear()
        ran.append(True)
        return found

    block.forward = forward
    try:
        yield ran
    finally:
        block.forward = compute


def innermost(block: nn.Module) -> nn.Module:
    """The last block of a list in a list, as Funnel has them."""
    while isinstance(block, nn.ModuleList):
        block = block[-1]
    return block


def with_zeros(model: nn.Module) -> nn.Module:
    """A model of the meta device on the CPU, each tensor a single zero in its shape: values, and next to no memory."""
    for module in model.modules():
        for name, old in [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]:
            zeros = torch.zeros((), dtype=old.dtype).expand(old.shape)
            setattr(module, name, nn.Parameter(zeros, requires_grad=False) if isinstance(old, nn.Parameter) else zeros)
    return model


def few_tokens(model: Any) -> torch.Tensor:
    """Token ids of shape (1, tokens), none of padding, that end with the end token, where BART's head reads its vector."""
    end, filling = text_field(model.config, "eos_token_id"), int(text_field(model.config, "pad_token_id") == 0)
    end = end[0] if isinstance(end, list) else end
    return torch.tensor([[*[filling] * (TOKENS - 1), end if isinstance(end, int) else filling]])


def _has_parameters(module: nn.Module) -> bool:
    return next(module.parameters(), None) is not None


def _outermost(model: nn.Module, parameters: set[int]) -> tuple[str, ...]:
    names: list[str] = []
    for name, module in model.named_modules():
        own = [id(p) for p in module.parameters()]
        if name and own and parameters.issuperset(own) and not any(name.startswith(outer + ".") for outer in names):
            names.append(name)
    return tuple(names)
