"""ROS 2 nodes: the thin layer between topics and the ROS-free core. Only this room imports rclpy."""

from vl4ad_ros.nodes.transport import use_large_segments

# Here, so that no process of this package can open its first topic before.
use_large_segments()
