"""The thread that turns the newest frames into results; the ROS callbacks never wait for it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rclpy.serialization import deserialize_message
from sensor_msgs.msg import CompressedImage
from std_msgs.msg import Header

from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.io.images import BadImageError, message_to_rgb
from vl4ad_ros.nodes.camera import Camera
from vl4ad_ros.nodes.cdr import OutgoingMaps, check_frame_id, read_image
from vl4ad_ros.runtime.detector import Detector
from vl4ad_ros.runtime.frames import FrameState, Job


@dataclass(frozen=True)
class Frame:
    """A frame that waits or is in work: its camera's index, the serialized message, and when it arrived (monotonic)."""

    camera: int
    message: bytes
    arrived: float


class FrameSlots:
    """Holds at most one waiting frame per camera; a newer one replaces it, so that no queue can grow."""

    def __init__(self, cameras: int) -> None:
        self._changed = threading.Condition()
        self._waiting: dict[int, Frame] = {}
        self._turn = [0] * cameras
        self._turns = 0
        self._closed = False

    def put(self, camera: int, message: bytes) -> bool:
        """Put a frame into its camera's slot; return whether it replaced one that nobody had taken."""
        with self._changed:
            replaced = camera in self._waiting
            self._waiting[camera] = Frame(camera, message, time.monotonic())
            self._changed.notify()
            return replaced

    def take(self, limit: int, patience: float) -> Sequence[Frame]:
        """Wait for frames; take up to `limit`, the camera that waited longest first; none when the slots were closed.

        Once there is a frame, those of the other cameras are waited for `patience` seconds.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            wanted = min(limit, len(self._turn))
            if patience > 0:
                self._changed.wait_for(lambda: len(self._waiting) >= wanted or self._closed, timeout=patience)
            if self._closed:
                return []
            chosen = sorted(self._waiting, key=lambda camera: self._turn[camera])[:limit]
            for camera in chosen:
                self._turns += 1
                self._turn[camera] = self._turns
            return [self._waiting.pop(camera) for camera in chosen]

    def close(self) -> None:
        """Drop what waits, and wake the taker up for good."""
        with self._changed:
            self._closed = True
            self._waiting.clear()
            self._changed.notify_all()


@dataclass(frozen=True)
class _Decoded:
    camera: Camera
    header: Header
    job: Job
    outgoing: OutgoingMaps
    arrived: float
    began: float
    decode_ms: float


class Worker:
    """Takes the newest frame of each camera, processes them with one state, and publishes."""

    def __init__(
        self,
        detector: Detector,
        cameras: Sequence[Camera],
        compressed: bool,
        max_batch: int,
        state: Callable[[], FrameState],
        before_publish: Callable[[Camera, Header, FrameState], None],
        is_alive: Callable[[], bool],
    ) -> None:
        """Start the thread, the only one that runs the detector's engine, on at most `max_batch` frames a call.

        `state` returns the state in force, once per batch; `before_publish` is called before each frame's results go
        out, `is_alive` returns whether topics can still be used.
        """
        self._detector = detector
        self._cameras = cameras
        self._compressed = compressed
        self._max_batch = max_batch
        self._state = state
        self._before_publish = before_publish
        self._is_alive = is_alive
        self._slots = FrameSlots(len(cameras))
        self._thread = threading.Thread(target=self._run, name="detector worker", daemon=True)
        self._thread.start()

    def put(self, camera: int, message: bytes) -> None:
        """Offer a serialized image message; never blocks."""
        if self._slots.put(camera, message):
            self._cameras[camera].stats.count("replaced")

    def stop(self) -> None:
        """Drop what waits, and return when the frame in work is done."""
        self._slots.close()
        self._thread.join()

    def _run(self) -> None:
        while frames := self._slots.take(self._max_batch, self._state().batch_wait_s):
            decoded: list[_Decoded] = []
            try:
                decoded += [one for one in map(self._decode, frames) if one is not None]
                state = self._state()
                if not state.output.enabled:  # Switched off while they waited.
                    for one in decoded:
                        one.camera.stats.count("disabled")
                elif decoded:
                    self._process(decoded, state)
            except Exception as error:  # Whatever a frame does to a library, the next one gets its chance.
                if not self._is_alive():
                    return  # Ctrl-C took the topics away in the middle of a frame.
                known = isinstance(error, Vl4adError)
                for camera in (one.camera for one in decoded):
                    camera.stats.count("engine error")
                    camera.warn("engine", str(error) if known else f"A frame failed: {error!r}.")

    def _decode(self, frame: Frame) -> _Decoded | None:
        camera = self._cameras[frame.camera]
        wanted = camera.wanted()
        if not wanted.anything:
            camera.stats.count("nobody listens")
            return None
        began = time.monotonic()
        try:
            message: Any
            if self._compressed:
                message, pixels = deserialize_message(frame.message, CompressedImage), None
            else:
                message, pixels = read_image(frame.message)
            check_frame_id(frame.message, message.header)
            image = message_to_rgb(message, pixels)
        except BadImageError as error:
            camera.count_bad(error.cause, str(error))
            return None
        except Exception as error:  # A message that does not even deserialize, or that OpenCV chokes on.
            camera.count_bad("message", f"An image message cannot be read ({error!r}).")
            return None
        camera.check_stamp(message.header)
        outgoing = OutgoingMaps(message.header)
        job = Job(image, wanted, camera.roi, outgoing.room)
        return _Decoded(camera, message.header, job, outgoing, frame.arrived, began, (time.monotonic() - began) * 1e3)

    def _process(self, decoded: Sequence[_Decoded], state: FrameState) -> None:
        results = self._detector.process([one.job for one in decoded], state)
        for one, result in zip(decoded, results, strict=True):
            began = time.monotonic()
            self._before_publish(one.camera, one.header, state)
            size, maps = one.job.image.shape[:2], one.outgoing.serialized
            parts = one.camera.publish(one.header, result, size, one.job.wanted, maps, state)
            ended = time.monotonic()
            stages = {"wait": (one.began - one.arrived) * 1e3, "decode": one.decode_ms, **result.milliseconds, **parts}
            stages["publish"] = (ended - began) * 1e3
            stages["outside_engine"] = (ended - one.arrived) * 1e3 - stages["engine"]
            one.camera.finish(one.header, stages)
