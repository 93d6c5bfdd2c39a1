"""What the drive is made of besides its ground and sky: `config/drive/things.yaml`, as pictures and boxes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from vl4ad_ros.drive import scenery
from vl4ad_ros.drive.paint import Float, Random, Texture, blend, clouds, gradient, mask, palette, ramp, relief
from vl4ad_ros.drive.quads import Quad, box, picture
from vl4ad_ros.io.checked import read_yaml
from vl4ad_ros.io.resources import config_file

_PAINTERS = {"tree": scenery.tree, "conifer": scenery.conifer, "bush": scenery.bush, "tuft": scenery.tuft}


@cache
def catalogue() -> dict[str, Any]:
    """Return the file's content; its comments explain it."""
    content: dict[str, Any] = read_yaml(config_file("drive/things.yaml"))
    return content


def paint(name: str, random: Random, choice: float | None = None) -> Texture:
    """Return a picture of the catalogue; `choice` in [0, 1) says which of its alternative tones, None draws one."""
    if name in _PAINTERS:
        return _PAINTERS[name](random)
    entry = catalogue()["pictures"][name]
    size, tones = (entry["size"][0], entry["size"][1]), entry["tones"]
    tone = tones[int((random.random() if choice is None else choice) * len(tones))]
    grain = clouds(random, size, entry.get("cells", 8), 5, 0.6)
    rgb = _panel(random, size, tone[0]) if "panel" in entry else palette(grain, tone)
    if random.random() < entry.get("patches", 0):
        rgb = blend(rgb, (0.86, 0.84, 0.80), ramp(clouds(random, size, 3, 2), 0.48, 0.52))
    alpha = mask(size, entry.get("outline", ()))
    if "fur" in entry:
        alpha = ramp(alpha + entry["fur"] * 0.5 * (clouds(random, size, 33, 3, 0.7) - 0.5), 0.35, 0.65)
    for layer in entry.get("layers", ()):
        cover = mask(size, layer["shapes"])
        colour = random.uniform(0.05, 0.5, 3).tolist() if layer["colour"] == "random" else layer["colour"]
        colour = gradient(size, *colour) if len(colour) == 2 else colour
        rgb, alpha = blend(rgb, colour, layer.get("opacity", 1) * cover), np.maximum(alpha, cover)
    if "panel" in entry:
        rgb *= 0.6 + 0.43 * relief(alpha, 0.11)[..., None]
    elif "roundness" in entry:
        rgb *= relief(alpha, entry["roundness"], entry.get("bumps", 0) * grain)[..., None]
    behind = mask(size, entry.get("behind", ()))
    rgb *= 1 - 0.5 * (behind * (1 - alpha))[..., None]
    return Texture(rgb, np.maximum(alpha, behind))


def _panel(random: Random, size: tuple[int, int], tone: Sequence[float]) -> Float:
    """Return a body panel: brighter above, with a soft reflection of the horizon and some dirt below."""
    colour = np.asarray(tone)
    panel = gradient(size, (colour * 1.12 + 0.05).tolist(), (colour * 0.62).tolist())
    rows = np.linspace(0, 1, size[0], dtype=np.float32)[:, None]
    panel += 0.10 * np.exp(-(((rows - 0.46) / 0.05) ** 2))[..., None]
    return blend(panel, (0.30, 0.27, 0.22), np.asarray(clouds(random, size, 3, 4) * rows**2 * 0.35, np.float32))


def boxes(name: str, random: Random) -> list[Quad]:
    """Return the faces of a solid thing; all have the same choice of tones."""
    choice, faces = random.random(), []
    for part in catalogue()["boxes"][name]:
        size = np.atleast_2d(part["size"])
        front, side = paint(part["front"], random, choice), paint(part["side"], random, choice)
        top = paint(part["top"], random, choice) if "top" in part else None
        faces += box(random.uniform(size[0], size[-1]).tolist(), front, side, top, part.get("ahead", 0.0))
    return faces


def anomaly(name: str, random: Random) -> list[Quad]:
    """Return the faces of something that does not belong on a road."""
    entry = catalogue()["anomalies"][name]
    if "boxes" in entry:
        return boxes(entry["boxes"], random)
    texture = paint(str(random.choice(entry["pictures"])), random)
    return picture(texture if random.random() < 0.5 else texture.mirrored(), float(random.uniform(*entry["heights"])))
