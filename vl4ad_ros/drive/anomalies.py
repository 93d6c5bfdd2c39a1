"""What does not belong on a road: animals, and things that fell off or were left."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from vl4ad_ros.drive.noise import Canvas, Random, blend, clouds, palette, ramp, relief
from vl4ad_ros.drive.quads import Quad, Texture, box

Colours = Sequence[Sequence[float]]


@dataclass(frozen=True)
class Build:
    """The build of a four-legged animal, in shares of the picture's width and height (it faces left).

    Attributes:
        back: Height of the back, from above.
        belly: Height of the belly.
        front: Where the chest is.
        rear: Where the rump is.
        neck: Width of the neck.
        head: Centre of the head.
        skull: Its half length and half height.
        leg: Width of a leg.
        ears: Length of the ears.
        antlers: Whether it has them.
    """

    back: float
    belly: float
    front: float
    rear: float
    neck: float
    head: tuple[float, float]
    skull: tuple[float, float]
    leg: float
    ears: float
    antlers: bool = False


COW = Build(0.26, 0.64, 0.24, 0.92, 0.17, (0.13, 0.30), (0.10, 0.085), 0.055, 0.07)
DEER = Build(0.40, 0.64, 0.34, 0.88, 0.10, (0.19, 0.22), (0.085, 0.055), 0.032, 0.10, antlers=True)
DOG = Build(0.34, 0.64, 0.28, 0.88, 0.13, (0.15, 0.24), (0.11, 0.085), 0.055, 0.10)
BOAR = Build(0.24, 0.74, 0.20, 0.93, 0.26, (0.15, 0.50), (0.13, 0.12), 0.05, 0.10)
SHEEP = Build(0.22, 0.72, 0.24, 0.93, 0.15, (0.15, 0.33), (0.085, 0.085), 0.04, 0.08)

_COATS: dict[str, Colours] = {
    "cow": ((0.10, 0.06, 0.04), (0.30, 0.18, 0.10), (0.46, 0.31, 0.19)),
    "deer": ((0.18, 0.11, 0.06), (0.42, 0.27, 0.15), (0.60, 0.45, 0.30)),
    "dog": ((0.12, 0.09, 0.06), (0.50, 0.36, 0.20), (0.72, 0.58, 0.38)),
    "boar": ((0.05, 0.04, 0.04), (0.14, 0.12, 0.10), (0.27, 0.23, 0.19)),
    "sheep": ((0.55, 0.52, 0.46), (0.76, 0.73, 0.66), (0.90, 0.88, 0.82)),
}


def quadruped(random: Random, build: Build, coat: Colours, patches: bool, fur: float, height: int = 200) -> Texture:
    """Return a four-legged animal from the side, facing left, 1.35 times as wide as high.

    Args:
        random: Source of randomness.
        build: Its proportions.
        coat: Colours of its coat, dark to light.
        patches: Whether the coat has large white patches.
        fur: Roughness of the outline, 0 smooth to 1 woolly.
        height: Rows.
    """
    width = round(height * 1.35)
    b = build
    middle = (b.front + b.rear) / 2
    outline = [(b.front, b.back + 0.06), (b.front + 0.12, b.back), (middle, b.back + 0.025), (b.rear - 0.1, b.back)]
    outline += [(b.rear, b.back + 0.10), (b.rear - 0.02, b.belly - 0.06), (b.rear - 0.14, b.belly - 0.03)]
    outline += [(middle, b.belly), (b.front + 0.06, b.belly - 0.01), (b.front - 0.03, (b.back + b.belly) / 2)]
    body = Canvas(height, width).curve(outline)
    body.limb([(b.front + 0.07, (b.back + b.belly) / 2 - 0.06), b.head], (b.neck * 1.25, b.neck * 0.7))
    body.ellipse(*b.head, b.skull[0] * 0.75, b.skull[1] * 1.1)
    snout = (b.head[0] - b.skull[0], b.head[1] + b.skull[1] * 0.75)
    body.limb([b.head, snout], (b.skull[1] * 1.5, b.skull[1] * 0.9))
    tip = b.head[0] + 0.03
    body.limb([(tip, b.head[1] - b.skull[1] * 0.6), (tip + 0.03, b.head[1] - b.skull[1] - b.ears * 0.6)], (0.03, 0.012))
    body.limb(
        [(b.rear, b.back + 0.08), (b.rear + 0.035, b.back + 0.2), (b.rear + 0.03, b.belly - 0.05)], (0.03, 0.02, 0.025)
    )
    phase = random.uniform(-0.05, 0.05)
    near, far = Canvas(height, width), Canvas(height, width)
    for legs, shift in ((near, phase), (far, -phase - 0.02)):
        for x in (b.front + 0.05, b.rear - 0.07):
            knee = (x + shift * 0.6, (b.belly + 1) / 2 - 0.02)
            legs.limb([(x, b.belly - 0.14), knee, (x + shift, 0.985)], (b.leg * 2.2, b.leg * 1.05, b.leg * 0.8))
            legs.limb([(x + shift, 0.975), (x + shift - 0.02, 0.99)], (b.leg, b.leg))
    if b.antlers:
        for spread in (-0.06, 0.06):
            root, crown = (b.head[0] + 0.02, b.head[1] - 0.05), (b.head[0] + 0.05 + spread, b.head[1] - 0.19)
            body.limb([root, crown], (0.018, 0.010))
            body.limb(
                [((root[0] + crown[0]) / 2, (root[1] + crown[1]) / 2), (crown[0] - 0.07, crown[1] + 0.02)],
                (0.012, 0.008),
            )
    trunk, close, behind = body.mask(), near.mask(), far.mask()
    grain = clouds(random, (height, width), height // 6, 3, 0.7)
    alpha = np.maximum(np.maximum(trunk, close), behind)
    if fur > 0:
        wool = ramp(trunk + fur * 0.5 * (grain - 0.5), 0.35, 0.65)
        alpha = np.maximum(wool, np.maximum(close, behind))
    large = clouds(random, (height, width), 4, 3)
    rgb = palette(np.clip(0.25 + 0.5 * large + 0.4 * (grain - 0.5), 0, 1), coat)
    if patches:
        rgb = blend(rgb, (0.86, 0.84, 0.80), ramp(clouds(random, (height, width), 3, 2), 0.48, 0.52))
    shade = relief(np.maximum(trunk, close), 0.16, grain * (0.06 + 0.25 * fur))
    shade = np.where(np.maximum(trunk, close) > 0.5, shade, 0.45)
    eye = Canvas(height, width).ellipse(b.head[0] - 0.03, b.head[1] - 0.015, 0.010, 0.013).mask()
    rgb = blend(rgb * shade[..., None], (0.02, 0.02, 0.02), eye)
    return Texture(rgb, alpha)


def rock(random: Random) -> Texture:
    """Return a boulder, 1.4 times as wide as high."""
    h, w = 140, 196
    angles = np.linspace(0, 2 * np.pi, 11, endpoint=False)
    radii = random.uniform(0.36, 0.49, 11)
    points = [(0.5 + r * np.cos(a), min(0.54 + r * np.sin(a) * 1.05, 0.99)) for a, r in zip(angles, radii, strict=True)]
    mask = Canvas(h, w).polygon(points).mask()
    bumps = clouds(random, (h, w), 4, 5, 0.6)
    rgb = palette(
        0.3 + 0.6 * clouds(random, (h, w), 8, 4), ((0.20, 0.18, 0.16), (0.46, 0.43, 0.39), (0.66, 0.62, 0.56))
    )
    return Texture(rgb * relief(mask, 0.35, 1.2 * bumps)[..., None], mask)


def tyre(random: Random) -> Texture:
    """Return a tyre that lies on its side, 1.9 times as wide as high."""
    h, w = 110, 210
    outer = (
        Canvas(h, w).ellipse(0.5, 0.40, 0.47, 0.36).polygon([(0.03, 0.40), (0.97, 0.40), (0.95, 0.70), (0.05, 0.70)])
    )
    outer.ellipse(0.5, 0.66, 0.46, 0.32)
    hole = Canvas(h, w).ellipse(0.5, 0.37, 0.25, 0.17).mask()
    mask = outer.mask()
    columns = np.mgrid[0:h, 0:w][1].astype(np.float32)
    tread = 0.5 + 0.5 * np.sin(columns * 0.7)
    lower = ramp(np.mgrid[0:h, 0:w][0].astype(np.float32) / h, 0.55, 0.75)
    tone = 0.09 + 0.05 * clouds(random, (h, w), 8, 4) + 0.05 * lower * tread
    rgb = (
        np.repeat(np.asarray(tone, dtype=np.float32)[..., None], 3, axis=2) * relief(mask - hole, 0.14)[..., None] * 1.3
    )
    return Texture(blend(rgb, (0.015, 0.015, 0.017), hole), mask)


def bag(random: Random) -> Texture:
    """Return a full plastic bag, as wide as high."""
    h = w = 130
    mask = Canvas(h, w).curve(
        [(0.46, 0.12), (0.40, 0.02), (0.60, 0.03), (0.55, 0.13), (0.78, 0.34), (0.93, 0.68), (0.86, 0.96), (0.5, 0.99),
         (0.12, 0.96), (0.06, 0.66), (0.22, 0.34)]
    ).mask()  # fmt: skip
    folds = clouds(random, (h, w), 5, 4, 0.65)
    tones: Colours = (
        ((0.03, 0.03, 0.04), (0.10, 0.10, 0.12)) if random.random() < 0.5 else ((0.62, 0.64, 0.66), (0.88, 0.9, 0.92))
    )
    gloss = ramp(folds, 0.80, 0.95)[..., None] * 0.35
    return Texture(palette(folds, tones) * relief(mask, 0.35, 1.5 * folds)[..., None] + gloss, mask)


def log(random: Random) -> Texture:
    """Return a tree trunk that lies across, 4 times as wide as high."""
    h, w = 90, 360
    mask = (
        Canvas(h, w)
        .limb([(0.07, 0.55), (0.93, 0.62)], (0.19, 0.155))
        .limb([(0.4, 0.5), (0.46, 0.04)], (0.04, 0.02))
        .mask()
    )
    grain = clouds(random, (h * 4, w), 30, 3, 0.7)[::4]
    rgb = (
        palette(grain, ((0.12, 0.09, 0.06), (0.31, 0.24, 0.17), (0.48, 0.40, 0.30)))
        * relief(mask, 0.4, 0.5 * grain)[..., None]
    )
    cut = Canvas(h, w).ellipse(0.065, 0.55, 0.035, 0.36).mask()
    return Texture(blend(rgb, (0.72, 0.58, 0.38), cut), np.maximum(mask, cut))


def barrel(random: Random) -> Texture:
    """Return a standing barrel, 0.66 as wide as high."""
    h, w = 160, 106
    mask = Canvas(h, w).polygon([(0.05, 0.06), (0.95, 0.06), (0.95, 0.94), (0.05, 0.94)])
    mask.ellipse(0.5, 0.06, 0.45, 0.055).ellipse(0.5, 0.94, 0.45, 0.055)
    columns = np.linspace(-1, 1, w, dtype=np.float32)[None, :]
    colour = ((0.10, 0.25, 0.52), (0.60, 0.28, 0.06), (0.12, 0.36, 0.22))[int(random.integers(3))]
    shade = np.sqrt(np.maximum(1.02 - columns**2, 0)) * (1 - 0.25 * columns)
    rust = ramp(clouds(random, (h, w), 5, 5), 0.62, 0.8)
    rgb = blend(np.full((h, w, 3), colour, dtype=np.float32), (0.30, 0.16, 0.09), rust)
    for y in (0.33, 0.64):
        rgb[round(y * h) : round(y * h) + 5] *= 0.6
    lid = Canvas(h, w).ellipse(0.5, 0.06, 0.43, 0.045).mask()
    return Texture(blend(rgb * shade[..., None], np.asarray(colour, dtype=np.float32) * 1.25, lid), mask.mask())


def _panel(
    random: Random, h: int, w: int, tones: Colours, seams: Sequence[tuple[float, float]], seam: float
) -> Texture:
    """Return a rectangular face with horizontal lines at heights (position, half width)."""
    rgb = palette(clouds(random, (h, w), 6, 5), tones)
    rows = np.linspace(0, 1, h, dtype=np.float32)[:, None]
    for position, half in seams:
        rgb = blend(
            rgb,
            (seam, seam * 0.85, seam * 0.65),
            np.asarray(np.abs(rows - position) < half, np.float32) * np.ones((1, w), np.float32) * 0.8,
        )
    return Texture(rgb, np.ones((h, w), dtype=np.float32))


def carton(random: Random) -> list[Quad]:
    """Return a cardboard box."""
    size = random.uniform((0.8, 0.6, 0.6), (1.3, 1.0, 1.0))
    tones = ((0.42, 0.30, 0.18), (0.58, 0.43, 0.27), (0.66, 0.51, 0.34))
    sides = [_panel(random, 128, 128, tones, seams, 0.75) for seams in ([(0.08, 0.04)], [(0.1, 0.03)], [(0.5, 0.05)])]
    return box(size.tolist(), sides[0], sides[1], sides[2])


def crate(random: Random) -> list[Quad]:
    """Return a wooden crate."""
    size = random.uniform((0.9, 0.7, 0.7), (1.4, 1.0, 1.1))
    tones = ((0.34, 0.25, 0.15), (0.52, 0.40, 0.26), (0.63, 0.51, 0.35))
    gaps = [(k / 5, 0.012) for k in range(1, 5)]
    front, side, top = (_panel(random, 128, 160, tones, gaps, 0.12) for _ in range(3))
    return box(size.tolist(), front, side, top)


def mattress(random: Random) -> list[Quad]:
    """Return a mattress that lies on the road."""
    tones = ((0.66, 0.65, 0.62), (0.80, 0.79, 0.76), (0.88, 0.87, 0.85))
    face = _panel(random, 64, 200, tones, [(0.5, 0.03)], 0.45)
    top = _panel(random, 200, 200, tones, [(k / 6, 0.008) for k in range(1, 6)], 0.55)
    return box((random.uniform(1.3, 1.7), 0.26, 2.0), face, face, top)


def sofa(random: Random) -> list[Quad]:
    """Return a sofa, seen from its front."""
    colour = np.asarray(
        ((0.45, 0.10, 0.09), (0.16, 0.24, 0.42), (0.36, 0.28, 0.20), (0.20, 0.34, 0.24))[int(random.integers(4))]
    )
    tones = (colour * 0.6, colour, colour * 1.25)
    back = _panel(random, 100, 200, [t.tolist() for t in tones], [(0.5, 0.01)], 0.05)
    seat = _panel(random, 80, 200, [t.tolist() for t in tones], [(0.1, 0.02)], 0.05)
    base = box((1.9, 0.45, 0.9), seat, seat, seat)
    rest = box((1.9, 0.9, 0.25), back, back, back)
    shifted = [Quad(q.origin + np.array([0, 0, 0.35]), q.right, q.up, q.texture, q.light, one_sided=True) for q in rest]
    return [*shifted, *base]


def _standing(texture: Texture, height: float) -> list[Quad]:
    """Return an upright picture of a height in metres that faces -Z."""
    rows, columns = texture.alpha.shape
    width = height * columns / rows
    return [Quad(np.array([-width / 2, 0, 0]), np.array([width, 0, 0]), np.array([0, height, 0.0]), texture)]


def _animal(
    build: Build, coat: str, low: float, high: float, patches: float = 0.0, fur: float = 0.0
) -> Callable[[Random], list[Quad]]:
    def make(random: Random) -> list[Quad]:
        texture = quadruped(random, build, _COATS[coat], bool(random.random() < patches), fur)
        return _standing(texture if random.random() < 0.5 else texture.mirrored(), float(random.uniform(low, high)))

    return make


def _thing(paint: Callable[[Random], Texture], low: float, high: float) -> Callable[[Random], list[Quad]]:
    return lambda random: _standing(paint(random), float(random.uniform(low, high)))


ANOMALIES: dict[str, Callable[[Random], list[Quad]]] = {
    "cow": _animal(COW, "cow", 1.4, 1.7, patches=0.6),
    "carton": carton,
    "deer": _animal(DEER, "deer", 1.5, 2.0),
    "tyre": _thing(tyre, 0.5, 0.7),
    "dog": _animal(DOG, "dog", 0.75, 1.0, patches=0.3),
    "mattress": mattress,
    "rock": _thing(rock, 0.7, 1.2),
    "sheep": _animal(SHEEP, "sheep", 0.8, 1.1, fur=1.0),
    "crate": crate,
    "boar": _animal(BOAR, "boar", 0.8, 1.1, fur=0.3),
    "bag": _thing(bag, 0.7, 1.0),
    "sofa": sofa,
    "log": _thing(log, 0.55, 0.8),
    "barrel": _thing(barrel, 0.9, 1.1),
}
