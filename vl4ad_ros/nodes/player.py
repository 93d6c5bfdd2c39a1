"""The player: a bag, a video or pictures onto a live image topic, with /clock."""

from __future__ import annotations

import json
import signal
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import rclpy
from builtin_interfaces.msg import Time
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.serialization import serialize_message
from rclpy.signals import SignalHandlerOptions
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header

from vl4ad_ros.io.bag_reader import MAX_GAP_S, BagReader, is_bag
from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.io.images import camera_info_beside
from vl4ad_ros.io.media import Video
from vl4ad_ros.nodes.cdr import map_image
from vl4ad_ros.nodes.executor import start_ros
from vl4ad_ros.nodes.memory import prepare_memory
from vl4ad_ros.nodes.qos import OUTPUT, QUEUE, create_publisher

NS = 1_000_000_000
CLOCK_PERIOD_S = 0.02
SHORTEST = 12  # bytes of a message that begins with a Header: the encapsulation and the stamp
TYPES = {
    "sensor_msgs/msg/Image": Image,
    "sensor_msgs/msg/CompressedImage": CompressedImage,
    "sensor_msgs/msg/CameraInfo": CameraInfo,
}


@dataclass(frozen=True)
class Settings:
    """How to play; the fields are the options of `vl4ad replay`."""

    source: Path
    topic: str | None = None
    to: str | None = None
    rate: float = 1.0
    clock: bool = False
    loop: bool = False
    restamp: bool = False
    subscribers: int = 0
    timeout_s: float = 30.0
    log: Path | None = None


@dataclass(frozen=True)
class Item:
    """A message to send: its topic, its stamp, when it is due (nanoseconds of the recording), and its bytes."""

    topic: str
    stamp_ns: int
    due_ns: int
    data: bytes


@dataclass(frozen=True)
class Source:
    """An open bag or video: where its images go, the type of each topic, the number of images, and how to begin it."""

    image_topic: str
    types: dict[str, type]
    count: int
    items: Callable[[], Iterator[Item]]


def stamp_of(data: bytes) -> int:
    """Return the stamp of a serialised message that begins with a Header, in nanoseconds."""
    sec, nanosec = struct.unpack_from("<iI" if data[1] & 1 else ">iI", data, 4)
    return int(sec) * NS + int(nanosec)


def with_stamp(data: bytes, stamp_ns: int) -> bytes:
    """Return a serialised message that begins with a Header with another stamp."""
    changed = bytearray(data)
    struct.pack_into("<iI" if data[1] & 1 else ">iI", changed, 4, *divmod(stamp_ns, NS))
    return bytes(changed)


def _open_source(settings: Settings, stack: ExitStack) -> Source:
    path = settings.source
    if path.suffix == ".bag":
        raise Vl4adError(f"{path} is a bag of ROS 1; convert it first: rosbags-convert --help.")
    if not is_bag(path) and not path.is_dir():
        video = stack.enter_context(Video(path))
        topic, start = settings.to or "/camera/image_raw", time.time_ns()
        return Source(topic, {topic: Image}, video.count, lambda: _video_items(video, topic, start, settings.loop))
    reader = stack.enter_context(BagReader(path))
    recorded, kinds = reader.image_topic(settings.topic), reader.topics()
    image = settings.to or recorded
    names = {recorded: image}
    if kinds.get(camera_info_beside(recorded)) == "sensor_msgs/msg/CameraInfo":
        names[camera_info_beside(recorded)] = camera_info_beside(image)
    types = {name: TYPES[kinds[old]] for old, name in names.items()}
    return Source(image, types, reader.count(recorded), lambda: _bag_items(reader, names))


def _bag_items(reader: BagReader, names: dict[str, str]) -> Iterator[Item]:
    for topic, log_ns, data in reader.raw(list(names)):
        if len(data) < SHORTEST:
            rclpy.logging.get_logger("player").warning(f"A message of {len(data)} bytes on {topic} is left out.")
            continue
        yield Item(names[topic], stamp_of(data), log_ns, data)


