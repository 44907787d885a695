"""What was planned beside what was measured: memory as told before the first step, time as told after the first few."""

from typing import Any

from ftkit.units import size_words, time_words


def planned_rows(record: dict[str, Any]) -> list[dict[str, str]]:
    """A line a figure, each with `name`, `planned`, `measured` and their `ratio`; none where nothing was planned."""
    plan = record.get("plan") or {}
    training = plan.get("training_peak_bytes") or plan.get("peak_memory_bytes") or {}
    found = memory_lines("peak memory of training", training, record.get("training_peak_bytes") or {})
    if "training_peak_bytes" in plan:  # else what is planned for the run is that of its training, as earlier versions did
        found += memory_lines("peak memory of the run", plan["peak_memory_bytes"], record.get("peak_memory_bytes") or {})
    if seconds := plan.get("seconds"):
        after, took = seconds["after_step"], record["seconds"]["training"]
        found.append(line(f"training, told after step {after:,}", seconds["training"], took, time_words))
    return found


def memory_lines(name: str, planned: dict[str, int], measured: dict[str, int]) -> list[dict[str, str]]:
    """A line a place whose memory was both planned and measured."""
    return [
        line(f"{name} ({place})", size, measured[place], size_words) for place, size in planned.items() if place in measured
    ]


def line(name: str, planned: float, measured: float, words: Any) -> dict[str, str]:
    """One line of the table."""
    ratio = f"{measured / planned:.2f}" if planned else ""
    return {"name": name, "planned": words(planned), "measured": words(measured), "ratio": ratio}
