"""Running a node as a process."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

import rclpy
from rclpy.exceptions import ParameterException
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node

from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.nodes.guard import GuardedExecutor
from vl4ad_ros.nodes.memory import keep_large_buffers

# A thread that works hands over to one that was woken after so long; Python's 5 ms are a third of a frame at 60 Hz.
SWITCH_INTERVAL_S = 0.0002


def run_node(create: Callable[[], Node], name: str, args: Sequence[str] | None = None) -> int:
    """Create a node and spin it until it is told to stop.

    Args:
        create: Makes the node.
        name: For the log, where no node could be made.
        args: Command line; None takes the process's own.

    Returns:
        0, or 2 when a parameter given at the start cannot be used.
    """
    keep_large_buffers()
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    node: Node | None = None
    try:
        rclpy.init(args=None if args is None else list(args))
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
