"""The verifying process: it loads a run's model/ by plain transformers or peft, as anybody would, and scores a few rows.

Started by ftkit/evaluation/verification.py. It imports the libraries, waits for a line on standard input, since the model
may not be saved yet, and answers with one line of JSON on standard output. Nothing of the run's own process is in it.
"""

import importlib
import json
import os
import sys
from pathlib import Path
from typing import Any

FACTS, ROWS = "facts.json", "rows.safetensors"
ADAPTER = "adapter_model.safetensors"


def main() -> None:
    """Answer the one question that the parent asks; whatever goes wrong becomes part of the answer."""
    answer = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what libraries print is no answer
    model, verification = Path(sys.argv[1]), Path(sys.argv[2])
    facts = json.loads((verification / FACTS).read_text(encoding="utf-8"))
    auto_class = auto_class_of(facts["load"])
    if not sys.stdin.readline():
        return  # the parent is gone
    found: dict[str, Any] = {"missing": []}
    try:
        examine(auto_class, model, verification / ROWS, facts, found)
    except Exception as error:  # the parent tells the user
        found["error"] = f"{type(error).__name__}: {' '.join(str(error).split())[:400]}"
    json.dump(found, answer)
    answer.flush()


def auto_class_of(load: dict[str, Any]) -> Any:
    """The class that the run's README.md names."""
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    return getattr(importlib.import_module(load["library"]), load["class"])


def examine(auto_class: Any, folder: Path, rows: Path, facts: dict[str, Any], found: dict[str, Any]) -> None:
    """Put into `found` the tensors that the files lack, the digests of the trained ones, and the scores of the rows."""
    from ftkit.evaluation.records import read_rows
    from ftkit.evaluation.scoring import digest, score_rows

    names, adapter = list(facts["before"]), facts["load"]["library"] == "peft"
    tensors = adapter_tensors(folder, names) if adapter else {}
    found["missing"] = [saved_name(name) for name in names if name not in tensors] if adapter else []
    model, missing = load_model(auto_class, folder, facts["load"])
    found["missing"] += missing
    tensors = tensors or dict(model.named_parameters())
    found["digests"] = {name: digest(tensors[name]) for name in names if name in tensors}
    found["scores"] = [score.tolist() for score in score_rows(model, read_rows(rows), shift=facts["shift"])]


def load_model(auto_class: Any, folder: Path, load: dict[str, Any]) -> tuple[Any, list[str]]:
    """The model as the README.md loads it, on the device that it was trained on.

    Returns:
        The model, and the names that its files lack; of an adapter's, none are told.
    """
    import torch

    options = load_options(load)
    adapter = load["library"] == "peft"
    found = auto_class.from_pretrained(str(folder), **options, **({} if adapter else {"output_loading_info": True}))
    model, info = (found, None) if adapter else found
    if load["device"] == "cuda" and torch.cuda.is_available():
        model = model if "device_map" in options else model.to("cuda")
    if "quantization" in load:
        from ftkit.compat import keep_4bit_weights  # a fault of the library that would spoil the comparison

        keep_4bit_weights(model)
    return model, sorted(info["missing_keys"]) if info else []


def load_options(load: dict[str, Any]) -> dict[str, Any]:
    """Arguments of `from_pretrained` from what JSON can hold of them."""
    import torch

    options = dict(load["arguments"])
    if "dtype" in options:
        options["dtype"] = {"float32": torch.float32, "bfloat16": torch.bfloat16}[options["dtype"]]
    if "quantization" in load:
        from transformers import BitsAndBytesConfig

        options["quantization_config"] = BitsAndBytesConfig(**load["quantization"])
        options["device_map"] = {"": 0 if load["device"] == "cuda" and torch.cuda.is_available() else "cpu"}
    return options


def adapter_tensors(folder: Path, names: list[str]) -> dict[str, Any]:
    """Those of an adapter's file, by their names in the model; loading would round a head to the base's precision."""
    from safetensors import safe_open

    with safe_open(folder / ADAPTER, framework="pt") as file:
        held = set(file.keys())
        return {name: file.get_tensor(saved_name(name)) for name in names if saved_name(name) in held}


def saved_name(name: str) -> str:
    """A tensor's name in an adapter's file, which leaves out the name of the adapter."""
    return name.replace(".modules_to_save.default.", ".").replace(".default.", ".").removesuffix(".default")
