"""Full fine-tuning: every weight that text goes through learns, in float32."""

from typing import Any

import torch
from transformers import PreTrainedModel

from ftkit.compat import hold_in_float32
from ftkit.models.heads import beside_text
from ftkit.recipe.schema import Full


class FullStrategy:
    quantized = False
    needs_head = False

    def load_arguments(self, block: Full, dtype: str, head: tuple[str, ...]) -> dict[str, Any]:
        return {"dtype": torch.float32}

    def apply(self, model: PreTrainedModel, block: Full, head: tuple[str, ...], auto_class: Any = None) -> PreTrainedModel:
        model.requires_grad_(True)
        for name in beside_text(model):  # no gradient would reach it
            model.get_submodule(name).requires_grad_(False)
        hold_in_float32(model)
        return model
