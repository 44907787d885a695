"""The plots of the page, drawn by Bokeh, whose JavaScript is read from the installed package.

Colours are names of the page's own palette, as tags of the models: templates/report.js puts them in by day, by night and for
paper, since Bokeh's figures know no CSS.
"""

from typing import Any, TypeVar

import numpy as np
from bokeh.core.types import ID
from bokeh.embed import json_item
from bokeh.models import ColumnDataSource, DataRange1d, HoverTool, Model, Range1d
from bokeh.models.annotations import Span
from bokeh.plotting import figure
from bokeh.resources import Resources

from ftkit.report.curves import Points

M = TypeVar("M", bound=Model)
MANY = 40  # points of the training curve from which on it is shown with its moving mean
HEIGHT, LARGE_HEIGHT = 190, 270  # pixels
COLOURS = {"train": "bar", "eval": "border"}
TOOLBAR = ":host { background: none !important; }"  # Bokeh's own is a light band over the whole plot, by night too
# Bokeh puts its own padding around a tooltip; the page's ground lies over it.
TOOLTIP = (
    '<div style="margin:-5px;padding:.3rem .6rem;background:var(--card);color:var(--ink);font:12px system-ui,sans-serif">'
    "<b>@said</b><br>@place</div>"
)


def library() -> str:
    """BokehJS with its licence, as one script; what Resources has after it is a log level, which report.js sets."""
    return str(Resources(mode="inline", components=["bokeh"], minified=True).js_raw[0])


def draw_curve(curve: dict[str, Any], target: str, *, large: bool) -> dict[str, Any]:
    """A curve of `ftkit.report.curves` for the element whose id is the target, as BokehJS reads it."""
    last = max(step for one in curve["series"] for step, _ in one["points"])
    plot = empty_figure(LARGE_HEIGHT if large else HEIGHT, "step", (-0.015 * last, 1.03 * last or 1))
    if curve["kept"] is not None:
        mark_kept(plot, curve["kept"])
    hovered = [draw_series(plot, one["name"], one["points"], named=len(curve["series"]) > 1) for one in curve["series"]]
    plot.add_tools(HoverTool(renderers=hovered, mode="vline", visible=False, line_policy="nearest", tooltips=TOOLTIP))
    if curve["kept"] is not None:
        ring_kept(plot, curve)
    return item(plot, target)


def draw_series(plot: figure, name: str, points: Points, *, named: bool) -> Any:
    """One line, with its points where they are few; the line is what is pointed at."""
    steps, values = (np.array(column, dtype=np.float64) for column in zip(*points, strict=True))
    many, colour = name == "train" and len(points) >= MANY, COLOURS[name]
    prefix = f"{name} " if named else ""
    source = ColumnDataSource({
        "x": steps, "y": values,
        "said": [f"{prefix}{value:.4g}" for value in values], "place": [f"step {step:,.0f}" for step in steps],
    })  # fmt: skip
    line = plot.line("x", "y", source=source, line_width=1 if many else 2, line_alpha=0.35 if many else 1)
    tag(line.glyph, line_color=colour)
    if many:
        mean = plot.line(steps, moving_mean(values), line_width=2)
        tag(mean.glyph, line_color=colour)
    if len(points) < MANY:
        dots = plot.scatter("x", "y", source=source, size=6, line_color=None)
        tag(dots.glyph, fill_color=colour)
    return line


def moving_mean(values: np.ndarray) -> np.ndarray:
    """Each value's mean with its neighbours, over a twentieth of all; at the ends over those that there are."""
    window = np.ones(len(values) // 20 // 2 * 2 + 1)
    return np.convolve(values, window, "same") / np.convolve(np.ones(len(values)), window, "same")


def mark_kept(plot: figure, step: int) -> None:
    line = Span(location=step, dimension="height", line_dash="dashed", line_width=1.5)
    plot.add_layout(tag(line, line_color="learnt"))


def ring_kept(plot: figure, curve: dict[str, Any]) -> None:
    """A ring around the value on the eval rows that the kept weights had, where they were measured."""
    points = [point for one in curve["series"] if one["name"] == "eval" for point in one["points"]]
    kept = [point for point in points if point[0] == curve["kept"]]
    if kept:
        ring = plot.scatter([kept[-1][0]], [kept[-1][1]], size=13, fill_color=None, line_width=2)
        tag(ring.glyph, line_color="learnt")


def draw_histogram(histogram: dict[str, Any], lengths: list[float], target: str) -> dict[str, Any]:
    """The lengths of a split's rows."""
    bars, room = histogram["bars"], 0.01 * (lengths[1] - lengths[0])
    plot = empty_figure(HEIGHT, "tokens a row", (lengths[0] - room, lengths[1] + room))
    plot.y_range.update(start=0)
    source = ColumnDataSource({
        **{key: [bar[key] for bar in bars] for key in ("first", "last", "count")},
        "said": [f"{bar['count']:,} rows" for bar in bars],
        "place": [f"{bar['first']:,.4g} to {bar['last']:,.4g} tokens" for bar in bars],
    })  # fmt: skip
    quads = plot.quad(left="first", right="last", bottom=0, top="count", source=source, line_width=1)
    tag(quads.glyph, fill_color=COLOURS.get(histogram["split"], "bar"), line_color="card")
    plot.add_tools(HoverTool(renderers=[quads], mode="vline", visible=False, tooltips=TOOLTIP))
    return item(plot, target)


def empty_figure(height: int, label: str, span: tuple[float, float]) -> figure:
    """Axes without a frame, as wide as the page lets them be; SVG, so that paper gets lines instead of pixels."""
    steps = Range1d(start=span[0], end=span[1])
    values = DataRange1d(range_padding=0.15)  # room for the ring around the highest value
    plot = figure(
        height=height, sizing_mode="stretch_width", output_backend="svg", min_border=0,
        tools="xbox_zoom,reset", active_drag=None, toolbar_location="above", toolbar_inner=True,
        x_range=steps, y_range=values, x_axis_label=label,
        background_fill_color=None, border_fill_color=None, outline_line_color=None,
    )  # fmt: skip
    plot.toolbar.update(logo=None, autohide=True, stylesheets=[TOOLBAR])
    plot.xgrid.visible = False
    for grid in plot.ygrid:
        tag(grid, grid_line_color="line")
    for axis in plot.axis:
        axis.update(minor_tick_line_color=None, major_tick_in=0, major_tick_out=4, axis_label_text_font_style="normal")
        axis.update(axis_label_text_font="system-ui, sans-serif", major_label_text_font="system-ui, sans-serif")
        axis.update(axis_label_text_font_size="12px", major_label_text_font_size="11px")
        tag(axis, axis_line_color="line", major_tick_line_color="line", axis_label_text_color="soft")
        tag(axis, major_label_text_color="soft")
    return plot


def tag(model: M, **colours: str) -> M:
    """Name the colours of a model by the page's palette."""
    model.tags = [*model.tags, *([key, colour] for key, colour in colours.items())]
    return model


def item(plot: figure, target: str) -> dict[str, Any]:
    found: dict[str, Any] = dict(json_item(plot, ID(target)))
    return found
