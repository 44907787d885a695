"""What a strategy is: what it asks of loading, and what it does to the loaded model."""

from typing import Any, Protocol

from transformers import PreTrainedModel

from ftkit.models.load import torch_dtype


class Strategy(Protocol):
    """Which parameters learn. `block` is the strategy's own part of the recipe."""

    quantized: bool
    """Whether the base's linear layers rest in 4 bits."""

    needs_head: bool
    """Whether it must be known which modules are a new head, since others do not learn."""

    def load_arguments(self, block: Any, dtype: str, head: tuple[str, ...]) -> dict[str, Any]:
        """What `from_pretrained` must be given. `dtype` is that of frozen weights, `head` names the head's modules."""

    def apply(self, model: PreTrainedModel, block: Any, head: tuple[str, ...], auto_class: Any = None) -> Any:
        """The model ready to train: the right parameters require gradients, in float32.

        Args:
            auto_class: of what the model does; an adapter that is saved says so.

        Raises:
            UserError: the strategy's values do not fit the model.
        """


def plain_arguments(dtype: str) -> dict[str, Any]:
    return {"dtype": torch_dtype(dtype)}
