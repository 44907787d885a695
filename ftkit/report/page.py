"""report.html: one page that needs nothing else, with the verdict of a run and what it stands on.

ftkit report runs/lora_distilbert
"""

from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader
from markupsafe import Markup

from ftkit.escapes import visible
from ftkit.report.confusion import confusion
from ftkit.report.curves import curves, kept_step
from ftkit.report.evidence import Evidence, as_interval
from ftkit.report.examples import Examples, answer_words, asked_text, choose_examples, shortened, wanted_words
from ftkit.report.planned import planned_rows
from ftkit.report.plots import draw_curve, draw_histogram, library
from ftkit.report.summary import (
    label_rows,
    model_name,
    peak_words,
    planned,
    run_facts,
    stand_in_words,
    unverified,
    verified_words,
)
from ftkit.report.usage import usage
from ftkit.units import number, size_words, time_words

MAX_SLICES = 100
MINUS = "\u2212"
STATES = {"unsure": "not sure", "partly": "better in part", "mixed": "better and worse"}  # others are said as they are


@dataclass(frozen=True)
class Comparison:
    """One line of the table of metrics.

    Attributes:
        shown: the name under which the metric is shown.
        against: what tuned is compared with, "baseline" or the name of another.
        gain: whether the difference is for the better; None where its interval holds 0, or where neither way is.
    """

    metric: str
    shown: str
    against: str
    higher: bool | None
    value: float | None
    tuned: float | None
    tuned_interval: tuple[float, float] | None
    interval: tuple[float, float] | None

    @property
    def difference(self) -> float | None:
        return None if self.value is None or self.tuned is None else self.tuned - self.value

    @property
    def gain(self) -> bool | None:
        return gain_of(self.interval, self.higher)


