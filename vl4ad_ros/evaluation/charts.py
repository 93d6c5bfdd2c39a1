"""Line charts as SVG text, for reports that are one file."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 4.4, 2.6
COLOURS = ("#1f6fb2", "#d1495b", "#2a9d5c", "#b07d12")
REFERENCE = "#888888"


@dataclass(frozen=True)
class Series:
    """One line of a chart.

    Attributes:
        name: For the legend; empty for none.
        x: Positions.
        y: Values; None or NaN leaves a gap.
        dashed: Whether to draw it dashed, as a reference.
        dots: Whether to mark each point.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float | None]
    dashed: bool = False
    dots: bool = False


@dataclass(frozen=True)
class Chart:
    """Lines over a common axis.

    Attributes:
        series: The lines.
        x_label: What runs along the bottom.
        y_label: What runs up the side.
        x_range: Ends of the axis; None fits the values.
        y_range: Likewise.
    """

    series: Sequence[Series]
    x_label: str
    y_label: str
    x_range: tuple[float, float] | None = None
    y_range: tuple[float, float] | None = None


def draw_charts(charts: Sequence[Chart], width: float = WIDTH) -> str:
    """Return charts side by side as one SVG element.

    Args:
        charts: The charts.
        width: Of each, in inches (72 pixels).
    """
    # Here, since it takes a second to load.
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    figure = Figure((width * len(charts), HEIGHT), layout="constrained")
    for number, chart in enumerate(charts, start=1):
        axes = figure.add_subplot(1, len(charts), number, xlabel=chart.x_label, ylabel=chart.y_label)
        axes.grid(color="#e6e8ee")
        for line, own_colour in zip(chart.series, COLOURS * len(chart.series), strict=False):
            y = [float("nan") if value is None else value for value in line.y]
            colour, dashes = (REFERENCE, "--") if line.dashed else (own_colour, "-")
            marker = "." if line.dots else ""
            axes.plot(line.x, y, dashes, color=colour, marker=marker, linewidth=1.5, label=line.name or None)
        if chart.x_range:
            axes.set_xlim(*chart.x_range)
        if chart.y_range:
            axes.set_ylim(*chart.y_range)
        if len(chart.series) > 1 and any(line.name for line in chart.series):
            axes.legend(fontsize="small")
    svg = io.StringIO()
    # Text stays text, and the same figures make the same file.
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "vl4ad_ros", "font.size": 9}):
        figure.savefig(svg, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = svg.getvalue()
    return text[text.index("<svg") :].rstrip()
