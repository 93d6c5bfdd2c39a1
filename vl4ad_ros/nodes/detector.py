"""The detector node: camera images in, uncertainty maps and anomaly masks out."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rcl_interfaces.msg import ParameterDescriptor, SetParametersResult
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter as RosParameter
from std_msgs.msg import Header

from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.io.images import decoder_name
from vl4ad_ros.nodes import health, messages
from vl4ad_ros.nodes.camera import Camera
from vl4ad_ros.nodes.executor import GuardedExecutor, run_node
from vl4ad_ros.nodes.memory import trim_memory
from vl4ad_ros.nodes.mounting import Mounting
from vl4ad_ros.nodes.parameters import declare, read
from vl4ad_ros.nodes.prompt_set_publisher import PromptSetPublisher, SwapHistory
from vl4ad_ros.nodes.qos import QUEUE, create_publisher, steady_clock
from vl4ad_ros.nodes.worker import Worker
from vl4ad_ros.runtime.detector import Detector, next_state
from vl4ad_ros.runtime.frames import FrameState, RoiMask
from vl4ad_ros.runtime.settings import BY_NAME, PARAMETERS, check_values

NAME = "detector"
DIAGNOSTICS_PERIOD_S = 1.0
AVAILABLE = "available_prompt_sets"

OpenDetector = Callable[[str, str, int, int, bool, int, float], Detector]


class DetectorNode(LifecycleNode):
    """Lifecycle node around `runtime.detector.Detector`; its parameters are in `runtime.settings`."""

    def __init__(self, open_detector: OpenDetector = Detector.open) -> None:
        """Declare the parameters, and start where `autostart` says so."""
        # Before the base class: where a parameter is refused, it destroys the node that was begun.
        self._open_detector = open_detector
        self._detector: Detector | None = None
        self._state: FrameState | None = None
        self._cameras: list[Camera] = []
        self._worker: Worker | None = None
        self._mounting: Mounting | None = None
        self._history = SwapHistory()
        self._prompt_set: PromptSetPublisher | None = None
        self._fault = self._unusable = ""
        self._callback_errors = 0
        super().__init__(NAME, automatically_declare_parameters_from_overrides=True)
        try:
            declare(self, PARAMETERS)
        except Vl4adError as error:
            # What was asked for is not known: the node does not work with something else instead.
            self._fault = self._unusable = f"{error}. Mend it and start the node again."
            self.get_logger().error(self._fault)
        self._values = read(self, PARAMETERS)
        self._vision_msgs = messages.find_module("vision_msgs.msg")
        self._diagnostics = create_publisher(self, DiagnosticArray, "/diagnostics", QUEUE)
        self._clock_of_diagnostics = steady_clock()
        self.create_timer(DIAGNOSTICS_PERIOD_S, self._diagnose, clock=self._clock_of_diagnostics)
        self.add_on_set_parameters_callback(self._on_set)
        done, failed = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE
        if self._values["autostart"] and self.trigger_configure() == done and self.trigger_activate() == failed:
            self.trigger_cleanup()  # Whatever the fault at the start, the node is unconfigured after it.
        if self._fault and self._values["exit_on_fault"]:
            fault = self._fault
            self.destroy_node()
            raise Vl4adError(fault)

    # Lifecycle

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load and check everything: bundle, engine, prompt set, regions of interest."""
        del state
        try:
            if self._unusable:
                raise Vl4adError(self._unusable)
            self._configure(read(self, PARAMETERS))
        except Vl4adError as error:
            self._free()
            return self._failure(f"Not configured: {error}", str(error))
        except Exception as error:
            self._fault = f": {error!r:.300}"
            raise
        self._fault = ""
        return TransitionCallbackReturn.SUCCESS

    def _failure(self, log: str, fault: str) -> TransitionCallbackReturn:
        self._fault = fault
        self.get_logger().error(log)
        return TransitionCallbackReturn.FAILURE

    def _configure(self, values: dict[str, Any]) -> None:
        check_values(values)
        names, paths = values["cameras"], values["roi_masks"]
        if not any(paths):
            paths = [""] * len(names)
        if len(paths) != len(names):
            raise Vl4adError(
                f"roi_masks: expected one file ('' for none) per camera, got {len(paths)} for {len(names)} cameras."
            )
        rois = [RoiMask(path) if path else None for path in paths]
        self._detector = self._open_detector(
            values["bundle"],
            values["backend"],
            values["threads"],
            values["device_id"],
            values["auto_build"],
            values["max_batch"] or len(names),
            values["input_scale"],
        )
        self._state = next_state(self._detector, values, self._state)
        self._values = values
        self._prompt_set = PromptSetPublisher(
            self, self._detector, self._history, self._state_in_force, self._vision_msgs
        )
        self._mounting = mounting = Mounting(self)
        self._cameras = [
            Camera(self, name, roi, self._vision_msgs, mounting, values["uncertainty_format"])
            for name, roi in zip(names, rois, strict=True)
        ]
        bundle = self._detector.bundle
        self.declare_parameter(
            AVAILABLE, bundle.prompt_set_names(), ParameterDescriptor(description="Read-only: the bundle's own.")
        )
        in_force = _in_force(self._detector, self._state)
        self.get_logger().info(f"Configured: {_shown({'bundle folder': bundle.path, **in_force})}")
        self._warn_of_threshold(self._state)
        self._prompt_set.publish()

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Begin to work."""
        if self._detector is None:
            return TransitionCallbackReturn.ERROR
        compressed = self._values["compressed"]
        # A CPU gains nothing by a batch, and each of its frames would wait for all.
        batch = 1 if self._detector.engine.info.device == "cpu" else len(self._cameras)
        self._worker = Worker(
            self._detector,
            self._cameras,
            compressed,
            self._values["max_batch"] or batch,
            self._state_in_force,
            self._before_publish,
            self.context.ok,
        )
        try:
            for index, camera in enumerate(self._cameras):
                camera.subscribe(
                    compressed, lambda: str(self._values["image_reliability"]), partial(self._on_image, index)
                )
        except Vl4adError as error:
            self._stop()
            return self._failure(f"Not activated: {error}", str(error))
        topics = [topic for camera in self._cameras for topic in camera.topics]
        self.get_logger().info(f"Activated: hearing {', '.join(topics)}")
        return super().on_activate(state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop work after the frame in hand, and keep everything loaded."""
        self._stop()
        self.get_logger().info("Deactivated")
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free everything."""
        self._free()
        self.get_logger().info("Cleaned up")
        return super().on_cleanup(state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop and free everything."""
        self._free()
        return super().on_shutdown(state)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free everything; success leads to `unconfigured`, from where the node can be configured again."""
        fault = f"The node failed while {state.label}{self._fault}; configure it again."
        self._failure(fault, fault)
        self._free()
        return TransitionCallbackReturn.SUCCESS

    def destroy_node(self) -> None:
        """Stop the worker before the topics go."""
        self._free()
        super().destroy_node()

    def _stop(self) -> None:
        for camera in self._cameras:
            camera.unsubscribe()
        if self._worker is not None:
            self._worker.stop()
            self._worker = None

    def _free(self) -> None:
        self._stop()
        for camera in self._cameras:
            camera.destroy()
        self._cameras = []
        if self._mounting is not None:
            self._mounting.destroy()
        if self._prompt_set is not None:
            self._prompt_set.destroy()
            self._prompt_set = None
        if self._detector is not None:
            self._detector.close()
            self._detector = None
            if self.has_parameter(AVAILABLE):
                self.undeclare_parameter(AVAILABLE)
            trim_memory()

    # Frames

    def _state_in_force(self) -> FrameState:
        assert self._state is not None
        return self._state

    def _on_image(self, index: int, raw: bytes) -> None:
        camera, state = self._cameras[index], self._state_in_force()
        camera.stats.received()
        if self._worker is None:
            return
        if not state.output.enabled:
            camera.stats.count("disabled")
        elif not camera.wanted().anything:
            camera.stats.count("nobody listens")
        elif camera.is_too_soon(state.output.max_rate):
            camera.stats.count("max_rate")
        else:
            self._worker.put(index, raw)

    def _before_publish(self, camera: Camera, header: Header, state: FrameState) -> None:
        """Publish a swap's stamp before its first result on each camera goes out."""
        if camera.swap != state.version:
            camera.swap = state.version
            assert self._prompt_set is not None
            self._prompt_set.publish_first_result(state, camera.name, header)

    # Prompt sets and parameters

    def _on_set(self, parameters: Sequence[RosParameter]) -> SetParametersResult:
        available = self.get_parameter(AVAILABLE).value if self.has_parameter(AVAILABLE) else None
        if available is not None and any(p.name == AVAILABLE and list(p.value or ()) != available for p in parameters):
            return SetParametersResult(successful=False, reason=f"{AVAILABLE} is read-only.")
        changes = {p.name: p.value for p in parameters if p.name in BY_NAME}
        if not changes:  # Of a topic's quality of service: declared while it is made.
            return SetParametersResult(successful=True)
        values, before = self._values | changes, self._state
        try:
            check_values(changes)
            if self._detector is not None:
                for name in changes:
                    if not BY_NAME[name].live and changes[name] != self._values[name]:
                        raise Vl4adError(
                            f"{name} is read when the node is configured: clean it up first "
                            f"(ros2 lifecycle set {self.get_fully_qualified_name()} cleanup)."
                        )
                self._state = state = next_state(self._detector, values, before, frozenset(changes))
                if self._prompt_set is not None and before is not None and state.version != before.version:
                    old, new = _in_force(self._detector, before), _in_force(self._detector, state)
                    changed = {name: f"{old[name]} -> {new[name]}" for name in new if old[name] != new[name]}
                    self.get_logger().info(f"Swapped: {_shown(changed)}")
                    self._warn_of_threshold(state)
                    self._prompt_set.publish()
        except Exception as error:  # Whatever a file holds: a parameter that is refused must not end the node.
            self._state = before
            reason = str(error) if isinstance(error, Vl4adError) else f"{sorted(changes)} cannot be used: {error!r}."
            return SetParametersResult(successful=False, reason=reason)
        self._values = values
        return SetParametersResult(successful=True)

    def _warn_of_threshold(self, state: FrameState) -> None:
        if state.threshold_note:
            self.get_logger().warning(state.threshold_note)

    # Diagnostics

    def _diagnose(self) -> None:
        info = None if self._detector is None else self._detector.engine.info
        hardware_id = "" if info is None else f"{info.backend} on {info.device}"
        statuses = [self._engine_status(hardware_id)]
        if self._worker is not None:
            statuses += [camera.diagnose(self._values, hardware_id) for camera in self._cameras]
        array = DiagnosticArray(status=statuses)
        array.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(array)

    def _engine_status(self, hardware_id: str) -> DiagnosticStatus:
        name = f"{self.get_fully_qualified_name().lstrip('/')}: engine"
        errors = self.executor.errors if isinstance(self.executor, GuardedExecutor) else 0
        values: dict[str, object] = {"callback errors": errors}
        if self._detector is None or self._state is None:
            level, text = health.ERROR if self._fault else health.WARN, self._fault or "unconfigured"
        else:
            level, text = (health.WARN, "inactive") if self._worker is None else (health.OK, "active")
            values |= _in_force(self._detector, self._state)
        new, self._callback_errors = errors - self._callback_errors, errors
        if new:
            level, text = max(level, health.WARN), f"{text}; {new} callback errors, see the log"
        return messages.status(level, name, text, hardware_id, values)


def _in_force(detector: Detector, state: FrameState) -> dict[str, object]:
    prompts, network = state.prompts, state.random_word or {}
    return {
        **asdict(detector.engine.info),
        "bundle": detector.bundle.card.name,
        "prompt set": prompts.prompt_set.name,
        "prompt set version": prompts.prompt_set.version,
        "swap": state.version,
        "scoring": prompts.scoring,
        "method": state.method,
        "random-word network": network.get("name", ""),
        "random-word network version": network.get("version", ""),
        "temperature": prompts.temperature,
        "threshold": state.threshold,
        "threshold from": state.threshold_from,
        "output size": state.output.output_size,
        "smallest region": state.output.min_region_area,
        "enabled": json.dumps(state.output.enabled),
        "decoder": decoder_name(),
    }


def _shown(values: Mapping[str, object]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items() if value != "")


def main(args: Sequence[str] | None = None) -> int:
    """Run the node; the entry point `detector`."""
    return run_node(DetectorNode, NAME, args, PARAMETERS)


if __name__ == "__main__":
    sys.exit(main())
