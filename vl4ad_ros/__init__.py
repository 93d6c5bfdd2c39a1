"""Road-anomaly detection for ROS 2 with vision-language mask segmentation networks."""

__version__ = "0.1.0"
