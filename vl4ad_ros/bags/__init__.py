"""Reading and writing rosbag2 recordings (sqlite3 and MCAP) without ROS."""
