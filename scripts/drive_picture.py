"""Draw frames of the sample drive as camera | uncertainty | mask of the default bundle: the pictures of the pages.

python scripts/drive_picture.py --out docs/images/drive.jpg
python scripts/drive_picture.py --frames 36 78 96 --out docs/images/failures.jpg
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from vl4ad_ros.drive.render import Drive
from vl4ad_ros.io.drawing import draw_text
from vl4ad_ros.runtime.detector import Detector
from vl4ad_ros.runtime.frames import Job

# The drive that `vl4ad sample-drive` writes without options.
DRIVE = Drive(seed=0, frames=120, width=960, height=540, rate=10.0)
TITLES = ("camera, anomalies outlined in green", "uncertainty: dark = certain", "anomaly mask")


def row(detector: Detector, index: int, width: int) -> NDArray[np.uint8]:
    """Return one frame's three panels beside each other, RGB uint8, each `width` pixels wide."""
    frame = DRIVE.frame(index)
    image = frame.image
    (result,) = detector.process([Job(image)], detector.state())
    assert result.mask is not None
    levels = cv2.convertScaleAbs(result.uncertainty, alpha=255.0)
    colours = cv2.cvtColor(cv2.applyColorMap(levels, cv2.COLORMAP_INFERNO), cv2.COLOR_BGR2RGB)
    size = (width, round(width * image.shape[0] / image.shape[1]))
    outlines, _ = cv2.findContours((frame.label == 1).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    camera = cv2.drawContours(image.copy(), outlines, -1, (60, 255, 60), 2)
    panels = []
    for title, panel in zip(TITLES, (camera, colours, cv2.cvtColor(result.mask, cv2.COLOR_GRAY2RGB)), strict=True):
        small = np.asarray(cv2.resize(panel, size, interpolation=cv2.INTER_AREA), np.uint8)
        draw_text(small, title, (8, 20), 0.7)
        panels.append(cv2.copyMakeBorder(small, 2, 2, 2, 2, cv2.BORDER_CONSTANT, value=(255, 255, 255)))
    return np.concatenate(panels, axis=1)


def main() -> None:
    """Write the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    # A dog in daylight; a mattress in rain, with a far box that is missed.
    parser.add_argument("--frames", type=int, nargs="+", default=[12, 60])
    parser.add_argument("--width", type=int, default=480, help="of a panel, in pixels")
    args = parser.parse_args()
    detector = Detector.open("vl4ad-small")
    picture = np.concatenate([row(detector, index, args.width) for index in args.frames])
    detector.close()
    cv2.imwrite(str(args.out), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))


if __name__ == "__main__":
    main()
