"""What stands, drives and lies along the road: placed once, from a seed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from vl4ad_ros.drive import nature, structures, vehicles
from vl4ad_ros.drive.anomalies import ANOMALIES
from vl4ad_ros.drive.noise import Random
from vl4ad_ros.drive.quads import Quad, Texture
from vl4ad_ros.drive.road import Road

BEHIND, AHEAD = 25.0, 230.0
SHADOWLESS: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True, eq=False)
class Thing:
    """Something on or beside the road.

    Attributes:
        kind: Its name.
        quads: Its faces around its own foot: x right, y up, z ahead.
        x: Lateral position on the road at the start, metres.
        z: Position along the road at the start, metres; of the traffic ahead, its distance to the camera.
        footprint: Width and length of the dark area under it, metres; (0, 0) for none.
        flat: Whether it is a picture that always faces the camera.
        speed: Along the road, metres per second.
        stroll: How far it walks to and fro across the road, metres.
        leads: Whether it drives ahead of the camera on the camera's way.
        anomaly: Whether it does not belong there.
    """

    kind: str
    quads: Sequence[Quad]
    x: float
    z: float
    footprint: tuple[float, float] = SHADOWLESS
    flat: bool = False
    speed: float = 0.0
    stroll: float = 0.0
    leads: bool = False
    anomaly: bool = False

    @property
    def height(self) -> float:
        """Its height, metres."""
        return max(float(quad.origin[1] + quad.up[1]) for quad in self.quads)


@dataclass
class World:
    """A road with everything along it.

    Attributes:
        road: The road.
        things: Everything along it.
    """

    road: Road
    things: list[Thing] = field(default_factory=list)


def picture(texture: Texture, height: float) -> list[Quad]:
    """Return an upright picture of a height in metres."""
    rows, columns = texture.alpha.shape
    width = height * columns / rows
    return [Quad(np.array([-width / 2, 0, 0]), np.array([width, 0, 0]), np.array([0, height, 0.0]), texture)]


def build(random: Random, length: float) -> World:
    """Place everything along a road of a length in metres."""
    streams = random.spawn(6)
    world = World(Road(streams[0], length))
    end = length + AHEAD
    _plant(world, streams[1], end)
    _settle(world, streams[2], end)
    _furnish(world, streams[3], end)
    _drive(world, streams[4], end)
    _strew(world, streams[5])
    return world


def _choose(random: Random, makers: Sequence[Callable[[Random], Texture]], copies: int) -> Callable[[], Texture]:
    """Paint a few variants and return a function that draws among them."""
    variants = [make(random) for make in makers for _ in range(copies)]
    return lambda: variants[int(random.integers(len(variants)))]


def _plant(world: World, random: Random, end: float) -> None:
    """Trees, bushes and tall grass: along the country road, and far behind the houses."""
    tree, conifer = _choose(random, [nature.tree], 6), _choose(random, [nature.conifer], 3)
    bush, tuft = _choose(random, [nature.bush], 4), _choose(random, [nature.tuft], 3)
    wood = bool(random.random() < 0.5)
    z = -BEHIND
    while z < end:
        town = world.road.in_town(z)
        for side in (-1, 1):
            centre, verge = (-3.9, 5.0) if side < 0 else (7.4, 4.5)
            distances = [30.0] if town else [verge + 4, 14.0, 24.0, 40.0]
            for distance in distances:
                if random.random() < 0.72:
                    x = centre + side * (distance + random.uniform(-2.5, 6))
                    spruce = random.random() < (0.5 if wood else 0.12)
                    texture, height = (conifer(), random.uniform(9, 17)) if spruce else (tree(), random.uniform(7, 13))
                    quads = picture(texture, float(height))
                    world.things.append(
                        Thing("tree", quads, float(x), z + float(random.uniform(-3, 3)), (2.0, 1.5), True)
                    )
            if not town:
                for _ in range(2):
                    x = centre + side * (verge + random.uniform(-1.5, 9))
                    if random.random() < 0.45:
                        quads = picture(bush(), float(random.uniform(0.8, 2.2)))
                        world.things.append(
                            Thing("bush", quads, float(x), z + float(random.uniform(-3, 3)), (2.0, 1.0), True)
                        )
                for _ in range(5):
                    x = centre + side * random.uniform(1.2, 5.5)
                    quads = picture(tuft(), float(random.uniform(0.2, 0.55)))
                    world.things.append(Thing("grass", quads, float(x), z + float(random.uniform(-3, 3)), flat=True))
        z += 6.5


def _settle(world: World, random: Random, end: float) -> None:
    """Houses along the town's streets; each shows its front and the end towards the camera."""
    sizes = [(float(random.uniform(8, 15)), float(random.uniform(5.5, 12.5))) for _ in range(7)]
    fronts = [structures.facade(random, *size) for size in sizes]
    ends = [structures.facade(random, 8.0, size[1]) for size in sizes]
    tiles = [structures.roof(random) for _ in range(3)]
    gables = [structures.gable(random) for _ in range(3)]
    for x, side in ((-8.4, -1), (14.2, 1)):
        z = -BEHIND
        while z < end:
            index = int(random.integers(len(sizes)))
            width, height = sizes[index]
            if world.road.in_town(z - 2) and world.road.in_town(z + width + 2):
                up = np.array([0.0, height, 0.0])
                corner = np.array([0.0, 0.0, 0.0 if side < 0 else width])
                along = np.array([0.0, 0.0, width if side < 0 else -width])
                corner_behind = np.array([-8.0 if side < 0 else 0.0, 0.0, 0.0])
                slope = np.array([side * 4.0, 3.2, 0.0])
                roof = Quad(corner + up, along, slope, tiles[index % 3], 0.95)
                across, ridge = np.array([8.0, 0.0, 0.0]), np.array([0.0, 3.2, 0.0])
                quads = [
                    Quad(corner_behind, across, up, ends[index], 0.8),
                    Quad(corner_behind + up, across, ridge, gables[index % 3], 0.8),
                    roof,
                    Quad(corner, along, up, fronts[index], 0.92 if side < 0 else 1.0),
                ]
                world.things.append(Thing("building", quads, x, z))
            z += width + float(random.choice([0.0, 0.0, 3.0]))


