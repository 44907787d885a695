"""A model as one ONNX file by torch's own exporter, and what onnxruntime makes of it. Needs the extra `ftkit[onnx]`."""

import importlib.util
import logging
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ftkit.delivery.comparison import Batch, Forward
from ftkit.errors import UserError

PACKAGES = ("onnx", "onnxscript", "onnxruntime")
INPUTS = ("input_ids", "attention_mask", "token_type_ids")


class Logits(nn.Module):
    """A model whose inputs are named one by one and whose output is the logits alone, as a graph needs it."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, token_type_ids: torch.Tensor | None = None
    ) -> torch.Tensor:
        more = {} if token_type_ids is None else {"token_type_ids": token_type_ids}
        logits: torch.Tensor = self.model(input_ids=input_ids, attention_mask=attention_mask, **more).logits
        return logits


def require_onnx() -> None:
    """Raises UserError where a package of the extra lacks."""
    if lacking := [name for name in PACKAGES if importlib.util.find_spec(name) is None]:
        raise UserError(f"exporting to ONNX needs {', '.join(lacking)}", "pip install 'ftkit[onnx]'", "--format")


def write_onnx(model: Any, batch: Batch, file: Path) -> None:
    """Trace the model with the numbers of rows and of tokens left open, on a smaller batch than it is compared on."""
    names = [name for name in INPUTS if name in batch]
    width = max(4, batch["input_ids"].shape[1] // 2)
    rows, tokens = torch.export.Dim("rows"), torch.export.Dim("tokens")
    model.config.use_cache = False  # a graph's output is the logits alone
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            Logits(model.eval()),
            tuple(batch[name][:2, :width] for name in names),
            str(file),
            input_names=names,
            output_names=["logits"],
            dynamic_shapes={name: {0: rows, 1: tokens} for name in names},
            dynamo=True,
            verbose=False,
        )


def runtime_forward(file: Path) -> Forward:
    """Logits by onnxruntime, on the CPU."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    wanted = {given.name for given in session.get_inputs()}

    def forward(batch: Batch) -> torch.Tensor:
        inputs = {name: value.numpy() for name, value in batch.items() if name in wanted}
        return torch.from_numpy(session.run(["logits"], inputs)[0]).float()

    return forward
