"""The process that trains for some seconds, of nothing but what comes with ftkit; started by ftkit/doctor/examine.py.

A tiny decoder with random weights learns a few sample texts by adapters, in the folder that it runs in.
"""

from pathlib import Path
from typing import Any

from ftkit.doctor.children import answering
from ftkit.doctor.findings import error_words

KIND = "llama"
STEPS, ROWS, EVAL_ROWS = 60, 450, 40


def main() -> None:
    """Tell the losses before and after, tokens and seconds; or why there are none."""
    with answering() as tell:
        try:
            tell(trained(Path.cwd()))
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # of whatever is broken
            tell({"error": error_words(error)})


def trained(folder: Path) -> dict[str, Any]:
    """What a run of a few steps came to."""
    from ftkit import console
    from ftkit.api import train
    from ftkit.compat import hush_libraries
    from ftkit.models.standins import make_stand_in
    from ftkit.training.smoke import plain_texts

    hush_libraries()
    console.set_quiet(True)
    make_stand_in(KIND, plain_texts("text", 1000), folder / "model")
    result = train(values(folder), output_dir=folder / "run")
    record = result.record
    return {
        "before": result.metrics["baseline"]["loss"], "after": result.metrics["tuned"]["loss"], "device": record["device"],
        "precision": record["precision"], "tokens": record["trained"]["tokens"], "seconds": record["seconds"]["training"],
    }  # fmt: skip


def values(folder: Path) -> dict[str, Any]:
    """A recipe in which all is at hand."""
    return {
        "task": "language-modeling",
        "model": {"name": str(folder / "model"), "max_length": 64},
        "strategy": {"name": "lora", "r": 8, "target_modules": "all-linear"},
        "data": {"train": {"path": "sample:text", "rows": ROWS}, "eval_size": EVAL_ROWS},
        "training": {
            "max_steps": STEPS, "learning_rate": 1e-2, "per_device_train_batch_size": 8, "warmup_steps": 5,
            "eval_strategy": "no", "save_strategy": "no", "report_to": "none",
        },
        "evaluation": {"general_text": False, "verify": False},
    }  # fmt: skip


if __name__ == "__main__":
    main()
