"""Line charts as SVG text, for reports that are one file."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDTH, HEIGHT = 4.4, 2.6
# Read on white and on black alike.
COLOURS = ("#3b86c8", "#d1495b", "#2a9d5c", "#b07d12")
REFERENCE = "#888888"
INK, GRID, PAPER = "#1d2330", "#d9dde5", "#ffffff"


@dataclass(frozen=True)
class Series:
    """One line of a chart."""

    name: str  # for the legend; empty for none
    x: Sequence[float]
    y: Sequence[float | None]  # values; None or NaN leaves a gap
    dashed: bool = False
    dots: bool = False


@dataclass(frozen=True)
class Chart:
    """Lines over a common axis; a range that is None fits the values."""

    series: Sequence[Series]
    x_label: str
    y_label: str
    x_range: tuple[float, float] | None = None
    y_range: tuple[float, float] | None = None


def draw_charts(charts: Sequence[Chart], width: float = WIDTH) -> str:
    """Return charts side by side as one SVG element; `width` of each is in inches (72 pixels)."""
    # Here, since it takes a second to load.
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    inks = ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color")
    # Text stays text, and the same figures make the same file.
    style = {"svg.fonttype": "none", "svg.hashsalt": "vl4ad_ros", "font.size": 9} | dict.fromkeys(inks, INK)
    svg = io.StringIO()
    with rc_context(style):
        figure = Figure((width * len(charts), HEIGHT), layout="constrained")
        for number, chart in enumerate(charts, start=1):
            _draw(figure.add_subplot(1, len(charts), number), chart)
        about = {"Date": None, "Creator": None, "Format": None, "Type": None}
        figure.savefig(svg, format="svg", metadata=about)
    text = svg.getvalue()
    return text[text.index("<svg") :].rstrip()


def _draw(axes: Axes, chart: Chart) -> None:
    axes.set(xlabel=chart.x_label, ylabel=chart.y_label)
    # A limit of None would keep the axis from fitting the values.
    axes.set(**{name: limits for name, limits in (("xlim", chart.x_range), ("ylim", chart.y_range)) if limits})
    axes.grid(color=GRID)
    for line, own_colour in zip(chart.series, COLOURS * len(chart.series), strict=False):
        colour, dashes = (REFERENCE, "--") if line.dashed else (own_colour, "-")
        y = [float("nan") if value is None else value for value in line.y]
        axes.plot(line.x, y, dashes, color=colour, marker="." if line.dots else "", label=line.name or None)
    if len(chart.series) > 1 and any(line.name for line in chart.series):
        axes.legend(fontsize="small", framealpha=0)
