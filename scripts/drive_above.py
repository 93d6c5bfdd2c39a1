"""Draw the sample drive from above: the obstacle points of the default bundle beside the truth.

python scripts/drive_above.py --out docs/images/above.png
python scripts/drive_above.py --labels --out above.png          # of the labels as the mask
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from drive_picture import DRIVE

from vl4ad_ros.drive.road import EYE, LEFT_EDGE, RIGHT_EDGE, camera_pitch
from vl4ad_ros.runtime.detector import Detector
from vl4ad_ros.runtime.frames import Job, Wanted
from vl4ad_ros.runtime.ground import GroundPlane
from vl4ad_ros.runtime.regions import find_regions
from vl4ad_ros.runtime.settings import GroundSettings
from vl4ad_ros.runtime.tracks import Tracker

FAR = 30.0


def points(labels_alone: bool) -> dict[bool, list[tuple[float, float]]]:
    """Return where the contact points of confirmed obstacles lie, along the road and across, by whether on a label."""
    (height, width), focal = (DRIVE.height, DRIVE.width), DRIVE.camera(0).focal
    ground = GroundSettings(height=EYE, pitch=camera_pitch(width, height), max_distance=FAR)
    matrix = [[focal, 0, (width - 1) / 2], [0, focal, (height - 1) / 2], [0, 0, 1]]
    plane, tracker, detector = GroundPlane(ground, (height, width), matrix), Tracker(), Detector.open("vl4ad-small")
    found: dict[bool, list[tuple[float, float]]] = {False: [], True: []}
    for index in range(DRIVE.frames):
        frame, camera, state = DRIVE.frame(index), DRIVE.camera(index), detector.state()
        mask = np.where(frame.label == 1, 255, 0).astype(np.uint8)
        uncertainty = mask / np.float32(255)
        if not labels_alone:
            (result,) = detector.process([Job(frame.image, Wanted())], state)
            assert result.mask is not None
            mask, uncertainty = result.mask, result.uncertainty
        regions = tracker.update(find_regions(mask, uncertainty, 50), index / DRIVE.rate, state.threshold)
        ahead = np.array([np.sin(camera.yaw), np.cos(camera.yaw)])
        for obstacle in plane.obstacles(regions, (height, width)):
            on_label = any(frame.label[row, column] for column, row in obstacle.region.contacts)
            for forward, left in zip(obstacle.points.forward, obstacle.points.left, strict=True):
                x, z = np.array(camera.position)[[0, 2]] + forward * ahead + left * np.array([-ahead[1], ahead[0]])
                found[on_label].append((z, x))
    detector.close()
    return found


def main() -> None:
    """Write the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--labels", action="store_true", help="take the labels as the mask, not the detector's")
    args = parser.parse_args()
    found, centre = points(args.labels), DRIVE.world.road.centre
    figure = Figure((14, 4.5), layout="constrained")
    axes = figure.add_subplot()
    way = np.array([DRIVE.camera(index).position for index in range(DRIVE.frames)])
    z = np.linspace(0, way[-1, 2] + FAR, 400).astype(np.float32)
    for edge in (LEFT_EDGE, 0.0, RIGHT_EDGE):
        axes.plot(z, centre(z) + edge, color="0.7", linewidth=1)
    axes.plot(way[:, 2], way[:, 0], "--", color="0.4", linewidth=1, label="camera")
    for on_label, colour, name in ((False, "#d1495b", "points elsewhere"), (True, "#3b86c8", "points on an anomaly")):
        axes.plot(*np.array(found[on_label]).reshape(-1, 2).T, ".", color=colour, markersize=3, alpha=0.4, label=name)
    for place, one in enumerate(one for one in DRIVE.world.things if one.anomaly and one.z < z[-1]):
        middle = float(centre(np.array([one.z], np.float32))[0]) + one.x
        edges = [quad.origin[0] + share * quad.right[0] for quad in one.quads for share in (0, 1)]
        reach = middle + min(edges) - one.stroll, middle + max(edges) + one.stroll
        front = one.z + min(float(quad.origin[2]) for quad in one.quads)
        axes.plot([front] * 2, reach, "k-", lw=3, label=None if place else "truth: nearest edge, with its stroll")
        axes.annotate(one.kind, (front, reach[0]), (2, 4), textcoords="offset points", fontsize=8)
    axes.set(xlabel="metres along the road", ylabel="metres to the right", ylim=(way[:, 0].max() + 12, -12))
    axes.legend(loc="lower right", fontsize=8)
    figure.savefig(args.out, dpi=100)


if __name__ == "__main__":
    main()
