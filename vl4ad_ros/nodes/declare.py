"""Declaring the parameter table on a node, and reading it back."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.node import Node

from vl4ad_ros.runtime.parameters import Parameter


def declare(node: Node, parameters: Iterable[Parameter]) -> None:
    """Declare parameters with descriptions and ranges.

    Raises:
        rclpy.exceptions.ParameterException: If an override has another type or is out of range.
    """
    for parameter in parameters:
        descriptor = ParameterDescriptor(
            description=parameter.full_description,
            additional_constraints=f"one of {', '.join(parameter.choices)}" if parameter.choices else "",
        )
        if parameter.low is not None and parameter.high is not None:
            if isinstance(parameter.default, int):
                descriptor.integer_range = [
                    IntegerRange(from_value=int(parameter.low), to_value=int(parameter.high), step=1)
                ]
            else:
                descriptor.floating_point_range = [
                    FloatingPointRange(from_value=float(parameter.low), to_value=float(parameter.high), step=0.0)
                ]
        node.declare_parameter(parameter.name, parameter.default, descriptor)


def read(node: Node, parameters: Iterable[Parameter]) -> dict[str, Any]:
    """Return the values in force, by name."""
    return {parameter.name: node.get_parameter(parameter.name).value for parameter in parameters}