def _furnish(world: World, random: Random, end: float) -> None:
    """Lamps, poles, signs, rails and fences."""
    lamp, pole = structures.lamp(random), structures.utility_pole(random)
    sign = _choose(random, [structures.sign], 6)
    rail, fence = structures.guard_rail(random), structures.fence(random)
    rail_side, fence_side = (-1, 1) if random.random() < 0.5 else (1, -1)
    ahead, deep = np.array([0.0, 0.0, 4.0]), np.array([0.0, 0.0, 0.0])
    z = -BEHIND
    while z < end:
        town = world.road.in_town(z)
        if round(z / 4) % 7 == 0:
            if town:
                world.things.append(Thing("lamp", picture(lamp.mirrored(), 7.5), 10.6, z, (0.4, 0.4), True))
            else:
                world.things.append(Thing("pole", picture(pole, 8.5), -7.6, z, (0.4, 0.4), True))
        if random.random() < 0.09:
            x = 10.3 if town else 8.6
            world.things.append(Thing("sign", picture(sign(), float(random.uniform(2.4, 3.0))), x, z, (0.3, 0.3), True))
        if not town and not world.road.in_town(z + 5):
            for texture, height, side in ((rail, 0.75, rail_side), (fence, 1.1, fence_side)):
                if round(z / 36) % 2 == (0 if height < 1 else 1):
                    x = (-5.0 if height < 1 else -9.0) if side < 0 else (8.6 if height < 1 else 12.0)
                    quads = [Quad(deep, ahead, np.array([0.0, height, 0.0]), texture, 0.95)]
                    world.things.append(Thing("rail" if height < 1 else "fence", quads, x, z))
        z += 4.0


def _drive(world: World, random: Random, end: float) -> None:
    """Traffic: ahead, oncoming and parked; people on the pavements."""
    world.things.append(Thing("car", vehicles.car(random), 0, float(random.uniform(28, 36)), (1.9, 4.4), leads=True))
    world.things.append(
        Thing("truck", vehicles.truck(random), 0, float(random.uniform(58, 70)), (2.6, 8.2), leads=True)
    )
    oncoming = [vehicles.car(random, oncoming=True) for _ in range(4)]
    z = float(random.uniform(30, 60))
    while z < 2.2 * end:
        quads = oncoming[int(random.integers(len(oncoming)))]
        world.things.append(Thing("car", quads, -1.75, z, (1.9, 4.4), speed=-9.0))
        z += float(random.uniform(30, 90))
    parked = [vehicles.car(random) for _ in range(5)]
    walkers = [vehicles.person(random) for _ in range(6)]
    z = -BEHIND
    while z < end:
        if world.road.in_town(z - 4) and world.road.in_town(z + 4):
            if random.random() < 0.6:
                quads = parked[int(random.integers(len(parked)))]
                world.things.append(Thing("car", quads, 8.55 + float(random.uniform(-0.1, 0.1)), z, (1.9, 4.4)))
            if random.random() < 0.5:
                x = float(random.uniform(10.8, 13.4)) if random.random() < 0.6 else float(random.uniform(-7.6, -4.6))
                quads = picture(walkers[int(random.integers(len(walkers)))], float(random.uniform(1.6, 1.9)))
                pace = float(random.choice([-1.3, 1.3]))
                world.things.append(Thing("person", quads, x, z, (0.6, 0.5), True, pace))
        z += 6.2


def _strew(world: World, random: Random) -> None:
    """One anomaly at each of the road's places, every kind before any comes again."""
    names: list[str] = []
    for index, z in enumerate(world.road.places):
        if not names:
            names = random.permutation(list(ANOMALIES)).tolist()
        name = names.pop()
        quads = ANOMALIES[name](random)
        flat = len(quads) == 1
        width = max(float(np.abs(quad.right[0])) for quad in quads)
        walks = name in ("cow", "deer", "dog", "boar", "sheep")
        x = world.road.anomaly_lane(index) + float(random.uniform(-0.5, 0.5))
        footprint = (width * 0.95, 0.6 if flat else 1.2)
        stroll = 0.5 if walks else 0.0
        world.things.append(Thing(name, quads, x, float(z), footprint, flat, stroll=stroll, anomaly=True))
