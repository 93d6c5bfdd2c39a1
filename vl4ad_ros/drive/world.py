"""What stands, drives and lies along the road: placed once, from a seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vl4ad_ros.drive import scenery
from vl4ad_ros.drive.catalogue import anomaly, boxes, catalogue, paint
from vl4ad_ros.drive.paint import Random
from vl4ad_ros.drive.quads import Quad, picture
from vl4ad_ros.drive.road import LEFT_EDGE, RIGHT_EDGE, Road

BEHIND, AHEAD = 25.0, 230.0


@dataclass(frozen=True, eq=False)
class Thing:
    """Something on or beside the road; metres, and metres per second."""

    kind: str  # its name
    quads: Sequence[Quad]  # its faces around its own foot: x right, y up, z ahead
    x: float  # lateral position on the road at the start
    z: float  # position along the road at the start; of the traffic ahead, its distance to the camera
    footprint: tuple[float, float] = (0.0, 0.0)  # width and length of the dark area under it; (0, 0) for none
    flat: bool = False  # whether it is a picture that always faces the camera
    speed: float = 0.0  # along the road
    stroll: float = 0.0  # how far it walks to and fro across the road
    leads: bool = False  # whether it drives ahead of the camera on the camera's way
    anomaly: bool = False  # whether it does not belong there

    @property
    def height(self) -> float:
        """Its height, metres."""
        return max(float(quad.origin[1] + quad.up[1]) for quad in self.quads)


@dataclass
class World:
    """A road with everything along it."""

    road: Road
    things: list[Thing] = field(default_factory=list)


def build(random: Random, length: float) -> World:
    """Place everything along a road of a length in metres."""
    streams = random.spawn(6)
    world = World(Road(streams[0], length))
    end = length + AHEAD
    for rule in catalogue()["scenery"]:
        world.things += _strewn(rule, world.road, streams[1], end)
    world.things += _houses(world.road, streams[2], end)
    world.things += _traffic(world.road, streams[4], end)
    world.things += _anomalies(world.road, streams[5])
    return world


def _strewn(rule: Mapping[str, Any], road: Road, random: Random, end: float) -> list[Thing]:
    """Return what one rule of the catalogue's `scenery` places."""
    variants = [paint(name, random) for name in rule["pictures"] for _ in range(rule.get("variants", 1))]
    across = list(rule.get("across", ()))
    for near, far in rule.get("beside", ()):
        across += [(LEFT_EDGE - far, LEFT_EDGE - near), (RIGHT_EDGE + near, RIGHT_EDGE + far)]
    jitter, footprint = rule.get("jitter", 3.0), tuple(rule.get("footprint", (0.4, 0.4)))
    things = []
    for z in np.arange(-BEHIND, end, rule["step"]):
        missing = road.in_town(float(z)) != rule["town"] or round(z / 36) % 2 == rule.get("gap")
        for low, high in () if missing else across:
            if random.random() < rule["chance"]:
                x, place = random.uniform((low, z - jitter), (high, z + jitter)).tolist()
                texture = variants[int(random.integers(len(variants)))]
                height = float(random.uniform(*rule["heights"]))
                quads = picture(texture, height, along="gap" in rule)
                pace = rule.get("pace", 0.0) * float(random.choice([-1, 1]))
                things.append(Thing(rule["kind"], quads, x, place, footprint, "gap" not in rule, pace))
    return things


def _houses(road: Road, random: Random, end: float) -> list[Thing]:
    """Return the houses along the town's streets; each shows its front and the end towards the camera."""
    sizes = random.uniform((8, 5.5), (15, 12.5), (7, 2)).tolist()
    fronts = [scenery.facade(random, *size) for size in sizes]
    ends = [scenery.facade(random, 8.0, size[1]) for size in sizes]
    tiles, gables = ([make(random) for _ in range(3)] for make in (scenery.roof, scenery.gable))
    across, ridge = np.array([8.0, 0.0, 0.0]), np.array([0.0, 3.2, 0.0])
    things = []
    for x, side in ((-8.4, -1), (14.2, 1)):
        z = -BEHIND
        while z < end:
            index = int(random.integers(len(sizes)))
            width, height = sizes[index]
            if road.in_town(z - 2) and road.in_town(z + width + 2):
                up, along = np.array([0.0, height, 0.0]), np.array([0.0, 0.0, -side * width])
                corner = np.array([0.0, 0.0, width if side > 0 else 0.0])
                end_corner = np.array([-8.0 if side < 0 else 0.0, 0.0, 0.0])
                quads = [
                    Quad(end_corner, across, up, ends[index], 0.8),
                    Quad(end_corner + up, across, ridge, gables[index % 3], 0.8),
                    Quad(corner + up, along, side * across / 2 + ridge, tiles[index % 3], 0.95),
                    Quad(corner, along, up, fronts[index], 0.92 if side < 0 else 1.0),
                ]
                things.append(Thing("building", quads, x, z))
            z += width + float(random.choice([0.0, 0.0, 3.0]))
    return things


def _traffic(road: Road, random: Random, end: float) -> list[Thing]:
    """Return the traffic: ahead, oncoming and parked."""

    def cars(kind: str, count: int) -> list[list[Quad]]:
        return [boxes(f"{kind}_{'high' if random.random() < 0.4 else 'low'}", random) for _ in range(count)]

    area, (first, *parked), oncoming = (1.9, 4.4), cars("car", 6), cars("oncoming", 4)
    things = [
        Thing("car", first, 0, float(random.uniform(28, 36)), area, leads=True),
        Thing("truck", boxes("truck", random), 0, float(random.uniform(58, 70)), (2.6, 8.2), leads=True),
    ]
    z = float(random.uniform(30, 60))
    while z < 2.2 * end:
        things.append(Thing("car", oncoming[int(random.integers(4))], -1.75, z, area, speed=-9.0))
        z += float(random.uniform(30, 90))
    for z in np.arange(-BEHIND, end, 6.2).tolist():
        if road.in_town(z - 4) and road.in_town(z + 4) and random.random() < 0.6:
            things.append(Thing("car", parked[int(random.integers(5))], float(random.uniform(8.45, 8.65)), z, area))
    return things


def _anomalies(road: Road, random: Random) -> list[Thing]:
    """Return one anomaly at each of the road's places, every kind before any comes again."""
    names: list[str] = []
    things = []
    for index, z in enumerate(road.places.tolist()):
        if not names:
            names = random.permutation(list(catalogue()["anomalies"])).tolist()
        name = names.pop()
        quads = anomaly(name, random)
        flat = len(quads) == 1
        width = max(float(np.abs(quad.right[0])) for quad in quads)
        x = road.anomaly_lane(index) + float(random.uniform(-0.5, 0.5))
        stroll, area = 0.5 * ("walks" in catalogue()["anomalies"][name]), (width * 0.95, 0.6 if flat else 1.2)
        things.append(Thing(name, quads, x, z, area, flat, stroll=stroll, anomaly=True))
    return things
