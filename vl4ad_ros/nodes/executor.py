"""Running a node as a process: a callback that raises is counted and named in the log, and the node goes on."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from traceback import format_exception
from typing import Any

import rclpy
from rcl_interfaces.msg import Parameter as ParameterMessage
from rcl_interfaces.msg import SetParametersResult
from rcl_interfaces.srv import SetParameters, SetParametersAtomically
from rclpy.exceptions import ParameterException
from rclpy.executors import (
    ExternalShutdownException,
    ShutdownException,
    SingleThreadedExecutor,
    TimeoutException,
)
from rclpy.node import Node
from rclpy.parameter import Parameter as RosParameter
from rclpy.service import Service

from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.nodes.memory import prepare_memory
from vl4ad_ros.nodes.parameters import integers_to_doubles, usage
from vl4ad_ros.runtime.parameters import Parameter

# A thread that works hands over to one that was woken after so long; Python's 5 ms are a third of a frame at 60 Hz.
SWITCH_INTERVAL_S = 0.0002
LOG_PERIOD_S = 10.0
MAX_PARAMETERS = 200  # of one request: while they are set, one after the other, no image is heard


class ThrottledLog:
    """Throttled log lines, keyed by cause: a new cause at once, the same one every `LOG_PERIOD_S` seconds."""

    def __init__(self, log: Callable[[str], object]) -> None:
        self._log = log
        self._lock = threading.Lock()
        self._last: dict[str, tuple[float, int]] = {}

    def add(self, cause: str, sentence: str) -> None:
        """Log a sentence, or count it where its cause was logged a moment ago."""
        now = time.monotonic()
        with self._lock:
            last, omitted = self._last.get(cause, (-LOG_PERIOD_S, 0))
            due = now - last >= LOG_PERIOD_S
            self._last[cause] = (now, 0) if due else (last, omitted + 1)
        if due:
            self._log(f"{sentence} (and {omitted} more like it before)" if omitted else sentence)


class GuardedExecutor(SingleThreadedExecutor):
    """Runs a node's callbacks in the thread that spins."""

    def __init__(self, node: Node) -> None:
        """Take over a node's callbacks, those of services, topics, timers and events made later, too."""
        super().__init__(context=node.context)
        self.errors = 0  # callbacks that raised so far, and messages that could not be taken
        self._node = node
        self._logger = node.get_logger()
        # Not `error` itself: rclpy raises where one line of code logs at two levels, and the cameras' logs warn.
        self._log = ThrottledLog(lambda sentence: self._logger.error(sentence))
        self.add_node(node)

    def spin_once(self, timeout_sec: float | None = None) -> None:
        """Run one callback; wait for it for so many seconds, None for ever."""
        try:
            handler, entity, _ = self.wait_for_ready_callbacks(timeout_sec=timeout_sec)
        except (ShutdownException, TimeoutException):
            return
        if isinstance(entity, Service) and not isinstance(entity.callback, _GuardedService):
            entity.callback = _GuardedService(self._node, entity, partial(self._count, entity))
        handler()
        error = handler.exception()
        if error is not None:
            # Where a message cannot be taken, rclpy leaves its subscription and callback group as busy.
            if getattr(entity, "_executor_event", False):
                entity._executor_event = False
                entity.callback_group.ending_execution(entity)
            self._count(entity, error)

    def _count(self, entity: Any, error: Exception) -> None:
        if not self.context.ok():
            return  # Ctrl-C took the topics away in the middle of a callback.
        self.errors += 1
        name = type(entity).__name__.lower()
        with suppress(Exception):  # Its callback has destroyed it.
            name = f"{name} {getattr(entity, 'topic_name', None) or getattr(entity, 'srv_name', '')}".strip()
        self._log.add(
            f"{name} {type(error).__name__}", f"A callback failed ({name}), the node goes on: {error!r:.300}."
        )
        self._logger.debug("".join(format_exception(error)))


class _GuardedService:
    """A service's callback that answers with a failure and the reason where it would raise."""

    def __init__(self, node: Node, service: Service, count: Callable[[Exception], None]) -> None:
        self._node = node
        self._service: Any = service.srv_type
        self._callback = service.callback
        self._count = count

    def __call__(self, request: Any, response: Any) -> Any:
        count = len(getattr(request, "parameters", ()))
        if self._service is SetParameters and 1 < count <= MAX_PARAMETERS:
            # At once where that goes, so that a file of parameters is one swap; else one by one, as rclpy goes: those
            # before a bad one are set, and the answer says so.
            writable = [one for one in request.parameters if not self._is_read_only(one.name)]
            at_once = {one.name for one in writable} if self._set_at_once(writable) else set()
            for parameter in request.parameters:
                if parameter.name in at_once:
                    response.results.append(SetParametersResult(successful=True))
                    continue
                one = self(SetParameters.Request(parameters=[parameter]), SetParameters.Response())
                response.results += one.results
            return response
        try:
            if count > MAX_PARAMETERS:
                raise ValueError(f"{count} parameters are more than the {MAX_PARAMETERS} of one request")
            if self._service in (SetParameters, SetParametersAtomically):
                integers_to_doubles(self._node, request.parameters)
            return self._callback(request, response)
        except Exception as error:
            self._count(error)
            # The other services' empty answer is their failure: `success` false, or nothing found.
            failure = self._service.Response()
            result = SetParametersResult(successful=False, reason=f"The request cannot be used: {error!r:.300}.")
            if self._service is SetParameters:
                failure.results = [result] * count
            elif self._service is SetParametersAtomically:
                failure.result = result
            return failure

    def _is_read_only(self, name: str) -> bool:
        return self._node.has_parameter(name) and bool(self._node.describe_parameter(name).read_only)

    def _set_at_once(self, parameters: Sequence[ParameterMessage]) -> bool:
        try:
            integers_to_doubles(self._node, parameters)
            changes = [RosParameter.from_parameter_msg(parameter) for parameter in parameters]
            return bool(self._node.set_parameters_atomically(changes).successful)
        except Exception:  # Which one it is, and why, is found one by one.
            return False


def start_ros(args: Sequence[str] | None = None, **options: Any) -> None:
    """Call rclpy.init; what it cannot do (read the arguments, make a folder for its log) is one sentence."""
    try:
        rclpy.init(args=None if args is None else list(args), **options)
    except Exception as error:
        hint = "; ROS_LOG_DIR names a folder for its log" if "log" in str(error) else ""
        raise Vl4adError(f"ROS 2 cannot start ({error}){hint}.") from error


def run_node(
    create: Callable[[], Node], name: str, args: Sequence[str] | None = None, parameters: Sequence[Parameter] = ()
) -> int:
    """Create a node and spin it until a signal ends it; 2 when it cannot be made, else 0.

    `parameters` are what the node has, for `--help`.
    """
    if {"-h", "--help"} & {*(sys.argv if args is None else args)}:
        sys.stdout.write(usage(name, parameters))
        return 0
    prepare_memory()
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    node: Node | None = None
    try:
        start_ros(args)
        node = create()
        GuardedExecutor(node).spin()
    except (ParameterException, Vl4adError) as error:
        rclpy.logging.get_logger(name).fatal(f"{error}")
        return 2
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    except Exception:
        if rclpy.ok():
            raise
        # Ctrl-C took the topics away in the middle of a callback, or of the node's making.
    finally:
        if node is not None:
            node.destroy_node()
        rclpy.try_shutdown()
    return 0
