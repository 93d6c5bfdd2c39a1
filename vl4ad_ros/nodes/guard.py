"""The executor of all nodes: a callback that raises is counted and named in the log, and the node goes on."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from traceback import format_exception
from typing import Any

from rcl_interfaces.msg import SetParametersResult
from rcl_interfaces.srv import SetParameters, SetParametersAtomically
from rclpy.executors import ShutdownException, SingleThreadedExecutor, TimeoutException
from rclpy.node import Node
from rclpy.service import Service

from vl4ad_ros.nodes.complaints import Complaints


class GuardedExecutor(SingleThreadedExecutor):
    """Runs a node's callbacks in the thread that spins.

    Attributes:
        errors: Callbacks that raised so far, and messages that could not be taken.
    """

    def __init__(self, node: Node) -> None:
        """Take over a node's callbacks, those of services, topics, timers and events made later, too."""
        super().__init__(context=node.context)
        self.errors = 0
        self._logger = node.get_logger()
        # Not `error` itself: rclpy raises where one line of code logs at two levels, and the cameras' complaints warn.
        self._complaints = Complaints(lambda sentence: self._logger.error(sentence))
        self.add_node(node)

    def spin_once(self, timeout_sec: float | None = None) -> None:
        """Run one callback.

        Args:
            timeout_sec: How long to wait for one; None waits for ever.
        """
        try:
            handler, entity, _ = self.wait_for_ready_callbacks(timeout_sec=timeout_sec)
        except (ShutdownException, TimeoutException):
            return
        if isinstance(entity, Service) and not isinstance(entity.callback, _Answer):
            entity.callback = _Answer(entity.srv_type, entity.callback, partial(self._count, entity))
        handler()
        error = handler.exception()
        if error is not None:
            _release(entity)
            self._count(entity, error)

    def _count(self, entity: Any, error: Exception) -> None:
        if not self.context.ok():
            return  # Ctrl-C took the topics away in the middle of a callback.
        self.errors += 1
        name = _name(entity)
        self._complaints.add(
            f"{name} {type(error).__name__}", f"A callback failed ({name}), the node goes on: {error!r:.300}."
        )
        self._logger.debug("".join(format_exception(error)))


class _Answer:
    """A service's callback that answers with a failure and the reason where it would raise."""

    def __init__(self, service: Any, callback: Callable[..., Any], count: Callable[[Exception], None]) -> None:
        self._service = service
        self._callback = callback
        self._count = count

    def __call__(self, request: Any, response: Any) -> Any:
        if self._service is SetParameters and len(request.parameters) > 1:
            # One by one, as rclpy goes: those before a bad one are set, and the answer says so.
            for parameter in request.parameters:
                one = self(SetParameters.Request(parameters=[parameter]), SetParameters.Response())
                response.results += one.results
            return response
        try:
            return self._callback(request, response)
        except Exception as error:
            self._count(error)
            # The other services' empty answer is their failure: `success` false, or nothing found.
            failure = self._service.Response()
            result = SetParametersResult(successful=False, reason=f"The request cannot be used: {error!r:.300}.")
            if self._service is SetParameters:
                failure.results = [result]
            elif self._service is SetParametersAtomically:
                failure.result = result
            return failure


def _release(entity: Any) -> None:
    """Make an entity wait again: where a message cannot be taken, rclpy leaves it and its callback group as busy."""
    if getattr(entity, "_executor_event", False):
        entity._executor_event = False
        entity.callback_group.ending_execution(entity)


def _name(entity: Any) -> str:
    kind = type(entity).__name__.lower()
    try:
        return f"{kind} {getattr(entity, 'topic_name', None) or getattr(entity, 'srv_name', '')}".strip()
    except Exception:  # Its callback has destroyed it.
        return kind
