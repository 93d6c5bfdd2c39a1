"""Memory for images: buffers that a process keeps, and room in Fast DDS's shared memory."""

from __future__ import annotations

import ctypes
import gc
import importlib.metadata
import os
import platform
import shutil
from pathlib import Path

from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.io.resources import config_file

# <malloc.h>
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
_KEEP_BYTES = 1 << 30
# As config/fastdds.xml has it; each process takes one such segment.
SEGMENT_BYTES = 32 << 20
PROFILE_VARIABLES = ("FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE")
_SHARED_MEMORY = Path("/dev/shm")


def prepare_memory() -> None:
    """Prepare this process for images; call it before rclpy.init.

    glibc reuses large buffers. By default each of a frame's buffers is mapped, zeroed page by page and unmapped anew:
    46 ms to deserialize a 1080p image on a busy machine, 2 ms with this.

    Fast DDS gets config/fastdds.xml, unless the user chose another RMW or profile, or /dev/shm is small (a container's
    64 MiB). An image does not fit into its default segment of 512 KiB: a best-effort publisher then loses whole frames
    as soon as the reader is a little late, and a reliable one sends them again.
    """
    if _has_glibc():
        mallopt = ctypes.CDLL(None).mallopt
        # One arena, so that what the receiving thread frees serves the working one.
        for name, value in ((_MMAP_THRESHOLD, _KEEP_BYTES), (_TRIM_THRESHOLD, _KEEP_BYTES), (_ARENA_MAX, 1)):
            mallopt(name, value)
    if not os.environ.get("RMW_IMPLEMENTATION", "rmw_fastrtps_cpp").startswith("rmw_fastrtps"):
        return
    if any(os.environ.get(name) for name in (*PROFILE_VARIABLES, "FASTDDS_BUILTIN_TRANSPORTS")):
        return
    if not _SHARED_MEMORY.is_dir() or shutil.disk_usage(_SHARED_MEMORY).free < 4 * SEGMENT_BYTES:
        return
    try:
        profile = str(config_file("fastdds.xml"))
    except Vl4adError:
        return
    # Each version of Fast DDS reads one of them, and newer ones warn of the other.
    os.environ[PROFILE_VARIABLES[_reads_old_name()]] = profile


def _reads_old_name() -> bool:
    """Return whether this is Fast DDS 2, of Humble and Jazzy; wheels have no ROS_DISTRO, but the package's old name."""
    if distribution := os.environ.get("ROS_DISTRO"):
        return distribution in ("humble", "jazzy")
    return any(importlib.metadata.distributions(name="ros-fastrtps"))


def trim_memory() -> None:
    """Return free memory to the system, which `prepare_memory` keeps glibc from doing."""
    gc.collect()
    if _has_glibc():
        ctypes.CDLL(None).malloc_trim(0)


def _has_glibc() -> bool:
    return platform.libc_ver()[0] == "glibc"