def page(evidence: Evidence, address: str = "model") -> str:
    """The whole page; everything that comes from data is escaped.

    Args:
        address: by which the model is loaded: a folder or a hub id.
    """
    environment = Environment(loader=PackageLoader("ftkit.report"), autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.policies["json.dumps_kwargs"] = {}  # BokehJS reads what refers to a model after the model, so in this order
    environment.filters.update(figure=figure, signed=signed, between=between, share=share)
    environment.globals.update(between=between, extent=extent)
    examples = choose_examples(evidence)
    rows, slices = comparisons(evidence), slices_of(evidence)
    text = environment.get_template("report.html").render(
        evidence=evidence,
        record=evidence.record,
        metrics=evidence.metrics,
        unverified=unverified(evidence.record),
        verified=verified_words(evidence.record),
        stand_ins=stand_in_words(evidence.record),
        analysis=evidence.analysis,
        data=evidence.data,
        labels=label_rows(evidence.data.get("labels") or {}),
        splits=split_facts(evidence),
        data_caveats=data_caveats(evidence),
        verdict=verdict(evidence, rows),
        states=STATES,
        main=main_comparison(evidence, rows),
        comparisons=rows,
        others=other_comparisons(evidence),
        tiles=tiles(evidence, rows, examples),
        curves=curves(evidence),
        kept=kept_step(evidence),
        examples=examples,
        confusion=confusion(evidence.analysis.get("confusion")),
        worst=worst_rows(evidence, examples),
        slices=slices,
        slice_extent=max((abs(end) for one in slices for end in one.get("difference_interval") or ()), default=1.0),
        histograms=histograms(evidence),
        cost=cost(evidence),
        planned=planned_rows(evidence.record),
        plots=plots(evidence),
        environment=surroundings(evidence),
        model=model_name(evidence.record),
        usage="\n".join(usage(evidence, address)),
        address=address,
        scripts=scripts(),
    )
    return visible(text)


def scripts() -> Markup:
    """The library of the plots, and the page's own script; they are files of packages, not data."""
    own = files("ftkit.report").joinpath("templates", "report.js").read_text(encoding="utf-8")
    return Markup("\n".join([library(), own]))


def plots(evidence: Evidence) -> list[dict[str, Any]]:
    """What the page's script draws, each with the id of its place."""
    found = [draw_curve(one, f"curve-{number}", large=number == 0) for number, one in enumerate(curves(evidence))]
    lengths = length_range(evidence)
    return found + [draw_histogram(one, lengths, f"histogram-{number}") for number, one in enumerate(histograms(evidence))]


def comparisons(evidence: Evidence) -> list[Comparison]:
    """Tuned against the baseline, a line a metric."""
    before = evidence.metrics.get("baseline") or {}
    return [
        Comparison(
            name, evidence.shown(name), "baseline", evidence.higher_is_better(name), before.get(name), value,
            evidence.interval("tuned", name), evidence.interval("difference", name),
        )
        for name, value in evidence.metrics["tuned"].items()
    ]  # fmt: skip


def other_comparisons(evidence: Evidence) -> list[Comparison]:
    """Tuned against the other baselines, as the most frequent label and examples in the prompt."""
    tuned = evidence.metrics["tuned"]
    return [
        Comparison(
            name, evidence.shown(name), other, evidence.higher_is_better(name), value, tuned[name],
            evidence.interval("tuned", name), evidence.interval_over(other, name),
        )
        for other, values in (evidence.metrics.get("other_baselines") or {}).items()
        for name, value in values.items()
        if name in tuned
    ]  # fmt: skip


def main_comparison(evidence: Evidence, rows: list[Comparison]) -> Comparison:
    """The line that the verdict is about: its metric, against what it compares with."""
    beside = [row for row in other_comparisons(evidence) if row.against == evidence.against]
    return next(row for row in [*beside, *rows] if row.metric == evidence.main_metric)


def verdict(evidence: Evidence, rows: list[Comparison]) -> dict[str, str]:
    """The run's own verdict; of a run without one, its figures in a sentence that claims no more than they show."""
    if found := evidence.metrics.get("verdict"):
        return {"state": found["state"], "sentence": found["sentence"]}
    main = next(row for row in rows if row.metric == evidence.main_metric)
    on = f"on {evidence.metrics['rows']:,} eval rows"
    if main.difference is None:
        return {"state": "no baseline", "sentence": f"{main.shown} is {figure(main.tuned)} {on}; no baseline was measured."}
    change = f"{main.shown} went from {figure(main.value)} to {figure(main.tuned)} ({signed(main.difference)}) {on}"
    return {"state": "unsure", "sentence": f"{change}; this run measured no interval, so chance is not ruled out."}


def tiles(evidence: Evidence, rows: list[Comparison], examples: Examples) -> list[tuple[str, str, str]]:
    """Name, figure and remark of what one wants to know first."""
    main, record = main_comparison(evidence, rows), evidence.record
    counts, seconds, peak = record["parameters"], record["seconds"], record["peak_memory_bytes"]
    before = f"{beside_words(main.against)} {figure(main.value)}" if main.value is not None else "no baseline"
    found = [(main.shown, figure(main.tuned), before)]
    if main.difference is not None:
        found.append(("difference", signed(main.difference), between(main.interval) if main.interval else "no interval"))
    if (fixed := count_changes(evidence, examples)) is not None:
        found.append(("rows fixed, broken", f"{fixed[0]:,}, {fixed[1]:,}", f"of {fixed[2]:,}"))
    found.append(("trained weights", f"{counts['trainable_percent']:.3g} %", f"{counts['trainable']:,}"))
    found.append(("time", time_words(seconds["total"]), f"training {time_words(seconds['training'])}"))
    place, size = max(peak.items(), key=lambda item: item[0] == "gpu")
    found.append(("peak memory", size_words(size), place + planned(record)))
    return found


def beside_words(against: str) -> str:
    return "before" if against == "baseline" else against


def count_changes(evidence: Evidence, examples: Examples) -> tuple[int, int, int] | None:
    """Rows that training put right and put wrong, of how many; None where right and wrong are not told apart."""
    if "changes" in evidence.metrics:
        changes = evidence.metrics["changes"]
        return (len(changes["fixed"]), len(changes["broken"]), examples.of) if changes else None
    if examples.kind != "label" or not evidence.metrics.get("baseline"):
        return None
    return examples.counts.get("fixed", 0), examples.counts.get("broken", 0), examples.of


def worst_rows(evidence: Evidence, examples: Examples) -> list[dict[str, Any]]:
    """The worst rows of analysis.json as words: what was given, less what all prompts begin with, wanted, and got."""
    answer = {"score", *(key for row in evidence.rows[:1] for key in row["tuned"])}
    found = []
    for row in evidence.analysis.get("worst") or []:
        given = asked_text({key: value for key, value in row.items() if key not in answer})
        found.append({
            "name": row["row"],
            "given": shortened(given.strip().removeprefix(examples.common_start).strip()),
            "wanted": shortened(wanted_words(row)),
            "got": shortened(answer_words(row)),
            "score": row["score"],
        })  # fmt: skip
    return found


def extent(line: Comparison) -> float:
    """How far from 0 the picture of an interval reaches."""
    return max(map(abs, line.interval)) if line.interval else 1.0


def slices_of(evidence: Evidence) -> list[dict[str, Any]]:
    """The slices, worst first, each with its `gain` over all rows, for better or worse; None where that may be chance."""
    found = (evidence.analysis.get("slices") or [])[:MAX_SLICES]
    known = [{name: as_interval(one.get(name)) for name in ("interval", "difference_interval")} for one in found]
    return [
        one | its | {"gain": gain_of(its["difference_interval"], evidence.higher_is_better(one["metric"]))}
        for one, its in zip(found, known, strict=True)
    ]


def gain_of(interval: Any, higher: bool | None) -> bool | None:
    """Whether a difference is for the better; None where its interval holds 0, or where neither way is."""
    if not interval or None in interval or higher is None or interval[0] <= 0 <= interval[1]:
        return None
    return bool((interval[0] > 0) == higher)


def split_facts(evidence: Evidence) -> dict[str, dict[str, Any]]:
    """Lengths by split; an encoder-decoder's source and target are two."""
    found: dict[str, dict[str, Any]] = {}
    for name, facts in (evidence.data.get("splits") or {}).items():
        sides = {f"{name}, {side}": facts[side] for side in ("source", "target") if side in facts} or {name: facts}
        found |= {side: {"entries": facts["entries"], **lengths} for side, lengths in sides.items()}
    return found


def data_caveats(evidence: Evidence) -> list[str]:
    """What scores have to be read with, by split; a list alone is an earlier version's."""
    found = evidence.data.get("caveats") or []
    named = found.items() if isinstance(found, dict) else [("eval", found)]
    return list(dict.fromkeys(caveat for _, caveats in named for caveat in caveats))


def length_range(evidence: Evidence) -> list[float]:
    """From the shortest row to the longest, of all splits: the plots of their lengths share it."""
    edges = [edge for one in histograms(evidence) for bar in one["bars"] for edge in (bar["first"], bar["last"])]
    return [min(edges), max(edges)] if edges else [0, 1]


def histograms(evidence: Evidence) -> list[dict[str, Any]]:
    """Lengths of the encoded rows by split, as bars for a plot."""
    found = []
    for name, facts in split_facts(evidence).items():
        if histogram := facts.get("histogram"):
            edges, counts = histogram["edges"], histogram["counts"]
            bars = [
                {"first": first, "last": last, "count": count}
                for first, last, count in zip(edges, edges[1:], counts, strict=False)
            ]
            found.append({"split": name, "bars": bars, "median": facts["length"]["median"]})
    return found


def cost(evidence: Evidence) -> dict[str, str]:
    """What the run took; only what was recorded."""
    record = evidence.record
    ended: dict[str, Any] = next((event for event in reversed(evidence.log) if "train_runtime" in event), {})
    trained = record.get("trained") or {}
    operations = trained.get("operations") or ended.get("total_flos")
    facts = {
        "time": f"{time_words(record['seconds']['total'])}, of it training {time_words(record['seconds']['training'])}",
        "steps": f"{record['steps']:,}" if "steps" in record else "",
        "in parts": part_words(record.get("parts") or []),
        "rows a second": rows_a_second(record, ended),
        "strategy": (record.get("strategy_choice") or {}).get("words", ""),
        "peak memory": peak_words(record),
        "going on": resuming_words(record),
        "tokens": tokens(evidence, trained.get("epochs", ended.get("epoch"))),
        "computation": f"{operations:.3g} floating-point operations" if operations else "",
        "energy": energy(record.get("energy_joules"), record.get("training_energy_joules")),
        "parameters": run_facts(record)["parameters"],
        "learning rate": run_facts(record).get("learning rate", ""),
    }
    return {name: value for name, value in facts.items() if value}


def part_words(parts: list[dict[str, Any]]) -> str:
    """The processes that a resumed run went on in, each up to the step that the next one goes on from."""
    steps = [
        f"steps {part['from_step'] + 1:,} to {part['to_step']:,}" for part in parts if part["to_step"] > part["from_step"]
    ]
    return f"{len(parts)}: {', '.join(steps)}" if len(parts) > 1 else ""


def resuming_words(record: dict[str, Any]) -> str:
    """What it took to go on, beside what the run took: loading again, and passing over rows that it had had."""
    found = record.get("resuming")
    if not found:
        return ""
    joules = energy(found["energy_joules"])
    return f"{time_words(found['seconds'])}{f', {joules}' if joules else ''}, which no other figure counts"


def rows_a_second(record: dict[str, Any], ended: dict[str, Any]) -> str:
    """Over the whole training; of a run before rows were counted by the Trainer's figures, which know one process alone."""
    seconds, rows = record["seconds"]["training"], (record.get("trained") or {}).get("rows")
    if rows is None and len(record.get("parts") or []) < 2 and "train_samples_per_second" in ended:
        rows = ended["train_samples_per_second"] * ended["train_runtime"]
    return f"{rows / seconds:,.0f}" if rows and seconds else ""


def tokens(evidence: Evidence, epochs: float | None) -> str:
    """Tokens trained on, as they were counted; else those of the training rows, times the epochs."""
    counted = evidence.record.get("trained") or {}
    if "tokens" in counted:
        words = f"{counted['tokens']:,} in {counted['epochs']:.3g} epochs, without padding"
        supervised = counted.get("supervised_tokens", counted["tokens"])
        return words if supervised == counted["tokens"] else f"{words}; {supervised:,} supervised"
    facts = next((facts for name, facts in split_facts(evidence).items() if name.startswith("train")), {})
    if "tokens" not in facts or epochs is None:
        return ""
    supervised = facts.get("supervised_tokens", facts["tokens"])
    words = f"{facts['tokens'] * epochs:,.0f} in {epochs:.3g} epochs, without padding"
    return words if supervised == facts["tokens"] else f"{words}; {supervised * epochs:,.0f} supervised"


def energy(joules: dict[str, float] | None, training: dict[str, float] | None = None) -> str:
    """Energy by part of the machine, as `{"gpu": joules}`; empty where the hardware does not tell.

    Args:
        training: of it, what training took.
    """
    of_it = {place: f", of it training {value / 3600:,.3g} Wh" for place, value in (training or {}).items()}
    return ", ".join(f"{value / 3600:,.3g} Wh ({place}){of_it.get(place, '')}" for place, value in (joules or {}).items())


def surroundings(evidence: Evidence) -> dict[str, str]:
    """What the run stood on, from run.json."""
    record = evidence.record
    machine, git = record.get("machine") or {}, record.get("git")
    facts = {
        "command": " ".join(record.get("command", [])),
        "started": record.get("started", ""),
        "finished": record.get("finished", ""),
        "seed": str(record.get("seed", "")),
        "device": f"{record.get('device', '')}, {record.get('precision', '')}",
        "machine": f"{machine.get('processor', '')}, {machine.get('cores', '?')} cores, {machine.get('system', '')}",
        "git commit": f"{git['commit']}{'' if git['clean'] else ', with changes'}" if git else "",
        "python": record.get("python", ""),
        **record.get("versions", {}),
    }
    return {name: value for name, value in facts.items() if value.strip(", ")}


def figure(value: float | None) -> str:
    return "not a number" if value is None else number(value)


def signed(value: float | None) -> str:
    """A difference with its sign; the minus is as wide as the plus, so that columns align."""
    return "" if value is None else ("+" if value >= 0 else MINUS) + number(abs(value))


def between(interval: tuple[float, float] | list[float]) -> str:
    return f"{signed(interval[0])} to {signed(interval[1])}"


def share(value: float, digits: int = 1) -> str:
    return f"{100 * value:.{digits}f} %"
