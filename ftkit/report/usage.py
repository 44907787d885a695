"""The lines of Python that load a run's model by plain transformers or peft, for its README.md."""

from typing import Any

from ftkit.report.evidence import Evidence
from ftkit.report.predicting import predicting_words


def usage(evidence: Evidence, folder: str = "model") -> list[str]:
    """Load a run's model and predict with it.

    Args:
        folder: where the model lies, seen from where the lines are run; or its hub id.
    """
    loading, predicting = loading_words(evidence.record["load"], folder), predicting_words(evidence)
    return [*(["import torch"] if any("torch." in line for line in predicting) else []), *loading, "", *predicting]


def loading_words(facts: dict[str, Any], folder: str) -> list[str]:
    """Load the model and its tokenizer; the very arguments with which a run is verified.

    Args:
        facts: `load` of run.json, as `ftkit.models.loading` makes it.
    """
    words = [f'"{folder}"', *(f"{name}={value!r}" for name, value in facts["arguments"].items())]
    if "labels" in facts:
        names = dict(enumerate(facts["labels"]))
        words += [f"id2label={names!r}", f"label2id={ ({name: number for number, name in names.items()})!r}"]
    libraries = {"transformers": ["AutoTokenizer", *(["BitsAndBytesConfig"] if "quantization" in facts else [])]}
    libraries.setdefault(facts["library"], []).append(facts["class"])
    imports = [f"from {library} import {', '.join(sorted(own))}" for library, own in sorted(libraries.items())]
    lines = [*imports, ""]
    if "quantization" in facts:
        given = ", ".join(f"{name}={value!r}" for name, value in facts["quantization"].items())
        lines.append(f"quantization = BitsAndBytesConfig({given})")
        words.append("quantization_config=quantization")
    own_code = ", trust_remote_code=True" if facts["arguments"].get("trust_remote_code") else ""
    lines.append(f'tokenizer = AutoTokenizer.from_pretrained("{folder}"{own_code})')
    return [*lines, f"model = {facts['class']}.from_pretrained({', '.join(words)})"]
