"""Settings of the process that must stand before torch and its kin are imported; what the user has set stays."""

import logging
import os

DEFAULTS = {
    # Threads that wait spin by default; with another process on a core that made a forward pass ten times slower.
    "OMP_WAIT_POLICY": "PASSIVE",
    "TOKENIZERS_PARALLELISM": "true",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1",
}


def prepare_process() -> None:
    """Call before the first import of torch."""
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it reports a missing optional kernel while importing
