"""Cars, vans and trucks as boxes with painted faces, and people on foot."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vl4ad_ros.drive.noise import Canvas, Float, Random, blend, clouds, gradient, relief, soften
from vl4ad_ros.drive.quads import Quad, Texture, box

PAINTS: tuple[tuple[float, float, float], ...] = (
    (0.82, 0.83, 0.84), (0.62, 0.64, 0.66), (0.30, 0.31, 0.33), (0.08, 0.08, 0.09), (0.48, 0.07, 0.07),
    (0.10, 0.18, 0.40), (0.70, 0.69, 0.64), (0.18, 0.27, 0.24), (0.45, 0.36, 0.26),
)  # fmt: skip
_GLASS_TOP, _GLASS_BOTTOM = (0.42, 0.48, 0.54), (0.07, 0.08, 0.10)
_RUBBER = (0.045, 0.045, 0.05)


def _painted(random: Random, height: int, width: int, paint: Sequence[float]) -> Float:
    """Return a body panel: brighter above, darker below, with a soft reflection of the horizon and some dirt."""
    top, bottom = np.asarray(paint) * 1.12 + 0.05, np.asarray(paint) * 0.62
    panel = gradient(height, width, top.tolist(), bottom.tolist())
    rows = np.linspace(0, 1, height, dtype=np.float32)[:, None]
    panel += 0.10 * np.exp(-(((rows - 0.46) / 0.05) ** 2))[..., None]
    dirt = clouds(random, (height, width), 3, 4) * rows**2 * 0.35
    return blend(panel, (0.30, 0.27, 0.22), np.asarray(dirt, dtype=np.float32))


def _paint(base: Float, mask: Float, colour: Float | Sequence[float]) -> Float:
    return blend(base, colour, mask)


def _glass(height: int, width: int) -> Float:
    return gradient(height, width, _GLASS_TOP, _GLASS_BOTTOM)


def _end(random: Random, paint: Sequence[float], rear: bool, tall: bool) -> Texture:
    """Return the rear or the front of a car."""
    h, w = 200, 240

    def shape() -> Canvas:
        return Canvas(h, w)

    shoulder, roof = (0.40, 0.07) if not tall else (0.40, 0.05)
    outline = [(0.005, 0.14), (roof, 0.04), (0.5, 0.015), (1 - roof, 0.04), (0.995, 0.14), (1.0, 0.5), (0.99, 0.88)]
    body = shape().curve([*outline, (0.5, 0.91), (0.01, 0.88), (0.0, 0.5)]).mask()
    face = _painted(random, h, w, paint) * (0.6 + 0.45 * relief(body, 0.10)[..., None])
    window = shape().polygon(
        [(roof + 0.07, 0.09), (0.93 - roof, 0.09), (0.91, shoulder - 0.02), (0.09, shoulder - 0.02)]
    )
    face = _paint(face, soften(window.mask(), 1.5), _glass(h, w))
    bumper = shape().polygon([(0.03, 0.70), (0.97, 0.70), (0.95, 0.86), (0.05, 0.86)]).mask()
    face = _paint(face, 0.45 * bumper, (0.05, 0.05, 0.06))
    lights = shape()
    if rear:
        lights.polygon([(0.045, 0.43), (0.22, 0.45), (0.20, 0.57), (0.03, 0.58)])
        lights.polygon([(0.955, 0.43), (0.78, 0.45), (0.80, 0.57), (0.97, 0.58)])
        lamp: Sequence[float] = (0.62, 0.05, 0.04)
    else:
        lights.ellipse(0.15, 0.53, 0.10, 0.06, 8).ellipse(0.85, 0.53, 0.10, 0.06, -8)
        lamp = (0.88, 0.89, 0.86)
        grille = shape().polygon([(0.30, 0.53), (0.70, 0.53), (0.66, 0.66), (0.34, 0.66)]).mask()
        face = _paint(face, grille, (0.06, 0.06, 0.07))
    face = _paint(face, soften(lights.mask(), 1.2), lamp)
    plate = shape().polygon([(0.36, 0.60), (0.64, 0.60), (0.64, 0.68), (0.36, 0.68)] if rear
                            else [(0.36, 0.73), (0.64, 0.73), (0.64, 0.80), (0.36, 0.80)]).mask()  # fmt: skip
    face = _paint(face, plate, (0.80, 0.80, 0.76))
    under = shape().polygon([(0.08, 0.86), (0.92, 0.86), (0.90, 0.95), (0.10, 0.95)])
    for x in (0.14, 0.86):
        under.polygon([(x - 0.075, 0.74), (x + 0.075, 0.74), (x + 0.07, 1.0), (x - 0.07, 1.0)])
    dark = under.mask()
    alpha = np.maximum(body, dark)
    face = _paint(face, dark * (1 - body), _RUBBER)
    return Texture(face, alpha)


def _flank(random: Random, paint: Sequence[float], tall: bool) -> Texture:
    """Return the right side of a car: its rear at the left edge."""
    h, w = 160, 420
    # The rear is upright and as high as the end face, so that the two meet.
    if tall:
        outline = [(0.0, 0.5), (0.004, 0.10), (0.03, 0.03), (0.40, 0.015), (0.66, 0.05), (0.80, 0.38), (0.97, 0.46)]
        glass = [(0.05, 0.11), (0.64, 0.11), (0.75, 0.38), (0.05, 0.38)]
    else:
        outline = [(0.0, 0.5), (0.004, 0.11), (0.05, 0.03), (0.28, 0.015), (0.52, 0.04), (0.70, 0.40), (0.96, 0.48)]
        glass = [(0.08, 0.12), (0.50, 0.11), (0.64, 0.40), (0.07, 0.40)]
    outline += [(0.99, 0.80), (0.5, 0.86), (0.004, 0.84)]
    body = Canvas(h, w).curve(outline).mask()
    face = _painted(random, h, w, paint) * (0.62 + 0.42 * relief(body, 0.12)[..., None])
    face = _paint(face, Canvas(h, w).polygon(glass).mask(), _glass(h, w))
    pillars = Canvas(h, w).limb([(0.34, 0.10), (0.35, 0.42)], (0.014, 0.014)).mask()
    face = _paint(face, pillars, [0.8 * channel for channel in paint])
    seams = (
        Canvas(h, w).limb([(0.35, 0.42), (0.36, 0.82)], (0.004, 0.004)).limb([(0.63, 0.42), (0.63, 0.82)], (0.004,) * 2)
    )
    face = _paint(face, 0.7 * seams.mask(), (0.05, 0.05, 0.05))
    wheels, rims = Canvas(h, w), Canvas(h, w)
    for x in (0.19, 0.81):
        wheels.ellipse(x, 0.80, 0.076, 0.20)
        rims.ellipse(x, 0.80, 0.046, 0.12)
    face = _paint(face, wheels.mask(), _RUBBER)
    face = _paint(face, rims.mask(), (0.42, 0.43, 0.45))
    return Texture(face, np.maximum(body, wheels.mask()))


def car(random: Random, oncoming: bool = False) -> list[Quad]:
    """Return a car whose rear (or, oncoming, front) looks towards -Z."""
    paint = PAINTS[int(random.integers(len(PAINTS)))]
    tall = bool(random.random() < 0.4)
    size = (1.82, 1.78, 4.4) if tall else (1.76, 1.48, 4.2)
    # An end that looks at the camera must be the upright one, so an oncoming car is one with a blunt front.
    return box(size, _end(random, paint, not oncoming, tall), _flank(random, paint, tall))


def truck(random: Random) -> list[Quad]:
    """Return a box truck, seen from behind."""
    paint = ((0.80, 0.80, 0.78), (0.72, 0.73, 0.75), (0.25, 0.33, 0.48), (0.60, 0.55, 0.42))[int(random.integers(4))]
    h, w, length = 260, 220, 560
    doors = _painted(random, h, w, paint)
    seams = Canvas(h, w).limb([(0.5, 0.03), (0.5, 0.78)], (0.012,) * 2)
    for x in (0.25, 0.75):
        seams.limb([(x, 0.05), (x, 0.76)], (0.012,) * 2)
    doors = _paint(doors, 0.7 * seams.mask(), (0.25, 0.25, 0.26))
    frame = Canvas(h, w).polygon([(0, 0), (1, 0), (1, 0.79), (0, 0.79)]).mask()
    inner = Canvas(h, w).polygon([(0.03, 0.025), (0.97, 0.025), (0.97, 0.77), (0.03, 0.77)]).mask()
    doors = _paint(doors, frame * (1 - inner), (0.33, 0.33, 0.34))
    below = Canvas(h, w).polygon([(0.04, 0.78), (0.96, 0.78), (0.96, 0.88), (0.04, 0.88)])
    for x in (0.14, 0.86):
        below.polygon([(x - 0.09, 0.82), (x + 0.09, 0.82), (x + 0.09, 1.0), (x - 0.09, 1.0)])
    lamps = Canvas(h, w).polygon([(0.05, 0.80), (0.17, 0.80), (0.17, 0.85), (0.05, 0.85)])
    lamps.polygon([(0.95, 0.80), (0.83, 0.80), (0.83, 0.85), (0.95, 0.85)])
    doors = _paint(_paint(doors, below.mask(), (0.06, 0.06, 0.07)), lamps.mask(), (0.55, 0.06, 0.05))
    rear = Texture(doors, np.maximum(frame, below.mask()))
    flank = _painted(random, h, length, paint)
    wall = Canvas(h, length).polygon([(0, 0), (0.76, 0), (0.76, 0.79), (0, 0.79)])
    wall.polygon([(0.79, 0.24), (0.94, 0.26), (0.99, 0.52), (0.99, 0.86), (0.79, 0.86)])
    window = Canvas(h, length).polygon([(0.84, 0.30), (0.93, 0.31), (0.97, 0.51), (0.84, 0.51)]).mask()
    wheels = Canvas(h, length).polygon([(0.02, 0.79), (0.9, 0.79), (0.9, 0.86), (0.02, 0.86)])
    for x in (0.14, 0.24, 0.87):
        wheels.ellipse(x, 0.87, 0.045, 0.13)
    flank = _paint(_paint(flank, window, _glass(h, length)), wheels.mask(), _RUBBER)
    side = Texture(flank, np.maximum(wall.mask(), wheels.mask()))
    return box((2.4, 3.3, 8.0), rear, side)


def person(random: Random) -> Texture:
    """Return a pedestrian, 0.45 as wide as high."""
    h, w = 220, 100
    stride = float(random.uniform(0.03, 0.16))
    colours = [random.uniform(0.05, 0.5, 3) * random.uniform(0.5, 1.2) for _ in range(2)]
    legs = Canvas(h, w).limb([(0.5, 0.5), (0.5 - stride, 0.74), (0.48 - 1.4 * stride, 0.98)], (0.20, 0.15, 0.10))
    legs.limb([(0.5, 0.5), (0.52 + stride, 0.74), (0.52 + stride, 0.98)], (0.20, 0.15, 0.10))
    coat = Canvas(h, w).curve(
        [(0.38, 0.16), (0.5, 0.145), (0.62, 0.16), (0.72, 0.22), (0.69, 0.42), (0.68, 0.56), (0.32, 0.56),
         (0.31, 0.42), (0.28, 0.22)]
    )  # fmt: skip
    coat.limb([(0.33, 0.2), (0.24, 0.36), (0.26 - stride / 2, 0.52)], (0.13, 0.11, 0.08))
    coat.limb([(0.67, 0.2), (0.76, 0.36), (0.76 + stride / 2, 0.52)], (0.13, 0.11, 0.08))
    skin = Canvas(h, w).ellipse(0.5, 0.08, 0.105, 0.062).polygon([(0.45, 0.1), (0.55, 0.1), (0.55, 0.17), (0.45, 0.17)])
    hair = Canvas(h, w).ellipse(0.5, 0.055, 0.115, 0.048)
    cloth = clouds(random, (h, w), 8, 4)[..., None] * 0.3 + 0.85
    masks = [legs.mask(), coat.mask(), skin.mask(), hair.mask()]
    rgb = np.zeros((h, w, 3), dtype=np.float32)
    tones: list[Sequence[float]] = [colours[0].tolist(), colours[1].tolist(), (0.62, 0.45, 0.36), (0.10, 0.07, 0.05)]
    for mask, tone in zip(masks, tones, strict=True):
        rgb = blend(rgb, np.asarray(tone, dtype=np.float32) * cloth, mask)
    alpha = np.max(np.stack(masks), axis=0)
    return Texture(rgb * relief(alpha, 0.05)[..., None], alpha)
