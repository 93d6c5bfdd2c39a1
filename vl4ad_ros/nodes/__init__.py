"""ROS 2 nodes: the thin layer between topics and the ROS-free core. Only this room imports rclpy."""