def _video_items(video: Video, topic: str, start_ns: int, loop: bool) -> Iterator[Item]:
    for index, image in enumerate(video.frames(whole=not loop)):
        stamp = start_ns + round(index * NS / video.rate)
        header = Header(stamp=Time(sec=stamp // NS, nanosec=stamp % NS), frame_id="camera")
        yield Item(topic, stamp, stamp, bytes(serialize_message(map_image(header, image))))


class Player(Node):
    """Plays one source."""

    def __init__(self, settings: Settings, stack: ExitStack) -> None:
        """Open the source and create the topics; the stack keeps the files open."""
        if not settings.rate > 0:
            raise Vl4adError(f"--rate must be more than 0, got {settings.rate:g}.")
        self._settings = settings
        self._interrupted = False
        self.source = _open_source(settings, stack)
        super().__init__("player")
        # Not `_publishers`: that is the base class's own.
        # Reliable publishers match every subscriber; one that is slow or was matched a moment ago still gets the last
        # frames.
        self._outputs = {topic: create_publisher(self, kind, topic, QUEUE) for topic, kind in self.source.types.items()}
        self._clock_out = create_publisher(self, Clock, "/clock", OUTPUT) if settings.clock else None
        self._log = stack.enter_context(settings.log.open("w", encoding="utf-8")) if settings.log else None

    def wait(self) -> None:
        """Wait until the images have enough subscribers."""
        settings, deadline = self._settings, time.monotonic() + self._settings.timeout_s
        images = self._outputs[self.source.image_topic]
        while images.get_subscription_count() < settings.subscribers:
            if time.monotonic() > deadline:
                raise Vl4adError(
                    f"{images.get_subscription_count()} of {settings.subscribers} subscribers came to "
                    f"{self.source.image_topic} within {settings.timeout_s:g} s; start the detector, and check "
                    "ROS_DOMAIN_ID and the topic's name."
                )
            time.sleep(0.02)
            self._check_interrupt()

    def interrupt(self, *_: object) -> None:
        """Handler of Ctrl-C: ends the play at the next safe place; a library's callback would swallow an exception."""
        self._interrupted = True

    def _check_interrupt(self) -> None:
        if self._interrupted:
            raise KeyboardInterrupt

    def play(self, sent: Callable[[], object]) -> None:
        """Send everything at its time, calling `sent` after each image; wait until subscribers have the last one."""
        offset = 0
        for _ in count() if self._settings.loop else range(1):
            begin: int | None = None
            last = step = before = skipped = 0
            started = time.monotonic()
            for item in self.source.items():
                self._check_interrupt()
                begin = item.due_ns if begin is None else begin
                before, gap = item.due_ns, (item.due_ns - before if before else 0)
                if gap > MAX_GAP_S * NS:
                    skipped += gap - MAX_GAP_S * NS
                    self.get_logger().warning(f"A gap of {gap / NS:.0f} s in the recording is played as {MAX_GAP_S} s.")
                self._sleep_until(started + (item.due_ns - begin - skipped) / NS / self._settings.rate, item, offset)
                self._send(item, offset)
                if item.topic == self.source.image_topic:
                    step, last = max(item.due_ns - last, 0) if last else step, item.due_ns
                    sent()
            if begin is None:
                raise Vl4adError(f"{self._settings.source} has no images to play.")
            offset += last - begin + step
        for publisher in (*self._outputs.values(), *filter(None, [self._clock_out])):
            publisher.wait_for_all_acked(Duration(seconds=2))

    def _send(self, item: Item, offset: int) -> None:
        stamp = time.time_ns() if self._settings.restamp else item.stamp_ns + offset
        data = item.data if stamp == item.stamp_ns else with_stamp(item.data, stamp)
        self._publish_clock(stamp)
        if self._log is not None and item.topic == self.source.image_topic:
            self._log.write(json.dumps({"stamp_ns": stamp, "sent_ns": time.time_ns()}) + "\n")
            self._log.flush()
        self._outputs[item.topic].publish(data)

    def _sleep_until(self, moment: float, item: Item, offset: int) -> None:
        """Sleep, and publish the time meanwhile where /clock is wanted."""
        while (left := moment - time.monotonic()) > 0:
            self._publish_clock(item.stamp_ns + offset - round(left * self._settings.rate * NS))
            time.sleep(min(left, CLOCK_PERIOD_S))
            self._check_interrupt()

    def _publish_clock(self, now_ns: int) -> None:
        if self._clock_out is not None:
            sec, nanosec = divmod(max(now_ns, 0), NS)
            self._clock_out.publish(Clock(clock=Time(sec=sec, nanosec=nanosec)))


def play(settings: Settings, progress: Callable[[int | None], Any]) -> int:
    """Play a source until its end, with a bar (`progress`) for a number of images, None: endless; return how many."""
    number = 0
    prepare_memory()
    # Without rclpy's own handlers, which would take the topics away under a publish() in progress.
    start_ros(signal_handler_options=SignalHandlerOptions.NO)
    handler = signal.getsignal(signal.SIGINT)
    try:
        with ExitStack() as stack:
            player = Player(settings, stack)
            signal.signal(signal.SIGINT, player.interrupt)
            player.wait()
            bar = stack.enter_context(progress(None if settings.loop else player.source.count))

            def sent() -> None:
                nonlocal number
                number += 1
                bar.update()

            player.play(sent)
            player.destroy_node()
    finally:
        signal.signal(signal.SIGINT, handler)
        rclpy.try_shutdown()
    return number
