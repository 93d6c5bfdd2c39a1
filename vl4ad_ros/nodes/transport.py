"""Room for images in Fast DDS's shared memory.

Its default segment is 512 KiB, which an image does not fit in: a best-effort publisher then loses whole frames as soon
as the reader is a little late (seen: every frame of 640x480 on two busy cores), and a reliable one sends them again.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.io.resources import config_file

# As config/fastdds.xml has it; each process takes one such segment.
SEGMENT_BYTES = 32 << 20
PROFILE_VARIABLES = ("FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE")
_SHARED_MEMORY = Path("/dev/shm")


def use_large_segments() -> bool:
    """Let this process and its children use config/fastdds.xml; call it before rclpy.init.

    Leaves the environment alone where the user chose another RMW or profile, or /dev/shm is small (a container's
    64 MiB); see docs/camera.md.

    Returns:
        Whether the profile is in force.
    """
    if not os.environ.get("RMW_IMPLEMENTATION", "rmw_fastrtps_cpp").startswith("rmw_fastrtps"):
        return False
    if any(os.environ.get(name) for name in (*PROFILE_VARIABLES, "FASTDDS_BUILTIN_TRANSPORTS")):
        return False
    if not _SHARED_MEMORY.is_dir() or shutil.disk_usage(_SHARED_MEMORY).free < 4 * SEGMENT_BYTES:
        return False
    try:
        profile = str(config_file("fastdds.xml"))
    except Vl4adError:
        return False
    # Each version of Fast DDS reads one of them, and newer ones warn of the other.
    os.environ[PROFILE_VARIABLES[os.environ.get("ROS_DISTRO") == "humble"]] = profile
    return True
