"""The settings as parameters of a node: declared, checked by name, and forgiving of integers."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, ParameterType
from rcl_interfaces.msg import Parameter as ParameterMessage
from rclpy.exceptions import ParameterException
from rclpy.node import Node
from rclpy.parameter import Parameter as RosParameter

from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.runtime.parameters import Parameter
from vl4ad_ros.runtime.settings import OVERLAY_PARAMETERS, PARAMETERS

QOS = "qos_overrides."
# One file may serve all nodes.
KNOWN = {parameter.name for parameter in (*PARAMETERS, *OVERLAY_PARAMETERS)}
EVERY_NODE = {"use_sim_time", "start_type_description_service"}


def declare(node: Node, parameters: Iterable[Parameter]) -> dict[str, Any]:
    """Declare parameters with descriptions and ranges, and return their values by name.

    The node has `automatically_declare_parameters_from_overrides`, by which a misspelt name is found. All are declared
    in any case; one that is given, and is unknown, of another type (but an integer for a double) or out of range, is an
    error then.
    """
    faults: list[str] = []
    for name in node.get_parameters_by_prefix(""):
        if name.startswith(QOS):  # Each topic declares its own.
            node.undeclare_parameter(name)
        elif name not in KNOWN | EVERY_NODE:
            near = difflib.get_close_matches(name, KNOWN, n=1)
            hint = f"did you mean '{near[0]}'?" if near else "docs/reference.md lists them"
            faults.append(f"Unknown parameter '{name}' ({hint})")
            node.undeclare_parameter(name)
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
        value, is_integer = parameter.default, False
        if node.has_parameter(parameter.name):
            given = node.get_parameter(parameter.name).value
            node.undeclare_parameter(parameter.name)
            if parameter.type is float and type(given) is int:
                value, is_integer = float(given), True
        try:
            node.declare_parameter(parameter.name, value, descriptor, ignore_override=is_integer)
        except ParameterException as error:
            faults.append(f"{parameter.name}: {error}")
            node.declare_parameter(parameter.name, parameter.default, descriptor, ignore_override=True)
    if faults:
        raise Vl4adError("; ".join(faults))
    return read(node, parameters)


def read(node: Node, parameters: Iterable[Parameter]) -> dict[str, Any]:
    """Return the values in force, by name."""
    return {parameter.name: node.get_parameter(parameter.name).value for parameter in parameters}


def usage(name: str, parameters: Iterable[Parameter]) -> str:
    """Return what `--help` prints of a node."""
    return "\n".join(
        [
            f"usage: {name} [--ros-args -p NAME:=VALUE ... -r FROM:=TO ... --params-file FILE]",
            "",
            "parameters:",
            *(f"  {one.name} ({one.type_name}, {one.default!r}): {one.full_description}" for one in parameters),
            "",
        ]
    )


def integers_to_doubles(node: Node, request: Iterable[ParameterMessage]) -> None:
    """Turn integers into doubles where the node has a double, as `ros2 param set NAME 1` sends them."""
    for parameter in request:
        value, is_known = parameter.value, node.has_parameter(parameter.name)
        is_double = is_known and node.get_parameter(parameter.name).type_ == RosParameter.Type.DOUBLE
        if is_double and value.type == ParameterType.PARAMETER_INTEGER:
            value.type, value.double_value = ParameterType.PARAMETER_DOUBLE, float(value.integer_value)
