"""Small SVG charts for reports, as text: no plotting library on the way from a drive to its report."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 420, 250
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 12, 40
Placer = Callable[[float, float], tuple[float, float]]
COLOURS = ("#1f6fb2", "#d1495b", "#2a9d5c", "#b07d12")


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


def line_chart(
    series: Sequence[Series],
    x_label: str,
    y_label: str,
    x_range: tuple[float, float] | None = None,
    y_range: tuple[float, float] | None = None,
    width: int = WIDTH,
) -> str:
    """Return a line chart as an SVG element."""
    x_low, x_high = x_range or _range([v for s in series for v in s.x])
    y_low, y_high = y_range or _range([v for s in series for v in s.y if v is not None and math.isfinite(v)])

    def place(x: float, y: float) -> tuple[float, float]:
        across = (x - x_low) / (x_high - x_low or 1)
        up = (min(max(y, y_low), y_high) - y_low) / (y_high - y_low or 1)
        return LEFT + across * (width - LEFT - RIGHT), HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM)

    parts = [f'<svg viewBox="0 0 {width} {HEIGHT}" width="{width}" height="{HEIGHT}" role="img">']
    for value in ticks(y_low, y_high):
        _, y = place(x_low, value)
        parts.append(f'<line x1="{LEFT}" x2="{width - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" class="grid"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>')
    for value in ticks(x_low, x_high):
        x, _ = place(value, y_low)
        parts.append(f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{value:g}</text>')
    middle = (TOP + HEIGHT - BOTTOM) / 2
    parts.append(
        f'<text x="{(LEFT + width - RIGHT) / 2}" y="{HEIGHT - 6}" text-anchor="middle">{escape(x_label)}</text>'
        f'<text x="14" y="{middle}" text-anchor="middle" transform="rotate(-90 14 {middle})">{escape(y_label)}</text>'
    )
    for number, line in enumerate(series):
        colour = "#888" if line.dashed else COLOURS[number % len(COLOURS)]
        parts += _draw(line, colour, place)
    named = [(n, s) for n, s in enumerate(series) if s.name]
    for row, (number, line) in enumerate(named if len(series) > 1 else []):
        colour = "#888" if line.dashed else COLOURS[number % len(COLOURS)]
        y = TOP + 14 + 16 * row
        parts.append(
            f'<text x="{width - RIGHT - 6}" y="{y}" text-anchor="end" fill="{colour}">{escape(line.name)}</text>'
        )
    return "".join([*parts, "</svg>"])


def _draw(line: Series, colour: str, place: Placer) -> list[str]:
    runs: list[list[tuple[float, float]]] = [[]]
    for x, y in zip(line.x, line.y, strict=True):
        if y is None or not math.isfinite(y):
            runs.append([])
        else:
            runs[-1].append(place(x, y))
    style = ' stroke-dasharray="4 4"' if line.dashed else ""
    parts = [
        f'<polyline fill="none" stroke="{colour}" stroke-width="1.6"{style} points="'
        + " ".join(f"{x:.1f},{y:.1f}" for x, y in run)
        + '"/>'
        for run in runs
        if len(run) > 1
    ]
    if line.dots:
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5" fill="{colour}"/>' for run in runs for x, y in run]
    return parts


def ticks(low: float, high: float, wanted: int = 5) -> list[float]:
    """Return round numbers inside a range."""
    if not high > low:
        return [low]
    raw = (high - low) / wanted
    size = 10 ** math.floor(math.log10(raw))
    step = next((m * size for m in (1, 2, 2.5, 5) if m * size >= raw * 0.999), 10 * size)
    first = math.ceil(low / step - 1e-9)
    return [round(n * step, 12) for n in range(first, math.floor(high / step + 1e-9) + 1)]


def _range(values: Sequence[float]) -> tuple[float, float]:
    if not values:
        return 0.0, 1.0
    low, high = min(values), max(values)
    return (low, high) if high > low else (low - 0.5, high + 0.5)
