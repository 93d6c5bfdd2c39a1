"""Where a camera is above the ground: by TF, or by the parameters."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from rclpy.lifecycle import LifecycleNode
from rclpy.time import Time

from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.nodes.messages import find_module
from vl4ad_ros.runtime.ground import mounted
from vl4ad_ros.runtime.settings import GroundSettings

PARAMETERS = "parameters"


class Mounting:
    """The transforms that a node's cameras share; nothing is heard before one is asked for."""

    def __init__(self, node: LifecycleNode) -> None:
        self._node = node
        self._buffer: Any = None
        self._listener: Any = None

    @cached_property
    def _tf2_ros(self) -> Any | None:
        # Looked for once: the search for a package that is not there takes its time in each frame.
        return find_module("tf2_ros")

    def locate(self, settings: GroundSettings, frame_id: str) -> tuple[GroundSettings, str]:
        """Return the settings with the height and pitch in force, and where these come from, for the diagnostics.

        Args:
            frame_id: The camera's optical frame.
        """
        if not settings.frame:
            return settings, PARAMETERS
        tf2_ros = self._tf2_ros
        if tf2_ros is None:
            return settings, f"{PARAMETERS} (for ground.frame, tf2_ros is not installed)"
        if self._buffer is None:
            self._buffer = tf2_ros.Buffer()
            self._listener = tf2_ros.TransformListener(self._buffer, self._node)
        try:
            pose = self._buffer.lookup_transform(settings.frame, frame_id, Time()).transform
        except tf2_ros.TransformException as error:
            raise Vl4adError(
                f"No TF from {frame_id} to {settings.frame} ({error}): obstacles have no distance."
            ) from error
        turned = (pose.rotation.x, pose.rotation.y, pose.rotation.z, pose.rotation.w)
        return mounted(settings, pose.translation.z, turned, frame_id), f"TF {settings.frame}"

    def destroy(self) -> None:
        """Hear no more."""
        if self._listener is not None:
            self._listener.unregister()
        self._buffer = self._listener = None
