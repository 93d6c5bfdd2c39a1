"""Setting a parameter of a running node, as `ros2 param set` does."""

from __future__ import annotations

import rclpy
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter
from rclpy.parameter_client import AsyncParameterClient

from vl4ad_ros.io.errors import Vl4adError


def set_remote_parameter(node: str, name: str, value: object, timeout_s: float = 10.0) -> None:
    """Set one parameter; that the node is not there, does not answer or refuses is an error with its reason."""
    context = Context()
    rclpy.init(context=context)
    try:
        own = rclpy.create_node("vl4ad_set_parameter", context=context, start_parameter_services=False)
        client = AsyncParameterClient(own, node)
        if not client.wait_for_services(timeout_s):
            raise Vl4adError(f"No node {node} was found in {timeout_s:g} s (`ros2 node list` shows those there are).")
        future = client.set_parameters([Parameter(name, value=value)])
        executor = SingleThreadedExecutor(context=context)
        executor.add_node(own)
        executor.spin_until_future_complete(future, timeout_s)
        if not future.done():
            raise Vl4adError(f"{node} did not answer in {timeout_s:g} s.")
        (answer,) = future.result().results
        if not answer.successful:
            raise Vl4adError(f"{node} refused: {answer.reason}")
    finally:
        rclpy.shutdown(context=context)
