"""What a driver and a planner ask of a drive: objects found, how soon and how far away, and false alarms."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vl4ad_ros.evaluation.objects import ObjectTrack, by_drive, follow_alarms
from vl4ad_ros.io.bag_reader import recorded_s
from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.runtime.ground import GroundPlane, ground_plane
from vl4ad_ros.runtime.regions import Region
from vl4ad_ros.runtime.settings import GroundSettings, TrackSettings
from vl4ad_ros.runtime.tracks import Tracker


@dataclass(frozen=True, eq=False)
class Vehicle:
    """What a bag says of the vehicle that it was recorded in."""

    camera_info: Any = None  # the camera's calibration, a message
    # Times of its odometry [N], ascending, and how far it has gone by then; empty where there is none.
    stamps_ns: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    metres: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))


@dataclass(frozen=True)
class Planner:
    """How a planner gets the alarms: the node's settings of tracks and ground, and the vehicle of each drive."""

    tracks: TrackSettings = TrackSettings()
    ground: GroundSettings = GroundSettings()
    vehicles: Mapping[str, Vehicle] = field(default_factory=dict)

    def plane(self, drive: str) -> GroundPlane | None:
        """Return the ground that a drive's camera sees; None without calibration or height."""
        info = self.vehicles.get(drive, Vehicle()).camera_info
        try:
            return None if info is None else ground_plane(self.ground, info)
        except Vl4adError:
            return None

    def kilometres(self, records: Iterable[dict[str, Any]]) -> float | None:
        """Return how far the drives went from their first record to their last; None where one has no odometry."""
        metres = 0.0
        for drive, these in by_drive(records).items():
            vehicle = self.vehicles.get(drive, Vehicle())
            if not len(vehicle.metres):
                return None
            ends = [these[0]["stamp_ns"], these[-1]["stamp_ns"]]
            metres += float(np.diff(np.interp(ends, vehicle.stamps_ns, vehicle.metres))[0])
        return metres / 1000 or None


def follow_regions(records: Iterable[dict[str, Any]], planner: Planner) -> None:
    """Give the alarms of the drives' records the node's own tracks, and the objects what confirmed tracks show of them.

    `drive_alarms` get `track` (its number) and `confirmed`; `drive_objects` get `confirmed`, the share of the pixels
    that confirmed tracks cover, and `distance_m` of the largest of these, None where the ground is not known.
    """
    for drive, these in by_drive(records).items():
        tracker, plane = Tracker(planner.tracks), planner.plane(drive)
        for record in these:
            found = [_region(alarm) for alarm in record["drive_alarms"]]
            regions = tracker.update(found, record["stamp_ns"] / 1e9, record["threshold"])
            for alarm, region in zip(record["drive_alarms"], regions, strict=True):
                alarm |= {"track": region.id, "confirmed": region.confirmed}
            for item in record.get("drive_objects", ()):
                parts = [(share, regions[place]) for place, share in item["parts"] if regions[place].confirmed]
                item |= {"confirmed": sum(share for share, _ in parts), "distance_m": None}
                if parts and plane is not None:
                    largest = max(parts, key=lambda part: part[0])[1]
                    for obstacle in plane.obstacles([largest], (record["height"], record["width"])):
                        item["distance_m"] = obstacle.place[0]


def _region(alarm: dict[str, Any]) -> Region:
    x0, y0, x1, y1 = alarm["box"]
    contacts = tuple((column, row) for column, row in alarm["contacts"])
    return Region(x0, y0, x1 - x0, y1 - y0, alarm["size"], alarm["mean"], alarm["max"], contacts)


def drive_figures(
    records: Sequence[dict[str, Any]], objects: Sequence[ObjectTrack], planner: Planner | None = None
) -> dict[str, Any]:
    """Return what a driver asks: how many objects are found, how soon, and how many alarms are false.

    `lengths_s` (drive -> seconds), `kilometres` (None without odometry), `objects`, `objects_found`, `delay_s` (median
    over all objects, those never found counting as infinite), `alarms_per_minute` and `alarms_per_km` (those that touch
    nothing labelled), the same as `false_alarms_...`, and `alarms`, their tracks: all without the node's tracks. With
    them the same figures once more in `tracks`, and `distance_at_confirmation_m` (median). Those of objects and of
    false alarms are None without labels; where some frames have labels, only those count.
    """
    labelled = [record for record in records if "drive_objects" in record]
    judged = labelled or list(records)
    kept = [track for track in objects if not track.is_glimpse]
    alarms = follow_alarms(judged)
    drives = by_drive(judged)
    lengths = {drive: recorded_s(record["stamp_ns"] for record in these) for drive, these in drives.items()}
    kilometres = (planner or Planner()).kilometres(judged)
    confirmed = [None if track.confirmed_s is None else track.confirmed_s - track.first_seen_s for track in kept]
    distances = [track.confirmed_distance_m for track in kept if track.confirmed_distance_m is not None]
    minutes = sum(lengths.values()) / 60

    def figures(delays: Sequence[float | None], number: int) -> dict[str, Any]:
        later = [np.inf if delay is None else delay for delay in delays]
        rates = {"per_minute": number / minutes if minutes else None}
        rates["per_km"] = None if kilometres is None else number / kilometres
        return {
            "objects_found": int(np.isfinite(later).sum()) if labelled else None,
            "delay_s": float(np.median(later)) if later else None,
            **{f"false_alarms_{name}": rate if labelled else None for name, rate in rates.items()},
            **{f"alarms_{name}": rate for name, rate in rates.items()},
        }

    return {
        "lengths_s": lengths,
        "kilometres": kilometres,
        "objects": len(kept) if labelled else None,
        **figures([track.delay_s for track in kept], len(alarms)),
        "distance_at_confirmation_m": float(np.median(distances)) if distances else None,
        "tracks": figures(confirmed, _count_false_tracks(drives)),
        "alarms": [asdict(track) for track in alarms],
    }


def _count_false_tracks(drives: Mapping[str, Sequence[dict[str, Any]]]) -> int:
    """Return the number of confirmed tracks that touch nothing labelled in any frame."""
    confirmed, touching = set(), set()
    for drive, records in drives.items():
        for record in records:
            for alarm in record.get("drive_alarms", ()):
                confirmed |= {(drive, alarm["track"])} if alarm.get("confirmed") else set()
                touching |= {(drive, alarm["track"])} if alarm.get("track") and alarm["on_label"] else set()
    return len(confirmed - touching)
