"""Buildings, poles, signs, rails and fences."""

from __future__ import annotations

import cv2
import numpy as np

from vl4ad_ros.drive.noise import Canvas, Float, Random, blend, clouds, gradient, palette, relief
from vl4ad_ros.drive.quads import Texture

_WALLS: tuple[tuple[float, float, float], ...] = (
    (0.66, 0.60, 0.50), (0.72, 0.70, 0.66), (0.50, 0.30, 0.23), (0.58, 0.50, 0.42), (0.44, 0.43, 0.42),
    (0.63, 0.47, 0.36),
)  # fmt: skip


def _solid(rgb: Float) -> Texture:
    return Texture(rgb, np.ones(rgb.shape[:2], dtype=np.float32))


def _rectangle(
    image: Float, left: float, top: float, right: float, bottom: float, colour: Float | tuple[float, ...]
) -> None:
    """Fill a rectangle given in pixels."""
    image[round(top) : round(bottom), round(left) : round(right)] = colour


def facade(random: Random, width: float, height: float) -> Texture:
    """Return a house front of the given size in metres, about 26 pixels per metre."""
    h, w = round(height * 26), round(width * 26)
    wall = _WALLS[int(random.integers(len(_WALLS)))]
    grime = clouds(random, (h, w), 4, 5)
    rgb = np.asarray(wall, dtype=np.float32) * (0.82 + 0.3 * grime[..., None])
    if wall[0] - wall[2] > 0.2:  # Reddish walls show their bricks.
        rows, columns = np.mgrid[0:h, 0:w]
        joints = (rows % 5 == 0) | ((columns + (rows // 5 % 2) * 6) % 12 == 0)
        rgb = blend(rgb, (0.55, 0.50, 0.45), joints.astype(np.float32) * 0.35)
    floors = max(round(height / 3.1), 1)
    storey = h / floors
    pane_w, pane_h = random.uniform(0.9, 1.4) * 26, random.uniform(1.3, 1.7) * 26
    axes = max(round(width / random.uniform(2.3, 3.2)), 1)
    shop = bool(random.random() < 0.45)
    for floor in range(floors):
        ground = floor == floors - 1
        top = floor * storey + 0.22 * storey
        for axis in range(axes):
            middle = (axis + 0.5) * w / axes
            half = min(0.42 * w / axes, pane_w * 0.9) if ground and shop else pane_w / 2
            bottom = h - 10.0 if ground and shop else min(top + pane_h, (floor + 1) * storey - 6)
            if ground and not shop and axis == axes // 2:
                _rectangle(rgb, middle - 14, top + 4, middle + 14, h, (0.22, 0.15, 0.11))
                continue
            _rectangle(rgb, middle - half - 3, top - 3, middle + half + 3, bottom + 4, tuple(np.asarray(wall) * 1.18))
            tall, wide = round(bottom) - round(top), round(middle + half) - round(middle - half)
            shade = random.uniform(0.6, 1.25)
            glass = gradient(tall, wide, (0.36 * shade, 0.41 * shade, 0.46 * shade), (0.08, 0.09, 0.11))
            if random.random() < 0.3:  # A curtain.
                glass[:, : wide // 3] = (0.55, 0.53, 0.49)
            rgb[round(top) : round(bottom), round(middle - half) : round(middle + half)] = glass
            _rectangle(rgb, middle - 1, top, middle + 1, bottom, (0.62, 0.61, 0.59))
        _rectangle(rgb, 0, (floor + 1) * storey - 3, w, (floor + 1) * storey, tuple(np.asarray(wall) * 0.72))
    _rectangle(rgb, 0, 0, w, 9, tuple(np.asarray(wall) * 0.6))
    rgb *= np.linspace(1.06, 0.86, h, dtype=np.float32)[:, None, None]
    return _solid(cv2.GaussianBlur(rgb, (0, 0), 0.7).astype(np.float32))


def roof(random: Random) -> Texture:
    """Return a tiled pitched roof, seen from below its eaves: a trapezoid, wider than high."""
    h, w = 90, 360
    rows = np.mgrid[0:h, 0:w][0].astype(np.float32)
    tiles = 0.5 + 0.5 * np.sin(rows * 0.9)
    base = palette(clouds(random, (h, w), 6, 4), ((0.24, 0.12, 0.09), (0.42, 0.22, 0.16), (0.36, 0.25, 0.21)))
    shape = Canvas(h, w).polygon([(0.0, 1.0), (0.10, 0.04), (0.90, 0.04), (1.0, 1.0)]).mask()
    return Texture(np.asarray(base * (0.8 + 0.25 * tiles[..., None]), dtype=np.float32), shape)


def gable(random: Random) -> Texture:
    """Return the triangle of wall under a pitched roof, 2.5 times as wide as high."""
    h, w = 80, 200
    wall = _WALLS[int(random.integers(len(_WALLS)))]
    rgb = np.asarray(wall, dtype=np.float32) * (0.85 + 0.25 * clouds(random, (h, w), 4, 4)[..., None])
    inner = Canvas(h, w).polygon([(0.06, 1.0), (0.94, 1.0), (0.5, 0.07)]).mask()
    return Texture(blend(np.full_like(rgb, 0.25), rgb, inner), Canvas(h, w).polygon([(0, 1), (1, 1), (0.5, 0)]).mask())


def lamp(random: Random) -> Texture:
    """Return a street lamp, 0.3 as wide as high."""
    h, w = 400, 120
    mast = Canvas(h, w).limb([(0.2, 1.0), (0.2, 0.06), (0.3, 0.02), (0.72, 0.02)], (0.075, 0.05, 0.04, 0.035))
    head = Canvas(h, w).polygon([(0.66, 0.012), (0.98, 0.022), (0.98, 0.034), (0.66, 0.034)])
    steel = palette(clouds(random, (h, w), 10, 3), ((0.25, 0.26, 0.26), (0.42, 0.43, 0.43)))
    alpha = np.maximum(mast.mask(), head.mask())
    return Texture(blend(steel, (0.75, 0.75, 0.70), head.mask()), alpha)


def utility_pole(random: Random) -> Texture:
    """Return a wooden pole with a crossbar, 0.25 as wide as high."""
    h, w = 400, 100
    pole = Canvas(h, w).limb([(0.5, 1.0), (0.5, 0.0)], (0.13, 0.085)).limb([(0.1, 0.06), (0.9, 0.06)], (0.045, 0.045))
    wood = palette(clouds(random, (h, w), 40, 3), ((0.16, 0.13, 0.10), (0.36, 0.31, 0.26)))
    alpha = pole.mask()
    return Texture(np.asarray(wood * relief(alpha, 0.015)[..., None], dtype=np.float32), alpha)


def sign(random: Random) -> Texture:
    """Return a traffic sign on its post, 0.35 as wide as high."""
    h, w = 260, 90
    post = Canvas(h, w).limb([(0.5, 1.0), (0.5, 0.05)], (0.07, 0.07)).mask()
    rgb = np.full((h, w, 3), 0.48, dtype=np.float32)
    kind = int(random.integers(4))
    plate, inner = Canvas(h, w), Canvas(h, w)
    red, white, blue, green = (0.62, 0.06, 0.06), (0.88, 0.88, 0.86), (0.07, 0.20, 0.52), (0.05, 0.32, 0.18)
    if kind == 0:
        plate.ellipse(0.5, 0.165, 0.47, 0.163)
        inner.ellipse(0.5, 0.165, 0.36, 0.125)
        colours = (red, white)
    elif kind == 1:
        plate.polygon([(0.03, 0.31), (0.97, 0.31), (0.5, 0.01)])
        inner.polygon([(0.17, 0.285), (0.83, 0.285), (0.5, 0.07)])
        colours = (red, white)
    else:
        plate.polygon([(0.05, 0.02), (0.95, 0.02), (0.95, 0.32), (0.05, 0.32)])
        inner.polygon([(0.3, 0.08), (0.7, 0.08), (0.7, 0.26), (0.3, 0.26)])
        colours = (blue if kind == 2 else green, white)
    rgb = blend(blend(rgb, colours[0], plate.mask()), colours[1], inner.mask())
    mark = Canvas(h, w).limb([(0.42, 0.21), (0.5, 0.13), (0.58, 0.21)], (0.07, 0.07, 0.07)).mask()
    return Texture(blend(rgb, (0.08, 0.08, 0.09), mark), np.maximum(post, plate.mask()))


def guard_rail(random: Random) -> Texture:
    """Return four metres of steel guard rail, 0.75 m high."""
    h, w = 75, 400
    rail = Canvas(h, w).polygon([(0, 0.06), (1, 0.06), (1, 0.48), (0, 0.48)]).mask()
    posts = Canvas(h, w).polygon([(0.24, 0.1), (0.26, 0.1), (0.26, 1.0), (0.24, 1.0)])
    posts.polygon([(0.74, 0.1), (0.76, 0.1), (0.76, 1.0), (0.74, 1.0)])
    rows = np.linspace(0, 1, h, dtype=np.float32)[:, None]
    wave = 0.5 + 0.22 * np.sin((rows - 0.06) / 0.42 * 4 * np.pi) + 0.1 * (clouds(random, (h, w), 3, 4) - 0.5)
    rgb = palette(np.asarray(wave, dtype=np.float32), ((0.30, 0.31, 0.32), (0.56, 0.57, 0.58), (0.72, 0.73, 0.74)))
    return Texture(blend(np.full_like(rgb, 0.35), rgb, rail), np.maximum(rail, posts.mask()))


def fence(random: Random) -> Texture:
    """Return four metres of wooden fence, 1.1 m high."""
    h, w = 110, 400
    planks = Canvas(h, w)
    for index in range(20):
        x = (index + 0.5) / 20
        planks.polygon([(x - 0.019, 0.08), (x, 0.02), (x + 0.019, 0.08), (x + 0.019, 1.0), (x - 0.019, 1.0)])
    for y in (0.28, 0.75):
        planks.polygon([(0, y - 0.04), (1, y - 0.04), (1, y + 0.04), (0, y + 0.04)])
    wood = palette(clouds(random, (h, w), 10, 4), ((0.24, 0.19, 0.14), (0.42, 0.34, 0.26), (0.52, 0.46, 0.38)))
    return Texture(wood, planks.mask())
