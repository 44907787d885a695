"""The name under which a metric is shown: with what its own name leaves open, as the class of an F1 or its average."""

from collections.abc import Mapping
from typing import Any

MACRO = "macro"


def shown_name(metric: str, details: Mapping[str, str] | None) -> str:
    """A metric's name with its detail in brackets, as `f1 (class fraud)` or `f1 (macro)`.

    Args:
        details: by metric; metrics.json keeps them beside the figures. A run of an earlier version has none.
    """
    return f"{metric} ({details[metric]})" if details and metric in details else metric


def class_detail(label: str) -> str:
    return f"class {label}"


def by_shown_name(values: Mapping[str, Any], details: Mapping[str, str] | None) -> dict[str, Any]:
    """Values by metric under the names under which these are shown, so that two metrics of one name stay two."""
    return {shown_name(metric, details): value for metric, value in values.items()}
