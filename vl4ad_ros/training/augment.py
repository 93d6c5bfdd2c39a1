"""Geometry and photometry of a training sample, RGB uint8; all randomness comes from the given generator."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torchvision.transforms import v2

from vl4ad_ros.training.config import Augment
from vl4ad_ros.training.label_tables import IGNORE

UInt8 = npt.NDArray[np.uint8]
Random = np.random.Generator


def log_uniform(random: Random, low: float, high: float) -> float:
    """A number between low and high, even on a logarithmic scale."""
    return float(np.exp(random.uniform(np.log(low), np.log(high))))


def crop_window(
    image: UInt8, rows: UInt8, size: tuple[int, int], scale: tuple[float, float], augment: Augment, random: Random
) -> tuple[UInt8, UInt8]:
    """A randomly zoomed (within `scale`), turned, mirrored and shifted window of a frame, at `size` (rows, columns).

    What lies outside the frame is mirrored in the picture and without supervision in the rows.
    """
    height, width = size
    source_height, source_width = rows.shape
    zoom = log_uniform(random, *scale)
    aspect = log_uniform(random, 0.85, 1.18)
    zoom_x, zoom_y = zoom * np.sqrt(aspect), zoom / np.sqrt(aspect)
    angle = np.deg2rad(random.uniform(-augment.rotation, augment.rotation))
    mirror = -1.0 if random.random() < augment.flip else 1.0

    def centre(source: int, target: int, factor: float) -> float:
        half = target / factor / 2
        return source / 2 if 2 * half >= source else random.uniform(half, source - half)

    centre_x, centre_y = centre(source_width, width, zoom_x), centre(source_height, height, zoom_y)
    cosine, sine = np.cos(angle), np.sin(angle)
    linear = np.array([[mirror * zoom_x * cosine, -zoom_y * sine], [mirror * zoom_x * sine, zoom_y * cosine]])
    offset = np.array([width / 2, height / 2]) - linear @ np.array([centre_x, centre_y])
    matrix = np.hstack([linear, offset[:, None]])
    way = cv2.INTER_AREA if zoom < 0.7 else cv2.INTER_LINEAR
    out = cv2.warpAffine(image, matrix, (width, height), flags=way, borderMode=cv2.BORDER_REFLECT_101)
    out_rows = cv2.warpAffine(
        rows, matrix, (width, height), flags=cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT, borderValue=IGNORE
    )
    return out.astype(np.uint8), out_rows.astype(np.uint8)


def blob_outline(random: Random, size: tuple[int, int], roughness: float = 0.35) -> npt.NDArray[np.float64]:
    """Corners [n,2] of a random round shape that fills a box of this height and width."""
    angles = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    radius = np.ones_like(angles)
    for wave in range(1, 5):
        radius += roughness / wave * np.sin(wave * angles + random.uniform(0, 2 * np.pi)) * random.random()
    radius /= radius.max()
    return np.stack([np.cos(angles), np.sin(angles)], 1) * radius[:, None] * [size[1] / 2, size[0] / 2]


def blob(random: Random, size: tuple[int, int], roughness: float = 0.35) -> UInt8:
    """A random round shape that fills its box: uint8 mask [h,w], 0 or 255."""
    mask = np.zeros(size, np.uint8)
    corners = blob_outline(random, size, roughness) + np.array(size)[::-1] / 2
    return cv2.fillPoly(mask, [corners.astype(np.int32)], 255).astype(np.uint8)


def soft_polygon(shape: tuple[int, ...], corners: npt.NDArray[Any], softness: float) -> npt.NDArray[np.float32]:
    """A filled polygon with soft edges: float32 [h,w], 0 to 1."""
    mask = np.zeros(shape[:2], np.float32)
    cv2.fillPoly(mask, [np.asarray(corners).astype(np.int32)], 1.0)
    return cv2.GaussianBlur(mask, (0, 0), softness).astype(np.float32)


def take_style(image: UInt8, other: UInt8, strength: float) -> UInt8:
    """Move the mean and spread of each CIELAB channel towards another frame's (Reinhard et al., 2001)."""
    lab = cv2.cvtColor(image, cv2.COLOR_RGB2LAB)
    own = lab[::4, ::4].reshape(-1, 3).astype(np.float32)
    target = cv2.cvtColor(other[::4, ::4], cv2.COLOR_RGB2LAB).reshape(-1, 3).astype(np.float32)
    ratio = np.clip((target.std(0) + 1) / (own.std(0) + 1), 0.5, 2.0)
    gain = 1 + strength * (ratio - 1)
    mean, shift = own.mean(0), strength * (target.mean(0) - own.mean(0))
    table = np.clip((np.arange(256)[:, None] - mean) * gain + mean + shift, 0, 255).astype(np.uint8)[None]
    return cv2.cvtColor(cv2.LUT(lab, table), cv2.COLOR_LAB2RGB).astype(np.uint8)


