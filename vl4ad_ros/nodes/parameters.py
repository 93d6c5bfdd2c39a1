"""The settings as parameters of a node."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.node import Node

from vl4ad_ros.runtime.parameters import Parameter


def declare(node: Node, parameters: Iterable[Parameter]) -> dict[str, Any]:
    """Declare parameters with descriptions and ranges, and return their values by name.

    Raises:
        rclpy.exceptions.ParameterException: If an override has another type or is out of range.
    """
    for parameter in parameters:
        descriptor = ParameterDescriptor(
            description=parameter.full_description,
            additional_constraints=f"one of {', '.join(parameter.choices)}" if parameter.choices else "",
        )
        low, high = parameter.low, parameter.high
        if low is not None and high is not None:
            if parameter.type is int:
                descriptor.integer_range = [IntegerRange(from_value=int(low), to_value=int(high), step=1)]
            else:
                descriptor.floating_point_range = [FloatingPointRange(from_value=float(low), to_value=float(high))]
        node.declare_parameter(parameter.name, parameter.default, descriptor)
    return read(node, parameters)


def read(node: Node, parameters: Iterable[Parameter]) -> dict[str, Any]:
    """Return the values in force, by name."""
    return {parameter.name: node.get_parameter(parameter.name).value for parameter in parameters}
