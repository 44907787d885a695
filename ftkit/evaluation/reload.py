"""The verifying process: it loads a run's model/ by plain transformers or peft, as anybody would, and asks it a few rows.

Each row is one call of the model with its labels: the loss is what the model itself says, the score is made of its logits.

Started by ftkit/evaluation/verification.py. It imports the libraries, waits for a line on standard input, since the model
may not be saved yet, and answers with one line of JSON on standard output. Nothing of the run's own process is in it.
"""

import inspect
import json
import os
import sys
from pathlib import Path
from typing import Any

from ftkit.classes import OWN_CODE

FACTS, ROWS = "facts.json", "rows.safetensors"
ADAPTER = "adapter_model.safetensors"


def main() -> None:
    """Answer the one question that the parent asks; whatever goes wrong becomes part of the answer."""
    answer = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what libraries print is no answer
    model, verification = Path(sys.argv[1]), Path(sys.argv[2])
    facts = json.loads((verification / FACTS).read_text(encoding="utf-8"))
    facts["load"]["arguments"][OWN_CODE] = OWN_CODE in sys.argv[3:]  # the parent's word counts, and not that of a file
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
    """The class that the run's README.md names, of those that ftkit writes.

    Raises:
        ValueError: it is none of them; nothing is imported by its name.
    """
    import peft
    import transformers

    from ftkit.classes import strange_load

    if words := strange_load(load):
        raise ValueError(f"{words} is not taken")

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    return getattr({"transformers": transformers, "peft": peft}[load["library"]], load["class"])


def examine(auto_class: Any, folder: Path, rows: Path, facts: dict[str, Any], found: dict[str, Any]) -> None:
    """Put into `found` the tensors that the files lack, digests of the trained ones, and what the model says of the rows."""
    from ftkit.evaluation.records import PADDED, read_rows
    from ftkit.evaluation.scoring import digest

    names, adapter = list(facts["before"]), facts["load"]["library"] == "peft"
    tensors = adapter_tensors(folder, names) if adapter else {}
    found["missing"] = [saved_name(name) for name in names if name not in tensors] if adapter else []
    model, missing = load_model(auto_class, folder, facts["load"])
    found["missing"] += missing
    tensors = tensors or dict(model.named_parameters())
    found["digests"] = {name: digest(tensors[name]) for name in names if name in tensors}
    options = tokens_alone((model.get_base_model() if adapter else model).forward)
    plain, padded = (as_learnt(read_rows(rows, *which), facts.get("label_scale")) for which in ((), (PADDED,)))
    said = ask(model, plain, options, shift=facts["shift"])
    found |= {name: [row[name] for row in said] for name in ("scores", "losses", "counts")}
    found["padded_losses"] = [row["losses"] for row in ask(model, padded, options, shift=facts["shift"])]


def as_learnt(rows: list[dict[str, Any]], scale: dict[str, Any] | None) -> list[dict[str, Any]]:
    """The rows with labels in the units of the model's numbers: standard units, where its head could not hold others."""
    if scale is None or scale["in_head"]:
        return rows
    return [row | {"labels": (row["labels"] - scale["mean"]) / scale["deviation"]} for row in rows]


def ask(model: Any, rows: list[dict[str, Any]], options: dict[str, Any], *, shift: bool) -> list[dict[str, Any]]:
    """Of each row, as a batch of one: its score, the model's own loss in nats, and of how many labels that is the mean."""
    import torch

    from ftkit.evaluation.scoring import as_batch, precision_of, score_of

    model.eval()
    said = []
    with torch.no_grad(), precision_of(model):
        for row in rows:
            inputs = as_batch(model, row)
            output = model(**inputs, **options)
            score = score_of(output.logits, inputs["labels"], shift=shift).tolist()
            count = 1 if output.logits.dim() == 2 else len(score)
            said.append({"scores": score, "losses": float(output.loss), "counts": count})
    return said


def tokens_alone(forward: Any) -> dict[str, Any]:
    """Arguments with which a model's own loss is that of its labels alone, as it is measured.

    A mixture of experts whose config has output_router_logits adds its router's auxiliary loss, times a coefficient. That
    one depends on which rows meet in a batch, and is no part of the measured loss, the tokens' cross-entropy.
    """
    return {"output_router_logits": False} if "output_router_logits" in inspect.signature(forward).parameters else {}


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