def _fog(image: UInt8, random: Random) -> UInt8:
    """A veil that is thicker towards a horizon."""
    height = image.shape[0]
    horizon = random.uniform(0.2, 0.6) * height
    distance = np.abs(np.arange(height) - horizon) / height
    veil = random.uniform(0.2, 0.75) * np.exp(-distance * random.uniform(0.5, 4.0))
    grey = random.uniform(120, 245)
    mixed = image * (1 - veil)[:, None, None] + (grey * veil)[:, None, None]
    return np.asarray(mixed, dtype=np.uint8)


def _shade(image: UInt8, random: Random) -> UInt8:
    """A cast shadow with a random outline; labels stay what they are."""
    height, width = image.shape[:2]
    corners = random.uniform(-0.2, 1.2, (int(random.integers(3, 6)), 2)) * [width, height]
    depth = soft_polygon(image.shape, corners, random.uniform(1.6, 12.0)) * np.float32(random.uniform(0.25, 0.6))
    return np.asarray(image * (1 - depth)[..., None], dtype=np.uint8)


def _stain(image: UInt8, random: Random) -> UInt8:
    """Flat marks: patches and paint on the road, tar, dirt on the lens; labels stay what they are."""
    height, width = image.shape[:2]
    for _ in range(int(random.integers(1, 5))):
        wide = log_uniform(random, 8, width / 2)
        size = (max(3, int(wide * log_uniform(random, 0.08, 0.8))), int(wide))
        corners = cv2.boxPoints(((0, 0), (size[1], size[0]), 0))
        if random.random() < 0.6:
            corners = blob_outline(random, size).astype(np.float32)
        centre = (random.uniform(0, 1) * width, random.uniform(0.2, 1) * height)
        turned = cv2.transform(corners[None], cv2.getRotationMatrix2D((0, 0), random.uniform(-40, 40), 1.0))[0] + centre
        depth = soft_polygon(image.shape, turned, log_uniform(random, 0.3, 6.0)) * np.float32(random.uniform(0.1, 0.6))
        tone = random.uniform(0, 255) + random.uniform(-20, 20, 3).astype(np.float32)
        image = np.clip(image + depth[..., None] * (tone - image), 0, 255).astype(np.uint8)
    return image


def photometry(image: UInt8, augment: Augment, random: Random) -> UInt8:
    """Light, weather, camera: everything that changes values and not places."""
    if random.random() < augment.stain:
        image = _stain(image, random)
    if random.random() < augment.shade:
        image = _shade(image, random)
    if random.random() < augment.fog:
        image = _fog(image, random)
    if random.random() < augment.noise:
        channels = int(random.choice((1, 3)))
        noise = random.standard_normal((*image.shape[:2], channels), dtype=np.float32)
        image = np.clip(image + noise * random.uniform(2, 14), 0, 255).astype(np.uint8)
    camera = v2.Compose(
        [
            v2.RandomApply([v2.ColorJitter(0.4, 0.4, 0.6, 0.05)], augment.colour),
            v2.RandomGrayscale(augment.grey),
            v2.RandomApply([v2.GaussianBlur(7, (0.4, 1.6))], augment.blur),
            v2.RandomApply([v2.JPEG((25, 85))], augment.jpeg),
        ]
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(random.integers(1 << 31)))
        changed = camera(torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))))
    return np.ascontiguousarray(changed.numpy().transpose(1, 2, 0))
