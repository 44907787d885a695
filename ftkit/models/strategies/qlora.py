"""QLoRA: LoRA over a base whose linear layers rest in 4-bit NF4 with double quantization.

They compute in bfloat16 where the machine has it.

Dettmers et al. 2023, https://arxiv.org/abs/2305.14314. Heads and output embeddings are not quantized.
"""

import importlib.util
from typing import Any

import torch
from peft import PeftModel
from transformers import BitsAndBytesConfig, PreTrainedModel

from ftkit.compat import modules_not_quantized
from ftkit.errors import UserError
from ftkit.models.load import torch_dtype
from ftkit.models.precision import product_dtype
from ftkit.models.strategies.lora import LoraStrategy
from ftkit.recipe.schema import QLora


class QLoraStrategy:
    quantized = True
    needs_head = True

    def load_arguments(self, block: QLora, dtype: str, head: tuple[str, ...]) -> dict[str, Any]:
        if importlib.util.find_spec("bitsandbytes") is None:
            raise UserError("strategy qlora needs bitsandbytes", "pip install 'ftkit[qlora]'", key="strategy.name")
        quantization = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=product_dtype(),
            llm_int8_skip_modules=modules_not_quantized(head),
        )
        device = "cpu" if not torch.cuda.is_available() else torch.cuda.current_device()
        return {
            "dtype": torch_dtype(dtype), "quantization_config": quantization, "device_map": {"": device},
            "keep_quantized": block.keep_quantized,
        }  # fmt: skip

    def apply(self, model: PreTrainedModel, block: QLora, head: tuple[str, ...], auto_class: Any = None) -> PeftModel:
        return LoraStrategy().apply(model, block, head, auto_class)
